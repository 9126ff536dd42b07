"""What a producer does: declare, publish, and account for every message.

The core is a loop with two halves: keep the window full, and take what came back. Whatever goes
wrong in between, each message ends in one outcome: confirmed, nacked, returned or in doubt.
After a broken connection the messages in doubt are sent again under the same id.

Yields progress, prints nothing. Refuses to know flags (``cli``) and bytes (``amqp``).
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pamqp import commands

from rabbitproof.amqp.confirms import Confirms, Unconfirmed
from rabbitproof.amqp.publishes import Envelope, Publishes
from rabbitproof.amqp.session import Blocked, Returned, Unblocked
from rabbitproof.errors import (
    BrokerRefused,
    ChannelClosed,
    ConnectionLost,
    Overdue,
    PreconditionFailed,
    RabbitproofError,
    UsageError,
)
from rabbitproof.identity import HOST_HEADER, Source, id_prefix, identify
from rabbitproof.model import Advanced, Produced, Started, Topology
from rabbitproof.proof.latency import RunLatency
from rabbitproof.proof.ledger import Outcomes, runs
from rabbitproof.work import topology as wiring
from rabbitproof.work.cpu import Cpu
from rabbitproof.work.link import CONFIRM_TIMEOUT_S, GIVE_UP_S, check_silence, passes, reopen, shun
from rabbitproof.work.recorder import Recorder
from rabbitproof.work.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.amqp.session import Event
    from rabbitproof.model import Progress

_BATCH: Final = 500
"""Messages encoded at once; beyond this a longer buffer gains nothing measurable."""
_BATCH_BYTES: Final = 256 * 1024
_BACKLOG_BYTES: Final = 256 * 1024
"""Bytes handed over but not taken by the kernel, above which no more are encoded."""
_RATE_STEP_S: Final = 0.0002
_RATE_STEP_SHARE: Final = 0.01
"""With a rate, messages share a buffer, and the time from which they count, that were due within
this time of each other, or within this share of the time that they are late: what piled up during
an outage would otherwise go out in tiny buffers."""

NACK_DEADLINE_S: Final = 30.0
"""Seconds for which nacked messages are tried again."""
_NACK_PAUSE_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class Task:
    """What one producer is asked to do."""

    topology: Topology
    source: Source
    count: int
    text: str = "Hello World"
    sender: str = "unknown"
    """Goes into the header ``producer_id`` and the body's ``sent_by``."""
    host: str = "unknown"
    size: int = 0
    """Bytes that each body has at least; the text is padded with spaces."""
    persistent: bool = False
    rate: float | None = None
    """Messages a second; None for as fast as the broker confirms. Message ``n`` is due when
    n - 1 of them should have been sent."""
    window: int = 20_000
    """Unconfirmed messages in flight at most."""
    purge: bool = False
    declare: bool = True
    confirms: bool = True
    mandatory: bool = True
    """The broker has to return what no queue took."""
    nack_deadline_s: float = NACK_DEADLINE_S
    """For how long nacked messages are tried again; 0 for not at all."""
    seconds: float | None = None
    """Send nothing new after this time; ``count`` is the most then."""
    send_again: int = 0
    """So many messages, from the first, are sent a second time, as by a program that does not
    look at its confirms."""
    progress_every: int = 10_000
    give_up_s: float = GIVE_UP_S
    """Seconds from the loss of a connection to the next progress (``retry``), at most."""
    confirm_timeout_s: float = CONFIRM_TIMEOUT_S
    """Seconds without any answer to a publish after which its connection counts as lost. It does
    not run while the broker says that it is blocked."""


