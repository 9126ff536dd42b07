"""The monitor that lives on a terminal, and behind ``--serve`` in a browser.

Holds: the screens, the keys, and two threads that wait for the broker so that no key ever does.
Refuses to hold: what is asked (handed in as functions) and what a card says (``cards``).

Only what is on the screen is drawn: a broker with 10,000 queues costs as much as one with ten.
The threads are daemons; one that hangs in a request does not keep the program from ending.
"""

from __future__ import annotations

import itertools
import queue
import re
import threading
import time
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.geometry import Region, Size
from textual.message import Message
from textual.screen import ModalScreen, Screen
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Footer, Input, Static

from rabbitproof.errors import RabbitproofError
from rabbitproof.snapshot import Key, Picture, QueueSample, Rates
from rabbitproof.text import safe
from rabbitproof.view import cards, closeup
from rabbitproof.view.humanize import duration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from textual import events

    from rabbitproof.snapshot import Detail
    from rabbitproof.view.cards import Line

_BOX = 66
"""Columns that the summary's box needs."""
_WIDE = 120
"""Columns from which the lists stand beside the cards."""
_PROBLEMS = 5
"""Problems that are shown; the rest is counted."""
_SLOW_S = 2.0
"""Seconds without an answer that are worth telling."""
_LISTED = 50
"""Consumers and connections that the lists show; more are counted."""

_STYLES = {
    "green": Style(color="green"),
    "yellow": Style(color="yellow"),
    "red": Style(color="red", bold=True),
    "bold": Style(bold=True),
    "dim": Style(dim=True),
    "": Style(),
}

SORTS = ("activity", "depth", "name", "rate", "consumers")

HELP = """\
 ↑ ↓ PgUp PgDn Home End   move; the mouse wheel as well
 Enter, click             open a queue: its last ten minutes, arguments,
                          bindings, consumers, when it will be empty
 Tab                      cards ↔ consumers, connections, nodes, events
 s  S                     sort by another figure; turn the order round
 /                        show only queues whose name has a match (regex)
 Esc                      back; forget the filter
 p                        pause and go on
 r                        refresh now
 ?                        this page
 q                        quit

 ● green below 1,000 messages, yellow below 100,000, red from there on.
 Depths are exact. Rates come from the differences of counters that
 queues report every 5 s, so nothing here is finer than that.
 "?" is what the broker does not say; it never means 0."""


def text_of(lines: Iterable[Line]) -> Text:
    """Return lines of spans as one text. What is in them is never read as markup."""
    out = Text()
    for number, line in enumerate(lines):
        if number:
            out.append("\n")
        for part, style in line:
            out.append(part, _STYLES[style])
    return out


@dataclass(frozen=True, slots=True)
class Prepared:
    """A picture with what is slow to compute for thousands of queues, done in a thread."""

    picture: Picture
    ordered: list[QueueSample]
    heights: dict[Key, int]
    figures: dict[str, str]

    @classmethod
    def of(cls, picture: Picture) -> Prepared:
        """Compute it."""
        ordered = cards.ordered(picture)
        heights = {one.key: cards.card_height(one, picture) for one in ordered}
        return cls(picture, ordered, heights, cards.figures(picture))


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

    def show_queues(self, prepared: Prepared, queues: list[QueueSample]) -> None:
        """Show these queues, with the cursor on the queue it was on."""
        before = self.selected
        self._picture, self._queues, self._drawn = prepared.picture, queues, {}
        self._narrow = self.app.size.width < _BOX
        heights = (prepared.heights[one.key] + self._narrow for one in queues)
        self._tops = list(itertools.accumulate(heights, initial=0))
        if before is not None:
            places = (place for place, one in enumerate(queues) if one.key == before.key)
            self._place = next(places, self._place)
        self._place = max(0, min(self._place, len(queues) - 1))
        self.virtual_size = Size(self.size.width, self._tops[-1])
        self.refresh()

    def _card(self, place: int) -> list[Line]:
        if place not in self._drawn:
            one = self._queues[place]
            lines = cards.card(one, self._picture, narrow=self._narrow)
            now = self._picture.rates.get(one.key, Rates())
            end = closeup.until_empty(one, now)
            if cards.activity_text(now) and end and not self._narrow:
                lines[2] = [*lines[2], (f"  ({end})", "dim")]
            self._drawn[place] = lines
        return self._drawn[place]

    def render_line(self, y: int) -> Strip:
        """Draw one line of the screen."""
        line = self.scroll_offset.y + y
        width = self.size.width
        if not self._queues:
            text = "  no queues" if self._picture.snapshot is not None and y == 0 else ""
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
        segments = [Segment(text, base + _STYLES[style]) for text, style in spans]
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


