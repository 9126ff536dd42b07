"""Dead letters back to where they came from, or elsewhere.

A message is *retried* by a copy that goes straight into the queue in which it first died, or last,
or to the exchange with the key with which it was published, or *moved* by a copy to a queue that is
named. The dead letter is acknowledged only after the broker has confirmed its copy and not returned
it. So a crash at any moment can leave both the dead letter and its copy, never neither.

Of a retried copy the ``x-death`` headers are taken away: RabbitMQ before 4.0 would count on with
them and silently drop a message that goes round in circles without a rejection; 4.0 does not read
them any more. How often a message was retried stands in a header of our own, and there is a limit.

Refuses to know what a dead letter says of itself (``letters``) and flags (``cli``). Yields
progress, prints nothing.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from rabbitproof.amqp import content, methods
from rabbitproof.errors import (
    ConnectionLost,
    NotFound,
    RabbitproofError,
    ResourceLocked,
    UsageError,
)
from rabbitproof.identity import RETRIES_HEADER
from rabbitproof.model import Advanced, Started
from rabbitproof.text import safe
from rabbitproof.work import topology as wiring
from rabbitproof.work.hold import HELD, Held
from rabbitproof.work.letters import Filter, read_letter
from rabbitproof.work.link import GIVE_UP_S, passes, reopen, shun
from rabbitproof.work.resend import REROUTING, Copy, Sender, without
from rabbitproof.work.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.amqp.deliveries import Delivery
    from rabbitproof.model import Progress
    from rabbitproof.routing import Routes
    from rabbitproof.work.forecast import Forecast
    from rabbitproof.work.letters import Letter
    from rabbitproof.work.resend import Result

_DEATHS: Final = re.compile(r"x-death|x-(first|last)-death-(queue|reason|exchange)")
_OF_A_DELIVERY: Final = ("x-delivery-count", "x-acquired-count")
"""Headers that say something of a delivery and not of the message."""
_REPORT_S: Final = 0.5


class Target(NamedTuple):
    """Where copies go."""

    exchange: str
    key: str

    @property
    def queue(self) -> str:
        """The queue, where they go straight into one; else empty."""
        return "" if self.exchange else self.key

    @property
    def shown(self) -> str:
        """As it is shown."""
        if self.exchange:
            return f"exchange '{safe(self.exchange)}' with key '{safe(self.key)}'"
        return f"'{safe(self.key)}'"


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
    targets: dict[Target, int] = field(default_factory=dict)
    last_death: dict[Target, bool | None] = field(default_factory=dict)
    """Whether the next death of a copy there would be its end, because no queue takes it then.
    None: can't be told."""
    astray: dict[tuple[str, str], int] = field(default_factory=dict)
    """Queues of the first and the last death -> dead letters in which these differ."""

    @property
    def stayed(self) -> int:
        """Of the fitting, how many could not be sent."""
        return self.returned + self.nacked + self.refused + self.looping + self.homeless


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be done with the dead letters of one queue."""

    queue: str
    what: Literal["retry", "move"]
    which: Filter = field(default_factory=Filter)
    to_queue: str | None = None
    """None: back to where each died."""
    to: Literal["first", "last"] = "first"
    """Which of its deaths is meant."""
    as_published: bool = False
    """Not straight into the queue, but as the message came there: same exchange, same keys."""
    limit: int | None = None
    dry_run: bool = False
    most_retries: int = 3
    hold: int = HELD
    give_up_s: float = GIVE_UP_S


def copy_of(letter: Letter, task: Task) -> Copy:
    """Return the copy of a dead letter that goes to where the task says."""
    properties = dict(letter.properties)
    death = letter.first if task.to == "first" else letter.last
    exchange, key = "", death.target
    further: list[str] = []
    if task.to_queue is not None:
        key = task.to_queue
    elif task.as_published:
        exchange, (key, *further) = death.exchange, death.keys or ("",)
    table = properties.get("headers")
    retried = task.what == "retry"
    if table is not None or retried:

        def drop(key: str) -> bool:
            of_retry = key == RETRIES_HEADER or _DEATHS.fullmatch(key)
            return key in _OF_A_DELIVERY or key in REROUTING or bool(retried and of_retry)

        kept = without(table or {}, drop)
        more: dict[str, Any] = {RETRIES_HEADER: {"l": letter.retries + 1}} if retried else {}
        if further:
            more["CC"] = {"A": list(further)}
        as_pairs = isinstance(kept, list)
        properties["headers"] = [*kept, *map(list, more.items())] if as_pairs else kept | more
    return Copy(exchange.encode(), key.encode(), content.encode(properties), letter.delivery.body)


class Mover:
    """Retries or moves the dead letters of one queue. ``counts`` may be read at any time."""

    def __init__(
        self, task: Task, connect: Callable[[], Connection], forecast: Forecast | None = None
    ) -> None:
        """``forecast`` says where copies would go; needed for ``as_published``."""
        self.task = task
        self.counts = Counts()
        self.problems: dict[Target, str] = {}
        """Why nothing was sent there."""
        self.refused: dict[str, str] = {}
        """Why a copy can't be sent -> the first of those letters."""
        self._forecast = forecast
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
        for one in (counts.targets, counts.last_death, counts.astray):
            one.clear()
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
        death = letter.first if task.to == "first" else letter.last
        if task.to_queue is None and letter.first.queue != letter.last.queue:
            pair = (letter.first.queue, letter.last.queue)
            counts.astray[pair] = counts.astray.get(pair, 0) + 1
        if task.to_queue is None and not (death.keys if task.as_published else death.target):
            counts.homeless += 1
            return None
        if task.what == "retry" and letter.retries >= task.most_retries:
            counts.looping += 1
            return None
        copy = copy_of(letter, task)
        target = Target(copy.exchange.decode(), copy.routing_key.decode())
        routes = None if self._forecast is None else self._forecast.routes(copy)
        if task.queue in (routes.queues if task.as_published and routes else (target.queue,)):
            counts.looping += 1
            self.problems[target] = "it leads to the dead letter queue itself"
            return None
        if target not in self.problems and target not in counts.targets:
            self._check(target, routes)
        if target in self.problems:
            counts.returned += 1
            return None
        counts.targets[target] = counts.targets.get(target, 0) + 1
        if self._forecast is not None:
            if task.dry_run:
                self._forecast.add(copy)
            end = self._forecast.last_death(copy, target.queue or death.queue)
            counts.last_death[target] = end or counts.last_death.get(target, end)
        return copy

    def _check(self, target: Target, routes: Routes | None) -> None:
        """Note why nothing can be sent to a place; one deleted later makes copies come back."""
        if target.exchange:
            if routes is not None and (routes.refused or routes.unroutable):
                self.problems[target] = routes.refused or "no queue takes it"
            return
        connection = self._alive(self._target)
        channel = connection.open_channel()
        try:
            wiring.look(connection, channel, target.key)
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
            target = Target(result.copy.exchange.decode(), result.copy.routing_key.decode())
            if result.outcome == "confirmed":
                held.acknowledge(delivery)
                self._acknowledged += 1
                self.counts.sent += 1
            elif result.outcome == "returned":
                self.counts.returned += 1
                self.problems[target] = "the broker returned its copy"
            elif result.outcome == "refused":
                self.counts.refused += 1
                self.refused.setdefault(result.reason, letter_name(delivery))
            else:
                self.counts.nacked += 1
                self.problems[target] = "it refuses messages (it is full)"


def letter_name(delivery: Delivery) -> str:
    """Return what a person can find a message by."""
    return f"message id '{safe(read_letter(delivery).message_id, 60)}'"


def described(mover: Mover) -> list[str]:
    """Say in sentences what stayed and why, and what may become of the rest."""
    counts, task = mover.counts, mover.task
    out = [
        f"{target.shown}: {why}; what was meant for it stays in '{safe(task.queue)}'."
        for target, why in sorted(mover.problems.items())
    ]
    out += [
        f"a copy can't be sent ({why}); it stays, and so do others like it. The first: {which}."
        for why, which in mover.refused.items()
    ]
    help_ = "." if task.as_published else "; --as-published keeps exchange and key."
    out += [
        f"{target.shown}: what dies there again ends there, for no queue takes such a dead letter"
        + help_
        for target, end in sorted(counts.last_death.items())
        if end
    ]
    for (first, last), count in sorted(counts.astray.items()):
        out.append(
            f"{count} died first in '{safe(first)}' and last in '{safe(last)}': --to first, --to "
            "last or --to-queue says where they go."
        )
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
