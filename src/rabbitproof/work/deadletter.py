"""Dead letters: what is in a dead letter queue and why, and back to where it came from.

A message is *retried* by a copy that goes straight into the queue in which it first died (the
oldest entry of its ``x-death``), or *moved* by a copy to a queue that is named. The dead letter is
acknowledged only after the broker has confirmed its copy and not returned it. So a crash at any
moment can leave both the dead letter and its copy, never neither.

Of a retried copy the ``x-death`` headers are taken away: RabbitMQ before 4.0 would count on with
them and silently drop a message that goes round in circles without a rejection; 4.0 does not read
them any more. How often a message was retried stands in a header of our own, and there is a limit.

Refuses to know flags (``cli``). Yields progress, prints nothing.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from rabbitproof.amqp import content, methods
from rabbitproof.amqp.content import FLAGS_AT
from rabbitproof.errors import (
    ConnectionLost,
    NotFound,
    RabbitproofError,
    ResourceLocked,
    UsageError,
)
from rabbitproof.identity import RETRIES_HEADER
from rabbitproof.model import LONGEST_NAME, Advanced, Started
from rabbitproof.text import safe
from rabbitproof.work import topology as wiring
from rabbitproof.work.hold import HELD, Held
from rabbitproof.work.link import GIVE_UP_S, passes, reopen, shun
from rabbitproof.work.resend import Copy, Sender
from rabbitproof.work.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.amqp.deliveries import Delivery
    from rabbitproof.broker.answers import QueueInfo
    from rabbitproof.broker.management import Management
    from rabbitproof.model import Progress
    from rabbitproof.work.resend import Result

"""How often the message was retried; an integer."""
_DEATHS: Final = re.compile(r"x-death|x-(first|last)-death-(queue|reason|exchange)")
_OF_A_DELIVERY: Final = ("x-delivery-count", "x-acquired-count")
"""Headers that say something of a delivery and not of the message."""
_REROUTING: Final = ("CC", "BCC")
"""Headers by which a message would go to further queues."""
_REPORT_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Letter:
    """What a dead letter says of itself."""

    delivery: Delivery
    properties: dict[str, Any]
    queue: str = ""
    """Where it died last; empty: it says nothing of a death."""
    reason: str = ""
    time: int = 0
    """When it last died, seconds since 1970; 0: not known."""
    first_queue: str = ""
    """Where it first died: where a retry sends it. Empty when what it says can't be a name."""
    deaths: int = 0
    retries: int = 0
    routing_key: str = ""
    """With which it was published before it died."""

    @property
    def message_id(self) -> str:
        """Its message id as text, empty without."""
        value = self.properties.get("message_id", "")
        return value if isinstance(value, str) else ""

    @property
    def headers(self) -> dict[str, Any]:
        """Its headers as plain values."""
        table = self.properties.get("headers", {})
        pairs = table.items() if isinstance(table, dict) else table
        return {str(key): content.plain(value) for key, value in pairs}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant; None and empty: all."""

    reason: str | None = None
    from_queue: str | None = None
    """Where it died last."""
    older_than_s: float | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def fits(self, letter: Letter, now: float) -> bool:
        """Say whether this one is meant; ``now`` is seconds since 1970."""
        if self.reason is not None and letter.reason != self.reason:
            return False
        if self.from_queue is not None and letter.queue != self.from_queue:
            return False
        if self.older_than_s is not None and not (
            letter.time and letter.time <= now - self.older_than_s
        ):
            return False
        if not self.headers:
            return True
        found = letter.headers
        return all(key in found and _shown(found[key]) == value for key, value in self.headers)


@dataclass(slots=True)
class Counts:
    """What became of the dead letters of one queue."""

    before: int = 0
    after: int | None = None
    looked_at: int = 0
    fitting: int = 0
    sent: int = 0
    """Copies that are confirmed, their dead letters acknowledged."""
    returned: int = 0
    """No such queue, or not for us: they stay."""
    nacked: int = 0
    """Refused by the queue: they stay."""
    refused: int = 0
    """That the broker, or this connection, can't take as they are: they stay."""
    looping: int = 0
    """Retried too often already: they stay."""
    homeless: int = 0
    """Do not say where they died: they stay."""
    in_doubt: int = 0
    """Copies whose dead letters may come again, as a connection ended before the broker had handled
    their acknowledgement: there may be two of them."""
    targets: dict[str, int] = field(default_factory=dict)

    @property
    def stayed(self) -> int:
        """Of the fitting, how many could not be sent."""
        return self.returned + self.nacked + self.refused + self.looping + self.homeless


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done with the dead letters of one queue."""

    queue: str
    what: Literal["retry", "move"]
    which: Filter = Filter()
    to_queue: str | None = None
    """None: back to where each first died."""
    limit: int | None = None
    dry_run: bool = False
    most_retries: int = 3
    hold: int = HELD
    give_up_s: float = GIVE_UP_S


def read_letter(delivery: Delivery) -> Letter:
    """Return what a dead letter says of itself; never fails."""
    properties = content.decode(delivery.header[FLAGS_AT:])
    letter = Letter(delivery, properties)
    headers = letter.headers
    deaths = [one for one in _list(headers.get("x-death")) if isinstance(one, dict)]
    retries = headers.get(RETRIES_HEADER)
    retries = retries if isinstance(retries, int) and not isinstance(retries, bool) else 0
    if not deaths:
        return Letter(delivery, properties, retries=retries)
    last, first = deaths[0], deaths[-1]
    keys = _list(last.get("routing-keys"))
    first_queue = str(headers.get("x-first-death-queue") or first.get("queue", ""))
    return Letter(
        delivery,
        properties,
        queue=str(last.get("queue", "")),
        reason=str(last.get("reason", "")),
        time=_number(last.get("time")),
        first_queue=first_queue if len(first_queue.encode()) <= LONGEST_NAME else "",
        deaths=sum(_number(one.get("count")) for one in deaths),
        retries=retries,
        routing_key=str(keys[0]) if keys else "",
    )


def find(api: Management, vhost: str) -> tuple[dict[str, QueueInfo], bool]:
    """Return the queues of a vhost into which other queues dead-letter, by name.

    And whether they are all: a broker that keeps no metrics does not tell what policies define.
    """
    queues = {one.name: one for one in api.queues_with_policies(vhost)}
    told = all(None not in (queue.arguments, queue.policy_definition) for queue in queues.values())
    bindings = api.bindings(vhost)
    found: set[str] = set()
    for queue in queues.values():
        policy: dict[str, Any] = {
            f"x-{key}": value for key, value in (queue.policy_definition or {}).items()
        }
        settings = policy | (queue.arguments or {})
        exchange = settings.get("x-dead-letter-exchange")
        if exchange == "":
            found.add(str(settings.get("x-dead-letter-routing-key", "")))
        elif exchange is not None:
            found |= {
                binding.destination
                for binding in bindings
                if binding.source == exchange and binding.destination_type == "queue"
            }
    totals = api.queue_totals(vhost)  # whose counts are newer
    return {name: totals[name] for name in sorted(found & totals.keys())}, told


def letters(
    connection: Connection, queue: str, which: Filter, limit: int | None
) -> Iterator[Letter]:
    """Read the dead letters of a queue, oldest first, and give all of them back at the end."""
    held = Held(connection, queue)
    count = 0
    try:
        for some in held.read():
            for delivery in some:
                letter = read_letter(delivery)
                if which.fits(letter, time.time()):
                    yield letter
                    count += 1
                    if count == limit:
                        return
    finally:
        if not connection.closed:
            held.give_back()


def copy_of(letter: Letter, task: Task) -> Copy:
    """Return the copy of a dead letter that goes straight into a queue."""
    properties = dict(letter.properties)
    target = task.to_queue if task.to_queue is not None else letter.first_queue
    table = properties.get("headers")
    if table is not None or task.what == "retry":
        pairs = list(table.items() if isinstance(table, dict) else table or ())
        drop = {*_OF_A_DELIVERY, *_REROUTING}
        if task.what == "retry":
            drop.add(RETRIES_HEADER)
        kept = [
            (key, value)
            for key, value in pairs
            if not isinstance(key, str)
            or not (key in drop or (task.what == "retry" and _DEATHS.fullmatch(key)))
        ]
        if task.what == "retry":
            kept.append((RETRIES_HEADER, {"l": letter.retries + 1}))
        unique = {str(key) for key, _ in kept}
        as_object = len(unique) == len(kept) and all(isinstance(key, str) for key, _ in kept)
        properties["headers"] = dict(kept) if as_object else kept
    return Copy(b"", target.encode(), content.encode(properties), letter.delivery.body)


class Mover:
    """Retries or moves the dead letters of one queue. ``counts`` may be read at any time."""

    def __init__(self, task: Task, connect: Callable[[], Connection]) -> None:
        self.task = task
        self.counts = Counts()
        self.problems: dict[str, str] = {}
        """Queue -> why nothing was sent there."""
        self.refused: dict[str, str] = {}
        """Why a copy can't be sent -> the first of those letters."""
        self._connect = connect
        self._retry = Retry(task.give_up_s)
        self._source: Connection | None = None
        self._target: Connection | None = None
        self._settled = 0
        """Dead letters with which nothing more is to be done in this run."""
        self._acknowledged = 0
        """Dead letters whose acknowledgement may be under way."""
        self._last_report = 0.0

    def run(self) -> Iterator[Progress]:
        """Do all of it. What was there at the start is looked at once."""
        task, counts = self.task, self.counts
        if task.to_queue == task.queue:
            raise UsageError("--to-queue is the queue itself; name another one.")
        try:
            self._retry.begin(time.monotonic())
            self._source = self._connect()
            first = True
            while True:
                try:
                    if self._target is None:
                        self._begin(self._alive(self._source))
                    held = Held(self._alive(self._source), task.queue, hold=task.hold)
                    if first:
                        counts.before, first = held.there, False
                        yield Started()
                    yield from self._pass(held)
                    counts.after = wiring.ready_count(self._alive(self._source), task.queue)
                except RabbitproofError as failure:
                    if not passes(failure):
                        raise
                    yield from self._recover(failure)
                else:
                    return
        finally:
            for connection in (self._source, self._target):
                if connection is not None:
                    connection.abandon()

    def _begin(self, source: Connection) -> Iterable[Progress]:
        # Two: while an alarm blocks the one that publishes, the other one still acknowledges.
        self._source = source
        self._target = self._connect()
        return ()

    @staticmethod
    def _alive(connection: Connection | None) -> Connection:
        if connection is None:
            raise ConnectionLost
        return connection

    def _recover(self, failure: RabbitproofError) -> Iterator[Progress]:
        for connection in (self._source, self._target):
            if connection is not None:
                connection.abandon()
        shun(self._connect)
        # What was looked at is looked at again, so only what comes after it is progress.
        self._retry.lost(time.monotonic(), self.counts.looked_at)
        yield from reopen(self._retry, failure, self._connect, self._begin)

    def _pass(self, held: Held) -> Iterator[Progress]:
        """Go once through what is there."""
        counts, task = self.counts, self.task
        counts.looked_at = counts.fitting = counts.looping = counts.homeless = 0
        counts.returned = counts.nacked = counts.refused = 0
        counts.targets.clear()
        self._acknowledged = 0
        # After a crash of the broker what was acknowledged may be there again.
        budget = min(counts.before, held.there)
        wanted = None if task.limit is None else task.limit - counts.sent
        sender = Sender(self._alive(self._target), self._retry)
        open_letters: dict[int, Delivery] = {}
        key = 0
        try:
            for some in held.read(budget):
                for delivery in some:
                    letter = read_letter(delivery)
                    counts.looked_at += 1
                    if not task.which.fits(letter, time.time()):
                        continue
                    if wanted is not None and counts.fitting >= wanted:
                        continue
                    counts.fitting += 1
                    copy = self._copy(letter)
                    if copy is None or task.dry_run:
                        continue
                    key += 1
                    open_letters[key] = delivery
                    sender.send(key, copy)
                    while sender.full:
                        yield from self._settle(held, sender, open_letters, 1.0)
                if some and self._retry.unproven:
                    self._retry.received(len(some), fresh=False)
                yield from self._settle(held, sender, open_letters, 0)
                if wanted is not None and counts.fitting >= wanted:
                    break
            while open_letters:
                yield from self._settle(held, sender, open_letters, 1.0)
            held.give_back()
        except RabbitproofError as failure:
            if passes(failure):
                counts.in_doubt += len(open_letters) + self._acknowledged
            raise
        finally:
            counts.in_doubt += sender.resent
        yield Advanced(counts.sent, counts.before, mark=False)

    def _copy(self, letter: Letter) -> Copy | None:
        """Return the copy to send; None, and counted, when it has to stay."""
        counts, task = self.counts, self.task
        target = task.to_queue if task.to_queue is not None else letter.first_queue
        if not target:
            counts.homeless += 1
            return None
        if task.what == "retry" and letter.retries >= task.most_retries:
            counts.looping += 1
            return None
        if target == task.queue:
            counts.looping += 1
            self.problems[target] = "it is the dead letter queue itself"
            return None
        if target not in self.problems and target not in counts.targets:
            self._check(target)
        if target in self.problems:
            counts.returned += 1
            return None
        counts.targets[target] = counts.targets.get(target, 0) + 1
        return copy_of(letter, task)

    def _check(self, target: str) -> None:
        """Note why nothing can be sent to a queue; one deleted later makes copies come back."""
        connection = self._alive(self._target)
        channel = connection.open_channel()
        try:
            wiring.look(connection, channel, target)
        except NotFound:
            self.problems[target] = "there is no such queue"
            return
        except ResourceLocked:
            self.problems[target] = "another connection has it for itself"
            return
        connection.call(channel, methods.CLOSE)

    def _settle(
        self, held: Held, sender: Sender, letters: dict[int, Delivery], timeout: float
    ) -> Iterator[Progress]:
        """Let some time pass, with an eye on both connections, and see what came of copies."""
        held.serve()
        self._finish(held, letters, sender.settle(timeout))
        if (now := time.monotonic()) - self._last_report >= _REPORT_S:
            self._last_report = now
            if self._acknowledged:
                held.catch_up()
                self._acknowledged = 0
            yield Advanced(self.counts.sent, self.counts.before, mark=False, blocked=sender.blocked)

    def _finish(self, held: Held, letters: dict[int, Delivery], results: list[Result]) -> None:
        """Acknowledge the dead letters whose copies are confirmed; the others stay."""
        for result in results:
            delivery = letters.pop(result.key)
            if result.outcome == "confirmed":
                held.acknowledge(delivery)
                self._acknowledged += 1
                self.counts.sent += 1
            elif result.outcome == "returned":
                self.counts.returned += 1
                self.problems[result.copy.routing_key.decode()] = "the broker returned its copy"
            elif result.outcome == "refused":
                self.counts.refused += 1
                self.refused.setdefault(result.reason, letter_name(delivery))
            else:
                self.counts.nacked += 1
                self.problems[result.copy.routing_key.decode()] = "it refuses messages (it is full)"


