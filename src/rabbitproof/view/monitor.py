"""The monitor that lives on a terminal, and behind ``--serve`` in a browser.

Holds: the main screen, its keys, and what of a picture stands where. Refuses to hold: what is
asked (handed in as functions) and when (``lookout``), what a card says (``cards``) and how many
of them are drawn (``deck``), the other screens (``screens``).
"""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.message import Message
from textual.widgets import Footer, Input, Static

from rabbitproof.snapshot import Picture, QueueSample, Rates
from rabbitproof.text import safe
from rabbitproof.view import cards, lists
from rabbitproof.view.deck import BOX, SORTS, Cards, Prepared, text_of, wrapped
from rabbitproof.view.humanize import duration
from rabbitproof.view.lookout import Closer, Lookout
from rabbitproof.view.screens import CloseUp, Help

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual import events
    from textual.screen import Screen

    from rabbitproof.snapshot import Detail
    from rabbitproof.view.cards import Line

_WIDE = 120
"""Columns from which the lists stand beside the cards."""
_CARDS = 72
"""Columns that the cards have at least then."""
_EDGES = 4
"""Columns of the lists that are their margins and the scroll bar."""
_PROBLEMS = 5
"""Problems that are shown; the rest is counted."""
_SLOW_S = 2.0
"""Seconds without an answer that are worth telling."""
_LISTED = 50
"""Consumers and connections that the lists show; more are counted."""


