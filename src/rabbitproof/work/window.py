"""The consumer behind a window: receives in a thread of its own, and answers what was decided.

``receive`` is the thread; everything else is for the thread of the window and returns at once.
Without hands, a message is acknowledged after the window has shown it (``Messages.shown``). So a
window that pauses, or hangs, takes no more than its prefetch, and the rest stays in the queue.
With hands, nothing is acknowledged but what a person decided with ``answer``.

A connection that ends is opened again for as long as the window is there, and a queue that is
deleted is waited for. Refuses to know what anything looks like (``view``).
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pamqp import commands

from rabbitproof.amqp import methods
from rabbitproof.amqp.deliveries import Batch, Delivery
from rabbitproof.amqp.session import ConsumerCancelled, decode_header
from rabbitproof.errors import (
    BrokerRefused,
    ConnectionFailed,
    ConnectionLost,
    ConsumerGone,
    NotFound,
    Overdue,
    ProtocolError,
    RabbitproofError,
)
from rabbitproof.identity import (
    AGAIN_HEADERS,
    CHECKSUM_HEADER,
    checksum,
    damaged,
    identify,
    identify_all,
)
from rabbitproof.model import LONGEST_NAME, Consumed, Queue
from rabbitproof.proof.ledger import QueueReceipts
from rabbitproof.received import Counts, Link
from rabbitproof.text import fitting, safe
from rabbitproof.work import topology as wiring
from rabbitproof.work.consume import GATHER_BYTES, looks_ours
from rabbitproof.work.cpu import Cpu
from rabbitproof.work.inbox import CORRUPT, FOREIGN
from rabbitproof.work.link import shun, within
from rabbitproof.work.recorder import Recorder
from rabbitproof.work.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.received import Verb
    from rabbitproof.work.consume import Task
    from rabbitproof.work.inbox import Messages

_TICK_S: Final = 0.25
"""Longest wait without looking around; whoever wants something wakes us."""
_COUNT_S: Final = 0.25
"""How often the counts are taken: the window shows them no more often."""
_LOOK_S: Final = 0.5
"""How often other consumers are looked for while messages are missing."""
_LONGEST_ATTEMPT_S: Final = 10.0
"""For all addresses together."""
_END_S: Final = 10.0
"""Within which the thread ends once it is asked to: some answers of a broker that is busy."""
_GATHER_FROM: Final = 2_000
"""Prefetch from which bytes are let gather before they are read: half of it waits to be shown."""

_TROUBLE = (
    ConnectionFailed, ConnectionLost, ConsumerGone, BrokerRefused, Overdue, ProtocolError,
)  # fmt: skip


class Receiver:
    """One window's consumer."""

    def __init__(
        self,
        task: Task,
        connect: Callable[[], Connection],
        messages: Messages,
        recorder: Recorder | None = None,
    ) -> None:
        """Have ``recorder`` keep the ledger on disk; without one it lives in memory."""
        self.task = task
        self.recorder = Recorder() if recorder is None else recorder
        self.messages = messages
        self.link = Link("broken", "Not connected yet.")
        self.receipts = QueueReceipts()
        self.notes: deque[str] = deque(maxlen=100)
        """What the window's user should know once. Sentences."""
        self.failure: BaseException | None = None
        """What ended the thread though nobody asked it to: a bug, or a disk that is full."""
        self.returned = 0
        """How many went back to the queue when the window was closed."""
        self.counts = Counts()
        self._connect = connect
        self._connection: Connection | None = None
        self._retry = Retry()  # never gives up
        self._channel = 0
        self._base = 0
        """The number of the last message before this channel's first."""
        self._known = 0
        """Distinct messages that came on the connections before this one."""
        self._wake: Callable[[], None] = lambda: None
        self._stop = threading.Event()
        self._decisions: deque[tuple[Verb, tuple[int, ...]]] = deque()
        self._thread = threading.Thread(target=self._run, name="receiver", daemon=True)
        self._shared = False
        self._looked = self._counted = 0.0
        self._started = self._answered = 0.0
        self._cpu = Cpu()
        messages.press_when(max(1, task.prefetch // 2))

    # --- for the window's thread ---

    def open(self) -> None:
        """Connect, and subscribe to the queue; make a durable one if there is none.

        Raises what the broker says to that.
        """
        self._retry.begin(time.monotonic())
        self._connection = self._connect()
        try:
            self._subscribe(make=True)
            self.receipts = self.recorder.receipts(self._connection, self.task, self.receipts)
        except BaseException:
            self._connection.abandon()
            raise
        self._started = self._answered = time.monotonic()
        self._cpu.begin()

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def shown(self, number: int) -> None:
        """Note what is on the screen; it may be acknowledged now."""
        self.messages.shown(number)
        if not self.messages.by_hand:
            self._wake()

    def answer(self, verb: Verb, numbers: Sequence[int]) -> None:
        """Answer these messages, those that still wait for it."""
        self._decisions.append((verb, tuple(numbers)))
        self._wake()

    def close(self) -> None:
        """Stop receiving, give back what is unanswered, and disconnect."""
        self._stop.set()
        self._wake()
        if self._thread.ident is not None:
            self._thread.join(_END_S)
        if self._connection is not None:
            self._connection.abandon()

    def summary(self) -> Consumed:
        """Return what is known so far, as every consumer tells it."""
        receipts = self.receipts
        return Consumed(
            consumed=receipts.consumed,
            unique=receipts.unique,
            redelivered=receipts.redelivered,
            duplicates=receipts.duplicates,
            missing=None if self._shared else receipts.missing,
            corrupt=receipts.corrupt,
            foreign=receipts.foreign,
            expected=None,
            seconds=max(0.0, self._answered - self._started),
            cpu_seconds=self._cpu.seconds,
        )

    # --- the thread ---

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._pump()
                except _TROUBLE as trouble:
                    self._lost(trouble)
                    self._return()
            self._cpu.end()
            self._leave()
        except BaseException as error:  # noqa: BLE001 - the window shows it, its command raises it
            self.failure = error
            self.recorder.event("stopped", why=str(error) or type(error).__name__)
            self.link = Link("closed", safe(str(error) or type(error).__name__, 400))
        finally:
            if self._connection is not None:
                self._connection.abandon()
            self.recorder.close()

    def _subscribe(self, *, make: bool) -> None:
        connection, task = self._open, self.task
        connection.keep_heads()
        channel = connection.open_channel()
        try:
            found = wiring.look(connection, channel, task.queue)
        except NotFound:
            if not make:
                raise
            channel = connection.open_channel()
            wiring.declare_queue(connection, channel, Queue(task.queue, durable=True))
            found = wiring.look(connection, channel, task.queue)
            self.notes.append(
                f"There was no queue '{safe(task.queue)}'; a durable one was created. It stays "
                "empty until something is bound to it: start a producer."
            )
        self._shared = self._shared or bool(found.consumer_count)
        connection.call(channel, commands.Basic.Qos(prefetch_count=task.prefetch))
        connection.call(
            channel,
            methods.BasicConsume(queue=task.queue, consumer_tag=fitting(task.name, LONGEST_NAME)),
        )
        self._channel, self._base = channel, self.messages.last
        if task.prefetch >= _GATHER_FROM:
            connection.gather(GATHER_BYTES)
        self._wake = connection.waker()
        where = f"{safe(connection.address.host)}:{connection.address.port}"
        self.link = Link("connected", f"Connected to {where}.")

    def _lost(self, trouble: RabbitproofError) -> None:
        self._open.abandon()
        self.recorder.event("lost", why=str(trouble))
        came = self.messages.last - self._base
        self._retry.lost(time.monotonic(), min(came, self.task.prefetch))
        self._known = self.receipts.unique
        self.messages.lost()
        self._decisions.clear()
        gone = isinstance(trouble, (ConsumerGone, NotFound))
        if not gone:
            shun(self._connect)
        self.link = Link("no queue" if gone else "broken", str(trouble))
        self._count(always=True)

    def _return(self) -> None:
        """Connect and subscribe again, however long it takes; end when we are to stop."""
        while not self._stop.wait(self._retry.pause(time.monotonic())):
            self._retry.begin(time.monotonic())
            try:
                self._connection = within(self._connect, _LONGEST_ATTEMPT_S)
                self._subscribe(make=False)
            except NotFound:
                self.link = Link(
                    "no queue",
                    f"There is no queue '{safe(self.task.queue)}' any more; declare it again, for "
                    "example with a producer: it is looked for every few seconds.",
                )
                self._open.abandon()
            except _TROUBLE as trouble:
                self.link = Link("broken", f"{trouble} Trying again.")
                self._open.abandon()
            else:
                self.recorder.event("connected")
                return

    @property
    def _open(self) -> Connection:
        if self._connection is None:
            raise ConnectionLost
        return self._connection

    def _pump(self) -> None:
        connection = self._open
        while not self._stop.is_set():
            events = connection.wait(_TICK_S)
            arrived, last = time.time(), self.messages.last
            for event in events:
                if isinstance(event, Batch):
                    self._batch(event, arrived)
                elif isinstance(event, Delivery):
                    self._single(event, arrived)
                elif isinstance(event, ConsumerCancelled):
                    raise ConsumerGone(
                        f"The queue '{safe(self.task.queue)}' was deleted, or its node is gone; "
                        "it is looked for every few seconds."
                    )
            if self._retry.unproven:
                self._see(self.messages.last - last)
            self._answer()
            self._count()
            self.recorder.round(self._figures)

    def _see(self, count: int) -> None:
        """See whether this connection is of use; it brought ``count`` messages just now."""
        if count:
            self._retry.received(count, fresh=self.receipts.unique > self._known)
        else:
            self._retry.stands(time.monotonic(), due=False)

    def _figures(self) -> dict[str, Any]:
        """Return what is worth to be known over time."""
        return {"received": self.messages.last, "distinct": self.receipts.consumed}

    def _batch(self, batch: Batch, arrived: float) -> None:
        broken = damaged(batch.message_ids, batch.checksums, batch.bodies)
        groups = None if broken else identify_all(batch.message_ids)
        if groups is not None:
            for source, numbers in groups:
                self.receipts.of(source).add(
                    numbers, redelivered=batch.redelivered, again=batch.again
                )
        else:
            wrong = set(broken)
            for i, message_id in enumerate(batch.message_ids):
                self._record(
                    message_id,
                    intact=i not in wrong,
                    redelivered=batch.redelivered,
                    again=batch.again,
                    ours=batch.ours,
                )
        spoiled = [i for i in broken if batch.ours or identify(batch.message_ids[i])]
        self.messages.take(batch, arrived, spoiled)

    def _single(self, delivery: Delivery, arrived: float) -> None:
        stated = None
        if CHECKSUM_HEADER.encode() in delivery.header:
            properties = decode_header(delivery.header)
            headers = (properties.headers if properties else None) or {}
            stated = headers.get(CHECKSUM_HEADER)
        flags = FOREIGN
        if isinstance(stated, str):
            message_id = str((properties.message_id if properties else None) or "").encode()
            intact = checksum(message_id, delivery.body) == stated.encode()
            ours = looks_ours(properties)
            named = self._record(
                message_id,
                intact=intact,
                redelivered=delivery.redelivered,
                again=not AGAIN_HEADERS.isdisjoint(headers),
                ours=ours,
            )
            whole = intact or not (named or ours)
            flags = (0 if named or not whole else FOREIGN) | (0 if whole else CORRUPT)
        else:
            self.receipts.add_foreign()
        self.messages.take_one(delivery, arrived, flags)

    def _record(
        self, message_id: bytes, *, intact: bool, redelivered: bool, again: bool, ours: bool
    ) -> bool:
        """Write one message down; say whether it is one of ours."""
        identity = identify(message_id)
        self.receipts.note(identity, intact=intact, redelivered=redelivered, again=again, ours=ours)
        return identity is not None

    # --- answers ---

    def _answer(self) -> None:
        """Send what was decided, or acknowledge what was shown."""
        messages = self.messages
        if messages.by_hand:
            while self._decisions:
                verb, numbers = self._decisions.popleft()
                self._decide(verb, messages.waiting(numbers))
            return
        upto = messages.due()
        if upto > self._base and upto > messages.last - messages.unacked:
            self.recorder.flush()
            self._open.tell(self._channel, commands.Basic.Ack(upto - self._base, multiple=True))
            messages.acknowledged(upto)
            self._answered = time.monotonic()

    def _decide(self, verb: Verb, numbers: list[int]) -> None:
        if not numbers:
            return
        if verb == "reject":
            for identity in self.messages.identities(numbers):
                self.receipts.of(identity.source).reject(range(identity.n, identity.n + 1))
        self.recorder.flush()
        tell, base = self._open.tell, self._base
        again = verb == "requeue"
        if len(numbers) > 1 and self.messages.all_open_up_to(numbers[-1]) == len(numbers):
            tag = numbers[-1] - base
            frame = (
                commands.Basic.Ack(tag, multiple=True)
                if verb == "ack"
                else commands.Basic.Nack(tag, multiple=True, requeue=again)
            )
            tell(self._channel, frame)
        else:
            for number in numbers:
                tag = number - base
                tell(
                    self._channel,
                    commands.Basic.Ack(tag)
                    if verb == "ack"
                    else commands.Basic.Reject(tag, requeue=again),
                )
        self.messages.answered(numbers, verb)
        self._answered = time.monotonic()
        self._count(always=True)

    def _count(self, *, always: bool = False) -> None:
        now = time.monotonic()
        if now - self._counted < _COUNT_S and not always:
            return
        self._counted = now
        receipts = self.receipts
        missing = receipts.missing
        if missing and not self._shared and now - self._looked >= _LOOK_S and not always:
            self._looked = now
            found = wiring.look(self._open, self._channel, self.task.queue)
            self._shared = (found.consumer_count or 0) > 1
        self.counts = replace(
            self.messages.tally(),
            unique=receipts.unique,
            redelivered=receipts.redelivered,
            duplicates=receipts.duplicates,
            missing=None if self._shared else missing,
            corrupt=receipts.corrupt,
            foreign=receipts.foreign,
        )

    def _leave(self) -> None:
        """Answer what is decided, give back the rest, and go in good order."""
        connection = self._open
        if connection.closed:
            return
        with contextlib.suppress(*_TROUBLE):
            self._answer()
            self.returned = self.messages.unacked
            look = connection.open_channel()
            connection.call(self._channel, commands.Channel.Close(200, "done", 0, 0))
            # Only now is all that nobody answered in the queue again, and counted.
            found = wiring.look_again(connection, look, self.task.queue)
            queue, tally = self.task.queue, self.messages.tally()
            self.recorder.end(
                seconds=self.summary().seconds,
                counts={queue: int(found.message_count or 0)},
                consumers={queue: found.consumer_count},
                returned=self.returned + tally.requeued + tally.returned,
            )
            connection.close()
        self._count(always=True)
        self.link = Link("closed", "Closed.")
