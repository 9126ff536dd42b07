"""Which messages a table shows, which are selected, and how keys move in it. Pure.

A table has room for some twenty rows and the inbox for thousands of messages, so the table is a
pane that moves over them. A message is named by its number; what is selected and where the pane
stands are numbers as well, and stay right while old messages go and new ones come.

Refuses to know widgets (``window``) and where messages are kept.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class Numbers:
    """Ascending numbers, some single ones and then a range, as one sequence."""

    __slots__ = ("_single", "_span")

    def __init__(self, single: Sequence[int] = (), span: Sequence[int] = range(0)) -> None:
        self._single = single
        self._span = span

    def __len__(self) -> int:
        return len(self._single) + len(self._span)

    def at(self, index: int) -> int:
        """Return the number at an index that there is."""
        before = len(self._single)
        return self._single[index] if index < before else self._span[index - before]

    def part(self, start: int, end: int) -> list[int]:
        """Return the numbers from one index to before another one."""
        return [self.at(i) for i in range(max(0, start), min(end, len(self)))]

    def index(self, number: int) -> int:
        """Return the index of a number, or where it would be."""
        at = bisect_left(self._single, number)
        if at < len(self._single):
            return at
        return at + bisect_left(self._span, number)

    def __contains__(self, number: int) -> bool:
        at = self.index(number)
        return at < len(self) and self.at(at) == number


class Listing:
    """The pane: its place, the selection and the focus."""

    def __init__(self) -> None:
        self.numbers = Numbers()
        self.page = 1
        """Rows that there is room for."""
        self.follow = True
        """Whether the pane stays at the newest message."""
        self.selected: set[int] = set()
        self.focus: int | None = None
        """The message that keys move from."""
        self._anchor: int | None = None
        """Where a selection over several rows began."""
        self._top = 0
        """The number at the top while the pane does not follow."""

    # --- what is there ---

    def update(self, numbers: Numbers) -> None:
        """Take other numbers: messages came or went, or a filter changed."""
        self.numbers = numbers
        if len(self.selected) > 2 * len(numbers) + 1000:  # most of them are gone
            self.selected = {number for number in self.selected if number in numbers}

    @property
    def first(self) -> int:
        """The index of the row at the top."""
        last = max(0, len(self.numbers) - self.page)
        return last if self.follow else min(self.numbers.index(self._top), last)

    def visible(self) -> list[int]:
        """Return the numbers on the pane, the newest at the bottom."""
        first = self.first
        return self.numbers.part(first, first + self.page)

    def chosen(self) -> list[int]:
        """Return the selected numbers that are still there, ascending."""
        return sorted(number for number in self.selected if number in self.numbers)

    def place(self) -> tuple[float, float]:
        """Return which part of everything is on the pane, as a scroll bar wants it."""
        total = len(self.numbers)
        if not total:
            return 0.0, 1.0
        first = self.first
        return first / total, min(1.0, (first + self.page) / total)

    # --- moving the pane ---

    def scroll_to(self, index: int) -> None:
        """Have the row of this index at the top, as far as that goes."""
        last = max(0, len(self.numbers) - self.page)
        index = max(0, min(index, last))
        self.follow = index >= last
        if not self.follow:
            self._top = self.numbers.at(index)

    def scroll_by(self, rows: int) -> None:
        """Move the pane by so many rows, downwards when positive."""
        self.scroll_to(self.first + rows)

    def scroll_part(self, part: float) -> None:
        """Move the pane to a part of everything, from 0 to 1."""
        self.scroll_to(round(part * len(self.numbers)))

    def show(self, number: int) -> None:
        """Move the pane so that a message is on it."""
        index = self.numbers.index(number)
        first = self.first
        if index < first:
            self.scroll_to(index)
        elif index >= first + self.page:
            self.scroll_to(index - self.page + 1)
        elif self.follow:
            self.hold()

    def hold(self) -> None:
        """Have the pane stay where it is while more comes."""
        if self.follow and len(self.numbers):
            self._top = self.numbers.at(self.first)
            self.follow = False

    def newest(self) -> None:
        """Go to the newest message and stay there."""
        self.follow = True

    # --- selecting ---

    def choose(self, number: int) -> None:
        """Select this one alone."""
        self.selected = {number}
        self.focus = self._anchor = number
        self.show(number)

    def toggle(self, number: int) -> None:
        """Select or unselect this one beside the others."""
        self.selected ^= {number}
        self.focus = self._anchor = number
        self.show(number)

    def extend(self, number: int) -> None:
        """Select all from where the selection began to this one."""
        if self._anchor is None:
            self._anchor = number
        ends = sorted((self.numbers.index(self._anchor), self.numbers.index(number)))
        self.selected = set(self.numbers.part(ends[0], ends[1] + 1))
        self.focus = number
        self.show(number)

    def choose_all(self) -> None:
        """Select everything that is listed."""
        self.selected = set(self.numbers.part(0, len(self.numbers)))
        self.hold()

    def forget(self) -> None:
        """Select nothing."""
        self.selected = set()
        self.focus = self._anchor = None

    def move(self, rows: int, *, extend: bool = False) -> None:
        """Move the focus by so many rows, as the arrow and page keys do."""
        total = len(self.numbers)
        if not total:
            return
        if self.focus is None:
            index = total - 1 if self.follow else self.first
        else:
            index = self.numbers.index(self.focus) + rows
        number = self.numbers.at(max(0, min(index, total - 1)))
        if extend:
            self.extend(number)
        else:
            self.choose(number)

    def move_to_end(self, *, newest: bool, extend: bool = False) -> None:
        """Move the focus to the oldest or the newest message, as Home and End do."""
        total = len(self.numbers)
        if not total:
            return
        number = self.numbers.at(total - 1 if newest else 0)
        if extend:
            self.extend(number)
        else:
            self.choose(number)
        if newest:
            self.follow = True


class Rates:
    """How many messages came in each of the last seconds."""

    def __init__(self, seconds: int = 60) -> None:
        self.seconds = seconds
        self._buckets: dict[int, int] = {}
        self._total = 0

    def add(self, total: int, now: float) -> None:
        """Note how many there were in all; ``now`` is in seconds, by any clock that only rises."""
        second = int(now)
        self._buckets[second] = self._buckets.get(second, 0) + total - self._total
        self._total = total
        for old in [each for each in self._buckets if each < second - self.seconds]:
            del self._buckets[old]

    def points(self, now: float) -> list[int]:
        """Return messages a second, for each whole second that is over, the last one last."""
        second = int(now)
        return [self._buckets.get(each, 0) for each in range(second - self.seconds, second)]

    def latest(self, now: float) -> int:
        """Return messages a second, of the second that was over last."""
        return self._buckets.get(int(now) - 1, 0)
