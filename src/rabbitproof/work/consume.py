"""What a consumer does: receive, check, record, and only then acknowledge.

Every message is checked against its own checksum and recorded under its identity before its
acknowledgement goes out, several at once. Deliveries that were not acknowledged when a
connection broke come again; the ledger tells them apart from real duplicates.

Yields progress, prints nothing. Refuses to know flags (``cli``) and bytes (``amqp``).
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from pamqp import commands

from rabbitproof.amqp import methods
from rabbitproof.amqp.deliveries import Batch, Delivery
from rabbitproof.amqp.session import ConsumerCancelled, decode_header
from rabbitproof.errors import (
    ConnectionLost,
    ConsumerGone,
    NotFound,
    RabbitproofError,
)
from rabbitproof.identity import (
    AGAIN_HEADERS,
    APP_ID,
    CHECKSUM_HEADER,
    HOST_HEADER,
    SENT_HEADER,
    checksum,
    damaged,
    identify,
    identify_all,
)
from rabbitproof.model import LONGEST_NAME, Advanced, Consumed, Note, Queue, Started
from rabbitproof.proof.ledger import QueueReceipts
from rabbitproof.text import fitting, safe
from rabbitproof.work import topology as wiring
from rabbitproof.work.arrivals import Arrivals
from rabbitproof.work.cpu import Cpu
from rabbitproof.work.inspect import foreign_sample, sample
from rabbitproof.work.link import (
    GIVE_UP_S,
    has_others,
    lacks_replica,
    passes,
    reopen,
    shun,
    within,
)
from rabbitproof.work.recorder import Recorder
from rabbitproof.work.retry import Retry
from rabbitproof.work.unnamed import Unnamed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from pamqp.common import FieldValue

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.identity import Source
    from rabbitproof.model import Progress, Sample
    from rabbitproof.proof.latency import RunLatency

_SILENCE_S: Final = 0.5
"""How long a stream has to be silent before it counts as read to its end."""

_LOOK_S: Final = 0.5
"""How often other consumers are looked for while messages are missing: one that takes part for
a shorter time is gone before its share has become a gap."""
_GONE_S: Final = 5.0
"""Within which a broker notices that a connection was closed without a word."""
_GOODBYE_S: Final = 5.0
"""For an answer on the way out, of a broker that may not give one."""
_TICK_S: Final = 1.0
"""Longest wait without looking at the clock."""

GATHER_BYTES: Final = 64 * 1024
"""How much may come together before it is read, while much is coming: some 200 messages. On a
classic queue 44,000 messages a second came with it, 40,000 with a quarter of it, 35,000 without
(medians of interleaved runs); more gains nothing."""
_GATHER_PER_PREFETCH: Final = 64
"""Bytes for each message of the prefetch at most: far less than it has, so that the broker
never waits for our acknowledgement while we wait for it."""
_GATHER_FROM: Final = 200
"""Prefetch below which the broker would wait for our acknowledgement meanwhile."""


@dataclass(frozen=True, slots=True)
class Task:
    """What one consumer is asked to do."""

    queue: str
    name: str = "Worker"
    prefetch: int = 1000
    expect: int | None = None
    """Stop after so many distinct messages; None for never."""
    idle_timeout: float | None = None
    """Seconds without a message after which to stop. Not counted while disconnected; but on
    connections that break one after the other, a message that had come before is none."""
    lazy: bool = False
    """How to create the queue if it is missing."""
    answer: Literal["ack", "requeue", "reject", "none"] = "ack"
    """``none``: the broker forgets a message when it has sent it, whether or not it arrives."""
    progress_every: int = 10_000
    show_all: bool = False
    stream_offset: str | None = None
    """Where to begin in a stream, such as ``first``; None when the queue is no stream."""
    drain: bool = False
    """After ``expect`` was reached, go on until the queue has nothing more: a second copy may
    still come, and what is returned unread would be flagged as redelivered."""
    give_up_s: float = GIVE_UP_S
    """Seconds from the loss of a connection, or of the queue, to the next progress (``retry``)."""
    host: str = "unknown"
    """The name of this machine: a message from the same one has the same clock."""


@dataclass(slots=True)
class _Unanswered:
    """Deliveries that were recorded and not acknowledged yet."""

    last_tag: int = 0
    count: int = 0


@dataclass(slots=True)
class Consumer:
    """One consumer's run. ``run`` does the work; ``summary`` may be asked at any time."""

    task: Task
    connect: Callable[[], Connection]
    recorder: Recorder = field(default_factory=Recorder)
    """Keeps the ledger on disk, if anybody does."""
    receipts: QueueReceipts = field(default_factory=QueueReceipts)
    shared: bool = False
    """Another consumer was seen on the queue: a gap is no loss then."""
    left: int | None = None
    """Messages ready in the queue after the end; None when that was not asked."""
    _connection: Connection | None = None
    _channel: int = 0
    _pending: _Unanswered = field(default_factory=_Unanswered)
    _consumed: int = 0
    _deliveries: int = 0
    _marked: int = 0
    _started: float | None = None
    _active: float = 0.0
    """When something came last, or the connection came back (monotonic seconds)."""
    _made: bool = False
    """The queue was missing at the start, and we made it."""
    _looked: float = 0.0
    """When other consumers were looked for last."""
    _cpu: Cpu = field(default_factory=Cpu)
    _acked: float = 0.0
    """When the last acknowledgement went out."""
    _before: int = 0
    """Deliveries on the connections before this one."""
    _unnamed: Unnamed = field(default_factory=Unnamed)
    _ended: bool = False
    """All is done, and the queue is counted."""
    _arrivals: Arrivals = field(init=False)
    _retry: Retry = field(init=False)

    def __post_init__(self) -> None:
        self._arrivals = Arrivals(self.task.host, self.task.expect)
        self._retry = Retry(self.task.give_up_s)

    def run(self) -> Generator[Progress, None, None]:
        """Do all of it. Raises what can't be helped; what was received is in ``summary``."""
        try:
            self._retry.begin(time.monotonic())
            self._connection = self.connect()
            while not self._ended:
                try:
                    if not self.began:
                        yield from self._prepare(self._connection)
                    yield from self._pump()
                    self._answer()
                    self._cpu.end()
                    yield from self._finish()
                except RabbitproofError as failure:
                    if not self._worth_it(failure):
                        raise
                    yield from self._recover(failure)
        except BaseException as error:
            self.recorder.stopped(error)
            if isinstance(error, (KeyboardInterrupt, GeneratorExit)):
                self._leave()
            raise
        finally:
            if self._connection is not None:
                self._connection.abandon()
            self.recorder.close()

    def summary(self) -> Consumed:
        """Return what is known so far."""
        receipts, began = self.receipts, self._started
        return Consumed(
            consumed=receipts.consumed,
            unique=receipts.unique,
            redelivered=receipts.redelivered,
            duplicates=receipts.duplicates,
            missing=None if self.shared else receipts.missing,
            corrupt=receipts.corrupt,
            foreign=receipts.foreign,
            expected=self.task.expect,
            seconds=0.0 if began is None else self._acked - began,
            cpu_seconds=self._cpu.seconds,
            latency=self._arrivals.summary(),
        )

    @property
    def began(self) -> bool:
        """True once it has subscribed."""
        return self._started is not None

    @property
    def latency(self) -> RunLatency:
        """From when each message was due to its arrival."""
        return self._arrivals.latency

    @property
    def unanswered(self) -> int:
        """Recorded deliveries whose acknowledgement has not gone out: they will come again."""
        return self._pending.count

    # --- before and after ---

    def _prepare(self, connection: Connection) -> Iterator[Progress]:
        """Subscribe on a connection; the first time that ends with Started.

        When nothing came for the idle timeout, over all the connections that broke meanwhile, only
        see what is left: a subscription would break this one as well.
        """
        self._connection = connection
        if self.began and self._idle_left() <= 0:
            self._cpu.end()
            self._count_from_outside(interrupted=False)
            return
        yield from self._subscribe(connection)
        if not self.began:
            self.receipts = self.recorder.receipts(connection, self.task, self.receipts)
            yield Started()
            self._started = self._active = self._acked = time.monotonic()
            self._arrivals.begin(time.time_ns())
            self._cpu.begin()

    def _subscribe(self, connection: Connection) -> Iterator[Progress]:
        """Find or make the queue, and start to consume from it."""
        task = self.task
        channel = connection.open_channel()
        try:
            found = wiring.look(connection, channel, task.queue)
        except NotFound as missing:
            if passes(missing):
                raise  # it is there, but its node is down
            if self.began and not self._made:
                # Its settings and bindings were somebody's, who may well declare it again.
                raise ConsumerGone(
                    f"There is no queue '{safe(task.queue)}' on {connection.where} any more; "
                    "declare it again, for example with a producer."
                ) from None
            channel = connection.open_channel()
            queue = Queue(task.queue, durable=True, lazy=task.lazy)
            wiring.declare_queue(connection, channel, queue)
            found = wiring.look(connection, channel, task.queue)
            self._made = True
            yield Note(
                f"There was no queue '{safe(task.queue)}'; a durable one was created. It stays "
                "empty until something is bound to it: start a producer."
            )
        self.shared = self.shared or bool(found.consumer_count)
        prefetch = task.prefetch
        if task.expect is not None and task.answer == "ack" and not task.drain:
            # More than is wanted would only have to go back to the queue.
            prefetch = min(prefetch, task.expect)
        connection.call(channel, commands.Basic.Qos(prefetch_count=prefetch))
        arguments: dict[str, FieldValue] = {}
        if task.stream_offset is not None:
            arguments["x-stream-offset"] = task.stream_offset
        connection.call(
            channel,
            methods.BasicConsume(
                queue=task.queue,
                consumer_tag=fitting(task.name, LONGEST_NAME),
                no_ack=task.answer == "none",
                arguments=arguments,
            ),
        )
        self._channel, self._pending, self._before = channel, _Unanswered(), self._deliveries
        if prefetch >= _GATHER_FROM:
            connection.gather(min(GATHER_BYTES, prefetch * _GATHER_PER_PREFETCH))

    def _worth_it(self, error: Exception) -> bool:
        """Say whether trying again may help."""
        if lacks_replica(error) and not self.began:
            return has_others(self.connect)  # else nobody says that there will ever be one
        return passes(error) or isinstance(error, ConsumerGone)

    def _recover(self, failure: RabbitproofError) -> Iterator[Progress]:
        """Connect and subscribe again; what was not acknowledged comes again."""
        if isinstance(failure, ConsumerGone):
            self._open.close(_GOODBYE_S)  # so that the acknowledgements arrive
        else:
            self._open.abandon()
            shun(self.connect)
        self.recorder.event("lost", why=str(failure))
        retry, now = self._retry, time.monotonic()
        first = retry.since is None
        # No more than the prefetch was ever unanswered; how much of it was, only the broker knows.
        retry.lost(now, min(self._deliveries - self._before, self.task.prefetch))
        self._unnamed.lost(self.task.prefetch)
        tries = retry.tries

        def prepare(connection: Connection) -> Iterator[Progress]:
            if first or retry.tries > tries + 1:  # there was progress before, or nobody to talk to
                self._active = time.monotonic()
            return self._prepare(connection)

        until = float("inf") if first else now + self._idle_left()
        yield from reopen(
            retry, failure, self.connect, prepare, worth_it=self._worth_it, until=until
        )
        if not self._ended:
            self.recorder.event("connected", where=self._open.where)

    def _finish(self, *, interrupted: bool = False) -> Iterator[Progress]:
        """Stop consuming; what was prefetched beyond the end goes back to the queue."""
        connection, queue = self._open, self.task.queue
        self._answer()
        look = connection.open_channel()
        found = wiring.look(connection, look, queue)
        self.shared = self.shared or (found.consumer_count or 0) > 1
        connection.call(self._channel, commands.Channel.Close(200, "done", 0, 0))
        found = wiring.look_again(connection, look, queue)
        self.left = int(found.message_count or 0)
        second = None
        if not interrupted and self._owing and self.recorder.doubts(queue):
            yield Note(f"Asking the Management API as well what is left in '{safe(queue)}'.")
            second = self.recorder.second_count(connection, queue)
            # A quorum queue goes on counting a consumer for a moment after its channel closed.
            found = wiring.look_again(connection, look, queue)
            self.left = int(found.message_count or 0)
        self.recorder.end(
            seconds=self.summary().seconds,
            latency=self._arrivals.dump(),
            counts={queue: self.left},
            consumers={queue: found.consumer_count},
            second={queue: second},
            interrupted=interrupted,
        )
        self._ended = True
        connection.close()

    @property
    def _owing(self) -> bool:
        """Say whether it may matter what is left in the queue."""
        expected = self.task.expect
        return expected is None or self._consumed < expected or bool(self.receipts.missing)

    def _leave(self) -> None:
        """Somebody stopped it: end in good order all the same, if the ledger is to prove a drain.

        What was recorded is acknowledged, what was not goes back to the queue before it is
        counted. Without a ledger a goodbye is enough; but that is needed: a socket that is closed
        while deliveries wait in it is reset, and acknowledgements on their way are gone.
        """
        if not self.recorder.keeps or self._started is None:
            if self._connection is not None:
                self._connection.close(_GOODBYE_S)
            return
        with contextlib.suppress(RabbitproofError):
            self._open.patience = _GOODBYE_S
            try:
                for _ in self._finish(interrupted=True):
                    pass
            except RabbitproofError:
                # The interrupt came while something was sent, and that was sent twice.
                self._open.abandon()
                self._connection = within(self.connect, _GOODBYE_S)
                self._count_from_outside(interrupted=True)

    def _count_from_outside(self, *, interrupted: bool) -> None:
        """Count on a new connection, once the broker has seen that we left the one before."""
        connection = self._open
        channel = connection.open_channel()
        deadline = time.monotonic() + _GONE_S
        found = wiring.look_again(connection, channel, self.task.queue)
        while found.consumer_count and time.monotonic() < deadline:
            connection.wait(_SILENCE_S / 10)
            found = wiring.look_again(connection, channel, self.task.queue)
        self.left = int(found.message_count or 0)
        self.recorder.end(
            seconds=self.summary().seconds,
            latency=self._arrivals.dump(),
            counts={self.task.queue: self.left},
            consumers={self.task.queue: found.consumer_count},
            interrupted=interrupted,
        )
        self._ended = True
        connection.close()

    @property
    def _open(self) -> Connection:
        if self._connection is None:
            raise ConnectionLost
        return self._connection

    # --- the loop ---

    def _pump(self) -> Iterator[Progress]:
        """Receive until there is nothing more to do."""
        connection, task = self._open, self.task
        quarter = max(1, task.prefetch // 4)
        while not self._finished():
            events = connection.wait(0 if self._pending.count else self._patience())
            if not events:
                # Nothing more is readable: acknowledge what came, then wait for more.
                self._answer()
                if self._idle_left() <= 0:
                    return
                if self._retry.unproven:
                    self._retry.stands(time.monotonic(), due=False)
                continue
            came, known = self._deliveries, self._consumed
            self._arrivals.at(time.time_ns())
            for event in events:
                if isinstance(event, Batch):
                    yield from self._batch(event)
                elif isinstance(event, Delivery):
                    yield from self._single(event)
                elif isinstance(event, ConsumerCancelled):
                    self._answer()
                    raise ConsumerGone(
                        f"The broker ended the consumer on '{safe(task.queue)}': the queue was "
                        "deleted, or its node or leader is gone."
                    )
                if self._enough:
                    break
            if self._retry.unproven:
                self._retry.received(self._deliveries - came, fresh=self._consumed > known)
            if not self._retry.unproven:
                self._active = time.monotonic()
            if self._pending.count >= quarter:
                self._answer()
            self._watch_for_others()
            self.recorder.round(self._figures)
            yield Advanced(self._consumed, task.expect, mark=False)

    def _figures(self) -> dict[str, Any]:
        """Return what is worth to be known over time."""
        return {"received": self._deliveries, "distinct": self._consumed}

    def _watch_for_others(self) -> None:
        """While there is a gap, see whether another consumer has a part of the messages.

        One that comes after us and leaves before us would be seen neither at the beginning nor
        at the end. What it holds is a gap here, so without one nobody has to be asked.
        """
        if self.shared or self._active - self._looked < _LOOK_S:
            return
        self._looked = self._active
        if self.receipts.missing:
            found = wiring.look(self._open, self._channel, self.task.queue)
            self.shared = (found.consumer_count or 0) > 1

    @property
    def _enough(self) -> bool:
        """True when no more messages may be taken."""
        return not self.task.drain and self._reached

    @property
    def _reached(self) -> bool:
        return self.task.expect is not None and self._consumed >= self.task.expect

    def _finished(self) -> bool:
        """Say whether all is done; asks the broker when the queue is to be drained."""
        if not self._reached or not self.task.drain:
            return self._reached
        self._answer()
        if self.task.stream_offset is not None:
            # A stream's count says nothing about what was read: it is over when it is silent.
            return not self._open.look_ahead(_SILENCE_S)
        # The broker handles one channel in order: what it had sent us from this queue before it
        # counted has arrived before the count.
        count = wiring.message_count(self._open, self._channel, self.task.queue)
        return not count and not self._open.look_ahead(0)

    def _patience(self) -> float:
        """Return for how long, in seconds, nothing has to be done; 0 when idle for too long."""
        return max(0.0, min(_TICK_S, self._idle_left()))

    def _idle_left(self) -> float:
        """Return in how many seconds it is idle for too long."""
        idle = self.task.idle_timeout
        if idle is None or not self.began:
            return float("inf")
        return self._active + idle - time.monotonic()

    def _batch(self, batch: Batch) -> Iterator[Progress]:
        """Take many messages at once; no more than are wanted."""
        while batch.message_ids:
            size, expect = len(batch.message_ids), self.task.expect
            take = size
            if expect is not None and not self.task.drain:
                # Each new one counts once at most, so this many can be taken without a look.
                take = min(size, expect - self._consumed)
            if take <= 0:
                return
            part = batch if take == size else batch.part(0, take)
            before, known = self._deliveries, self._consumed
            self._consumed += self._record(part)
            self._deliveries += take
            self._pending.last_tag = part.last_tag
            self._pending.count += take
            yield from self._show(before, known, part)
            batch = batch.part(take, size)

    def _record(self, batch: Batch) -> int:
        """Check and record; return how many distinct messages are new."""
        broken = damaged(batch.message_ids, batch.checksums, batch.bodies)
        if not broken:
            groups = identify_all(batch.message_ids)
            if groups is not None and (batch.redelivered or self._all_new(groups)):
                if not (batch.redelivered or batch.again):
                    self._arrivals.count(batch.sent_ns, batch.host)
                return sum(
                    self.receipts.of(source).add(
                        numbers, redelivered=batch.redelivered, again=batch.again
                    )
                    for source, numbers in groups
                )
        wrong = set(broken)
        return sum(
            self._record_one(
                batch.message_ids[i],
                intact=i not in wrong,
                redelivered=batch.redelivered,
                again=batch.again,
                ours=batch.ours,
                sent=(batch.sent_ns[i], batch.host),
            )
            for i in range(len(batch.message_ids))
        )

    def _all_new(self, groups: list[tuple[Source, Sequence[int]]]) -> bool:
        """Say whether no message is a second copy, whose latency would count twice."""
        return all(self.receipts.of(source).lacks(numbers) for source, numbers in groups)

    def _record_one(
        self,
        message_id: bytes,
        *,
        intact: bool,
        redelivered: bool,
        again: bool,
        ours: bool,
        sent: tuple[int, bytes],
    ) -> int:
        identity = identify(message_id)
        if identity is None and self._unnamed.came_before(redelivered=redelivered):
            return 0
        new = self.receipts.note(
            identity, intact=intact, redelivered=redelivered, again=again, ours=ours
        )
        if identity is not None and intact and new and not (redelivered or again):
            when, host = sent
            self._arrivals.count((when,), host)
        return new

    def _single(self, delivery: Delivery) -> Iterator[Progress]:
        """Take one message that did not fit the fast path: foreign, or ours and large."""
        before, known = self._deliveries, self._consumed
        stated = None
        if CHECKSUM_HEADER.encode() in delivery.header:  # else there is nothing to decode
            properties = decode_header(delivery.header)
            headers = (properties.headers if properties else None) or {}
            stated = headers.get(CHECKSUM_HEADER)
            message_id = str((properties.message_id if properties else None) or "").encode()
        if isinstance(stated, str):
            intact = checksum(message_id, delivery.body) == stated.encode()
            when, host = headers.get(SENT_HEADER), headers.get(HOST_HEADER)
            self._consumed += self._record_one(
                message_id,
                intact=intact,
                redelivered=delivery.redelivered,
                again=not AGAIN_HEADERS.isdisjoint(headers),
                ours=looks_ours(properties),
                sent=(when if isinstance(when, int) else 0, str(host).encode("utf-8", "replace")),
            )
        else:
            if not self._unnamed.came_before(redelivered=delivery.redelivered):
                self.receipts.add_foreign()
                self._consumed += 1
        self._deliveries += 1
        self._pending.last_tag = delivery.delivery_tag
        self._pending.count += 1
        yield from self._show(before, known, delivery)

    def _answer(self) -> None:
        """Acknowledge all that was recorded, once it will outlive this process."""
        if not self._pending.count:
            return
        self.recorder.flush()
        tag, connection = self._pending.last_tag, self._open
        if self.task.answer == "ack":
            connection.tell(self._channel, commands.Basic.Ack(tag, multiple=True))
        elif self.task.answer != "none":
            connection.tell(
                self._channel,
                commands.Basic.Nack(tag, multiple=True, requeue=self.task.answer == "requeue"),
            )
        self._pending = _Unanswered()
        self._unnamed.answered()
        self._acked = time.monotonic()

    def _show(self, before: int, known: int, what: Batch | Delivery) -> Iterator[Progress]:
        """Yield what is to be shown of ``what``: the deliveries since number ``before``.

        ``known``: how many distinct messages had come before them.
        """
        size = self._deliveries - before
        if self.task.show_all:
            for i in range(size):
                yield _sample(what, i, before)
        elif before == 0 and size:
            yield _sample(what, 0, before)
        every = self.task.progress_every
        while self._marked + every <= self._consumed:
            self._marked += every
            # With copies among them it is not known which one made it full: the last will do.
            at = self._marked - known if self._consumed - known == size else size
            yield Advanced(
                self._marked,
                self.task.expect,
                mark=True,
                sample=_sample(what, at - 1, before),
                seconds=time.monotonic() - (self._started or 0.0),
            )


def looks_ours(properties: commands.Basic.Properties | None) -> bool:
    """Say whether a message has more of our shape than an id and a checksum: see ``Batch.ours``."""
    if properties is None:
        return False
    headers = properties.headers or {}
    return properties.app_id == APP_ID or {SENT_HEADER, HOST_HEADER} <= headers.keys()


def _sample(what: Batch | Delivery, index: int, before: int) -> Sample:
    number = before + index + 1
    if isinstance(what, Delivery):
        return foreign_sample(number, what)
    return sample(number, what.message_ids[index], what.bodies[index])
