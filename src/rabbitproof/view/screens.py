"""The live view's two other screens: what the keys do, and one queue in full.

Refuses to hold: what is said of a queue (``closeup``), and who asks the broker for it
(``monitor``).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Footer, Static

from rabbitproof.view import closeup
from rabbitproof.view.deck import text_of, wrapped
from rabbitproof.view.humanize import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from textual.app import ComposeResult

    from rabbitproof.snapshot import Detail, Key, Rates
    from rabbitproof.view.cards import Line

KEYS = (
    ("↑ ↓ PgUp PgDn Home End", "move; the mouse wheel as well"),
    (
        "Enter, click",
        "open a queue: its last ten minutes, arguments, bindings, consumers, when it is empty",
    ),
    ("Tab", "cards ↔ consumers, connections, nodes, events"),
    ("s  S", "sort by another figure; turn the order round"),
    ("/", "show only queues whose name has a match (regex)"),
    ("Esc", "back; forget the filter"),
    ("p", "pause and go on"),
    ("r", "refresh now"),
    ("?", "this page"),
    ("q", "quit"),
)
NOTES = (
    "● green below 1,000 messages, yellow below 100,000, red from there on.",
    "Depths are exact. Rates come from the differences of counters that queues report every 5 s, "
    "so nothing here is finer than that.",
    '"?" is what the broker does not say; it never means 0.',
)
_HELP_WIDTH = 76
_KEYS_WIDTH = 26


def help_text(columns: int) -> list[Line]:
    """Return the help page for a screen of so many columns: keys beside words, or above them."""
    width = min(_HELP_WIDTH, columns - 4)
    beside = width >= 2 * _KEYS_WIDTH
    out: list[Line] = []
    for keys, words in KEYS:
        if beside:
            row: Line = [(keys.ljust(_KEYS_WIDTH), "bold"), (words, "")]
        else:
            row = [(keys, "bold"), (f"  {words}", "")]
        out += wrapped([row], width, _KEYS_WIDTH if beside else 2)
    out.append([])
    return out + wrapped([[(note, "")] for note in NOTES], width, 0)


class Help(ModalScreen[None]):
    """What the keys do."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "dismiss", "Back")
    ]

    def compose(self) -> ComposeResult:
        """Lay the page out."""
        with VerticalScroll(id="help"):
            yield Static(text_of(help_text(self.app.size.width)), markup=False)
        yield Footer(show_command_palette=False, compact=True)


class CloseUp(Screen[None]):
    """One queue in full."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,enter", "app.pop_screen", "Back"),
        Binding("r", "app.again", "Refresh"),
        Binding("question_mark", "app.help", "Help"),
    ]

    def __init__(self, key: Key, rates: Callable[[], Rates]) -> None:
        super().__init__()
        self.key = key
        self._rates = rates
        self._detail: Detail | None = None
        self._known_at = 0.0
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
            self._detail, self._known_at = detail, time.time()
        self._words = error or ("" if detail is not None else "this queue is gone; Esc goes back.")
        self.draw()

    def draw(self) -> None:
        """Put it on the screen."""
        lines: list[Line] = []
        if self._detail is not None:
            lines = closeup.lines(self._detail, self._rates(), time.time(), self.size.width - 4)
        if self._words:
            words = self._words
            if lines:
                words += f" Below is what was known {duration(time.time() - self._known_at)} ago."
                lines = [[(text, "dim") for text, _ in line] for line in lines]
            lines = [[(f"✗ {words}", "yellow")], *lines]
        self.query_one("#page", Static).update(text_of(lines))
