"""The audit trail: reading it, keeping it in a file, and sending it again.

``export`` reads a queue (holding it, see ``hold``) or a stream into a file, ``Replayer`` publishes
records with confirms at the speed at which they were sent, another, or as fast as confirmed.
Memory stays flat: at most a window of messages is here.

What is taken from a source is in the hands of the replayer until it has an outcome, whatever breaks
meanwhile: the account of a replay balances, or it did not end well. A source that has a connection
of its own goes on behind the last message that it gave.

Refuses to know the file (``export``), flags and lines (``cli``). Yields progress.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.errors import ConnectionLost, RabbitproofError
from rabbitproof.model import Advanced, Note, Started
from rabbitproof.text import safe
from rabbitproof.work.export import checked_copy, names_of, sent_at
from rabbitproof.work.export_lines import record_of
from rabbitproof.work.hold import Held, offset_of
from rabbitproof.work.link import GIVE_UP_S, passes, reopen, shun
from rabbitproof.work.resend import REROUTING, Sender
from rabbitproof.work.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.amqp.deliveries import Delivery
    from rabbitproof.model import Progress
    from rabbitproof.work.export import Writer
    from rabbitproof.work.export_lines import Record
    from rabbitproof.work.forecast import Forecast
    from rabbitproof.work.resend import Copy, Result

NACK_DEADLINE_S: Final = 30.0
"""Seconds for which refused messages are tried again without one being taken."""
_NACK_PAUSE_S: Final = 0.25
_REPORT_S: Final = 0.5
_BATCH: Final = 200
"""Messages handed over at once."""
_LONG_S: Final = 30.0
"""A wait that is told."""
_REASONS: Final = 10
"""Reasons, and messages of each, that are named; more are counted."""


def export(held: Held, writer: Writer, limit: int | None) -> Iterator[Progress]:
    """Write what is held into a file, and give it back."""
    yield Started()
    total = held.there if not held.stream else None
    if limit is not None:
        total = limit if total is None else min(total, limit)
    told = 0.0
    for some in held.read_bulk(limit):
        writer.write(some)
        now = time.monotonic()
        if now - told >= _REPORT_S:
            told = now
            yield Advanced(writer.messages, total, mark=False)
    held.give_back()
    yield Advanced(writer.messages, total, mark=False)


class Records:
    """Records that are in a file."""

    broken = False
    """Its connection has to be made again."""

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = iter(records)

    def take(self) -> Record | None:
        """Return the next one; None at the end. Raises what a connection raises."""
        return next(self._records, None)

    def serve(self) -> None:
        """Keep what it reads from alive while it is not read."""

    def renew(self) -> Generator[Progress, None, None]:
        """Go on over another connection, behind what was taken."""
        yield from ()

    def close(self) -> None:
        """End its connection."""

    def lacks(self) -> str | None:
        """Say what was not read though it is there: a sentence, or nothing."""
        return None


class StreamRecords(Records):
    """The records of a range of a stream, up to what was its last message at the beginning."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        queue: str,
        offset: Any,
        limit: int | None,
        give_up_s: float = GIVE_UP_S,
    ) -> None:
        self._connect, self._queue = connect, queue
        self._offset, self._limit = offset, limit
        self._retry = Retry(give_up_s)
        self._until: int | None = None
        self._held: Held | None = None
        self._some: Iterator[list[Delivery]] = iter(())
        self._here: deque[Delivery] = deque()
        self._last: int | None = None
        """The offset of the last one that was taken."""
        self._ended = False
        self.broken = False

    def take(self) -> Record | None:
        """Return the next one; None behind the last."""
        try:
            if self._held is None:
                connection = self._connect()
                try:
                    self._begin(connection)
                except RabbitproofError:
                    connection.abandon()
                    raise
            while not self._here:
                some = next(self._some, None)
                self._until = None if self._held is None else self._held.until
                if some is None:
                    self._ended = True
                    return None
                self._here.extend(some)
        except RabbitproofError:
            self.broken = True
            raise
        delivery = self._here.popleft()
        self._last = offset_of(delivery)
        if self._limit is not None:
            self._limit -= 1
        if self._retry.unproven:
            self._retry.progress()
        return record_of(delivery)

    def serve(self) -> None:
        """Answer what the broker asks, such as heartbeats."""
        try:
            if self._held is not None and not self.broken:
                self._held.serve()
        except RabbitproofError:
            self.broken = True
            raise

    def renew(self) -> Generator[Progress, None, None]:
        """Connect again."""
        self.close()
        shun(self._connect)
        self._retry.lost(time.monotonic())
        failure = ConnectionLost("The connection that reads the stream broke.")
        yield from reopen(self._retry, failure, self._connect, self._begin)
        self.broken = False

    def close(self) -> None:
        """End the connection."""
        held, self._held = self._held, None
        if held is not None:
            held.connection.abandon()

    def lacks(self) -> str | None:
        """Say where it ended too early."""
        if self._limit == 0 or self._until is None or self._until < 0:
            return None
        if not self._ended or (self._last is not None and self._last < self._until):
            at = "nothing" if self._last is None else f"up to offset {self._last:,}"
            return f"'{safe(self._queue)}' was read {at}, and its last is {self._until:,}"
        return None

    def _begin(self, connection: Connection) -> Iterable[Progress]:
        offset = self._offset if self._last is None else self._last + 1
        self._held = Held(connection, self._queue, stream=True, offset=offset, until=self._until)
        self._here.clear()  # what was not taken comes again
        self._some = self._held.read(self._limit)
        return ()


