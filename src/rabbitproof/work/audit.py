"""The audit trail: reading it, keeping it in a file, and sending it again.

``export`` reads a queue (holding it, see ``hold``) or a stream into a file, ``Replayer`` publishes
records with confirms at the speed at which they were sent, another, or as fast as confirmed.
Memory stays flat: at most a window of messages is here.

Refuses to know the file (``export``), flags and lines (``cli``). Yields progress.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rabbitproof.errors import PreconditionFailed, RabbitproofError
from rabbitproof.model import Advanced, Started
from rabbitproof.work.export import checked_copy, names_of, sent_at
from rabbitproof.work.export_lines import record_of
from rabbitproof.work.link import GIVE_UP_S, passes, reopen, shun
from rabbitproof.work.resend import REROUTING, Sender
from rabbitproof.work.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.model import Progress
    from rabbitproof.work.export import Writer
    from rabbitproof.work.export_lines import Record
    from rabbitproof.work.forecast import Forecast
    from rabbitproof.work.hold import Held
    from rabbitproof.work.resend import Copy, Result

NACK_DEADLINE_S: Final = 30.0
"""Seconds for which refused messages are tried again without one being taken."""
_NACK_PAUSE_S: Final = 0.25
_REPORT_S: Final = 0.5
_BATCH: Final = 200
"""Messages handed over at once."""


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


def stream_records(held: Held, limit: int | None) -> Iterator[Record]:
    """Yield the records of a stream's range."""
    for some in held.read(limit):
        for delivery in some:
            yield record_of(delivery)


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
    resent: int = 0
    """Sent again after a connection ended: there may be two of them."""
    first: float | None = None
    last: float | None = None
    """When the first and the last of them say that they were sent."""
    targets: Counter[tuple[bytes, bytes]] = field(default_factory=Counter)
    """(exchange, routing key) -> messages, for a dry run."""
    further: int = 0
    """Lost their CC or BCC, by which further queues would have got them."""
    seconds: float = 0.0


class Replayer:
    """Sends records again. ``counts`` may be read at any time."""

    def __init__(
        self,
        task: Task,
        source: Iterable[Record],
        connect: Callable[[], Connection],
        forecast: Forecast | None = None,
    ) -> None:
        """``forecast`` counts where the copies of a dry run would go."""
        self.task = task
        self._forecast = forecast
        self.counts = Counts()
        self._source = iter(source)
        self._connect = connect
        self._connection: Connection | None = None
        self._retry = Retry(task.give_up_s)
        self._sender: Sender
        self._ready = False
        """There was a connection that could be published on."""
        self._key = 0
        self._again: deque[tuple[float, Copy]] = deque()
        """From when on (monotonic seconds) what was refused is tried again."""
        self._refusing_since: float | None = None
        self._gave_up = False
        """Refused for too long: nothing more is sent."""
        self._began = 0.0
        """When the first record was sent, monotonic."""
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
        except PreconditionFailed as refusal:
            raise PreconditionFailed(
                f"The broker refused a message of the export: {refusal.reply}. If it names the "
                "user id, log in as that user; if the size, raise max_message_size.",
                code=refusal.code,
                reply=refusal.reply,
            ) from None
        finally:
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
        left = self._sender.left() if self._ready else {}
        if self._connection is not None:
            self._connection.abandon()
        shun(self._connect)
        self._retry.lost(time.monotonic())
        yield from reopen(self._retry, failure, self._connect, self._begin)
        self.counts.resent += len(left)
        for copy in left.values():
            self._send(copy)
        self._answered = time.monotonic()

    def _rehearse(self) -> Iterator[Progress]:
        """Read and encode all of it, and send nothing."""
        yield Started()
        for record in self._source:
            copy = self._take(record)
            self.counts.targets[copy.exchange, copy.routing_key] += 1
            if self._forecast is not None:
                self._forecast.add(copy)
        yield Advanced(self.counts.read, None, mark=False)

    def _take(self, record: Record) -> Copy:
        counts = self.counts
        counts.read += 1
        when = sent_at(record)
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
            self._settle(0 if idle else min(_NACK_PAUSE_S, 1.0))
            yield from self._report()

    def _fill(self) -> Generator[Progress, None, bool]:
        """Send some; return True at the end of the source."""
        now = time.monotonic()
        while self._again and self._again[0][0] <= now and not self._sender.full:
            self._send(self._again.popleft()[1])
        refused = self._refusing_since is not None and (self._again or len(self._sender))
        if refused and not self._gave_up:
            return False  # no more of the same while it is refused
        for _ in range(_BATCH):
            if self._sender.full:
                return False
            record = next(self._source, None)
            if record is None:
                return True
            copy = self._take(record)
            yield from self._wait_for(record)
            self._send(copy)
        return False

    def _wait_for(self, record: Record) -> Iterator[Progress]:
        """Let time pass until a record is due."""
        speed, counts = self.task.speed, self.counts
        when = sent_at(record)
        if speed is None or when is None or counts.first is None:
            return
        if counts.read == 1:
            self._began = time.monotonic()
        due = self._began + (when - counts.first) / speed
        while (left := due - time.monotonic()) > 0:
            self._settle(min(left, 1.0))
            yield from self._report()

    def _send(self, copy: Copy) -> None:
        self._key += 1
        self._sender.send(self._key, copy)

    def _settle(self, timeout: float) -> None:
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
        else:
            now = time.monotonic()
            if self._refusing_since is None:
                self._refusing_since = now
            if not self._gave_up and now - self._refusing_since < NACK_DEADLINE_S:
                self._again.append((now + _NACK_PAUSE_S, result.copy))
            else:
                self.counts.nacked += 1
                # What has not been read stays unsent: the queue refuses.
                self._gave_up, self._source = True, iter(())

    def _report(self) -> Iterator[Progress]:
        now = time.monotonic()
        if now - self._told >= _REPORT_S:
            self._told = now
            yield Advanced(self.counts.confirmed, None, mark=False, blocked=self._sender.blocked)