class Producer:
    """One producer's run. ``run`` does the work; ``summary`` may be asked at any time."""

    def __init__(
        self,
        task: Task,
        connect: Callable[[], Connection],
        recorder: Recorder | None = None,
        *,
        known: Outcomes | None = None,
    ) -> None:
        """Take a task; ``known`` is what an earlier process did of it, ``recorder`` keeps both."""
        self.task = task
        self.outcomes = known or Outcomes(task.source, confirms=task.confirms)
        self.recorder = recorder or Recorder()
        self.ready: int | None = None
        self._connect = connect
        self._connection: Connection | None = None
        self._retry = Retry(task.give_up_s)
        self._channel = 0
        self._body = _body(task)
        self._publishes: Publishes
        self._unconfirmed = Unconfirmed()
        self._first = max(self.outcomes.attempted, default=0) + 1
        """The number that is sent first."""
        self._fresh = range(self._first, task.count + 1)
        """Not sent yet."""
        self._again: deque[tuple[float, Sequence[int], int]] = deque()
        """From when on (monotonic seconds), what is to be sent again, and since when it is due."""
        self._refusing_since: float | None = None
        self._started: float | None = None
        self._latency = RunLatency(task.count)
        self._cpu = Cpu()
        self._second_time = range(1, task.send_again + 1)
        self._last_answer = 0.0
        self._waiting_since = 0.0
        """When the last answer came, or what was sent first after all had been answered."""
        self._marked = 0
        self._blocked: str | None = None

    def run(self) -> Generator[Progress, None, None]:
        """Do all of it. Raises what can't be helped; the outcomes are in ``summary`` then."""
        wiring.check(self.task.topology)
        try:
            self._retry.begin(time.monotonic())
            self._connection = self._connect()
            while True:
                try:
                    if self._started is None:
                        yield from self._prepare(self._open)
                    yield from self._pump()
                    break
                except RabbitproofError as failure:
                    if not passes(failure):
                        raise
                    yield from self._recover(failure)
            self._cpu.end()
            # Every outcome is known by now.
            with contextlib.suppress(ConnectionLost, BrokerRefused, Overdue):
                self.ready = wiring.ready_count(self._open, self.task.topology.work.name)
            self._record_end()
            self._open.close()
        except PreconditionFailed as refusal:
            self.recorder.stopped(refusal)
            raise _explained(refusal) from None
        except BaseException as error:
            self.recorder.stopped(error)
            raise
        finally:
            if self._connection is not None:
                self._connection.abandon()
            self.recorder.close()

    def summary(self) -> Produced:
        """Return what is known of the outcome so far."""
        outcomes, task = self.outcomes, self.task
        began = self._started
        return Produced(
            run=task.source.run,
            producer=task.source.producer,
            attempted=len(outcomes.attempted),
            published=len(outcomes.confirmed),
            nacked=len(outcomes.nacked),
            returned=len(outcomes.returned),
            in_doubt=len(outcomes.in_doubt),
            resent=len(outcomes.resent),
            confirms=task.confirms,
            ready=self.ready,
            seconds=0.0 if began is None else self._last_answer - began,
            cpu_seconds=self._cpu.seconds,
            latency=self._latency.summary() if task.confirms else None,
        )

    @property
    def latency(self) -> RunLatency:
        """From when each message was due to its confirm."""
        return self._latency

    @property
    def in_flight(self) -> int:
        """Published, and no answer has come yet."""
        return len(self._unconfirmed)

    @property
    def blocked(self) -> str | None:
        """Why the broker has told it to wait; None when it has not."""
        return self._blocked

    @property
    def connection(self) -> Connection | None:
        """What it publishes on at the moment."""
        return self._connection

    # --- before and after ---

    def _prepare(self, connection: Connection) -> Iterator[Progress]:
        """Make a connection ready to publish on; the first time that ends with Started.

        Declares each time: a broker that restarted has lost what was not durable. Purges until it
        has begun once, also what it had purged before: a broker that was killed may have it again.
        Never later: it would take what was confirmed, to us or to another producer of the run.
        """
        self._connection = connection
        first, topology = self._started is None, self.task.topology
        channel = connection.open_channel()
        if self.task.declare:
            for note in wiring.declare(connection, channel, topology):
                if first:
                    yield note
        if self.task.purge and first:
            yield from wiring.purge(connection, channel, topology)
        connection.call(channel, commands.Channel.Close(200, "done", 0, 0))
        self._begin()
        self._blocked = None
        if first:
            self.outcomes = self.recorder.outcomes(connection, self.task, self.outcomes)
            self._take_up()
            yield Started()
            self._started = self._last_answer = time.monotonic()
            self._cpu.begin()
        self._waiting_since = time.monotonic()

    def _begin(self) -> None:
        """Open the channel to publish on; delivery tags count from 1 again."""
        connection, task = self._open, self.task
        self._channel = connection.open_channel()
        if task.confirms:
            connection.call(self._channel, commands.Confirm.Select())
        self._unconfirmed = Unconfirmed()
        self._publishes = Publishes(
            Envelope(
                channel=self._channel,
                exchange=task.topology.exchange,
                routing_key=task.topology.routing_key,
                id_prefix=id_prefix(task.source),
                body_head=self._body[0],
                body_tail=self._body[1],
                headers={"producer_id": task.sender, HOST_HEADER: task.host},
                frame_max=connection.frame_max,
                persistent=task.persistent,
                mandatory=task.mandatory,
            )
        )

    def _take_up(self) -> None:
        """Have all that an earlier process did not get confirmed sent again."""
        outcomes, since = self.outcomes, time.monotonic_ns()
        for numbers in runs(outcomes.attempted - outcomes.confirmed):
            self._again.append((0.0, numbers, since))

    def _record_end(self) -> None:
        """Have the ledger say that all is done, and what the broker counts in the queues."""
        if not self.recorder.keeps:
            return
        counts: dict[str, int | None] = {}
        consumers: dict[str, int | None] = {}
        for queue in self.task.topology.queues:
            counts[queue.name], consumers[queue.name] = None, None
            with contextlib.suppress(ConnectionLost, BrokerRefused, Overdue):
                counts[queue.name], consumers[queue.name] = wiring.end_count(
                    self._open, queue, len(self.outcomes.confirmed)
                )
        self.recorder.end(
            seconds=self.summary().seconds,
            latency=self._latency.dump() if self.task.confirms else None,
            counts=counts,
            consumers=consumers,
        )

    def _recover(self, failure: RabbitproofError) -> Iterator[Progress]:
        """Connect again; what was open is sent again under the same ids."""
        self._open.abandon()
        shun(self._connect)
        self.recorder.event("lost", why=str(failure), in_flight=len(self._unconfirmed))
        self._retry.lost(time.monotonic())
        for numbers, since in reversed(self._unconfirmed.left()):
            self._again.appendleft((0.0, numbers, since))
        self._unconfirmed = Unconfirmed()
        yield from reopen(self._retry, failure, self._connect, self._prepare)
        self.recorder.event("connected", where=self._open.where)

    @property
    def _open(self) -> Connection:
        if self._connection is None:
            raise ConnectionLost
        return self._connection

    # --- the loop ---

    def _pump(self) -> Iterator[Progress]:
        """Send and take answers until every message has its outcome."""
        connection = self._open
        while self._to_send or self._unconfirmed or connection.backlog:
            if self._fresh and self._time_is_up():
                self._fresh = self._fresh[:0]
            if self._second_time and not self._fresh:
                self._again.append((0.0, self._second_time, time.monotonic_ns()))
                self._second_time = range(0)
            self._fill(connection)
            for event in connection.wait(self._patience()):
                self._take(event)
            self.recorder.round(self._figures)
            yield from self._report()
            self._check_deadline()
        if not self.task.confirms:
            # Its answer proves that the broker has read every publish before it.
            connection.call(self._channel, commands.Channel.Close(200, "done", 0, 0))
            for event in connection.wait(0):
                self._take(event)
            self._last_answer = time.monotonic()

    @property
    def _to_send(self) -> bool:
        return bool(self._fresh or self._again or self._second_time)

    def _time_is_up(self) -> bool:
        limit = self.task.seconds
        return limit is not None and time.monotonic() - (self._started or 0.0) >= limit

    def _fill(self, connection: Connection) -> None:
        """Publish as much as window, rate and the socket allow."""
        while (
            connection.backlog < _BACKLOG_BYTES
            # What was confirmed before the end is still to be taken; `wait` raises after that.
            and not connection.closed
            and (room := self._room())
        ):
            numbers, since, again = self._next(room)
            if not numbers:
                return
            self.outcomes.attempt(numbers, again=again)
            # By today's clock, not by that of the start: it may have been set meanwhile.
            sent_ns = time.time_ns() - (time.monotonic_ns() - since)
            connection.send(self._channel, self._publishes.encode(numbers, sent_ns=sent_ns))
            if not self.task.confirms:
                self._last_answer = self._waiting_since = time.monotonic()
                continue
            if not self._unconfirmed:
                self._waiting_since = time.monotonic()
            self._unconfirmed.sent(numbers, since)

    def _figures(self) -> dict[str, Any]:
        """Return what is worth to be known over time."""
        outcomes = self.outcomes
        return {
            "attempted": len(outcomes.attempted),
            "confirmed": len(outcomes.acked),
            "in_flight": len(self._unconfirmed),
        }

    def _room(self) -> int:
        """Return how many more may be in flight.

        None while the window is nearly full: it would be filled up in tiny buffers.
        """
        window = self.task.window
        room = window - len(self._unconfirmed)
        return room if room >= min(_BATCH, (window + 3) // 4) else 0

    def _next(self, room: int) -> tuple[Sequence[int], int, bool]:
        """Choose what is published next: numbers, since when it is due, whether again.

        Due is what should have been sent: what waited for the broker counts from then.
        """
        if self._again and self._again[0][0] <= time.monotonic():
            from_then, numbers, since = self._again.popleft()
            take = min(room, self._batch(numbers[0]))
            if take < len(numbers):
                self._again.appendleft((from_then, numbers[take:], since))
            return numbers[:take], since, True
        fresh = self._fresh
        if not fresh:
            return fresh, 0, False
        take = min(room, self._batch(fresh[0]), len(fresh))
        since = time.monotonic_ns()
        rate = self.task.rate
        if rate is not None:
            now, began, sent = since / 1e9, self._started or 0.0, fresh[0] - self._first
            due = began + sent / rate
            step = max(_RATE_STEP_S, (now - due) * _RATE_STEP_SHARE)
            take = min(take, int((now - began) * rate) + 1 - sent, max(1, int(rate * step)))
            since = int(due * 1e9)
        take = max(take, 0)
        self._fresh = fresh[take:]
        return fresh[:take], since, False

    def _batch(self, n: int) -> int:
        return max(1, min(_BATCH, _BATCH_BYTES // self._publishes.size(n)))

    def _patience(self) -> float:
        """Return for how long, in seconds, nothing will have to be done."""
        now = time.monotonic()
        wait = 1.0
        if not self._room() or self._open.backlog >= _BACKLOG_BYTES:
            return wait  # a confirm or the kernel ends it sooner
        if self.task.rate is not None and self._fresh:
            due = (self._started or 0.0) + (self._fresh[0] - self._first) / self.task.rate
            wait = min(wait, due - now)
        if self._again:
            wait = min(wait, self._again[0][0] - now)
        return max(wait, 0.0)

    def _take(self, event: Event) -> None:
        match event:
            case Confirms():
                now = time.monotonic_ns()
                self._last_answer = self._waiting_since = now / 1e9
                self._retry.progress()
                for numbers, since in self._unconfirmed.settle(event):
                    if event.nack:
                        self._refused(numbers, since)
                    else:
                        self.outcomes.confirm(numbers)
                        self._time(numbers, since, now)
            case Returned():
                identity = identify(event.message_id)
                ours = identity is not None and identity.source == self.task.source
                if identity is not None and ours and identity.n in self.outcomes.attempted:
                    self.outcomes.give_back([identity.n])
            case Blocked():
                self._blocked = event.reason or "no reason given"
                self.recorder.event("blocked", why=self._blocked)
            case Unblocked():
                self._blocked = None
                self.recorder.event("unblocked")
                self._waiting_since = time.monotonic()

    def _time(self, numbers: Sequence[int], since: int, now: int) -> None:
        """Record how long these took, all with one look: they shared a buffer."""
        began = int((self._started or 0.0) * 1e9)
        self._latency.record(now - since, len(numbers), after_ns=since - began, done=numbers[0] - 1)

    def _refused(self, numbers: Sequence[int], since: int) -> None:
        """Take a nack: try again after a pause, until the deadline."""
        now = time.monotonic()
        self.outcomes.nack(numbers)
        if self._refusing_since is None:
            self._refusing_since = now
        if now - self._refusing_since < self.task.nack_deadline_s:
            self._again.append((now + _NACK_PAUSE_S, numbers, since))

    def _report(self) -> Iterator[Progress]:
        done, every = len(self.outcomes.acked), self.task.progress_every
        if not self.task.confirms:
            done = len(self.outcomes.attempted)
        total = self.task.count if self.task.seconds is None else None
        if self._refusing_since is not None and not self.outcomes.nacked:
            self._refusing_since = None
        while self._marked + every <= done:
            self._marked += every
            seconds = time.monotonic() - (self._started or 0.0)
            yield Advanced(self._marked, total, mark=True, blocked=self._blocked, seconds=seconds)
        yield Advanced(done, total, mark=False, blocked=self._blocked)

    def _check_deadline(self) -> None:
        """See whether the broker has been silent for too long."""
        open_ones = bool(self._unconfirmed or self._open.backlog)
        if self._retry.unproven:
            due = open_ones and self.task.confirms and self._blocked is None
            self._retry.stands(time.monotonic(), due=due)
        if open_ones:
            check_silence(
                self._open,
                self._retry,
                self._waiting_since,
                len(self._unconfirmed),
                self._blocked,
                self.task.confirm_timeout_s,
            )


def _body(task: Task) -> tuple[bytes, Callable[[int], bytes]]:
    """Return the body's bytes before the number, and those behind it for a count of digits."""
    try:
        text = json.dumps(task.text, ensure_ascii=False).encode()
        sender = json.dumps(task.sender, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise UsageError(
            "--text and --producer-id have to be valid text; one has bytes that are not UTF-8."
        ) from None
    head, start, end = b'{"n":', b',"text":' + text[:-1], b'","sent_by":' + sender + b"}"

    def tail(digits: int) -> bytes:
        missing = task.size - len(head) - digits - len(start) - len(end)
        return start + b" " * max(missing, 0) + end

    return head, tail


def _explained(refusal: ChannelClosed) -> ChannelClosed:
    if "message size" in refusal.reply:
        return PreconditionFailed(
            f"The broker refused a message as too large ({refusal.reply}); make --size smaller, "
            "or raise max_message_size in rabbitmq.conf.",
            code=refusal.code,
            reply=refusal.reply,
        )
    return refusal
