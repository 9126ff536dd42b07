"""A bad network between clients and brokers: the program behind ``proxy.py``.

Holds: a line for each broker (its arguments: the owner's pid, then host and port of each), and
what is wrong with it now. Refuses to hold: when something goes wrong (``trial/``), how bytes are
carried when nothing is (``pump.py``, whose rules hold here as well), and where a confirm is in them
(``sieve.py``).

Rules
-----
- Cut or half-open: the last order counts. Delay, throttle and swallowing come on top, each alone.
- Cut: every connection is reset, what was on its way is gone; a new one is reset at once.
- Half-open: what is said is read and dropped, what was on its way as well; nobody hears that
  the other side ended; new connections are accepted and lead nowhere. Healed, each connection
  that has lost a byte or an end is reset, for its stream has a hole. One that was idle goes on.
- Delay: each byte, in both directions, leaves that much later than it came; the order stays.
- Throttle: for each connection, and each of its directions.
- One JSON object a line. In: ``{"do": "cut" | "half-open" | "delay" | "throttle" | "swallow" |
  "heal" | "tell", "lines": [0, …]}``, with ``"seconds"`` or ``"rate"`` where it takes one. Out:
  ``{"ports": [port, …]}`` or ``{"error": text}`` once, then for each order the figures of these
  lines (``proxy.Figures``).
"""

from __future__ import annotations

import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from rabbitproof.broker.pump import (
    MOST_WAITING,
    PIECE,
    End,
    Pump,
    Where,
    live_with_owner,
    say,
)
from rabbitproof.broker.sieve import Sieve, Swallowed

_MOST_ON_THE_WAY: Final = 16_777_216
"""Bytes that a delay keeps in one direction of a connection; then no more are read."""
_STEP_S: Final = 0.01
"""A throttle lets through what may pass in this time at once."""
_BURST_S: Final = 0.1
"""... and makes up for so much time in which nothing came, or in which it was not its turn."""

_WELL, _CUT, _HALF_OPEN = "well", "cut", "half-open"


@dataclass(slots=True, eq=False)
class _End(End):
    sieve: Sieve | None = None
    """Of what a broker says."""
    late: deque[tuple[float, float, bytes]] = field(default_factory=deque)
    """What a delay keeps for this socket: when it came, when it may leave, the bytes."""
    late_bytes: int = 0
    torn: bool = False
    """Something of what was said on this connection is gone."""
    allowance: float = 0.0
    """Bytes that a throttle lets be read now."""
    counted: float = 0.0
    """Until when the allowance has grown."""
    done: bool = False
    """It has ended, and all that it said has been passed on or is late."""
    waits: bool = False
    """For its allowance."""


