"""A scenario carried out: from an empty broker to a verdict over every message.

The phases, in their order: declare, send (with faults on the way), plant faults in the stream,
count what is Ready, let a second witness look, consume, collect what was dropped, judge.

Yields progress, prints nothing. Refuses to judge (``proof``) and to word the result (``view``),
to know how something is broken (``faults``, ``planted``) and how messages are sent and received
(``sending``, ``receiving``).
"""

from __future__ import annotations

import platform
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.broker.proxy import Proxy
from rabbitproof.errors import NodeFailed
from rabbitproof.model import Note, Step, TrialResult
from rabbitproof.proof.verdict import QueueEvidence, judge, lost_ids
from rabbitproof.text import safe
from rabbitproof.trial import evidence as facts
from rabbitproof.trial import expect, planted
from rabbitproof.trial.crew import Crew
from rabbitproof.trial.findings import Findings
from rabbitproof.trial.gaps import Gaps
from rabbitproof.trial.manifest import write_manifest
from rabbitproof.trial.plan import AUDIT, WORK
from rabbitproof.trial.receiving import Receiving
from rabbitproof.trial.samples import Samples
from rabbitproof.trial.schedule import Faults
from rabbitproof.trial.sending import Sending
from rabbitproof.work import topology as wiring

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.model import Progress, Verdict
    from rabbitproof.trial.crew import Role
    from rabbitproof.trial.place import Place
    from rabbitproof.trial.plan import Scenario

_MARKS: Final = 10
"""How often the progress of a phase is marked."""
_SECONDS_MARK: Final = 100_000
"""Messages between two marks where nobody knows how many there will be."""
_LOG_LINES: Final = 400
"""Of each node, when one did not come back."""


