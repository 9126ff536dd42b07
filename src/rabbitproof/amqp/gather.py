"""When to let bytes gather before they are read.

A broker sends its deliveries in small pieces, about fifteen messages each, and a client that is
faster than the broker meets every piece by itself. Each costs a wake-up, two system calls, a
round through the parser and an acknowledgement: more than half of what receiving a message
costs, on processors that the broker could use. So when bytes come fast enough, the kernel is
asked (SO_RCVLOWAT) to wake us only when ``least`` of them are there, or ``LONGEST_S`` has passed.

It begins when a quarter of ``least`` came within ``LONGEST_S``, so traffic that is slow, or a
lone message, is never held back. It ends after ``_MOST_VAIN`` waits in a row that brought less than
that quarter, and then it takes more bytes than before to begin again: a peer that waits for our
answer to every few bytes (a small prefetch or window) is slowed down a few times and then left
alone. One such wait says little: a busy broker pauses for some milliseconds now and then.

Pure: told what was read and when, says what to wait for. The socket is ``connection``'s.
"""

from __future__ import annotations

from typing import Final

LONGEST_S: Final = 0.004
"""Seconds for which bytes are held back at most."""
_MOST_CAUTIOUS: Final = 1 << 12
_MOST_VAIN: Final = 8
"""Waits in a row that may bring little: 32 ms of them. When one was enough, a consumer of a classic
queue read 1,150 times for 100,000 messages, half of the times five of them; now it is 640 times."""


class Gather:
    """Whether bytes are gathered at the moment."""

    __slots__ = ("_came", "_caution", "_fast", "_quarter", "_since", "_vain", "active", "least")

    def __init__(self, least: int) -> None:
        self.least = least
        """Bytes to wait for while it is active."""
        self.active = False
        self._quarter = max(1, least // 4)
        self._came = 0
        self._since = 0.0
        self._fast = 0
        """How many times in a row a quarter came fast enough."""
        self._caution = 1
        """How many times it takes to begin."""
        self._vain = 0
        """Waits in a row that brought less than a quarter."""

    def read(self, size: int, now: float) -> None:
        """Note that ``size`` bytes were read, perhaps none; ``now`` is in seconds."""
        if self.active:
            self._wait(size)
            return
        self._came += size
        if self._came < self._quarter:
            return
        self._fast = self._fast + 1 if now - self._since <= LONGEST_S else 0
        self._came, self._since = 0, now
        if self._fast >= self._caution:
            self.active = True

    def _wait(self, size: int) -> None:
        """Note what one wait brought while bytes are gathered."""
        if size >= self._quarter:
            self._caution = max(1, self._caution - 1)
            self._vain = 0
            return
        self._vain += 1
        if self._vain == _MOST_VAIN:
            self.active, self._fast, self._came, self._vain = False, 0, 0, 0
            self._caution = min(self._caution * 2, _MOST_CAUTIOUS)
