"""A scenario carried out: from an empty broker to a folder that is judged.

The phases, in their order: declare, send (with faults on the way), plant faults in the stream,
count what is Ready, let a second witness look, consume, count again. Whatever can change the
verdict is written into the run's folder when it is known; at last ``verify`` judges that folder,
and nothing else.

Yields progress, prints nothing. Refuses to judge (``proof``) and to word the result (``view``),
to know how something is broken (``faults``, ``planted``), how messages are sent and received
(``sending``, ``receiving``) and what is asked of the queues afterwards (``collecting``).
"""

from __future__ import annotations

import platform
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.broker.proxy import Proxy
from rabbitproof.errors import NodeFailed
from rabbitproof.model import Note, Step
from rabbitproof.process import Process
from rabbitproof.proof.history import Alarm, Broke, Measured, Over, Plan, Writer
from rabbitproof.proof.verify import examine
from rabbitproof.text import safe
from rabbitproof.trial import planted
from rabbitproof.trial.collecting import Collecting
from rabbitproof.trial.crew import Crew
from rabbitproof.trial.faults import check_sources
from rabbitproof.trial.gaps import Gaps
from rabbitproof.trial.place import scratch
from rabbitproof.trial.plan import WORK
from rabbitproof.trial.receiving import Receiving
from rabbitproof.trial.samples import Samples
from rabbitproof.trial.schedule import Faults
from rabbitproof.trial.sending import Sending
from rabbitproof.work import topology as wiring
from rabbitproof.work.recorder import wired

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping
    from pathlib import Path

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.model import Progress, TrialResult
    from rabbitproof.proof.verify import Judged
    from rabbitproof.trial.participant import Role
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
    keep: Path | None = None
    """Where the run's folder is kept; None for a temporary one."""
    measure: Callable[[], dict[str, Any]] = dict
    """Asked at the end for what was measured beside it, for people."""
    judged: Judged | None = None
    folder: Path | None = None
    """The run's folder, once there is one."""
    logs: dict[str, list[str]] = field(default_factory=dict)
    """By the name of a node that did not come back, the end of its log."""
    _survived: int = 0
    """Faults after which all queues answered again."""
    _blocked: str | None = None
    _history: Writer = field(init=False)
    _gaps: Gaps = field(init=False)
    _samples: Samples = field(init=False)
    _faults: Faults = field(init=False)
    _sending: Sending = field(init=False)
    _receiving: Receiving = field(init=False)
    _collecting: Collecting = field(init=False)

    def run(self) -> Generator[Progress, None, None]:
        """Carry it out and judge it. Raise SourceMissing where it would prove nothing."""
        check_sources(self.scenario, self.place)
        with ExitStack() as stack:
            if self.scenario.has(needs="proxy"):
                addresses = [(address.host, address.port) for address in self.place.addresses]
                self.place = self.place.behind(stack.enter_context(Proxy.start(addresses)))
            with self._connect("RabbitMQ Prover") as connection:
                server, lazy_works = connection.server_properties, wiring.lazy_works(connection)
            self.folder = folder = self.keep or stack.enter_context(scratch(self.place))
            self._history = stack.enter_context(
                Writer(folder, self._plan(server, lazy_works=lazy_works))
            )
            self._hire(stack, folder)
            why = ""
            try:
                yield from self._carry_out()
            except _BrokerGone as gone:
                self._sending.salvage()
                if (crew := self._receiving.crew) is not None:
                    crew.end()
                why = str(gone)
                yield Note(why)  # a soak shows it now: its sending is over
            self._history.write(self._measured())
            self._history.write(Over(why=why))
            self.judged = examine([folder], self.run_id)

    def _measured(self) -> Measured:
        gaps, tells = self._gaps, self.scenario.workload.confirms
        return Measured(
            without_service_s=round(gaps.without_service_s, 2) if tells else None,
            longest_gap_s=round(gaps.longest_s, 2) if tells else None,
            values=self.measure(),
        )

    @property
    def result(self) -> TrialResult | None:
        """What came of it, once it is judged."""
        return None if self.judged is None else self.judged.result

    def _carry_out(self) -> Iterator[Progress]:
        yield from self._prepare()
        if self.scenario.workload.consume == "during":
            self._receiving.start()
        yield from self._send()
        yield from self._unrest(1.0, 0.0)
        yield from self._calm()
        yield from self._plant()
        if self.scenario.workload.consume != "during":
            yield from self._collecting.count_ready()
        yield from self._receive_by_processes()
        yield from self._collecting.look()
        yield from self._collecting.collect()

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
        self._collecting.dropped(queue, reason, copies, evidence)

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

    def _plan(self, server: Mapping[str, Any], *, lazy_works: bool) -> Plan:
        scenario, place, work = self.scenario, self.place, self.scenario.workload
        shown = (
            "producers", "consumers", "confirms", "mandatory", "consume", "acks", "prefetch",
            "window", "size",
        )  # fmt: skip
        return Plan(
            run=self.run_id,
            scenario=scenario.name,
            title=scenario.title,
            teaches=" ".join(scenario.teaches.split()),
            safe=scenario.safe,
            command=self.command,
            started=datetime.now().astimezone().isoformat(timespec="seconds"),
            process=Process.of().write(),
            where=place.where,
            versions={
                "rabbitmq": str(server.get("version", "?")),
                "erlang": str(server.get("platform", "?")).removeprefix("Erlang/OTP "),
                "python": platform.python_version(),
                "platform": platform.platform(),
            },
            topology=wired(place.topology, place.vhost, lazy_works=lazy_works),
            names=place.logical,
            workload={name: getattr(work, name) for name in shown}
            | {"persistent": scenario.persistent},
            confirms=work.confirms,
            consumed=work.consume != "never",
            claims=scenario.claims,
            faults=tuple(one.name for one in scenario.faults for _ in range(one.times)),
            expects=scenario.expect,
            seed=scenario.seed,
            private=bool(place.nodes),
            nodes=scenario.cluster.nodes,
            proxied=scenario.has(needs="proxy"),
        )

    def _hire(self, stack: ExitStack, folder: Path) -> None:
        """Make ready whoever takes part."""
        scenario, work, history = self.scenario, self.scenario.workload, self._history
        several = scenario.sent_by_processes or work.consumers > 1
        crew = None
        if several or work.consume == "during" or work.acks == "auto":
            crew = stack.enter_context(Crew(folder, history))
        self._gaps = Gaps(work.rate)
        self._samples = stack.enter_context(Samples(self.place, history))
        self._sending = Sending(
            scenario, self.place, self.run_id, self.sender, self._mark_every, folder, history, crew
        )
        self._receiving = Receiving(
            scenario, self.place, self.run_id, self._mark_every, folder, history, crew
        )
        self._collecting = Collecting(
            scenario, self.place, self._sending, self._receiving, self._samples, history
        )
        self._faults = stack.enter_context(
            Faults(
                scenario.faults,
                self,
                lambda: self._samples.now,
                self._gaps,
                lambda record: history.write(Broke(record=record)),
            )
        )

    def _connect(self, name: str) -> Connection:
        return self.place.connect(f"{name} ({platform.node()})")

    def _prepare(self) -> Iterator[Progress]:
        """Bring the topology into being, safely on the broker's disk where it may be killed."""
        with self._connect("RabbitMQ Prover") as connection:
            channel = connection.open_channel()
            yield from wiring.declare(connection, channel, self.place.topology)
            self._collecting.begin(connection, channel)
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
        yield Step(f"{sending.published:,} {how} in {self._samples.now:.2f} s", done=True)

    def _take(self, name: str, total: int) -> None:
        """Note how far it is; the queues are not looked at while that might hang."""
        blocked = self._sending.blocked
        if blocked != self._blocked:
            self._blocked = blocked
            self._history.write(Alarm(why=blocked or ""))
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
            self._collecting.await_queues()

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
