"""What is found in the queues after the sending: counted, looked at, read to the end.

First every queue is counted while nobody consumes, then a second witness looks where an expectation
is about what it finds, then each queue is consumed to its end. All that a verdict is made of
beside the producers' outcomes is in ``Findings``.

Yields progress. Refuses to judge (``proof``) and to know when something is broken (``schedule``).
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.errors import RabbitproofError
from rabbitproof.model import Note, Step
from rabbitproof.proof.evidence import limits
from rabbitproof.proof.verdict import Claim, Drop, QueueEvidence, proves_drained
from rabbitproof.text import safe
from rabbitproof.trial import evidence as facts
from rabbitproof.trial import expect, witness
from rabbitproof.trial.plan import AUDIT, WORK
from rabbitproof.work import topology as wiring
from rabbitproof.work.link import passes

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.model import Progress, Queue
    from rabbitproof.proof.ledger import QueueReceipts
    from rabbitproof.trial.place import Place
    from rabbitproof.trial.plan import Scenario
    from rabbitproof.trial.receiving import Receiving
    from rabbitproof.trial.samples import Samples
    from rabbitproof.trial.sending import Sending

_SECOND_LOOK_S: Final = 15.0
"""How long a second source is asked whether a queue is empty; the Management API's counts of
quorum queues and streams are up to 5 s old."""
_BACK_S: Final = 60.0
"""Within which queues answer after their broker does; a stream took 20 s on a busy machine."""
_LOOK_S: Final = 0.2
_EXPIRE_S: Final = 10.0
"""Within which the broker has removed what is older than its time to live."""


@dataclass(slots=True)
class Findings:
    """All of it, of one trial."""

    scenario: Scenario
    place: Place
    sending: Sending
    receiving: Receiving
    samples: Samples
    evidence: dict[str, QueueEvidence] = field(default_factory=dict)
    """By logical name, what was known of each queue at the end."""
    claims: list[Claim] = field(default_factory=list)
    witnessed: dict[str, int | None] = field(default_factory=dict)
    """What the second witness counted; see ``plan.Amount``."""
    consumed: int = 0
    consume_s: float = 0.0
    latency: dict[str, Any] | None = None
    """Of the work queue, end to end."""
    _ready: dict[str, int] = field(default_factory=dict)
    """Logical name -> messages before a consumer started."""
    _drops: dict[str, list[Drop]] = field(default_factory=dict)
    """By logical name."""

    def dropped(self, queue: str, reason: str, copies: int, evidence: str) -> None:
        """Note that so many copies in a queue are gone for that reason."""
        self._drops.setdefault(queue, []).append(Drop(reason, copies, evidence=evidence))
        name = f"K_{reason}"
        self.witnessed[name] = (self.witnessed.get(name) or 0) + copies

    def await_queues(self) -> None:
        """Wait until the broker answers for every queue: after a fault some take longer than it.

        Raises what it said last when that takes too long.
        """
        until = time.monotonic() + _BACK_S
        missing = [queue.name for queue in self.place.topology.queues]
        while missing:
            try:
                with self.place.connect(f"RabbitMQ Prover ({platform.node()})") as connection:
                    while missing:
                        wiring.look(connection, connection.open_channel(), missing[-1])
                        missing.pop()
            except RabbitproofError as error:
                if not passes(error) or time.monotonic() > until:
                    raise
                time.sleep(_LOOK_S)

    def count_ready(self) -> Iterator[Progress]:
        """Count every queue while nobody consumes; it has to hold exactly what was confirmed."""
        published = self.sending.published
        with self.place.connect(f"RabbitMQ Prover ({platform.node()})") as connection:
            channel = connection.open_channel()
            for queue in self.place.topology.queues:
                name = self.place.logical[queue.name]
                lagging = queue.kind == "stream" or self.scenario.safe
                ready = wiring.settled_count(
                    connection, channel, queue, published if lagging else 0
                )
                ttl = queue.extra.get("x-message-ttl")
                if isinstance(ttl, int):
                    ready = _expired(connection, channel, queue.name, ttl / 1000.0)
                self._ready[name] = ready
                yield Step(f"{name} holds {ready:,} Ready", done=True)
                if self.scenario.claims.ready_before:
                    self.claims.append(facts.ready_claim(name, published, ready))

    def look(self) -> Iterator[Progress]:
        """Let the second witness count, where the expectation is about what it finds."""
        wanted = expect.needs(self.scenario.expect)
        topology = self.place.topology
        for name, queue in (("K", topology.work), ("K_audit", topology.audit)):
            if name in wanted and queue is not None:
                sight = witness.peek(self.place, queue)
                known = self.receiving.seen_by_processes() if queue is topology.work else None
                missing = None if sight is None else sight.missing(self.sending.outcomes, known)
                self.witnessed[name] = missing
                if missing is not None:
                    shown = self.place.logical[queue.name]
                    yield Step(f"a second witness misses {missing:,} in {shown}", done=True)
        if topology.dead is not None:
            yield from self._look_at_dead_letters(topology.dead)

    def _look_at_dead_letters(self, queue: Queue) -> Iterator[Progress]:
        most = 2 * min(self.scenario.count, 2 * self.sending.published + 1)
        found = witness.dead_letters(self.place, queue, most)
        if found is None:
            yield Note("The Management API does not answer, so no reason for a loss is known.")
            return
        self.witnessed["K_dead"] = sum(drop.copies for drop in found)
        for dead in found:
            self._drops.setdefault(WORK, []).append(
                Drop(
                    dead.reason,
                    receipts=dead.receipts,
                    evidence=f"{dead.copies:,} dead letters say {dead.reason}.",
                )
            )
            yield Step(f"{dead.copies:,} dead letters, {dead.reason}", done=True)

    def collect(self) -> Iterator[Progress]:
        """Consume the queues to their end."""
        for queue in self.place.topology.queues:
            name = self.place.logical[queue.name]
            if queue is self.place.topology.work and self.scenario.workload.consume == "never":
                self.evidence[name] = QueueEvidence(
                    queue.name,
                    queue.kind,
                    None,
                    left=self._ready.get(name),
                    drained=False,
                    drops=tuple(self._drops.get(name, ())),
                    limits=limits(queue.extra, {}),
                )
            else:
                self.evidence[name] = yield from self._drain(queue)

    def _drain(self, queue: Queue) -> Generator[Progress, None, QueueEvidence]:
        """Consume a queue to its end and return what is known of it."""
        name = self.place.logical[queue.name]
        is_work = queue is self.place.topology.work
        yield Step(
            f"reading {name} to its end"
            if is_work and self.receiving.processes
            else f"consuming {name}" + ("" if is_work else ", the mirror copy, to compare")
        )
        ready = self._ready.get(name)
        if ready is None:
            ready = self.sending.published
            if is_work:
                ready = 0
        expected = min(self.sending.published or ready, ready)

        # Where processes consumed, what they received is a line already; here comes a small rest.
        alone = not (self.receiving.processes if is_work else self.receiving.audits)

        def watch(received: int) -> None:
            if alone:
                self.samples.take(f"received from {name}", received)

        got = yield from self.receiving.drain(queue, expected, watch)
        if alone:
            self.samples.take(f"received from {name}", got.messages, final=True)
        if is_work:
            self.consumed, self.consume_s = got.messages, got.seconds
            self.latency = got.latency
        yield Step(f"{got.messages:,} received in {got.seconds:.2f} s", done=True)
        left, receipts, second = got.left, got.receipts, None
        if queue.kind == "stream" and left is not None:
            left = max(0, left - facts.deliveries(receipts))
        if left == 0 and queue.kind != "classic" and self._owes(receipts):
            second = yield from self._second_source(queue, receipts)
        return QueueEvidence(
            name=queue.name,
            kind=queue.kind,
            receipts=receipts,
            left=left,
            drained=proves_drained(queue.kind, left, second),
            consumers=got.consumers,
            second=second,
            unended=got.unended,
            drops=tuple(self._drops.get(name, ())),
            limits=limits(queue.extra, {}),
        )

    def _owes(self, receipts: QueueReceipts) -> bool:
        return any(
            ledger.wanted - receipts.of(ledger.source).known for ledger in self.sending.outcomes
        )

    def _second_source(
        self, queue: Queue, receipts: QueueReceipts
    ) -> Generator[Progress, None, int | None]:
        """Ask the Management API what is left in a queue with replicas.

        A passive declare answers 0 when the leader does not answer in time, so that alone
        proves nothing.
        """
        yield Note(f"{safe(queue.name)} owes messages; asking a second source whether it is empty.")
        read = facts.deliveries(receipts) if queue.kind == "stream" else 0
        deadline = time.monotonic() + _SECOND_LOOK_S
        left = None
        with self.place.connect(f"RabbitMQ Prover ({platform.node()})") as connection:
            while time.monotonic() < deadline:
                count = self.place.queue_count(queue.name)
                left = None if count is None else max(0, count - read)
                if left == 0:
                    break
                connection.wait(1.0)
        return left

    def claim(self) -> None:
        """Add what the scenario claims of the end."""
        claims, work, audit = self.scenario.claims, self.evidence[WORK], self.evidence.get(AUDIT)
        if claims.empties and self.scenario.workload.consume != "never":
            self.claims.append(facts.empty_claim(WORK, work.left))
        if claims.audit_equals_work and audit is not None:
            sources = [ledger.source for ledger in self.sending.outcomes]
            same = facts.same_claim(sources, work.receipts, audit.receipts)
            self.claims += [] if same is None else [same]

    def give_up(self) -> None:
        """Take it that nothing is known of the queues: the broker is gone."""
        for queue in self.place.topology.queues:
            name = self.place.logical[queue.name]
            self.evidence.setdefault(
                name, QueueEvidence(queue.name, queue.kind, None, left=None, drained=False)
            )


def _expired(connection: Connection, channel: int, name: str, ttl_s: float) -> int:
    """Return what is Ready in a queue once all that was sent is older than its time to live."""
    connection.wait(ttl_s)
    deadline = time.monotonic() + _EXPIRE_S
    while (ready := wiring.message_count(connection, channel, name)) and (
        time.monotonic() < deadline
    ):
        connection.wait(0.05)
    return ready
