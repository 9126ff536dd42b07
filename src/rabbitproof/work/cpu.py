"""How much of the processors a participant's work costs."""

from __future__ import annotations

import time


class Cpu:
    """Measures this process's CPU time, all threads, between ``begin`` and ``end``."""

    __slots__ = ("_began", "_ended")

    def __init__(self) -> None:
        self._began: float | None = None
        self._ended: float | None = None

    def begin(self) -> None:
        """Start to count."""
        self._began, self._ended = time.process_time(), None

    def end(self) -> None:
        """Stop counting."""
        self._ended = time.process_time()

    @property
    def seconds(self) -> float:
        """Return what was used from ``begin`` to ``end``, or until now without one."""
        if self._began is None:
            return 0.0
        return (time.process_time() if self._ended is None else self._ended) - self._began
