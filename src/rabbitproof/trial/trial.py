"""A scenario carried out: from an empty broker to a verdict over every message.

The phases, in their order: declare, send (with faults on the way), plant faults in the stream,
count what is Ready, let a second witness look, consume, collect what was dropped, judge.

Yields progress, prints nothing. Refuses to judge (``proof``) and to word the result (``view``),
to know how something is broken (``faults``, ``planted``) and how messages are sent and received
(``sending``, ``receiving``).
"""

from __future__ import annotations

import platform
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.model import Note, Step, TrialResult
from rabbitproof.proof.mutations import Ledgers
from rabbitproof.proof.verdict import Claim, Drop, QueueEvidence, judge, lost_ids, proves_drained
from rabbitproof.text import safe
from rabbitproof.trial import evidence as facts
from rabbitproof.trial import expect, faults, planted, witness
from rabbitproof.trial.crew import Crew
from rabbitproof.trial.gaps import Gaps
from rabbitproof.trial.manifest import write_manifest
from rabbitproof.trial.plan import AUDIT, CATALOGUE, WORK
from rabbitproof.trial.receiving import Receiving
from rabbitproof.trial.samples import Samples
from rabbitproof.trial.sending import Sending
from rabbitproof.work import topology as wiring

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.model import FaultRecord, Progress, Queue, Verdict
    from rabbitproof.proof.ledger import QueueReceipts
    from rabbitproof.trial.crew import Role
    from rabbitproof.trial.place import Place
    from rabbitproof.trial.plan import FaultPlan, Scenario

_SECOND_LOOK_S: Final = 15.0
"""How long a second source is asked whether a queue is empty; the Management API's counts of
quorum queues and streams are up to 5 s old."""
_EXPIRE_S: Final = 10.0
"""Within which the broker has removed what is older than its time to live."""
_MARKS: Final = 10
"""How often the progress of a phase is marked."""
_SECONDS_MARK: Final = 100_000
"""Messages between two marks where nobody knows how many there will be."""


@dataclass(frozen=True, slots=True)
class State:
    """How far a trial is."""

    sent: int
    """Messages with an answer; without confirms, sent."""
    sent_all: bool
    received: int
    """By processes, from the work queue."""
    faults: int
    """Carried out so far."""
    fired: int
    last: str | None
    """The name of the last one."""


