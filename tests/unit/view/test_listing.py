from hypothesis import given
from hypothesis import strategies as st

from rabbitproof.view.listing import Listing, Numbers, Rates


def listing(count: int, page: int = 5) -> Listing:
    made = Listing()
    made.page = page
    made.update(Numbers((), range(1, count + 1)))
    return made


@given(st.sets(st.integers(0, 50)), st.integers(51, 60), st.integers(0, 20), st.integers(0, 90))
def test_single_numbers_and_a_range_are_one_sequence(
    single: set[int], start: int, size: int, wanted: int
) -> None:
    plain = [*sorted(single), *range(start, start + size)]
    numbers = Numbers(tuple(sorted(single)), range(start, start + size))
    assert len(numbers) == len(plain)
    assert numbers.part(0, 1000) == plain
    assert (wanted in numbers) == (wanted in plain)
    assert numbers.index(wanted) == sum(1 for n in plain if n < wanted)


def test_the_pane_stays_with_the_newest_until_somebody_moves_it() -> None:
    pane = listing(20)
    assert pane.visible() == [16, 17, 18, 19, 20]
    pane.update(Numbers((), range(1, 31)))
    assert pane.visible() == [26, 27, 28, 29, 30]
    pane.scroll_by(-3)
    pane.update(Numbers((), range(1, 41)))
    assert pane.visible() == [23, 24, 25, 26, 27]
    pane.scroll_by(100)
    pane.update(Numbers((), range(1, 51)))
    assert pane.visible()[-1] == 50


def test_the_pane_and_the_selection_survive_that_old_messages_go() -> None:
    pane = listing(100)
    pane.choose(50)
    pane.extend(53)
    assert pane.chosen() == [50, 51, 52, 53]
    pane.update(Numbers((), range(52, 200)))
    assert pane.chosen() == [52, 53]
    top = pane.visible()
    pane.update(Numbers((), range(150, 300)))
    assert pane.visible() == [150, 151, 152, 153, 154]
    assert top[0] <= 53
    assert pane.chosen() == []


def test_keys_move_the_focus_and_keep_it_on_the_pane() -> None:
    pane = listing(20)
    pane.move(-1)
    assert pane.focus == 20
    for _ in range(6):
        pane.move(-1)
    assert (pane.focus, pane.selected) == (14, {14})
    assert 14 in pane.visible()
    pane.move(-2, extend=True)
    assert pane.selected == {12, 13, 14}
    pane.move(1, extend=True)
    assert pane.selected == {13, 14}
    pane.move_to_end(newest=False)
    assert pane.focus == 1
    pane.move(-5)
    assert pane.focus == 1
    pane.move_to_end(newest=True)
    assert pane.follow
    pane.toggle(18)
    assert pane.selected == {18, 20}
    pane.choose_all()
    assert len(pane.selected) == 20


def test_an_empty_list_takes_every_key() -> None:
    pane = listing(0)
    pane.move(1)
    pane.move_to_end(newest=True, extend=True)
    pane.scroll_by(3)
    pane.scroll_part(0.5)
    pane.choose_all()
    pane.hold()
    assert pane.visible() == []
    assert pane.place() == (0.0, 1.0)


def test_the_scroll_bar_says_where_the_pane_is() -> None:
    pane = listing(100, page=10)
    assert pane.place() == (0.9, 1.0)
    pane.scroll_part(0.25)
    assert pane.visible()[0] == 26
    assert pane.place() == (0.25, 0.35)


def test_a_selection_of_what_is_long_gone_is_forgotten() -> None:
    pane = listing(5000)
    pane.choose_all()
    pane.update(Numbers((), range(4990, 5001)))
    assert len(pane.selected) == 11


def test_rates_are_counted_by_whole_seconds() -> None:
    rates = Rates(seconds=5)
    rates.add(10, 100.2)
    rates.add(30, 100.9)
    rates.add(31, 102.0)
    assert rates.points(103.5) == [0, 0, 30, 0, 1]
    assert rates.latest(103.5) == 1
    rates.add(31, 120.0)
    assert rates.points(120.0) == [0] * 5
