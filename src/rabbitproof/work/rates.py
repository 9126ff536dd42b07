"""What follows from several snapshots: rates, and what happened in between. Pure.

Holds: the monitor's memory. Refuses to hold: how a snapshot is come by, what is wrong with it
(``diagnosis``), and any clock: each snapshot says when it was taken.

How a rate is made. A queue's counters move in steps, because each channel that uses it reports
every 5 s, at moments of its own. A difference between any two samples would count a report too many
or too few: sampled every 3 s, a rate would be wrong by up to half. But over 5, 10 or 15 s each
channel reports just once, twice or three times, whenever that is. So two samples are compared that
lie a multiple of 5 s apart, 15 s if there are such, which is why the monitor samples at even
intervals. Where no two samples lie so, because a broker answers late, only samples at which the
counter had just moved count, and the time between them is the multiple of 5 s that is possible.

A rate is 0 when nothing moved for ``STILL_S``. The broker's own rate, over its last 5 s, stands in
where there is no difference yet, and where movement began within the window: a window that is part
silence would show too little.

Of a broker with many queues, most are asked for in turn, once in a minute. What moves is asked for
every time (``moving``), so that its rate is as fresh as that of any other.

What makes a counter worthless: it fell (the queue was declared anew or the counter was reset),
its node started again, or it grew faster than any broker can (RabbitMQ at times reports such
numbers). Then its history begins anew, and until there are two samples no rate is claimed.

A counter that the broker does not tell has not begun, as long as the broker counts at all: after
two reports without it nothing moves. It is no 0 that a difference could be taken to, and what
was told of it before says nothing of what comes after.
"""

from __future__ import annotations

from collections import deque
from dataclasses import astuple, dataclass, replace
from heapq import nlargest
from typing import TYPE_CHECKING

from rabbitproof.snapshot import COUNTERS, Counters, Event, QueueSample, Rates
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rabbitproof.snapshot import Key, Snapshot

REPORT_S = 5.0
"""Seconds between two reports of a channel (RabbitMQ's collect_statistics_interval)."""
WINDOW_S = 15.0
"""The time over which a rate is taken, where samples lie so: three reports of each channel."""
KEPT_S = 70.0
"""Samples older than this are forgotten, except the last two."""
STILL_S = 11.0
"""What moves reports a change every 5 s; after two reports without one it stands still."""
_GAP = 3
"""A sample that came this many times later than the newest one did is too far off to go with it:
the queue was asked for in turn then, or the broker did not answer."""
_SLACK_S = 0.4
"""An answer of the API takes that long at times, and a report is late by as much."""
IMPOSSIBLE = 5e6
"""Messages a second of one queue that no broker reaches (fastest seen: 0.2 million)."""
KEPT_EVENTS = 200
_NAMED = 5
"""Events of one kind in one refresh that are told one by one; more become one line."""
JUMP = 1_000
"""Messages by which a depth changes at least, and doubles or halves, to be told as an event."""


@dataclass(slots=True)
class _Track:
    """A queue's counters at the times when they were asked for, oldest first."""

    samples: deque[tuple[float, Counters]]
    told: Rates | None
    """What the broker itself computed when it was asked last."""

    def take(self, at: float, counters: Counters, told: Rates | None) -> None:
        """Take the next sample."""
        before = self.samples[-1][1]
        # Thousands of queues that stand still share what they have.
        self.samples.append((at, before if before == counters else counters))
        self.told = told
        while len(self.samples) > 2 and at - self.samples[0][0] > KEPT_S:
            self.samples.popleft()