class Help(ModalScreen[None]):
    """What the keys do."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "Back")
    ]

    def compose(self) -> ComposeResult:
        """Lay the page out."""
        with VerticalScroll(id="help"):
            yield Static(HELP, markup=False)
        yield Footer(show_command_palette=False, compact=True)


class CloseUp(Screen[None]):
    """One queue in full."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "app.pop_screen", "Back"),
        Binding("r", "app.again", "Refresh"),
        Binding("question_mark", "app.help", "Help"),
    ]

    def __init__(self, key: Key) -> None:
        super().__init__()
        self.key = key
        self._detail: Detail | None = None
        self._words = "asking the broker …"

    def compose(self) -> ComposeResult:
        """Lay the page out."""
        with VerticalScroll(id="closeup"):
            yield Static(markup=False, id="page")
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Begin with what is known."""
        self.draw()

    def on_resize(self) -> None:
        """Draw the graphs anew for the new width."""
        self.draw()

    def show(self, detail: Detail | None, error: str | None) -> None:
        """Show what the broker said, or that it did not."""
        if detail is not None:
            self._detail = detail
        self._words = error or ("" if detail is not None else "this queue is gone; Esc goes back.")
        self.draw()

    def draw(self) -> None:
        """Put it on the screen."""
        lines: list[Line] = [[(f"✗ {self._words}", "yellow")]] if self._words else []
        if self._detail is not None:
            app = self.app
            assert isinstance(app, MonitorApp)  # noqa: S101 - for the type checker
            now = app.picture.rates.get(self.key, Rates())
            lines += closeup.lines(self._detail, now, time.time(), self.size.width - 4)
        self.query_one("#page", Static).update(text_of(lines))


class MonitorApp(App[int]):
    """The live monitor.

    ``look`` is called every ``every`` seconds and returns a picture; ``close_up`` returns one
    queue. Both may take long, and are called in threads. ``clock`` is the time of day; once
    ``wanted`` says no, nobody sees the view any more and it ends.
    """

    CSS = """
    Screen { layers: base; }
    #summary, #problems, #status { height: auto; }
    #problems { max-height: 10; }
    #body { height: 1fr; }
    #cards { width: 1fr; height: 1fr; }
    #side { width: 1fr; height: 1fr; display: none; padding: 0 1; }
    .wide #side { display: block; }
    .side #side { display: block; }
    .side.narrow #cards { display: none; }
    .wide #cards { min-width: 72; }
    #filter { display: none; border: none; height: 1; padding: 0 1; }
    #filter.open { display: block; }
    #status { color: $text-muted; }
    .stale #summary, .stale #side { text-opacity: 50%; }
    #help { border: round $primary; background: $surface; height: auto; max-height: 100%;
      max-width: 78; padding: 0 1; }
    Help { align: center middle; }
    #closeup { padding: 0 1; }
    """
    ENABLE_COMMAND_PALETTE = False
    TITLE = "RabbitMQ Monitor"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("question_mark", "help", "Help", key_display="?"),
        Binding("s", "sort", "Sort"),
        Binding("S,upper_s", "turn", "Turn", show=False),
        Binding("slash", "filter", "Filter", key_display="/"),
        Binding("p", "pause", "Pause"),
        Binding("tab", "other", "Lists", priority=True),
        Binding("r", "again", "Refresh"),
        Binding("escape", "leave", "Back", show=False),
        Binding("ctrl+c", "interrupt", "Interrupt", show=False, priority=True),
    ]

    class Seen(Message):
        """A refresh is done."""

        def __init__(self, prepared: Prepared) -> None:
            super().__init__()
            self.prepared = prepared

    class Closer(Message):
        """A queue was looked at."""

        def __init__(self, key: Key, detail: Detail | None, error: str | None) -> None:
            super().__init__()
            self.key, self.detail, self.error = key, detail, error

    def __init__(
        self,
        look: Callable[[], Picture],
        close_up: Callable[[str, str], Detail | None],
        *,
        every: float = 3.0,
        clock: Callable[[], float] = time.time,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__()
        self._look = look
        self._close_up = close_up
        self._every = every
        self._clock = clock
        self._still_wanted = wanted
        self._prepared = Prepared.of(Picture(None))
        self._paused = False
        self._asked_at: float | None = None
        self._sort = 0
        self._turned = False
        self._filter: re.Pattern[str] | None = None
        self._filter_words = ""
        self._due = threading.Event()
        self._ended = threading.Event()
        self._wanted: queue.SimpleQueue[Key | None] = queue.SimpleQueue()

    @property
    def picture(self) -> Picture:
        """What is shown."""
        return self._prepared.picture

    def compose(self) -> ComposeResult:
        """Lay the screen out."""
        yield Static(markup=False, id="summary")
        yield Static(markup=False, id="problems")
        with Horizontal(id="body"):
            yield Cards()
            with VerticalScroll(id="side"):
                yield Static(markup=False, id="lists")
        yield Input(placeholder="part of a name, or a regular expression", id="filter")
        yield Static(markup=False, id="status")
        yield Footer(show_command_palette=False, compact=True)

    def on_mount(self) -> None:
        """Begin to look."""
        self.query_one(Cards).focus()
        self.draw()
        self._due.set()
        threading.Thread(target=self._looking, daemon=True).start()
        threading.Thread(target=self._looking_closer, daemon=True).start()
        self.set_interval(1.0, self._each_second)

    def on_unmount(self) -> None:
        """Let the threads end."""
        self._ended.set()
        self._due.set()
        self._wanted.put(None)

    # The two threads.

    def _looking(self) -> None:
        began = time.monotonic()
        while not self._ended.is_set():
            # Rates need samples at even intervals; a late answer must not move the next ones.
            self._due.wait(self._every - (time.monotonic() - began) % self._every)
            if self._ended.is_set():
                return
            if self._paused and not self._due.is_set():
                continue
            self._due.clear()
            self._asked_at = time.monotonic()
            prepared = Prepared.of(self._look())
            self._asked_at = None
            if not self._ended.is_set():
                self.post_message(self.Seen(prepared))

    def _looking_closer(self) -> None:
        while (key := self._wanted.get()) is not None:
            detail, error = None, None
            try:
                detail = self._close_up(*key)
            except RabbitproofError as failure:
                error = str(failure)
            if self._ended.is_set():
                return
            self.post_message(self.Closer(key, detail, error))

    # What comes from them.

    def on_monitor_app_seen(self, message: Seen) -> None:
        """Show a new picture."""
        self._prepared = message.prepared
        self.draw()
        self._ask_closer()

    def on_monitor_app_closer(self, message: Closer) -> None:
        """Show a queue, if it is still open."""
        for screen in self.screen_stack:
            if isinstance(screen, CloseUp) and screen.key == message.key:
                screen.show(message.detail, message.error)

    def _ask_closer(self) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, CloseUp) and self._wanted.empty():
                self._wanted.put(screen.key)

    # What is drawn.

    def on_resize(self, event: events.Resize) -> None:
        """Arrange everything for the new width."""
        self.draw(event.size.width)

    def draw(self, width: int | None = None) -> None:
        """Draw everything."""
        width = self.size.width if width is None else width
        if not self.screen_stack or not (base := self.screen_stack[0]).query("#summary"):
            return  # a picture that came before the first arrangement, or after the last one
        base.set_class(width >= _WIDE, "wide")
        base.set_class(width < _WIDE, "narrow")
        base.set_class(self.picture.error is not None, "stale")
        base.query_one("#summary", Static).update(text_of(self._summary(width)))
        base.query_one("#problems", Static).update(text_of(self._problems()))
        base.query_one(Cards).show_queues(self._prepared, self._queues())
        base.query_one("#lists", Static).update(text_of(self._lists()))
        self._draw_status()

    def _summary(self, width: int) -> list[Line]:
        if self.picture.snapshot is None:
            return [[("RabbitMQ Monitor Summary", "bold")]]
        if width >= _BOX:
            return cards.box(self.picture, self._prepared.figures)
        figures = [f"{name}: {value}" for name, value in self._prepared.figures.items()]
        return [
            [("RabbitMQ Monitor Summary", "bold")],
            [("  ".join(figures[:3]), "")],
            [("  ".join(figures[3:]), "")],
        ]

    def _problems(self) -> list[Line]:
        lines = cards.problems(self.picture)
        out: list[Line] = []
        if self.picture.error is not None:
            age = ""
            if self.picture.snapshot is not None:
                passed = duration(self._clock() - self.picture.snapshot.clock)
                age = f" Below is what was known {passed} ago."
            out.append([(f"✗ {safe(self.picture.error, 500)}{age}", "red")])
        out += lines[:_PROBLEMS]
        if len(lines) > _PROBLEMS:
            out.append([(f"  … and {len(lines) - _PROBLEMS} more", "dim")])
        return out or [[("✓ nothing is wrong", "green")]] if self.picture.snapshot else out

    def _queues(self) -> list[QueueSample]:
        queues = list(self._prepared.ordered)
        if self._filter is not None:
            queues = [one for one in queues if self._filter.search(one.name)]
        rates = self.picture.rates
        keys: dict[str, Callable[[QueueSample], Any]] = {
            "depth": lambda one: -(one.total or 0),
            "name": lambda one: (one.name, one.vhost),
            "rate": lambda one: (
                -sum(
                    filter(
                        None, (rates.get(one.key, Rates()).publish, rates.get(one.key, Rates()).ack)
                    )
                )
            ),
            "consumers": lambda one: -(cards.consumer_count(one, self.picture) or 0),
        }
        if SORTS[self._sort] in keys:
            queues.sort(key=keys[SORTS[self._sort]])
        return queues[::-1] if self._turned else queues

    def _lists(self) -> list[Line]:
        snapshot = self.picture.snapshot
        if snapshot is None:
            return []
        out: list[Line] = []
        for title, lines, count in (
            (
                "👥 CONSUMERS",
                cards.consumer_lines(snapshot, _LISTED),
                len(snapshot.consumers or ()),
            ),
            (
                "🔌 CONNECTIONS",
                [cards.connection_line(one) for one in (snapshot.connections or ())[:_LISTED]],
                snapshot.connection_count or 0,
            ),
        ):
            out += [[(f"{title} ({count:,})", "bold")], *lines]
            if count > len(lines):
                out.append([(f"  … and {count - len(lines):,} more", "dim")])
            out.append([])
        out.append([("💻 NODES", "bold")])
        for node in snapshot.nodes:
            out += cards.node_lines(node)
        out += [[], [("🕒 EVENTS", "bold")]]
        return out + [cards.event_line(event) for event in self.picture.events]

    def _each_second(self) -> None:
        if self._still_wanted():
            self._draw_status()
        else:
            self.exit(0)

    def _draw_status(self) -> None:
        snapshot = self.picture.snapshot
        parts = []
        if self._paused:
            parts.append("PAUSED (p goes on)")
        waited = self._asked_at
        if waited is not None and (passed := time.monotonic() - waited) > _SLOW_S:
            parts.append(f"waiting for the broker for {passed:.0f} s")
        if snapshot is not None:
            parts.append(f"sample {duration(self._clock() - snapshot.clock)} old")
        parts.append(f"every {self._every:g} s")
        parts.append(f"by {SORTS[self._sort]}{' ↑' if self._turned else ''}")
        if self._filter_words:
            parts.append(f"filter {safe(self._filter_words, 30)}")
        if snapshot is not None:
            parts += [
                f"RabbitMQ {safe(snapshot.version, 20)}",
                cards.rates_note(self.picture),
            ]
        line = " · ".join(parts)
        status = self.screen_stack[0].query_one("#status", Static)
        status.update(Text(line, no_wrap=True, overflow="ellipsis"))

    # Keys.

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer the keys of the cards only where the cards are."""
        del parameters
        below = len(self.screen_stack) <= 1
        return below or action not in {"sort", "turn", "filter", "pause", "other", "leave", "quit"}

    def on_cards_opened(self, message: Cards.Opened) -> None:
        """Open a queue."""
        self.push_screen(CloseUp(message.key))
        self._wanted.put(message.key)

    def action_help(self) -> None:
        """Show the help page."""
        self.push_screen(Help())

    def action_sort(self) -> None:
        """Sort by the next figure."""
        self._sort = (self._sort + 1) % len(SORTS)
        self.draw()

    def action_turn(self) -> None:
        """Turn the order round."""
        self._turned = not self._turned
        self.draw()

    def action_pause(self) -> None:
        """Pause, or go on."""
        self._paused = not self._paused
        if not self._paused:
            self._due.set()
        self._draw_status()

    def action_again(self) -> None:
        """Refresh now."""
        self._due.set()

    def action_other(self) -> None:
        """Go from the cards to the lists and back."""
        base = self.screen_stack[0]
        if self.screen is not base:
            return
        if base.has_class("side"):
            base.remove_class("side")
            self.query_one(Cards).focus()
        else:
            base.add_class("side")
            self.query_one("#side").focus()

    def action_filter(self) -> None:
        """Ask which queues to show."""
        if self.screen is self.screen_stack[0]:
            box = self.query_one("#filter", Input)
            box.add_class("open")
            box.focus()

    def action_leave(self) -> None:
        """Leave the filter, and forget it."""
        box = self.query_one("#filter", Input)
        box.value = ""
        box.remove_class("open")
        self.query_one(Cards).focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter while it is typed; what is no regular expression is taken as it is."""
        self._filter_words = event.value
        try:
            self._filter = re.compile(event.value) if event.value else None
        except re.error:
            self._filter = re.compile(re.escape(event.value))
        self.draw()

    def on_input_submitted(self) -> None:
        """Keep the filter and go back to the cards."""
        self.query_one("#filter", Input).remove_class("open")
        self.query_one(Cards).focus()

    def action_interrupt(self) -> None:
        """End as Ctrl+C ends everything."""
        self.exit(130)
