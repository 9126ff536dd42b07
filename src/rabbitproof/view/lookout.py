"""Two threads that wait for the broker so that no key of the live view ever does.

Holds: when to look, and that a slow answer delays nothing but itself. Refuses to hold: what is
asked (handed in as functions) and how it is shown (handed over, from the threads, to callbacks).

The threads are daemons: one that hangs in a request does not keep the program from ending.
"""

from __future__ import annotations

import gc
import queue
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rabbitproof.errors import RabbitproofError
from rabbitproof.view.deck import Prepared

if TYPE_CHECKING:
    from collections.abc import Callable

    from rabbitproof.snapshot import Detail, Key, Picture

SWITCH_S = 0.001
"""Seconds after which a thread that computes lets a key have its turn. With Python's own 5 ms, and
with its usual collections, a key took up to 124 ms beside 10,000 queues."""
GENERATIONS = (700, 10, 100)
"""A full collection walks through all queues (30 to 80 ms for 10,000) and finds nothing, since a
picture has no cycles; so they are a tenth as frequent as usual."""


@dataclass(frozen=True, slots=True)
class Closer:
    """A queue was looked at, or could not be."""

    key: Key
    detail: Detail | None
    """None: it is gone, unless ``error`` says something else."""
    error: str | None


class Lookout:
    """Looks every ``every`` seconds, and at one queue when told to, until it is ended.

    ``seen`` is called with what a look gave, ``failed`` with a bug that ended a thread.
    """

    def __init__(
        self,
        look: Callable[[], Picture],
        close_up: Callable[[str, str], Detail | None],
        every: float,
        seen: Callable[[Prepared | Closer], Any],
        failed: Callable[[Exception], Any],
    ) -> None:
        self._look = look
        self._close_up = close_up
        self._every = every
        self._seen = seen
        self._failed = failed
        self._due = threading.Event()
        self._ended = threading.Event()
        self._wanted: queue.SimpleQueue[Key | None] = queue.SimpleQueue()
        self._asked_at: float | None = None
        self.paused = False

    @property
    def waiting(self) -> float:
        """Seconds for which the broker has owed an answer."""
        asked_at = self._asked_at
        return 0.0 if asked_at is None else time.monotonic() - asked_at

    def start(self) -> None:
        """Begin, with a look at once."""
        sys.setswitchinterval(SWITCH_S)
        gc.set_threshold(*GENERATIONS)
        self._due.set()
        for work in (self._looking, self._looking_closer):
            threading.Thread(target=self._guarded, args=(work,), daemon=True).start()

    def end(self) -> None:
        """Let the threads end."""
        self._ended.set()
        self._due.set()
        self._wanted.put(None)

    def again(self) -> None:
        """Look now."""
        self._due.set()

    def closer(self, key: Key, *, urgent: bool = True) -> None:
        """Look at this queue; where it is not ``urgent``, only if no other is waited for."""
        if urgent or self._wanted.empty():
            self._wanted.put(key)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as bug:  # noqa: BLE001 - a thread that died in silence would freeze the view
            if not self._ended.is_set():
                self._failed(bug)

    def _looking(self) -> None:
        began = time.monotonic()
        while not self._ended.is_set():
            # Rates need samples at even intervals; a late answer must not move the next ones.
            self._due.wait(self._every - (time.monotonic() - began) % self._every)
            if self._ended.is_set():
                return
            if self.paused and not self._due.is_set():
                continue
            self._due.clear()
            self._asked_at = time.monotonic()
            prepared = Prepared.of(self._look())
            self._asked_at = None
            if not self._ended.is_set():
                self._seen(prepared)

    def _looking_closer(self) -> None:
        while (key := self._wanted.get()) is not None:
            detail, error = None, None
            try:
                detail = self._close_up(*key)
            except RabbitproofError as failure:
                error = str(failure)
            if self._ended.is_set():
                return
            self._seen(Closer(key, detail, error))