@dataclass(slots=True)
class Trial:
    """One scenario on one place. ``run`` does it; ``result`` is there afterwards."""

    scenario: Scenario
    place: Place
    run_id: str
    sender: str = "prove"
    command: str = ""
    """What to type to repeat it."""
    ledgers: Path | None = None
    """Where ledgers are kept; None keeps them for as long as processes need them."""
    result: TrialResult | None = None
    folder: Path | None = None
    """Where the processes keep their ledgers, once there are some."""
    evidence: dict[str, QueueEvidence] = field(default_factory=dict)
    """By logical name, what was known of each queue at the end."""
    _claims: list[Claim] = field(default_factory=list)
    _faults: list[FaultRecord] = field(default_factory=list)
    _witnessed: dict[str, int | None] = field(default_factory=dict)
    _ready: dict[str, int] = field(default_factory=dict)
    """Logical name -> messages before a consumer started."""
    _drops: dict[str, list[Drop]] = field(default_factory=dict)
    """By logical name."""
    _consumed: int = 0
    _consume_s: float = 0.0
    _latency: dict[str, Any] = field(default_factory=dict)
    _server: dict[str, Any] = field(default_factory=dict)
    _gaps: Gaps = field(init=False)
    _samples: Samples = field(init=False)
    _schedule: faults.Schedule = field(init=False)
    _sending: Sending = field(init=False)
    _receiving: Receiving = field(init=False)

    def __post_init__(self) -> None:
        self._gaps = Gaps(self.scenario.workload.rate)
        self._samples = Samples(self.place)
        self._schedule = faults.Schedule(self.scenario.faults)

    def run(self) -> Generator[Progress, None, None]:
        """Carry it out."""
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        with ExitStack() as stack:
            stack.enter_context(self._samples)
            self._hire(stack)
            yield from self._prepare()
            if self.scenario.workload.consume == "during":
                self._receiving.start()
            yield from self._send()
            yield from self._late_faults()
            yield from self._plant()
            yield from self._count_ready()
            yield from self._receive_by_processes()
            self._faults += faults.unfired(self._schedule.missed)
            yield from self._look()
            yield from self._collect()
            self._claim()
            verdict = self._judge()
        self.result = self._result(verdict, started)
        if self.ledgers is not None:
            write_manifest(self.ledgers, self._manifest(verdict))

    def lost(self) -> dict[str, Iterator[str]]:
        """Return the ids of all that was lost, by the logical name of the queue."""
        outcomes = self._sending.outcomes
        return {name: lost_ids(outcomes, queue) for name, queue in self.evidence.items()}

    def known(self) -> Ledgers:
        """Return all that the verdict was made of."""
        return Ledgers(
            self._sending.outcomes,
            self.evidence,
            self._claims,
            self._missing,
            [record.name for record in self._faults if not record.fired],
        )

    def state(self) -> State:
        """Return how far it is."""
        records = self._faults
        return State(
            sent=self._sending.done,
            sent_all=self._sending.outcomes != [],
            received=self._receiving.done,
            faults=len(records),
            fired=sum(record.fired for record in records),
            last=records[-1].name if records else None,
        )

    def processes(self) -> dict[str, list[int]]:
        """Return the process ids of all participants that run, by what they do."""
        crew = self._receiving.crew
        if crew is None:
            return {}
        names: dict[str, Role]
        names = {"producers": "producer", "consumers": "consumer", "audit": "auditor"}
        found = {
            name: [member.process.pid for member in crew.running(role)]
            for name, role in names.items()
        }
        return {name: pids for name, pids in found.items() if pids}

    # --- what faults may do: see faults.Scene ---

    def dropped(self, queue: str, reason: str, copies: int, evidence: str) -> None:
        """Note that so many copies in a queue are gone for that reason."""
        self._drops.setdefault(queue, []).append(Drop(reason, copies, evidence=evidence))
        name = f"K_{reason}"
        self._witnessed[name] = (self._witnessed.get(name) or 0) + copies

    def in_flight(self) -> int | None:
        """Return how many publishes have no answer at this moment."""
        return self._sending.in_flight

    def cut(self) -> str | None:
        """End the producer's connection without a word."""
        return self._sending.cut()

    def kill_consumer(self) -> str | None:
        """Kill a consumer's process."""
        return self._receiving.kill_one()

    # --- the phases ---

    def _hire(self, stack: ExitStack) -> None:
        """Make ready whoever takes part; processes need a folder for their ledgers."""
        work = self.scenario.workload
        crew, ledgers = None, self.ledgers
        several = max(work.producers, work.consumers) > 1
        if several or work.consume == "during" or work.acks == "auto":
            folder = ledgers
            if folder is None:
                folder = stack.enter_context(self.place.scratch())
            crew = stack.enter_context(Crew(folder, temporary=ledgers is None))
            self.folder = folder
        self._sending = Sending(
            self.scenario, self.place, self.run_id, self.sender, self._mark_every, crew, ledgers
        )
        self._receiving = Receiving(
            self.scenario, self.place, self.run_id, self._mark_every, crew, ledgers
        )

    def _connect(self, name: str) -> Connection:
        return self.place.connect(f"{name} ({platform.node()})")

    def _prepare(self) -> Iterator[Progress]:
        """Bring the topology into being, safely on the broker's disk where it may be killed."""
        with self._connect("RabbitMQ Prover") as connection:
            self._server = connection.server_properties
            channel = connection.open_channel()
            yield from wiring.declare(connection, channel, self.place.topology)
        node = self.place.node
        if node is not None and any(plan.name == "broker-kill" for plan in self.scenario.faults):
            node.settle()

    @property
    def _mark_every(self) -> int:
        work = self.scenario.workload
        return _SECONDS_MARK if work.seconds is not None else max(1, work.count // _MARKS)

    def _send(self) -> Iterator[Progress]:
        """Publish all of it; faults happen on the way."""
        work, sending, receiving = self.scenario.workload, self._sending, self._receiving
        how_many = f"{work.count:,} messages" if work.seconds is None else f"for {work.seconds:g} s"
        who = "no consumer runs"
        if work.consume == "during":
            who = f"{work.consumers} consumer{'s run' if work.consumers > 1 else ' runs'}"
        yield Step(f"sending {how_many} to {self.place.topology.exchange}; {who}")
        self._samples.begin()
        name = "confirmed" if work.confirms else "sent"
        for event in sending.run():
            yield event
            self._gaps.note(self._samples.now, sending.done)
            self._samples.take(name, sending.done)
            if receiving.crew is not None and work.consume == "during":
                receiving.crew.listen(0)
                self._samples.take(f"received from {WORK}", receiving.done)
            yield from self._due()
        self._gaps.note(self._samples.now, sending.done)
        if any(ledger.in_doubt for ledger in sending.outcomes):
            self._gaps.over(self._samples.now)  # the broker never came back to these
        self._samples.take(name, sending.done, final=True)
        if sending.latency is not None:
            self._latency["confirm"] = sending.latency
        how = "confirmed" if work.confirms else "sent without confirms"
        yield Step(f"{sending.published:,} {how} in {sending.seconds:.2f} s", done=True)

    def _due(self) -> Iterator[Progress]:
        """Do the faults whose moment has come."""
        now = self._samples.now
        work = self.scenario.workload
        whole = work.count if work.seconds is None else None
        sent = self._sending.done / whole if whole else now / (work.seconds or 1.0)
        received = self._receiving.done / (whole or max(self._sending.done, 1))
        for plan in self._schedule.due(sent, received, now):
            yield from self._fire(plan)

    def _fire(self, plan: FaultPlan) -> Iterator[Progress]:
        began = self._samples.now
        record = yield from faults.fire(plan, self, began)
        if CATALOGUE[plan.name].hits not in {"broker", "connection"}:
            # The broker served on; only our own producer was kept waiting.
            self._gaps.leave_out(self._samples.now - began)
        self._faults.append(record)

    def _late_faults(self) -> Iterator[Progress]:
        """Do what was to be done when all had been sent."""
        for plan in self._schedule.due(1.0, 0.0, self._samples.now):
            yield from self._fire(plan)

    def _plant(self) -> Iterator[Progress]:
        """Put faults into the stream."""
        plan = self.scenario.planted
        if plan is None:
            return
        queue = faults.real(self.place, plan.queue)
        yield Step(f"meddling with the messages in {plan.queue}")
        yield Step(planted.plant(plan, self.place, queue), done=True)

    def _count_ready(self) -> Iterator[Progress]:
        """Count every queue while nobody consumes; it has to hold exactly what was confirmed."""
        if self.scenario.workload.consume == "during":
            return
        published = self._sending.published
        with self._connect("RabbitMQ Prover") as connection:
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
                    self._claims.append(facts.ready_claim(name, published, ready))

    def _receive_by_processes(self) -> Iterator[Progress]:
        """Let processes consume the work queue; faults of consumers happen on the way."""
        receiving = self._receiving
        if not receiving.processes or self.scenario.workload.consume == "never":
            return
        if self.scenario.workload.consume == "after":
            receiving.start()
        count = len(receiving.crew.of("consumer")) if receiving.crew else 0
        yield Step(f"consuming {WORK} with {count} process{'es' if count > 1 else ''}")
        for event in receiving.follow(self._sending.published):
            yield event
            self._samples.take(f"received from {WORK}", receiving.done)
            yield from self._due()
        yield Step(f"{receiving.done:,} received", done=True)

    def _look(self) -> Iterator[Progress]:
        """Let the second witness count, where the expectation is about what it finds."""
        wanted = expect.needs(self.scenario.expect)
        topology = self.place.topology
        for name, queue in (("K", topology.work), ("K_audit", topology.audit)):
            if name in wanted and queue is not None:
                sight = witness.peek(self.place, queue)
                known = self._receiving.seen_by_processes() if queue is topology.work else None
                missing = None if sight is None else sight.missing(self._sending.outcomes, known)
                self._witnessed[name] = missing
                if missing is not None:
                    shown = self.place.logical[queue.name]
                    yield Step(f"a second witness misses {missing:,} in {shown}", done=True)
        if topology.dead is not None:
            yield from self._look_at_dead_letters(topology.dead)

    def _look_at_dead_letters(self, queue: Queue) -> Iterator[Progress]:
        most = 2 * min(self.scenario.count, 2 * self._sending.published + 1)
        found = witness.dead_letters(self.place, queue, most)
        if found is None:
            yield Note("The Management API does not answer, so no reason for a loss is known.")
            return
        self._witnessed["K_dead"] = sum(drop.copies for drop in found)
        for dead in found:
            self._drops.setdefault(WORK, []).append(
                Drop(
                    dead.reason,
                    receipts=dead.receipts,
                    evidence=f"{dead.copies:,} dead letters say {dead.reason}.",
                )
            )
            yield Step(f"{dead.copies:,} dead letters, {dead.reason}", done=True)

    def _collect(self) -> Iterator[Progress]:
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
                )
            else:
                self.evidence[name] = yield from self._drain(queue)

    def _drain(self, queue: Queue) -> Generator[Progress, None, QueueEvidence]:
        """Consume a queue to its end and return what is known of it."""
        name = self.place.logical[queue.name]
        is_work = queue is self.place.topology.work
        yield Step(
            f"reading {name} to its end"
            if is_work and self._receiving.processes
            else f"consuming {name}" + ("" if is_work else ", the mirror copy, to compare")
        )
        ready = self._ready.get(name)
        if ready is None:
            ready = self._sending.published
            if is_work:
                ready = 0
        expected = min(self._sending.published or ready, ready)

        def watch(received: int) -> None:
            self._samples.take(f"received from {name}", received)

        got = yield from self._receiving.drain(queue, expected, watch)
        self._samples.take(f"received from {name}", got.messages, final=True)
        if is_work:
            self._consumed, self._consume_s = got.messages, got.seconds
            self._latency["end_to_end"] = got.latency
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
        )

    def _owes(self, receipts: QueueReceipts) -> bool:
        return any(
            ledger.wanted - receipts.of(ledger.source).known for ledger in self._sending.outcomes
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
        with self._connect("RabbitMQ Prover") as connection:
            while time.monotonic() < deadline:
                count = self.place.queue_count(queue.name)
                left = None if count is None else max(0, count - read)
                if left == 0:
                    break
                connection.wait(1.0)
        return left

    # --- the end ---

    def _claim(self) -> None:
        """Add what the scenario claims of the end."""
        claims, work, audit = self.scenario.claims, self.evidence[WORK], self.evidence.get(AUDIT)
        if claims.empties and self.scenario.workload.consume != "never":
            self._claims.append(facts.empty_claim(WORK, work.left))
        if claims.audit_equals_work and audit is not None:
            sources = [ledger.source for ledger in self._sending.outcomes]
            same = facts.same_claim(sources, work.receipts, audit.receipts)
            self._claims += [] if same is None else [same]

    @property
    def _missing(self) -> list[str]:
        return [*self._sending.missing, *self._receiving.missing]

    def _judge(self) -> Verdict:
        return judge(
            self._sending.outcomes,
            self.evidence,
            self._claims,
            missing=self._missing,
            unfired=[record.name for record in self._faults if not record.fired],
            permits=self.scenario.claims.permits,
        )

    def _manifest(self, verdict: Verdict) -> dict[str, Any]:
        return {
            "run": self.run_id,
            "scenario": self.scenario.name,
            "producers": self._sending.files,
            "consumers": self._receiving.files,
            "missing": self._missing,
            "evidence": self.evidence,
            "verdict": verdict,
            "claims": self._claims,
            "faults": self._faults,
            "permits": self.scenario.claims.permits,
            "result": self.result,
        }

    def _result(self, verdict: Verdict, started: str) -> TrialResult:
        wanted, sending = self.scenario.expect, self._sending
        confirms = self.scenario.workload.confirms
        found = verdict.queues
        curves = {"confirm": sending.curve, "end_to_end": self._receiving.curve}
        return TrialResult(
            verdict=verdict,
            scenario=self.scenario.name,
            run=self.run_id,
            publish_per_s=round(sending.published / sending.seconds) if sending.seconds else 0,
            consume_per_s=round(self._consumed / self._consume_s) if self._consume_s else 0,
            claims=tuple(
                (claim.text if claim.held else claim.found, claim.held) for claim in self._claims
            ),
            environment=facts.environment(self.scenario, self.place, self._server),
            latency=self._latency,
            title=self.scenario.title,
            teaches=" ".join(self.scenario.teaches.split()),
            safe=self.scenario.safe,
            started=started,
            command=self.command,
            faults=tuple(self._faults),
            series=self._samples.series(),
            without_service_s=round(self._gaps.without_service_s, 2) if confirms else None,
            longest_gap_s=round(self._gaps.longest_s, 2) if confirms else None,
            curves={kind: curve for kind, curve in curves.items() if curve},
            not_tested=facts.not_tested(
                self.scenario, self.evidence, private=self.place.node is not None
            ),
            expected="" if wanted is None else " ".join(wanted.why.split()),
            surprises=()
            if wanted is None
            else tuple(
                expect.surprises(
                    wanted, verdict, found.get(WORK), found.get(AUDIT), self._witnessed
                )
            ),
            planted=tuple(expect.planted(wanted, self._witnessed)),
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