class History:
    """Takes snapshots in the order of time; says what they mean together."""

    def __init__(self) -> None:
        self._before: Snapshot | None = None
        self._tracks: dict[Key, _Track] = {}
        self._events: deque[Event] = deque(maxlen=KEPT_EVENTS)
        self.trends: dict[Key, int] = {}
        """By queue, by how many messages its depth has changed since the snapshot before."""
        self._moving: list[tuple[float, Key]] = []
        """Queues that move, and how much: messages a second, in and out."""

    def moving(self, most: int) -> tuple[Key, ...]:
        """Return the queues that moved at the last snapshot, the fastest first."""
        return tuple(key for _, key in nlargest(most, self._moving))

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
        self._before = _with_what_was_told(before, snapshot)
        rates = {queue.key: self._rates(queue, snapshot) for queue in snapshot.queues}
        for gone in self._tracks.keys() - rates.keys():
            del self._tracks[gone]
        self.trends = _trends(before, snapshot)
        seconds = 1.0 if before is None else max(snapshot.at - before.at, 1.0)
        self._moving = list(_moving(rates, self.trends, seconds))
        return rates

    def silent(self, key: Key) -> bool:
        """Tell whether our own samples show that a queue got no acknowledgement for ``STILL_S``.

        A rate of 0 that the broker tells is none: it says so as well of what has just begun.
        """
        track = self._tracks.get(key)
        if track is None or track.samples[-1][1].ack is None:
            return False
        now, latest = track.samples[-1]
        for at, counters in reversed(track.samples):
            if counters.ack != latest.ack:
                return False
            if now - at >= STILL_S:
                return True
        return False

    def _rates(self, queue: QueueSample, snapshot: Snapshot) -> Rates:
        if not snapshot.metrics:
            return Rates()
        track = self._tracks.get(queue.key)
        if queue.counters is not None:
            if track is None or not _follows(track, queue.counters, snapshot.at):
                told = queue.rates if track is None else None  # the broker's may span the break
                track = _Track(deque([(snapshot.at, queue.counters)]), told)
                self._tracks[queue.key] = track
            else:
                track.take(snapshot.at, queue.counters, queue.rates)
        if track is None:
            return Rates()
        return _rates(track)


def _follows(track: _Track, now: Counters, at: float) -> bool:
    """Tell whether counters can be later ones of the same queue."""
    before, old = track.samples[-1]
    if old == now:
        return True
    most = IMPOSSIBLE * max(at - before, 1.0)
    both = zip(astuple(old), astuple(now), strict=True)
    return all(a is None or b is None or 0 <= b - a <= most for a, b in both)


def _rates(track: _Track) -> Rates:
    """Return a queue's rates now, each counter for itself: what publishes is not what acks."""
    told = _possible(track.told or Rates())
    first, last = track.samples[0], track.samples[-1]
    if first[1] is last[1]:  # nothing moved: no need to look closer
        return Rates(0.0, 0.0, 0.0, 0.0) if last[0] - first[0] >= STILL_S else told
    together = _together(list(track.samples))
    out = []
    for name in COUNTERS:
        stand_in = getattr(told, name)
        value = _rate(_of_one_kind(together, name), stand_in)
        out.append(stand_in if value is None else value)
    return Rates(*out)


def _of_one_kind(
    samples: list[tuple[float, Counters]], name: str
) -> list[tuple[float, int | None]]:
    """Return one counter in the newest samples that all tell it, or that all do not."""
    values = [(at, getattr(counters, name)) for at, counters in samples]
    told = values[-1][1] is not None
    start = len(values)
    while start and (values[start - 1][1] is not None) == told:
        start -= 1
    return values[start:]


def _possible(told: Rates) -> Rates:
    """Leave out what no broker reaches; RabbitMQ at times reports such rates."""
    if max(told.publish or 0, told.deliver or 0, told.ack or 0, told.redeliver or 0) < IMPOSSIBLE:
        return told
    return Rates(*(None if (one or 0) >= IMPOSSIBLE else one for one in astuple(told)))


def _together(samples: list[tuple[float, Counters]]) -> list[tuple[float, Counters]]:
    """Return the newest samples that follow each other about as closely as the last two do."""
    at = [one[0] for one in samples]
    start = len(samples) - 1
    while start and at[start] - at[start - 1] <= _GAP * (at[-1] - at[-2]):
        start -= 1
    return samples[start:]


