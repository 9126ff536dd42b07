"""The queue cards of the live view: those on the screen are drawn, all can be reached.

Holds: the widget, what is computed for it in a thread beforehand, and how a line of spans becomes
coloured text. Refuses to hold: what a card says (``cards``), and the rest of the screen
(``monitor``).

Only what is on the screen is drawn: a broker with 10,000 queues costs as much as one with ten.
"""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from rabbitproof.snapshot import Key, Picture, QueueSample, Rates
from rabbitproof.view import cards, closeup

if TYPE_CHECKING:
    from collections.abc import Iterable

    from textual import events

    from rabbitproof.view.cards import Line

BOX = 66
"""Columns that the summary's box needs; below, cards are narrow."""

STYLES = {
    "green": Style(color="green"),
    "yellow": Style(color="yellow"),
    "red": Style(color="red", bold=True),
    "bold": Style(bold=True),
    "dim": Style(dim=True),
    "": Style(),
}

_WORDS = re.compile(r"\s*\S+|\s+")
SORTS = ("activity", "depth", "name", "rate", "consumers")


def text_of(lines: Iterable[Line]) -> Text:
    """Return lines of spans as one text. What is in them is never read as markup."""
    out = Text()
    for number, line in enumerate(lines):
        if number:
            out.append("\n")
        for part, style in line:
            out.append(part, STYLES[style])
    return out


def wrapped(lines: Iterable[Line], width: int, indent: int) -> list[Line]:
    """Break lines that are too wide between words, and indent what goes on below."""
    out: list[Line] = []
    for line in lines:
        row: Line = []
        used = 0
        for text, style in line:
            for word in _WORDS.findall(text):
                piece, columns = word, cell_len(word)
                if used + columns > width and used > indent:
                    out.append(row)
                    row, used = [(" " * indent, "")], indent
                    piece = word.lstrip()
                row.append((piece, style))
                used += cell_len(piece)
        out.append(row)
    return out


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture with what is slow to compute for thousands of queues, done in a thread."""

    picture: Picture
    orders: dict[str, list[QueueSample]]
    """The queues in each order of ``SORTS``."""
    heights: dict[Key, int]
    figures: dict[str, str]

    @classmethod
    def of(cls, picture: Picture) -> Prepared:
        """Compute it."""
        ordered = cards.ordered(picture)

        def rate(one: QueueSample) -> float:
            now = picture.rates.get(one.key, Rates())
            return -(now.publish or 0.0) - (now.ack or now.deliver or 0.0)

        orders = {
            "activity": ordered,
            "depth": sorted(ordered, key=lambda one: -(one.total or one.ready or 0)),
            "name": sorted(ordered, key=lambda one: (one.name, one.vhost)),
            "rate": sorted(ordered, key=rate),
            "consumers": sorted(
                ordered, key=lambda one: -(cards.consumer_count(one, picture) or 0)
            ),
        }
        heights = {one.key: cards.card_height(one, picture) for one in ordered}
        return cls(picture, orders, heights, cards.figures(picture))


class Cards(ScrollView, can_focus=True):
    """The queue cards; draws those that are on the screen."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False),
        Binding("down,j", "move(1)", "Down", show=False),
        Binding("pageup", "leap(-1)", "Page up", show=False),
        Binding("pagedown", "leap(1)", "Page down", show=False),
        Binding("home", "move(-1000000000)", "First", show=False),
        Binding("end", "move(1000000000)", "Last", show=False),
        Binding("enter", "open", "Open"),
    ]

    class Opened(Message):
        """A queue is to be opened."""

        def __init__(self, key: Key) -> None:
            super().__init__()
            self.key = key

    def __init__(self) -> None:
        super().__init__(id="cards")
        self._picture = Picture(None)
        self._queues: list[QueueSample] = []
        self._tops: list[int] = [0]
        """First line of each card, and at the end the number of all lines."""
        self._place = 0
        self._drawn: dict[int, list[Line]] = {}
        self._narrow = False

    @property
    def selected(self) -> QueueSample | None:
        """The queue under the cursor."""
        return self._queues[self._place] if self._queues else None

    def show_queues(
        self, prepared: Prepared, queues: list[QueueSample], *, from_top: bool = False
    ) -> None:
        """Show these queues, with the cursor on the queue it was on, or on the first."""
        before = None if from_top else self.selected
        self._picture, self._queues, self._drawn = prepared.picture, queues, {}
        self._narrow = self.app.size.width < BOX
        heights = (prepared.heights[one.key] + self._narrow for one in queues)
        self._tops = list(itertools.accumulate(heights, initial=0))
        if before is not None:
            places = (place for place, one in enumerate(queues) if one.key == before.key)
            self._place = next(places, self._place)
        if from_top:
            self._place = 0
            self.scroll_home(animate=False)
        self._place = max(0, min(self._place, len(queues) - 1))
        whole = Size(self.size.width, self._tops[-1])
        if whole != self.virtual_size:  # or everything on the screen would be arranged anew
            self.virtual_size = whole
        self.refresh()

    def _card(self, place: int) -> list[Line]:
        if place not in self._drawn:
            one = self._queues[place]
            lines = cards.card(one, self._picture, narrow=self._narrow)
            now = self._picture.rates.get(one.key, Rates())
            end = closeup.until_empty(one, now)
            if cards.activity_text(now) and end and not self._narrow:
                lines[2] = [*lines[2], (f"  ({end.removeprefix(closeup.NEVER)})", "dim")]
            self._drawn[place] = lines
        return self._drawn[place]

    def render_line(self, y: int) -> Strip:
        """Draw one line of the screen."""
        line = self.scroll_offset.y + y
        width = self.size.width
        if not self._queues:
            snapshot = self._picture.snapshot
            text = "" if snapshot is None or y else "  no queues" if snapshot.listed else "  ?"
            return Strip([Segment(text, self.rich_style)]).adjust_cell_length(
                width, self.rich_style
            )
        if line >= self._tops[-1]:
            return Strip.blank(width, self.rich_style)
        place = bisect_right(self._tops, line) - 1
        spans = self._card(place)[line - self._tops[place]]
        base = self.rich_style
        if self._picture.error is not None:
            base += Style(dim=True)
        if place == self._place and self.has_focus and line == self._tops[place]:
            base += Style(reverse=True)
        segments = [Segment(text, base + STYLES[style]) for text, style in spans]
        return Strip(segments).adjust_cell_length(width, base)

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        if not self._queues:
            return
        self._place = max(0, min(self._place + by, len(self._queues) - 1))
        top = self._tops[self._place]
        height = self._tops[self._place + 1] - top
        self.scroll_to_region(Region(0, top, 1, height), animate=False, force=True)
        self.refresh()

    def action_leap(self, by: int) -> None:
        """Move the cursor by a screen."""
        self.action_move(by * max(1, self.size.height // 5))

    def action_open(self) -> None:
        """Open the queue under the cursor."""
        if self.selected is not None:
            self.post_message(self.Opened(self.selected.key))

    def on_click(self, event: events.Click) -> None:
        """Put the cursor where the mouse is, and open that queue."""
        line = self.scroll_offset.y + event.y
        if self._queues and line < self._tops[-1]:
            self._place = bisect_right(self._tops, line) - 1
            self.refresh()
            self.action_open()
