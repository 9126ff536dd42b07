"""The consumers of a trial: one in this process, or several as processes of their own.

Whoever consumed and however it ended, a queue is read to its end by a consumer in this process at
last, so that what a killed one gave back is seen as well.

Yields progress. Refuses to judge (``proof``) and to decide when a consumer is killed (``faults``).
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rabbitproof.errors import NotFound, RabbitproofError
from rabbitproof.model import Advanced
from rabbitproof.proof.ledger import QueueReceipts
from rabbitproof.trial.crew import here
from rabbitproof.trial.participant import Order
from rabbitproof.work import consume
from rabbitproof.work import topology as wiring
from rabbitproof.work.recorder import LedgerRecorder

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from rabbitproof.model import Progress, Queue
    from rabbitproof.proof.history import Writer
    from rabbitproof.trial.crew import Crew
    from rabbitproof.trial.participant import Role
    from rabbitproof.trial.place import Place
    from rabbitproof.trial.plan import Scenario

IDLE_S: Final = 5.0
"""Seconds of silence after which a queue that still owes messages is given up."""
_IDLE_UNSAFE_S: Final = 1.0
"""The same where messages are missing by design. Too short would make UNKNOWN of it, no more:
whether a queue is empty is asked afterwards."""
_LISTEN_S: Final = 0.05
_QUIET_S: Final = 0.3
"""For how long consumers that share an empty queue have to receive nothing before they stop."""
_GONE_S: Final = 10.0
"""Within which the broker notices that a killed consumer has gone."""


@dataclass(slots=True)
class Receiving:
    """All consumers of one trial."""

    scenario: Scenario
    place: Place
    run_id: str
    mark_every: int
    folder: Path
    """Where ledgers are kept."""
    history: Writer
    crew: Crew | None = None
    """Where there are several consumers, or one that can be killed."""
    _from_crew: QueueReceipts = field(default_factory=QueueReceipts)
    _from_auditor: QueueReceipts = field(default_factory=QueueReceipts)

    @property
    def processes(self) -> bool:
        """Whether the work queue's consumers are processes."""
        work = self.scenario.workload
        return self.crew is not None and (
            work.consumers > 1 or work.consume == "during" or work.acks == "auto"
        )

    @property
    def audits(self) -> bool:
        """Whether a process has read the audit queue."""
        return self.crew is not None and bool(self.crew.of("auditor"))

    @property
    def done(self) -> int:
        """Messages that the processes received."""
        return 0 if self.crew is None else sum(one.done for one in self.crew.of("consumer"))

    def start(self) -> None:
        """Start the work queue's consumers, and wait until they consume."""
        for _ in range(self.scenario.workload.consumers):
            self._start_one()
        if self.crew is None:
            return
        audit = self.place.topology.audit
        if self.scenario.workload.audit == "during" and audit is not None:
            self._start_process("auditor", "Auditor", audit)
        self.crew.await_start(self.crew.members)

    def _start_one(self) -> None:
        number = 1 if self.crew is None else len(self.crew.of("consumer")) + 1
        self._start_process("consumer", f"Worker-{number}", self.place.topology.work)

    def _start_process(self, role: Role, name: str, queue: Queue) -> None:
        if self.crew is None:
            raise AssertionError("consumers that are processes need a crew")
        work = self.scenario.workload
        task = consume.Task(
            queue=queue.name,
            name=name,
            prefetch=work.prefetch,
            answer="none" if work.acks == "auto" and role == "consumer" else "ack",
            progress_every=self.mark_every,
            stream_offset="first" if queue.kind == "stream" else None,
            host=platform.node(),
        )
        order = Order(
            role=role,
            addresses=self.place.ways,
            connection=f"RabbitMQ Consumer {name} ({platform.node()})",
            ledgers=str(self.folder),
            run=self.run_id,
            heartbeat_s=work.heartbeat_s,
            pause_s=work.pause_ms / 1000 if role == "consumer" else 0.0,
            consume=task,
        )
        self.crew.start(name, order)

    def kill_one(self, pick: float | None = None) -> str | None:
        """Kill a consumer and start another one in its place.

        ``pick``: its share of the list of those that run; None for the one that received most.
        """
        if self.crew is None or not self.crew.running("consumer"):
            return None
        running = self.crew.running("consumer")
        member = max(running, key=lambda one: one.done)
        if pick is not None:
            member = running[int(pick * len(running))]
        before = self._consumers()
        done, in_flight = member.done, member.in_flight
        self.crew.kill(member)
        status = member.process.returncode
        deadline = time.monotonic() + _GONE_S
        after = self._consumers()
        while before and after and after >= before and time.monotonic() < deadline:
            self.crew.listen(_LISTEN_S)
            after = self._consumers()
        self._start_one()
        self.crew.await_start(self.crew.running("consumer"))
        if status is None or status >= 0:
            return None
        return (
            f"{member.name} (process {member.process.pid}) ended by signal {-status} after "
            f"{done:,} messages, {in_flight:,} of them not acknowledged; the broker counted "
            f"{before} consumers before and {after} after. Another one was started."
        )

    def _consumers(self) -> int | None:
        """Return how many consumers the broker counts on the work queue."""
        try:
            with self.place.connect("RabbitMQ Prover (looking)") as connection:
                channel = connection.open_channel()
                found = wiring.look(connection, channel, self.place.topology.work.name)
        except RabbitproofError:
            return None
        return int(found.consumer_count or 0)

    def follow(self, total: int | None) -> Iterator[Progress]:
        """Let the processes consume until the work queue is empty and they receive no more."""
        crew = self.crew
        if crew is None:
            return
        queue = self.place.topology.work.name
        patience = IDLE_S if self.scenario.safe else _IDLE_UNSAFE_S
        done, since = self.done, time.monotonic()
        looked = 0.0
        while crew.running("consumer"):
            crew.listen(_LISTEN_S)
            now = time.monotonic()
            if self.done != done:
                done, since = self.done, now
            yield Advanced(done, total, mark=False)
            since += time.monotonic() - now  # a fault may have lasted that long
            quiet = now - since
            if quiet < _QUIET_S or now - looked < _QUIET_S:
                continue
            looked = now
            if quiet > patience or not self._ready(queue):
                break
        yield from self._await_audit(crew)
        yield from self._gather(crew)

    def _await_audit(self, crew: Crew) -> Iterator[Progress]:
        """Let the audit queue's process come to its end, too."""
        audit = self.place.topology.audit
        done, since = -1, time.monotonic()
        while audit is not None and (running := crew.running("auditor")):
            crew.listen(_QUIET_S)
            now = time.monotonic()
            received = sum(one.done for one in running)
            if received != done:
                done, since = received, now
            yield Advanced(done, None, mark=False)
            empty = audit.kind != "stream" and not self._ready(audit.name)
            if now - since > IDLE_S or (empty and now - since >= _QUIET_S):
                return

    def _ready(self, queue: str) -> int:
        try:
            with self.place.connect("RabbitMQ Prover (looking)") as connection:
                return wiring.message_count(connection, connection.open_channel(), queue)
        except NotFound:
            return 0

    def _gather(self, crew: Crew) -> Iterator[Progress]:
        """Stop the processes and read their ledgers."""
        ledgers: dict[Role, QueueReceipts]
        ledgers = {"consumer": self._from_crew, "auditor": self._from_auditor}
        for role, ledger in ledgers.items():
            crew.stop(role)
            for record in (yield from crew.read(role)):
                ledger.unite([record.receipts] if record.receipts is not None else [])

    def seen_by_processes(self) -> QueueReceipts:
        """Return what the processes recorded; complete once ``follow`` has ended."""
        return self._from_crew

    def drain(
        self, queue: Queue, expected: int, watch: Callable[[int], None]
    ) -> Generator[Progress, None, QueueReceipts]:
        """Consume a queue to its end, here; return what was received of it, by whomever.

        ``watch`` is told how many were received so far.
        """
        is_work = queue is self.place.topology.work
        crowd = is_work and self.processes
        audited = not is_work and self.audits
        consumer = self.consumer(queue, 0 if audited else expected, crowd=crowd)
        name = consumer.task.name
        with here(self.history, name, "consumer", consumer.recorder, queue.name):
            for event in consumer.run():
                yield event
                watch(consumer.receipts.consumed)
        receipts = QueueReceipts()
        others = self._from_crew if crowd else self._from_auditor if audited else QueueReceipts()
        receipts.unite([consumer.receipts, others])
        return receipts

    def consumer(self, queue: Queue, expected: int, *, crowd: bool = False) -> consume.Consumer:
        """Return a consumer in this process that reads a queue to its end."""
        is_work = queue is self.place.topology.work
        name = "Drainer" if crowd else "Worker-1"
        if not is_work:
            name = "Audit drainer" if self.audits else "Auditor"
        return consume.Consumer(
            consume.Task(
                queue=queue.name,
                name=name,
                prefetch=self.scenario.workload.prefetch,
                expect=expected,
                idle_timeout=IDLE_S if self.scenario.safe else _IDLE_UNSAFE_S,
                drain=True,
                progress_every=self.mark_every,
                stream_offset="first" if queue.kind == "stream" else None,
                host=platform.node(),
            ),
            self.place.dialer(
                f"RabbitMQ Consumer {name} ({platform.node()})",
                self.scenario.workload.heartbeat_s,
            ),
            LedgerRecorder(self.folder, run=self.run_id, vhost=self.place.vhost),
        )