def _rate(samples: Sequence[tuple[float, int | None]], told: float | None) -> float | None:
    """Return how fast one counter grows; None: too early to say. ``told``: the broker's own."""
    now, latest = samples[-1]
    moves = [i for i in range(1, len(samples)) if samples[i][1] != samples[i - 1][1]]
    last = samples[moves[-1]][0] if moves else samples[0][0]
    if now - last >= STILL_S:
        return 0.0
    told_of = [(at, value) for at, value in samples if value is not None]
    if latest is None or not told_of:
        return None
    apart = [(now - at, value) for at, value in told_of[:-1]]
    even = [(span, value) for span, value in apart if _reports(span) and span <= KEPT_S]
    if even:
        span, value = min(even, key=lambda one: abs(one[0] - WINDOW_S))
        if told is not None and _began(told_of, moves, now - span):
            return told
        return (latest - value) / (_reports(span) * REPORT_S)
    return _between_moves(told_of, moves)


def _began(samples: list[tuple[float, int]], moves: list[int], start: float) -> bool:
    """Tell whether a counter stood still at ``start`` and has moved since."""
    first = next((i for i in moves if samples[i][0] > start), None)
    if first is None:
        return False
    before = max((i for i in moves if i < first), default=0)
    step = samples[first][0] - samples[first - 1][0]
    return samples[first][0] - samples[before][0] > REPORT_S + step + _SLACK_S


def _reports(span: float) -> int:
    """Return how many reports a span has of each channel; 0 when that can't be said."""
    reports = round(span / REPORT_S)
    return reports if abs(span - reports * REPORT_S) <= _SLACK_S else 0


def _between_moves(samples: list[tuple[float, int]], moves: list[int]) -> float | None:
    """Return the growth between two samples at which a counter had just moved."""
    if len(moves) < 2:
        return None
    end = moves[-1]
    start = next(i for i in moves if samples[end][0] - samples[i][0] <= WINDOW_S or i == moves[-2])

    def earliest(i: int) -> float:
        return max(samples[i - 1][0], samples[i][0] - REPORT_S)

    least = earliest(end) - samples[start][0] - _SLACK_S
    most = samples[end][0] - earliest(start) + _SLACK_S
    middle = (least + most) / 2
    reports = max(1, round(middle / REPORT_S)) * REPORT_S
    seconds = reports if least <= reports <= most else max(middle, 1.0)
    return (samples[end][1] - samples[start][1]) / seconds


def _trends(before: Snapshot | None, after: Snapshot) -> dict[Key, int]:
    """Return by how much each depth changed, for those that did."""
    old = {} if before is None else {queue.key: queue.total for queue in before.queues}
    out = {}
    for queue in after.queues:
        then = old.get(queue.key)
        if then is not None and queue.total is not None and queue.total != then:
            out[queue.key] = queue.total - then
    return out


def _moving(
    rates: dict[Key, Rates], trends: dict[Key, int], seconds: float
) -> Iterator[tuple[float, Key]]:
    """Yield each queue that moves, with about how fast."""
    for key, now in rates.items():
        speed = (now.publish or 0.0) + (now.ack or now.deliver or 0.0)
        speed = max(speed, abs(trends.get(key, 0)) / seconds)
        if speed:
            yield speed, key


def _with_what_was_told(before: Snapshot | None, after: Snapshot) -> Snapshot:
    """Keep what was known of nodes that a starting broker does not tell of yet."""
    if before is None:
        return after
    old = {node.name: node for node in before.nodes}
    new = {
        node.name: replace(
            node,
            **{
                name: getattr(old[node.name], name)
                for name in ("uptime", "running", "memory_alarm", "disk_alarm")
                if node.name in old and getattr(node, name) is None
            },
        )
        for node in after.nodes
    }
    return replace(after, nodes=tuple((old | new).values()))


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
        for what, began, ended in (
            ("running", f"node {name} is back", f"node {name} is down"),
            *(
                (f"{kind}_alarm", f"{kind} alarm of {name} began", f"{kind} alarm of {name} ended")
                for kind in ("memory", "disk")
            ),
        ):
            on, was = getattr(node, what), getattr(old, what)
            if None not in (on, was) and on != was:
                yield began if on else ended
    yield from _queue_events(before, after)
    yield from _consumer_events(before, after)


def _queue_events(before: Snapshot, after: Snapshot) -> Iterator[str]:
    old = {queue.key: queue for queue in before.queues}
    new = {queue.key: queue for queue in after.queues}
    if before.listed and after.listed:
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