def letter_name(delivery: Delivery) -> str:
    """Return what a person can find a message by."""
    return f"message id '{safe(read_letter(delivery).message_id, 60)}'"


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _shown(value: Any) -> str:
    """Return a header's value as a person would type it."""
    if value is True or value is False:
        return "true" if value else "false"
    return "" if value is None else str(value)


def described(mover: Mover) -> list[str]:
    """Say in sentences what stayed and why."""
    counts, task = mover.counts, mover.task
    out = [
        f"'{safe(queue)}': {why}; what was meant for it stays in '{safe(task.queue)}'."
        for queue, why in sorted(mover.problems.items())
    ]
    out += [
        f"a copy can't be sent ({why}); it stays, and so do others like it. The first: {which}."
        for why, which in mover.refused.items()
    ]
    if counts.looping:
        out.append(
            f"{counts.looping} were retried {task.most_retries} times before, or would come back "
            "at once, and stay: mend what they die of, or raise --max-retries."
        )
    if counts.homeless:
        out.append(
            f"{counts.homeless} do not say where they died (no x-death) and stay: name a queue "
            "with --to-queue."
        )
    if counts.in_doubt:
        out.append(
            f"{counts.in_doubt} were under way when a connection ended: each of these may be there "
            "twice now, none is lost."
        )
    return out