class _BrokerGone(NodeFailed):
    """A fault was more than the broker could stand."""


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
    logs: dict[str, list[str]] = field(default_factory=dict)
    """By the name of a node that did not come back, the end of its log."""
    _survived: int = 0
    """Faults after which all queues answered again."""
    _server: dict[str, Any] = field(default_factory=dict)
    _gaps: Gaps = field(init=False)
    _samples: Samples = field(init=False)
    _faults: Faults = field(init=False)
    _sending: Sending = field(init=False)
    _receiving: Receiving = field(init=False)
    _found: Findings = field(init=False)

    def __post_init__(self) -> None:
        self._gaps = Gaps(self.scenario.workload.rate)
        self._samples = Samples(self.place)
        self._faults = Faults(self.scenario.faults, self, lambda: self._samples.now, self._gaps)

    def run(self) -> Generator[Progress, None, None]:
        """Carry it out."""
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        with ExitStack() as stack:
            stack.enter_context(self._samples)
            self._hire(stack)
            stack.enter_context(self._faults)
            try:
                yield from self._carry_out()
            except _BrokerGone as gone:
                self._sending.salvage()
                yield Note(str(gone))  # a soak shows it now: its sending is over
                self._found.give_up()
            self._faults.end()
            verdict = self._judge()
        self.result = self._result(verdict, started)
        if self.ledgers is not None:
            write_manifest(self.ledgers, self._manifest(verdict))

    def _carry_out(self) -> Iterator[Progress]:
        yield from self._prepare()
        if self.scenario.workload.consume == "during":
            self._receiving.start()
        yield from self._send()
        yield from self._unrest(1.0, 0.0)
        yield from self._calm()
        yield from self._plant()
        if self.scenario.workload.consume != "during":
            yield from self._found.count_ready()
        yield from self._receive_by_processes()
        yield from self._found.look()
        yield from self._found.collect()
        self._found.claim()

    @property
    def evidence(self) -> dict[str, QueueEvidence]:
        """By logical name, what was known of each queue at the end."""
        return self._found.evidence

    def lost(self) -> dict[str, Iterator[str]]:
        """Return the ids of all that was lost, by the logical name of the queue."""
        outcomes = self._sending.outcomes
        return {name: lost_ids(outcomes, queue) for name, queue in self.evidence.items()}

    def state(self) -> State:
        """Return how far it is."""
        records = self._faults.records
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
        self._found.dropped(queue, reason, copies, evidence)

    def in_flight(self) -> int | None:
        """Return how many publishes have no answer at this moment."""
        return self._sending.in_flight

    def blocked(self) -> str | None:
        """Return why the broker has told a producer to wait; None when it has not."""
        return self._sending.blocked

    def last(self, seconds: float) -> None:
        """Let so much time of a fault pass."""
        self._faults.last(seconds)

    def reconnects(self) -> bool:
        """Tell whether the producer is just connecting again."""
        return self._sending.reconnects

    def cut(self) -> str | None:
        """End the producer's connection without a word."""
        return self._sending.cut()

    def kill_consumer(self, pick: float | None) -> str | None:
        """Kill a consumer's process."""
        return self._receiving.kill_one(pick)

    def kill_producer(self, pick: float | None) -> str | None:
        """Kill a producer's process and have it resumed."""
        return self._sending.kill_one(pick)

    # --- the phases ---

    def _hire(self, stack: ExitStack) -> None:
        """Make ready whoever takes part; processes need a folder for their ledgers."""
        work = self.scenario.workload
        crew, ledgers = None, self.ledgers
        several = self.scenario.sent_by_processes or work.consumers > 1
        if several or work.consume == "during" or work.acks == "auto":
            folder = ledgers
            if folder is None:
                folder = stack.enter_context(self.place.scratch())
            crew = stack.enter_context(Crew(folder, temporary=ledgers is None))
            self.folder = folder
        if self.scenario.has(needs="proxy"):
            addresses = [(address.host, address.port) for address in self.place.addresses]
            self.place = self.place.behind(stack.enter_context(Proxy.start(addresses)))
        self._sending = Sending(
            self.scenario, self.place, self.run_id, self.sender, self._mark_every, crew, ledgers
        )
        self._receiving = Receiving(
            self.scenario, self.place, self.run_id, self._mark_every, crew, ledgers
        )
        self._found = Findings(
            self.scenario, self.place, self._sending, self._receiving, self._samples
        )

    def _connect(self, name: str) -> Connection:
        return self.place.connect(f"{name} ({platform.node()})")

    def _prepare(self) -> Iterator[Progress]:
        """Bring the topology into being, safely on the broker's disk where it may be killed."""
        with self._connect("RabbitMQ Prover") as connection:
            self._server = connection.server_properties
            channel = connection.open_channel()
            yield from wiring.declare(connection, channel, self.place.topology)
        if self.place.cluster is not None:
            self.place.cluster.await_whole()
            self.place.cluster.settle()
        elif self.place.node is not None and "broker-kill" in self.scenario.possible:
            self.place.node.settle()

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
        with closing(sending.run()) as events:
            for event in events:
                yield event
                self._gaps.note(self._samples.now, sending.done)
                self._take(name, sending.done)
                if receiving.crew is not None and work.consume == "during":
                    receiving.crew.listen(0)
                    self._take(f"received from {WORK}", receiving.done)
                yield from self._due()
        self._gaps.note(self._samples.now, sending.done)
        if any(ledger.in_doubt for ledger in sending.outcomes):
            self._gaps.over(self._samples.now)  # the broker never came back to these
        self._samples.take(name, sending.done, final=True)
        how = "confirmed" if work.confirms else "sent without confirms"
        yield Step(f"{sending.published:,} {how} in {sending.seconds:.2f} s", done=True)

    def _take(self, name: str, total: int) -> None:
        """Note how far it is; the queues are not looked at while that might hang."""
        self._samples.take(name, total, look=not self._faults.busy)

    def _due(self) -> Iterator[Progress]:
        """See to the faults whose moment has come."""
        work = self.scenario.workload
        whole = work.count if work.seconds is None else None
        sent = self._sending.done / whole if whole else self._samples.now / (work.seconds or 1.0)
        received = self._receiving.done / (whole or max(self._sending.done, 1))
        yield from self._unrest(sent, received)

    def _unrest(self, sent: float, received: float) -> Iterator[Progress]:
        yield from self._faults.due(sent, received)
        self._check_broker()

    def _calm(self) -> Iterator[Progress]:
        """Wait until nothing is broken any more: what comes now needs a broker that answers."""
        yield from self._faults.finish()
        self._check_broker()
        if len(self._faults.records) > self._survived:
            self._survived = len(self._faults.records)
            self._found.await_queues()

    def _check_broker(self) -> None:
        """Raise _BrokerGone when a fault has ended and a node of ours has not come back."""
        records = self._faults.records
        if self._faults.busy or not records or records[-1].fired:
            return
        for node in self.place.nodes:
            if node.pid is None:
                self.logs = {each.name: each.log_tail(_LOG_LINES) for each in self.place.nodes}
                raise _BrokerGone(
                    f"{safe(node.name)} did not come back after {records[-1].name}, so nothing can "
                    "be said of what it had; its log is kept with the report."
                )

    def _plant(self) -> Iterator[Progress]:
        """Put faults into the stream."""
        plan = self.scenario.planted
        if plan is None:
            return
        queue = self.place.queue(plan.queue)
        yield Step(f"meddling with the messages in {plan.queue}")
        yield Step(planted.plant(plan, self.place, queue), done=True)

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
            yield from self._calm()  # consumers are other processes, we need the broker
        yield Step(f"{receiving.done:,} received", done=True)

    # --- the end ---

    @property
    def _missing(self) -> list[str]:
        return [*self._sending.missing, *self._receiving.missing]

    def _judge(self) -> Verdict:
        return judge(
            self._sending.outcomes,
            self.evidence,
            self._found.claims,
            missing=self._missing,
            unfired=[record.name for record in self._faults.records if not record.fired],
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
            "claims": self._found.claims,
            "faults": self._faults.records,
            "permits": self.scenario.claims.permits,
            "result": self.result,
        }

    def _result(self, verdict: Verdict, started: str) -> TrialResult:
        wanted, sending = self.scenario.expect, self._sending
        confirms = self.scenario.workload.confirms
        found, queues = self._found, verdict.queues
        latency = {"confirm": sending.latency, "end_to_end": found.latency}
        curves = {"confirm": sending.curve, "end_to_end": self._receiving.curve}
        return TrialResult(
            verdict=verdict,
            scenario=self.scenario.name,
            run=self.run_id,
            publish_per_s=round(sending.published / sending.seconds) if sending.seconds else 0,
            consume_per_s=round(found.consumed / found.consume_s) if found.consume_s else 0,
            claims=tuple(
                (claim.text if claim.held else claim.found, claim.held) for claim in found.claims
            ),
            environment=facts.environment(self.scenario, self.place, self._server),
            latency={name: one for name, one in latency.items() if one is not None},
            title=self.scenario.title,
            teaches=" ".join(self.scenario.teaches.split()),
            safe=self.scenario.safe,
            started=started,
            command=self.command,
            faults=tuple(self._faults.records),
            series=self._samples.series(),
            without_service_s=round(self._gaps.without_service_s, 2) if confirms else None,
            longest_gap_s=round(self._gaps.longest_s, 2) if confirms else None,
            curves={kind: curve for kind, curve in curves.items() if curve},
            not_tested=facts.not_tested(
                self.scenario, self.evidence, private=bool(self.place.nodes)
            ),
            expected="" if wanted is None else " ".join(wanted.why.split()),
            surprises=()
            if wanted is None
            else tuple(
                expect.surprises(
                    wanted, verdict, queues.get(WORK), queues.get(AUDIT), found.witnessed
                )
            ),
            planted=tuple(expect.planted(wanted, found.witnessed)),
        )
