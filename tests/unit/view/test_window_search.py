from dataclasses import dataclass, field
from typing import Any

from rabbitproof.received import Found
from rabbitproof.view.window_search import Search

ANY = frozenset(range(100)).__contains__


@dataclass
class Held:
    """Messages that are numbers; a query fits what it divides, ``is:N`` as well."""

    held: range = range(1, 1)
    changes: int = 0
    at_once: int = 10
    looked: list[tuple[int, int]] = field(default_factory=list)
    single: tuple[int, ...] = ()

    def span(self) -> tuple[tuple[int, ...], range]:
        return self.single, self.held

    def search(self, query: str, start: int, end: int, _: float) -> Found:
        after = min(end, start + self.at_once)
        self.looked.append((start, after))
        by = int(query.removeprefix("is:"))
        return Found([n for n in range(start, after) if n % by == 0], after)

    def find(self, query: str, start: int, step: int, _: float) -> tuple[int | None, int]:
        if start not in self.held:
            return None, 0
        return (start, start) if start % int(query) == 0 else (None, start + step)


def search(held: Held, query: str = "") -> Search:
    made = Search(held)  # type: ignore[arg-type]  # as much of an inbox as this asks for
    made.begin(query)
    return made


def listed(made: Search, newest: int) -> list[int]:
    numbers = made.listed(newest)
    return numbers.part(0, len(numbers))


def test_without_a_filter_all_is_listed_up_to_the_newest_that_is_shown() -> None:
    made = search(Held(range(5, 31), single=(2,)))
    assert not made.work(30, 0, 1)
    assert listed(made, 8) == [2, 5, 6, 7, 8]


def test_a_filter_looks_once_at_each_slice_by_slice() -> None:
    held = Held(range(1, 26))
    made = search(held, "7")
    assert [made.work(25, 0, 1) for _ in range(4)] == [True, True, True, False]
    assert held.looked == [(1, 11), (11, 21), (21, 26)]
    assert listed(made, 25) == [7, 14, 21]
    held.held = range(1, 29)
    assert made.work(28, 0, 1)
    assert listed(made, 28) == [7, 14, 21, 28]


def test_what_is_no_longer_held_is_no_longer_listed() -> None:
    held = Held(range(1, 41), at_once=100)
    made = search(held, "5")
    made.work(40, 0, 1)
    held.single, held.held = (10,), range(22, 41)
    assert listed(made, 40) == [10, 25, 30, 35, 40]


def test_a_filter_on_states_is_applied_anew_but_not_all_the_time() -> None:
    held = Held(range(1, 11), at_once=100)
    made = search(held, "is:5")
    made.work(10, 0.0, 1)
    held.changes = 1
    assert not made.work(10, 0.5, 1)
    assert made.work(10, 1.5, 2)
    assert listed(made, 10) == [5, 10]
    assert not made.work(10, 3.0, 4), "nothing changed since"


def test_forgotten_matches_do_not_come_back() -> None:
    held = Held(range(1, 11), at_once=100)
    made = search(held, "5")
    made.work(10, 0, 1)
    made.forget()
    assert not made.work(10, 0, 1)
    assert listed(made, 10) == []


def found(made: Search, *arguments: Any) -> tuple[int | None, int]:
    """Carry out a search; return what was found and how often it paused."""
    steps, pauses = made.find(*arguments), 0
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, pauses
        pauses += 1


def test_the_next_that_fits_is_found_with_pauses() -> None:
    made = search(Held(range(1, 31)))
    assert found(made, "10", 29, -1, 0.1, ANY) == (20, 9)
    assert found(made, "10", 29, -1, 0.1, lambda n: n < 20)[0] == 10
    assert found(made, "50", 1, 1, 0.1, ANY)[0] is None