class MonitorApp(App[int]):
    """The live monitor.

    ``look`` is called every ``every`` seconds and returns a picture; ``close_up`` returns one
    queue. Both may take long, and are called in threads. ``clock`` is the time of day; once
    ``wanted`` says no, nobody sees the view any more and it ends.
    """

    CSS = """
    Screen { layers: base; }
    #summary, #problems { height: auto; }
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
    #status { height: 1; color: $text-muted; }
    .narrow #status { height: 2; }
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

    class Told(Message):
        """A thread has something to show."""

        def __init__(self, what: Prepared | Closer) -> None:
            super().__init__()
            self.what = what

    def __init__(
        self,
        look: Callable[[], Picture],
        close_up: Callable[[str, str], Detail | None],
        *,
        every: float = 3.0,
        clock: Callable[[], float] = time.time,
        wanted: Callable[[], bool] = lambda: True,
    ) -> None:
        # NO_COLOR asks for no colour at all. In a terminal's own colours Textual leaves them all
        # out then; of its own it would make shades of grey.
        super().__init__(ansi_color=bool(os.environ.get("NO_COLOR")))
        self._every = every
        self._clock = clock
        self._still_wanted = wanted
        self._prepared = Prepared.of(Picture(None))
        self._sort = 0
        self._turned = False
        self._filter: re.Pattern[str] | None = None
        self._filter_words = ""
        self._shown: dict[str, Text] = {}
        """What stands in each part of the screen."""
        self._lookout = Lookout(
            look, close_up, every, lambda what: self.post_message(self.Told(what)), self._failed
        )
        self.bug: Exception | None = None
        """What ended the view, if it was no wish of the user's."""

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
        self._lookout.start()
        self.set_interval(1.0, self._each_second)

    def on_unmount(self) -> None:
        """Let the threads end."""
        self._lookout.end()

    # What comes from the threads.

    def _failed(self, bug: Exception) -> None:
        self.bug = bug
        self.call_from_thread(self.exit, 1)

    def on_monitor_app_told(self, message: Told) -> None:
        """Show a new picture, or a queue, if it is still open."""
        what = message.what
        opened = [screen for screen in self.screen_stack if isinstance(screen, CloseUp)]
        if isinstance(what, Prepared):
            self._prepared = what
            self.draw()
            for screen in opened:
                self._lookout.closer(screen.key, urgent=False)
        else:
            for screen in opened:
                if screen.key == what.key:
                    screen.show(what.detail, what.error)

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
        self._put("summary", self._summary(width))
        self._put("problems", wrapped(self._problems(), width, 2))
        beside = width - max(_CARDS, width // 2) if width >= _WIDE else width
        self._put("lists", wrapped(self._lists(), beside - _EDGES, 6))
        self._draw_queues()
        self._draw_status()

    def _base(self) -> Screen[object] | None:
        """Return the main screen; None before its first arrangement and after its last one."""
        below = self.screen_stack[:1]
        return below[0] if below and below[0].query("#status") else None

    def _put(self, place: str, lines: list[Line]) -> None:
        """Show lines; what stands there already is left alone, since drawing takes its time."""
        text = text_of(lines)
        if self._shown.get(place) != text:
            self._shown[place] = text
            self.screen_stack[0].query_one(f"#{place}", Static).update(text)

    def _draw_queues(self, *, from_top: bool = False) -> None:
        shown = self._queues()
        self.screen_stack[0].query_one(Cards).show_queues(self._prepared, shown, from_top=from_top)

    def _summary(self, width: int) -> list[Line]:
        if self.picture.snapshot is None:
            return [[("RabbitMQ Monitor Summary", "bold")]]
        if width >= BOX:
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
        queues = self._prepared.orders[SORTS[self._sort]]
        if self._filter is not None:
            queues = [one for one in queues if self._filter.search(one.name)]
        return queues[::-1] if self._turned else queues

    def _lists(self) -> list[Line]:
        snapshot = self.picture.snapshot
        if snapshot is None:
            return []
        out: list[Line] = []
        for title, lines, count in (
            (
                "👥 CONSUMERS",
                lists.consumer_lines(snapshot, _LISTED),
                None if snapshot.consumers is None else len(snapshot.consumers),
            ),
            (
                "🔌 CONNECTIONS",
                [lists.connection_line(one) for one in (snapshot.connections or ())[:_LISTED]],
                snapshot.connection_count,
            ),
        ):
            out += [[(f"{title} ({'?' if count is None else f'{count:,}'})", "bold")], *lines]
            if count is not None and count > len(lines):
                out.append([(f"  … and {count - len(lines):,} more", "dim")])
            out.append([])
        out.append([("💻 NODES", "bold")])
        for node in snapshot.nodes:
            out += lists.node_lines(node)
        out += [[], [("🕒 EVENTS", "bold")]]
        return out + [lists.event_line(event) for event in self.picture.events]

    def _each_second(self) -> None:
        if self._still_wanted():
            self._draw_status()
        else:
            self.exit(0)

    def _draw_status(self) -> None:
        base = self._base()
        if base is None:
            return
        snapshot = self.picture.snapshot
        parts = []
        if self._lookout.paused:
            parts.append("PAUSED (p goes on)")
        if (waiting := self._lookout.waiting) > _SLOW_S:
            parts.append(f"waiting for the broker for {waiting:.0f} s")
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
        status = base.query_one("#status", Static)
        wraps = base.has_class("narrow")
        status.update(Text(line, no_wrap=not wraps, overflow="ellipsis"), layout=False)

    # Keys.

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer the keys of the cards only where the cards are."""
        del parameters
        below = len(self.screen_stack) <= 1
        return below or action not in {"sort", "turn", "filter", "pause", "other", "leave", "quit"}

    def on_cards_opened(self, message: Cards.Opened) -> None:
        """Open a queue."""
        key = message.key
        self.push_screen(CloseUp(key, lambda: self.picture.rates.get(key, Rates())))
        self._lookout.closer(key)

    def action_help(self) -> None:
        """Show the help page."""
        self.push_screen(Help())

    def action_sort(self) -> None:
        """Sort by the next figure."""
        self._sort = (self._sort + 1) % len(SORTS)
        self._draw_queues(from_top=True)
        self._draw_status()

    def action_turn(self) -> None:
        """Turn the order round."""
        self._turned = not self._turned
        self._draw_queues(from_top=True)
        self._draw_status()

    def action_pause(self) -> None:
        """Pause, or go on."""
        self._lookout.paused = not self._lookout.paused
        if not self._lookout.paused:
            self._lookout.again()
        self._draw_status()

    def action_again(self) -> None:
        """Refresh now."""
        self._lookout.again()

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
        self._draw_queues(from_top=True)
        self._draw_status()

    def on_input_submitted(self) -> None:
        """Keep the filter and go back to the cards."""
        self.query_one("#filter", Input).remove_class("open")
        self.query_one(Cards).focus()

    def action_interrupt(self) -> None:
        """End as Ctrl+C ends everything."""
        self.exit(130)