@dataclass(slots=True, eq=False)
class _Line:
    """One broker, and what is wrong with the way to it."""

    places: list[Where]
    state: str = _WELL
    delay: float = 0.0
    rate: float = 0.0
    """Bytes a second; 0 for no throttle."""
    swallow: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    swallowed: Swallowed = field(default_factory=Swallowed)
    longest_delay: float = 0.0
    why_unread: str = ""

    def count(self, what: str, more: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + more


class Relay(Pump[_End]):
    """All the lines."""

    def __init__(self, targets: list[tuple[str, int]]) -> None:
        super().__init__(_End)
        self._lines = [_Line(_resolved(host, port)) for host, port in targets]
        self.ports = [self.line(number) for number in range(len(self._lines))]
        self._timed: set[_End] = set()
        """Those with something that waits for the clock."""

    # --- orders ---

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        """Break or mend lines, and say how they are."""
        lines = {number: self._lines[number] for number in order["lines"]}
        ends = [end for end in self.ends if end.line in lines]
        what = order["do"]
        for line in lines.values():
            if what in (_CUT, _HALF_OPEN):
                line.state = what
            elif what == "delay":
                line.delay = order["seconds"]
            elif what == "throttle":
                line.rate = order["rate"]
            elif what == "swallow":
                line.swallow = True
            elif what == "heal":
                line.state, line.delay, line.rate, line.swallow = _WELL, 0.0, 0.0, False
        for end in ends:
            if what == _CUT:
                self._tear(end, "cut")
            elif what == _HALF_OPEN:
                self._silence(end)
            elif what == "heal":
                self._heal(end)
        for end in ends:
            self.settle(end)
        return self._figures(lines)

    def _tear(self, end: _End, why: str) -> None:
        """Reset a connection."""
        for one in (end, end.peer):
            if one in self.ends and one is not None:
                self._drop(one)
        if end in self.ends:
            self._lines[end.line].count(why)
            self.close(end, reset=True)

    def _silence(self, end: _End) -> None:
        if not end.called:
            self._lines[end.line].count("silenced")
        self._drop(end)
        if end.connecting and end.peer is not None:  # whether it succeeds is not heard any more
            caller, end.peer = end.peer, None
            caller.peer, caller.torn = None, True
            self.close(end)

    def _heal(self, end: _End) -> None:
        if end.torn or (end.peer is not None and end.peer.torn):
            self._tear(end, "torn")
            return
        for came, _, data in end.late:
            self._late(end, came, data)
        end.late.clear()
        end.late_bytes = 0
        end.waits = False

    def _drop(self, end: _End) -> None:
        """Lose what is on its way to a socket."""
        lost = len(end.waiting) + end.late_bytes
        end.waiting.clear()
        end.late.clear()
        end.late_bytes = 0
        if lost:
            end.torn = True
            self._lines[end.line].count("dropped", lost)

    def _figures(self, lines: dict[int, _Line]) -> dict[str, Any]:
        ends = [end for end in self.ends if end.line in lines]
        total: dict[str, Any] = {
            "open": sum(not end.called for end in ends),
            "held": sum(len(end.waiting) + end.late_bytes for end in ends),
            "longest_delay": max((line.longest_delay for line in lines.values()), default=0.0),
            "highest_tag": max((line.swallowed.highest_tag for line in lines.values()), default=0),
            "why_unread": next((line.why_unread for line in lines.values() if line.why_unread), ""),
        }
        for line in lines.values():
            taken = line.swallowed
            more = {"acks": taken.acks, "nacks": taken.nacks, "messages": taken.messages}
            for name, count in {**line.counts, **more}.items():
                total[name] = total.get(name, 0) + count
        return total

    # --- what is carried ---

    def came(self, end: _End) -> None:
        """Connect a caller with its broker, unless the line is broken."""
        line = self._lines[end.line]
        if line.state == _CUT:
            line.count("refused")
            self.close(end, reset=True)
            return
        line.count("accepted")
        if line.state == _HALF_OPEN:
            line.count("silenced")
            end.torn = True
            return
        self.connect_on(end, line.places)
        if end.peer is not None:
            end.peer.sieve = Sieve(line.swallowed)

    def unreachable(self, end: _End) -> None:
        """Count a broker that does not let anybody in."""
        self._lines[end.line].count("unreachable")

    def room(self, end: _End) -> int:
        """Return how much may be read: what the other side and the throttle leave room for."""
        line = self._lines[end.line]
        if line.state == _HALF_OPEN:
            return PIECE
        peer = end.peer
        if peer is None or peer.broken:
            return 0
        room = min(MOST_WAITING - len(peer.waiting), _MOST_ON_THE_WAY - peer.late_bytes)
        return min(room, self._allowance(end, line.rate)) if line.rate and room > 0 else room

    def _allowance(self, end: _End, rate: float) -> int:
        """Return how many bytes a throttle lets through now; see to a later look if none."""
        now = time.monotonic()
        step = min(max(1.0, rate * _STEP_S), PIECE)
        most = max(step, rate * _BURST_S)
        end.allowance = min(end.allowance + (now - end.counted) * rate, most)
        end.counted = now
        end.waits = end.allowance < step
        if end.waits:
            self._timed.add(end)
            return 0
        return int(end.allowance)

    def passing(self, end: _End, data: memoryview) -> bytes | memoryview:
        """Return what leaves at once of what came: all of it, when nothing is broken."""
        line, peer = self._lines[end.line], end.peer
        if line.state == _HALF_OPEN:
            end.torn = True
            line.count("dropped", len(data))
            return b""
        if line.rate:
            end.allowance -= len(data)
            line.count("throttled", len(data))
        line.count("to_client" if end.called else "to_broker", len(data))
        passing: bytes | memoryview = data
        sieve = end.sieve
        if sieve is not None and sieve.broken is None:
            passing = sieve.sift(data, swallow=line.swallow)
            if sieve.broken is not None:
                line.count("unread")
                line.why_unread = sieve.broken
        return self._leaving(peer, passing) if peer is not None else passing

    def _leaving(self, end: _End, data: bytes | memoryview) -> bytes | memoryview:
        """Return what is given to a socket now; a delay keeps it for later."""
        line, late = self._lines[end.line], end.late
        if not (line.delay or late):
            return data
        now = time.monotonic()
        late.append((now, max(now + line.delay, late[-1][1] if late else 0.0), bytes(data)))
        end.late_bytes += len(data)
        line.count("delayed", len(data))
        self._timed.add(end)
        return b""

    def holds(self, end: _End) -> bool:
        """Say whether something is on its way to this socket."""
        return not end.broken and bool(end.waiting or end.late)

    def settle(self, end: _End) -> None:
        """Pass an end on, unless nobody may hear of it."""
        if self._lines[end.line].state == _HALF_OPEN:
            peer = end.peer
            if end.ended:
                end.torn = True
                if end in self.ends and (peer is None or peer.ended):
                    self.close(end)
            self.watch(end)
            return
        for one in (end, end.peer):
            if one is not None and one.ended and not one.done and one.peer is not None:
                one.done = True
                rest = one.sieve.held if one.sieve is not None else b""
                self.give(one.peer, self._leaving(one.peer, rest))  # the end is late as well
        super().settle(end)

    # --- the clock ---

    def pause(self) -> float | None:
        """Return how long nothing has to be done."""
        if not self._timed:
            return None
        now = time.monotonic()
        return max(0.0, min(self._due(end, now) for end in self._timed) - now)

    def _due(self, end: _End, now: float) -> float:
        due = now + 60.0
        if end.late and len(end.waiting) < MOST_WAITING:
            due = end.late[0][1]
        if end.waits:
            due = min(due, now + _STEP_S)
        return due

    def look(self) -> None:
        """Let go what has been late for long enough, and read where it is allowed again."""
        for end in list(self._timed):
            now = time.monotonic()
            late = end.late
            while late and late[0][1] <= now and len(end.waiting) < MOST_WAITING:
                came, _, data = late.popleft()
                end.late_bytes -= len(data)
                self._late(end, came, data)
            end.waits = False  # until it turns out again
            self.settle(end)
            if end not in self.ends or not (late or end.waits):
                self._timed.discard(end)

    def _late(self, end: _End, came: float, data: bytes) -> None:
        """Give what was late to its socket."""
        self.give(end, data)
        line = self._lines[end.line]
        line.longest_delay = max(line.longest_delay, time.monotonic() - came)


def _resolved(host: str, port: int) -> list[Where]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(int(family), address) for family, _, _, _, address in found]


def main() -> None:
    """Serve the process whose pid comes first; then come host and port of each broker."""
    live_with_owner()
    words = sys.argv[2:]
    targets = [(host, int(port)) for host, port in zip(words[::2], words[1::2], strict=True)]
    try:
        relay = Relay(targets)
    except OSError as error:
        say(error=str(error))
        return
    say(ports=relay.ports)
    relay.run(0)


if __name__ == "__main__":
    main()
