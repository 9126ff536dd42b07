"""How long nothing was confirmed: the outage as the producers saw it. Pure.

A gap is the time from one confirm to the next, also from the first publish to the first confirm,
and from the last one to the end of a run in which messages stayed without an answer.
All gaps of at least ``SERVICE_S`` together are the time without service. For as long as we keep
the producer from reading ourselves, nobody can tell, and it is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SERVICE_S: Final = 0.5
"""Shorter gaps are pauses that every broker makes."""


@dataclass(slots=True)
class Gaps:
    """What is known of them; times are seconds after the first publish."""

    rate: float | None = None
    """Messages a second that are due; a slow one has gaps by itself."""
    longest_s: float = 0.0
    without_service_s: float = 0.0
    _done: int = 0
    _since: float = 0.0

    def note(self, now: float, done: int) -> None:
        """Take into account that by ``now`` so many had been confirmed."""
        if done > self._done:
            self._end(now)
            self._done = done

    def over(self, now: float) -> None:
        """Count the time up to ``now`` as well: the sending ended, and something had no answer."""
        self._end(now)

    def _end(self, now: float) -> None:
        """End the gap that is going on."""
        gap = now - self._since
        self.longest_s = max(self.longest_s, gap)
        least = SERVICE_S if self.rate is None else max(SERVICE_S, 10 / self.rate)
        if gap >= least:
            self.without_service_s += gap
        self._since = now

    def leave_out(self, seconds: float) -> None:
        """Do not count that many seconds of the gap that is going on."""
        self._since += seconds