@dataclass(frozen=True, slots=True)
class Task:
    """How records are sent again."""

    exchange: str | None = None
    """None: each to the exchange from which it came."""
    routing_key: str | None = None
    speed: float | None = 1.0
    """How many times as fast as they were sent; None: as fast as confirmed."""
    dry_run: bool = False
    give_up_s: float = GIVE_UP_S


@dataclass(slots=True)
class Counts:
    """What became of the records."""

    read: int = 0
    confirmed: int = 0
    returned: int = 0
    nacked: int = 0
    refused: int = 0
    """That the broker, or this connection, can't take: set aside."""
    resent: int = 0
    """Sent again after a connection ended or a message was refused: there may be two of them."""
    first: float | None = None
    last: float | None = None
    """When the first and the last of them say that they were sent."""
    targets: Counter[tuple[bytes, bytes]] = field(default_factory=Counter)
    """(exchange, routing key) -> messages, for a dry run."""
    further: int = 0
    """Lost their CC or BCC, by which further queues would have got them."""
    seconds: float = 0.0

    @property
    def balances(self) -> bool:
        """Whether each record that was read has its outcome."""
        return self.read == self.confirmed + self.returned + self.nacked + self.refused


class Replayer:
    """Sends records again. ``counts`` may be read at any time."""

    def __init__(
        self,
        task: Task,
        source: Records,
        connect: Callable[[], Connection],
        forecast: Forecast | None = None,
    ) -> None:
        """``forecast`` counts where the copies of a dry run would go."""
        self.task = task
        self._forecast = forecast
        self.counts = Counts()
        self.aside: dict[str, list[int]] = {}
        """Why some were refused -> the first of them, by their place in what was read."""
        self._source = source
        self._connect = connect
        self._connection: Connection | None = None
        self._retry = Retry(task.give_up_s)
        self._sender: Sender
        self._ready = False
        """There was a connection that could be published on."""
        self._in_hand: Record | None = None
        """Taken from the source and not sent yet."""
        self._again: deque[tuple[float, int, Copy]] = deque()
        """From when on (monotonic seconds) what was refused is tried again."""
        self._refusing_since: float | None = None
        self._gave_up = False
        """Refused for too long: nothing more is sent."""
        self._began = 0.0
        """When the first record that says when it was sent was due, monotonic."""
        self._started = self._answered = 0.0
        self._told = 0.0
        self._exchange = None if task.exchange is None else task.exchange.encode()
        self._routing_key = None if task.routing_key is None else task.routing_key.encode()

    def run(self) -> Iterator[Progress]:
        """Do all of it."""
        if self.task.dry_run:
            yield from self._rehearse()
            return
        try:
            self._retry.begin(time.monotonic())
            self._connection = self._connect()
            while True:
                try:
                    if not self._ready:
                        yield from self._begin(self._connection)
                    yield from self._pump()
                except RabbitproofError as failure:
                    if not passes(failure):
                        raise
                    yield from self._recover(failure)
                else:
                    break
            self.counts.seconds = self._answered - self._started
            self._sender.connection.close()
        finally:
            self._source.close()
            if self._connection is not None:
                self._connection.abandon()

    def _begin(self, connection: Connection) -> Iterator[Progress]:
        self._connection = connection
        self._sender = Sender(connection, self._retry)
        if not self._ready:
            self._ready = True
            yield Started()
            self._started = self._answered = time.monotonic()

    def _recover(self, failure: RabbitproofError) -> Iterator[Progress]:
        """Connect again what broke: the source, or the connection that publishes."""
        if self._source.broken:
            yield from self._source.renew()
            return
        left = self._sender.left() if self._ready else {}
        if self._ready:
            self.counts.resent += len(left) + self._sender.resent
        if self._connection is not None:
            self._connection.abandon()
        shun(self._connect)
        self._retry.lost(time.monotonic())
        yield from reopen(self._retry, failure, self._connect, self._begin)
        for key, copy in left.items():
            self._sender.send(key, copy)
        self._answered = time.monotonic()

    def _rehearse(self) -> Iterator[Progress]:
        """Read and encode all of it, and send nothing."""
        yield Started()
        try:
            while (record := self._source.take()) is not None:
                self.counts.read += 1
                copy = self._take(record)
                self.counts.targets[copy.exchange, copy.routing_key] += 1
                if self._forecast is not None:
                    self._forecast.add(copy)
        finally:
            self._source.close()
        yield Advanced(self.counts.read, None, mark=False)

    def _take(self, record: Record) -> Copy:
        counts, when = self.counts, sent_at(record)
        if when is not None:
            counts.first = when if counts.first is None else counts.first
            counts.last = when
        if self._routing_key is not None:
            counts.further += not REROUTING.isdisjoint(names_of(record))
        return checked_copy(record, time.time_ns(), self._exchange, self._routing_key)

    def _pump(self) -> Iterator[Progress]:
        ended = False
        while not ended or len(self._sender) or self._again:
            ended = yield from self._fill()  # also at the end: what was refused is tried again
            idle = not ended and not self._sender.full and not self._again
            self._settle(0 if idle else _NACK_PAUSE_S)
            yield from self._report()
        self._settle(0)  # what could not be sent at all
        self.counts.resent += self._sender.resent

    def _fill(self) -> Generator[Progress, None, bool]:
        """Send some; return True at the end of the source."""
        now = time.monotonic()
        while self._again and self._again[0][0] <= now and not self._sender.full:
            _, key, copy = self._again.popleft()
            self._sender.send(key, copy)
        refused = self._refusing_since is not None and (self._again or len(self._sender))
        if refused and not self._gave_up:
            return False  # no more of the same while it is refused
        for _ in range(_BATCH):
            if self._sender.full:
                return False
            if self._in_hand is None:
                self._in_hand = None if self._gave_up else self._source.take()
                if self._in_hand is None:
                    return True
                self.counts.read += 1
            yield from self._wait_for(self._in_hand)
            record, self._in_hand = self._in_hand, None
            self._sender.send(self.counts.read, self._take(record))
        return False

    def _wait_for(self, record: Record) -> Iterator[Progress]:
        """Let time pass until a record is due."""
        speed, first, when = self.task.speed, self.counts.first, sent_at(record)
        if speed is None or when is None:
            return
        if first is None:
            self._began = time.monotonic()
            return
        due = self._began + (when - first) / speed
        if (left := due - time.monotonic()) > _LONG_S:
            yield Note(
                f"Message {self.counts.read:,} says that it was sent {when - first:,.0f} s after "
                f"the first one, so it goes out in {left:,.0f} s; see --speed."
            )
        while (left := due - time.monotonic()) > 0:
            self._settle(min(left, 1.0))
            yield from self._report()

    def _settle(self, timeout: float) -> None:
        self._source.serve()
        results = self._sender.settle(timeout)
        if results:
            self._answered = time.monotonic()
        for result in results:
            self._count(result)

    def _count(self, result: Result) -> None:
        if result.outcome == "confirmed":
            self.counts.confirmed += 1
            self._refusing_since = None
        elif result.outcome == "returned":
            self.counts.returned += 1
        elif result.outcome == "refused":
            self.counts.refused += 1
            if result.reason in self.aside or len(self.aside) < _REASONS:
                aside = self.aside.setdefault(result.reason, [])
                aside += [result.key] if len(aside) < _REASONS else []
        else:
            now = time.monotonic()
            if self._refusing_since is None:
                self._refusing_since = now
            if not self._gave_up and now - self._refusing_since < NACK_DEADLINE_S:
                self._again.append((now + _NACK_PAUSE_S, result.key, result.copy))
            else:
                self.counts.nacked += 1
                self._gave_up = True  # what has not been read stays unsent: the queue refuses

    def _report(self) -> Iterator[Progress]:
        now = time.monotonic()
        if now - self._told >= _REPORT_S:
            self._told = now
            yield Advanced(self.counts.confirmed, None, mark=False, blocked=self._sender.blocked)
