"""A scenario carried out: from an empty broker to a verdict over every message.

Yields progress, prints nothing. Refuses to judge (``proof``) and to word the result (``view``).
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.identity import Source
from rabbitproof.model import Note, Step, TrialResult
from rabbitproof.proof.verdict import Claim, QueueEvidence, judge
from rabbitproof.text import safe
from rabbitproof.work import consume, produce
from rabbitproof.work.topology import settled_count

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from rabbitproof.model import Progress, Queue
    from rabbitproof.proof.ledger import QueueReceipts
    from rabbitproof.trial.place import Place
    from rabbitproof.trial.scenario import Scenario

_IDLE_S: Final = 5.0
"""Seconds of silence after which a queue that still owes messages is given up."""
_SECOND_LOOK_S: Final = 15.0
"""How long a second source is asked whether a queue is empty; the Management API's counts of
quorum queues and streams are up to 5 s old."""
_MARKS: Final = 10
"""How often the progress of a phase is marked."""


@dataclass(slots=True)
class Trial:
    """One scenario on one place. ``run`` does it; ``result`` is there afterwards."""

    scenario: Scenario
    place: Place
    run_id: str
    count: int
    sender: str = "prove"
    result: TrialResult | None = None
    _claims: list[Claim] = field(default_factory=list)
    _consumed: int = 0
    _consume_s: float = 0.0
    _latency: dict[str, Any] = field(default_factory=dict)
    _server: dict[str, Any] = field(default_factory=dict)

    def run(self) -> Iterator[Progress]:
        """Carry it out."""
        topology = self.place.topology
        producer = produce.Producer(
            produce.Task(
                topology=topology,
                source=Source(self.run_id, 1),
                count=self.count,
                sender=self.sender,
                host=platform.node(),
                persistent=self.scenario.durable,
                progress_every=self._mark_every,
            ),
            lambda: self.place.connect(f"RabbitMQ Producer ({platform.node()})"),
        )
        yield Step(f"sending {self.count:,} messages to {topology.exchange}; no consumer runs")
        yield from producer.run()
        sent = producer.summary()
        self._latency["confirm"] = sent.latency
        rate = sent.published / sent.seconds if sent.seconds else 0.0
        yield Step(f"{sent.published:,} confirmed in {sent.seconds:.2f} s", done=True)
        yield from self._count_ready(sent.published)
        evidence = {}
        for queue in topology.queues:
            evidence[self.place.logical[queue.name]] = yield from self._drain(
                queue, sent.published, producer.outcomes.confirmed
            )
        self._compare(evidence)
        verdict = judge([producer.outcomes], evidence, self._claims)
        self.result = TrialResult(
            verdict=verdict,
            scenario=self.scenario.name,
            run=self.run_id,
            publish_per_s=round(rate),
            consume_per_s=round(self._consumed / self._consume_s) if self._consume_s else 0,
            claims=tuple(
                (claim.text if claim.held else claim.found, claim.held) for claim in self._claims
            ),
            environment=self._environment(),
            latency=self._latency,
        )

    @property
    def _mark_every(self) -> int:
        return max(1, self.count // _MARKS)

    def _count_ready(self, confirmed: int) -> Generator[Progress, None, None]:
        """See that every queue holds exactly what was confirmed, while nobody consumes."""
        with self.place.connect(f"RabbitMQ Prover ({platform.node()})") as connection:
            self._server = connection.server_properties
            channel = connection.open_channel()
            for queue in self.place.topology.queues:
                name = self.place.logical[queue.name]
                ready = settled_count(connection, channel, queue, confirmed)
                yield Step(f"{name} holds {ready:,} Ready", done=True)
                if self.scenario.ready_before:
                    self._claims.append(
                        Claim(
                            f"{name} held exactly {confirmed:,} Ready messages before a "
                            "consumer started.",
                            held=ready == confirmed,
                            found=f"{name} held {ready:,} Ready messages before a consumer "
                            f"started, not the {confirmed:,} that were confirmed.",
                        )
                    )

    def _drain(
        self, queue: Queue, expected: int, confirmed: Any
    ) -> Generator[Progress, None, QueueEvidence]:
        """Consume a queue to its end and return what is known of it."""
        name = self.place.logical[queue.name]
        is_work = queue is self.place.topology.work
        yield Step(f"consuming {name}" + ("" if is_work else ", the mirror copy, to compare"))
        worker = "Worker-1" if is_work else "Auditor"
        consumer = self._consumer(queue, worker, expected)
        yield from consumer.run()
        receipts, left = consumer.receipts, consumer.left
        end = consumer.summary()
        if is_work:
            self._consumed, self._consume_s = end.consumed, end.seconds
            self._latency["end_to_end"] = end.latency
        yield Step(f"{end.consumed:,} received in {end.seconds:.2f} s", done=True)
        if queue.kind == "stream" and left is not None:
            left = max(0, left - _deliveries(receipts))
        if is_work and self.scenario.empties:
            self._claims.append(
                Claim(
                    f"{name} was empty at the end.",
                    held=left == 0,
                    found=f"{name} still held {left} messages at the end.",
                )
            )
        seen = receipts.of(Source(self.run_id, 1)).known
        drained = left == 0
        if drained and queue.kind != "classic" and confirmed - seen:
            drained = yield from self._second_source(queue, receipts)
        return QueueEvidence(
            name=queue.name,
            kind=queue.kind,
            receipts=receipts,
            left=left,
            drained=drained,
            consumers=1,
        )

    def _consumer(self, queue: Queue, name: str, expected: int | None) -> consume.Consumer:
        return consume.Consumer(
            consume.Task(
                queue=queue.name,
                name=name,
                prefetch=self.scenario.prefetch,
                expect=expected or None,
                idle_timeout=_IDLE_S,
                drain=True,
                progress_every=self._mark_every,
                stream_offset="first" if queue.kind == "stream" else None,
                host=platform.node(),
            ),
            lambda: self.place.connect(f"RabbitMQ Consumer {name} ({platform.node()})"),
        )

    def _second_source(
        self, queue: Queue, receipts: QueueReceipts
    ) -> Generator[Progress, None, bool]:
        """Ask the Management API whether a queue with replicas is really read to its end.

        A passive declare answers 0 when the leader does not answer in time, so that alone
        proves nothing.
        """
        yield Note(f"{safe(queue.name)} owes messages; asking a second source whether it is empty.")
        wanted = _deliveries(receipts) if queue.kind == "stream" else 0
        deadline = time.monotonic() + _SECOND_LOOK_S
        with self.place.connect(f"RabbitMQ Prover ({platform.node()})") as connection:
            while time.monotonic() < deadline:
                if self.place.queue_count(queue.name) == wanted:
                    return True
                connection.wait(1.0)
        return False

    def _compare(self, evidence: dict[str, QueueEvidence]) -> None:
        """See that the audit queue had the same messages as the work queue."""
        topology = self.place.topology
        if not self.scenario.audit_equals_work or topology.audit is None:
            return
        work, audit = (
            evidence[self.place.logical[queue.name]].receipts for queue in topology.queues
        )
        if work is None or audit is None:
            return
        source = Source(self.run_id, 1)
        differ = len(work.of(source).seen ^ audit.of(source).seen)
        self._claims.append(
            Claim(
                "The audit queue had the same messages as the work queue.",
                held=not differ,
                found=f"{differ:,} messages were in only one of work and audit queue.",
            )
        )

    def _environment(self) -> dict[str, Any]:
        topology = self.place.topology
        return {
            "rabbitmq": safe(str(self._server.get("version", "?"))),
            "erlang": safe(str(self._server.get("platform", "?"))).removeprefix("Erlang/OTP "),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "broker": self.place.where,
            "topology": {
                "exchange": topology.exchange,
                "routing_key": topology.routing_key,
                "queues": {
                    self.place.logical[queue.name]: {
                        "type": queue.kind,
                        "durable": queue.durable,
                        "lazy": queue.lazy,
                    }
                    for queue in topology.queues
                },
            },
        }


def _deliveries(receipts: QueueReceipts) -> int:
    """Return how many messages one pass over a stream saw."""
    named = sum(
        one.fresh.total + one.redelivered.total + one.corrupt_copies
        for one in receipts.by_source.values()
    )
    return named + receipts.foreign + receipts.corrupt_nameless
