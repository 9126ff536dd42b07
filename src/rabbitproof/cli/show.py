"""How a participant's progress reaches the terminal: which line goes where.

Standard output gets the data: messages and closing lines, or one JSON object. Standard error
gets notes and progress, and the bar when it is a terminal. Refuses to word anything (``view``).
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Final

from rabbitproof.model import Advanced, Disconnected, Note, Produced, Purged, Sample, Started
from rabbitproof.text import safe
from rabbitproof.view import lines
from rabbitproof.view.bar import Bar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rabbitproof.model import Consumed, Progress


_WORD_S: Final = 10.0
"""Seconds between two lines about a connection that is lost."""


class Show:
    """Prints one participant's progress, each line headed by its ``[name]``."""

    def __init__(self, name: str, *, as_json: bool = False) -> None:
        self._head = f"[{safe(name, 60)}]"
        self._json = as_json
        self._blocked: str | None = None
        self._next_word = _WORD_S
        """From when on a lost connection is worth another line, in seconds since its loss."""

    def all(self, progress: Iterable[Progress], *, waiting: bool = False) -> None:
        """Print progress until it ends. ``waiting``: say so when the participant is ready."""
        with Bar(self._head) as bar:
            for event in progress:
                if isinstance(event, Advanced):
                    bar.advance(event)
                elif isinstance(event, Disconnected):
                    bar.without(event.seconds)
                self._one(event, waiting=waiting)

    def _one(self, event: Progress, *, waiting: bool) -> None:
        match event:
            case Advanced():
                self._advanced(event)
            case Sample():
                self.data(lines.got(event))
            case Disconnected():
                if event.seconds >= self._next_word:
                    self._next_word = event.seconds + _WORD_S
                    self.note(lines.disconnected(event))
            case Note():
                self._next_word = _WORD_S
                self.note(event.text)
            case Purged():
                self.note(lines.purged(event))
            case Started() if waiting:
                self.note("waiting for messages… Press Ctrl+C to stop")

    def _advanced(self, event: Advanced) -> None:
        if event.blocked != self._blocked:
            self._blocked = event.blocked
            if event.blocked is None:
                self.note("unblocked: the broker takes messages again.")
            else:
                self.note(f"{lines.blocked(event.blocked)}; waiting until its alarm is over.")
        if event.mark:
            producing = event.sample is None
            self.note(lines.published(event) if producing else lines.consumed(event))

    def end(self, end: Produced | Consumed, *, latency: bool = False) -> None:
        """Print how it ended; ``latency``: also how long messages took."""
        if self._json:
            print(json.dumps(lines.as_object(end)), flush=True)
            return
        texts = lines.produced(end) if isinstance(end, Produced) else lines.finished(end)
        for text in texts:
            self.data(text)
        if latency and end.latency is not None:
            kind = "confirm" if isinstance(end, Produced) else "end-to-end"
            self.note(lines.latency(kind, end.latency))

    def data(self, text: str) -> None:
        """Print a line of data."""
        print(f"{self._head} {text}", file=sys.stderr if self._json else sys.stdout, flush=True)

    def note(self, text: str) -> None:
        """Print a line that is no data."""
        print(f"{self._head} {text}", file=sys.stderr, flush=True)
