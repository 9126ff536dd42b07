"""What follows from several snapshots: rates, and what happened in between. Pure.

Holds: the monitor's memory. Refuses to hold: how a snapshot is come by, what is wrong with it
(``diagnosis``), and any clock: each snapshot says when it was taken.

How a rate is made. A broker's counters move every 5 s and in one step, because that is how often
its queues report; samples taken more often see the same number twice, then a jump. Dividing a jump
by the time between two samples would be wrong by up to half. So only samples at which the counters
had just moved count. Of each it is known between which two moments the report came, so of two it is
known how long the time between their reports is at least and at most; it is that multiple of 5 s
which lies in between, or the middle where none does (a broker may be set to another interval). A
rate is averaged over at most ``WINDOW_S``, is 0 when nothing moved for ``STILL_S``, and with a
single sample, which has no difference, the broker's own rate stands in.

What makes a counter worthless: it fell (the queue was declared anew or the counter was reset),
its node started again, or it grew faster than any broker can (RabbitMQ at times reports such
numbers). Then its history begins anew, and until there are two samples no rate is claimed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import astuple, dataclass, field
from typing import TYPE_CHECKING

from rabbitproof.snapshot import Counters, Event, QueueSample, Rates
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rabbitproof.snapshot import Key, Snapshot

WINDOW_S = 16.0
"""Longest time over which a rate is averaged: three reports of a queue and a bit."""
REPORT_S = 5.0
"""Seconds between two reports of a queue (RabbitMQ's collect_statistics_interval)."""
_SLACK_S = 0.5
"""An answer of the API takes that long at times, and a report is late by as much."""
LONGEST_S = 60.0
"""The same where samples are taken more rarely than queues report."""
STILL_S = 11.0
"""A queue that moves reports a change every 5 s; after two reports without one it stands still."""
IMPOSSIBLE = 5e6
"""Messages a second of one queue that no broker reaches (fastest seen: 0.2 million)."""
KEPT_EVENTS = 200
_NAMED = 5
"""Events of one kind in one refresh that are told one by one; more become one line."""
JUMP = 1_000
"""Messages by which a depth changes at least, and doubles or halves, to be told as an event."""


@dataclass(frozen=True, slots=True)
class _Move:
    """A sample at which the counters had just moved: the report came since the one before."""

    before: float
    seen: float
    counters: Counters

    @property
    def exact(self) -> bool:
        """Whether it was looked for at least as often as queues report."""
        return self.seen - self.before <= REPORT_S + _SLACK_S

    @property
    def earliest(self) -> float:
        """When the report came at the earliest: there is a later one after 5 s."""
        return max(self.before, self.seen - REPORT_S)


@dataclass(slots=True)
class _Track:
    """A queue's counters: when they were seen last, and when they had just moved."""

    seen: float
    since: float
    """When it was first seen, or its history began anew."""
    latest: Counters
    told: Rates | None = None
    """What the broker itself computed when it was asked last."""
    moves: deque[_Move] = field(default_factory=lambda: deque(maxlen=12))


class History:
    """Takes snapshots in the order of time; says what they mean together."""

    def __init__(self) -> None:
        self._before: Snapshot | None = None
        self._tracks: dict[Key, _Track] = {}
        self._events: deque[Event] = deque(maxlen=KEPT_EVENTS)

    @property
    def events(self) -> tuple[Event, ...]:
        """What happened, newest first."""
        return tuple(self._events)

    def tell(self, clock: float, text: str) -> None:
        """Note an event that no snapshot shows."""
        self._events.appendleft(Event(clock, text))

    def add(self, snapshot: Snapshot) -> dict[Key, Rates]:
        """Take the next snapshot and return every queue's rates."""
        before = self._before
        if before is not None:
            if restarted(before, snapshot):
                self._tracks.clear()
            for text in happened(before, snapshot):
                self.tell(snapshot.clock, text)
        self._before = snapshot
        rates = {queue.key: self._rates(queue, snapshot) for queue in snapshot.queues}
        for gone in self._tracks.keys() - rates.keys():
            del self._tracks[gone]
        return rates

    def _rates(self, queue: QueueSample, snapshot: Snapshot) -> Rates:
        if not snapshot.metrics:
            return Rates()
        track = self._tracks.get(queue.key)
        if queue.counters is not None:
            if track is None or not _follows(track, queue.counters, snapshot.at):
                fresh = track is None
                told = queue.rates if fresh else None  # the broker's may span the break
                track = _Track(snapshot.at, snapshot.at, queue.counters, told)
                self._tracks[queue.key] = track
                return told or Rates()
            if queue.counters != track.latest:
                track.moves.append(_Move(track.seen, snapshot.at, queue.counters))
                track.latest = queue.counters
            track.seen, track.told = snapshot.at, queue.rates
        if track is None:
            return Rates()
        return _slope(track) or track.told or Rates()


def _follows(track: _Track, now: Counters, at: float) -> bool:
    """Tell whether counters can be later ones of the same queue."""
    seconds = max(at - track.seen, 1.0)
    return all(
        0 <= new - old <= IMPOSSIBLE * seconds
        for old, new in zip(astuple(track.latest), astuple(now), strict=True)
    )


def _slope(track: _Track) -> Rates | None:
    """Return the rates between the oldest and the newest move in the window; None: too early."""
    moves = track.moves
    last = moves[-1].seen if moves else track.since
    # A queue that is asked for more rarely (one page in turn) may move just as rarely.
    still = max(STILL_S, 2 * (moves[-1].seen - moves[-2].seen) if len(moves) > 1 else 0.0)
    if track.seen - last >= still:
        return Rates(0.0, 0.0, 0.0, 0.0)
    # Samples further apart than reports leave more doubt about each, so more of them are used.
    gap = moves[-1].seen - moves[-2].seen if len(moves) > 1 else 0.0
    window = WINDOW_S if not moves or moves[-1].exact else max(WINDOW_S, min(5 * gap, LONGEST_S))
    while len(moves) > 2 and moves[-1].seen - moves[0].seen > window:
        moves.popleft()
    if len(moves) < 2:
        return None
    old, new = moves[0], moves[-1]
    seconds = _elapsed(old, new)
    return Rates(
        *(
            (b - a) / seconds
            for a, b in zip(astuple(old.counters), astuple(new.counters), strict=True)
        )
    )


def _elapsed(old: _Move, new: _Move) -> float:
    """Return the seconds between the reports behind two moves."""
    least = max(0.0, new.earliest - old.seen) - _SLACK_S
    most = new.seen - old.earliest + _SLACK_S
    middle = (least + most) / 2
    reports = max(1, round(middle / REPORT_S)) * REPORT_S
    return reports if least <= reports <= most else max(middle, 1.0)


def restarted(before: Snapshot, after: Snapshot) -> bool:
    """Tell whether a node started between two snapshots, so that its counters began anew."""
    uptimes = {node.name: node.uptime for node in before.nodes}
    return any(
        node.uptime is not None
        and (old := uptimes.get(node.name)) is not None
        and node.uptime < old
        for node in after.nodes
    )


def happened(before: Snapshot, after: Snapshot) -> Iterator[str]:
    """Yield what happened between two snapshots, in words that are safe to show."""
    nodes = {node.name: node for node in before.nodes}
    for node in after.nodes:
        old = nodes.get(node.name)
        name = safe(node.name, 60)
        if old is None:
            continue
        if node.uptime is not None and old.uptime is not None and node.uptime < old.uptime:
            yield f"node {name} started again"
        if node.running != old.running:
            yield f"node {name} {'is back' if node.running else 'is down'}"
        for alarm in ("memory", "disk"):
            on = getattr(node, f"{alarm}_alarm")
            if on != getattr(old, f"{alarm}_alarm"):
                yield f"{alarm} alarm of {name} {'began' if on else 'ended'}"
    yield from _queue_events(before, after)
    yield from _consumer_events(before, after)


def _queue_events(before: Snapshot, after: Snapshot) -> Iterator[str]:
    old = {queue.key: queue for queue in before.queues}
    new = {queue.key: queue for queue in after.queues}
    yield from _each([f"queue {safe(k[1], 60)} appeared" for k in new.keys() - old.keys()])
    yield from _each([f"queue {safe(k[1], 60)} is gone" for k in old.keys() - new.keys()])
    jumps = []
    for key in new.keys() & old.keys():
        a, b = old[key].total, new[key].total
        if a is None or b is None or abs(b - a) < JUMP:
            continue
        if max(a, b) >= 2 * min(a, b):
            jumps.append(f"queue {safe(key[1], 60)} went from {a:,} to {b:,} messages")
    yield from _each(jumps)


def _consumer_events(before: Snapshot, after: Snapshot) -> Iterator[str]:
    if before.consumers is None or after.consumers is None:
        return
    old = {(c.vhost, c.queue, c.channel, c.tag) for c in before.consumers}
    new = {(c.vhost, c.queue, c.channel, c.tag) for c in after.consumers}

    def told(which: set[tuple[str, str, str, str]], what: str) -> list[str]:
        return [f"consumer {safe(tag, 40)} {what} {safe(queue, 60)}" for _, queue, _, tag in which]

    yield from _each(told(new - old, "came to"))
    yield from _each(told(old - new, "left"))


def _each(texts: list[str]) -> Iterator[str]:
    """Yield the first few in order; what is left becomes one line."""
    texts = sorted(texts)
    yield from texts[:_NAMED]
    if len(texts) > _NAMED:
        yield f"… and {len(texts) - _NAMED} more like {texts[_NAMED - 1]}"
