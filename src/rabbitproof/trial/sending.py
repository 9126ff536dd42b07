"""The producers of a trial: one in this process, or several as processes of their own.

What became of each message is in ``outcomes`` afterwards, whichever way it was done. Yields
progress. Refuses to decide when something is broken (``trial``, ``faults``).
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rabbitproof.identity import Source
from rabbitproof.model import Advanced
from rabbitproof.trial.crew import here
from rabbitproof.trial.participant import Order
from rabbitproof.work import produce
from rabbitproof.work.recorder import LedgerRecorder

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from rabbitproof.model import Progress
    from rabbitproof.proof.history import Writer
    from rabbitproof.proof.ledger import Outcomes
    from rabbitproof.trial.crew import Crew
    from rabbitproof.trial.place import Place
    from rabbitproof.trial.plan import Scenario

_LISTEN_S = 0.05
"""Between two looks at faults that may be due."""


@dataclass(slots=True)
class Sending:
    """All producers of one trial."""

    scenario: Scenario
    place: Place
    run_id: str
    sender: str
    mark_every: int
    folder: Path
    """Where ledgers are kept."""
    history: Writer
    crew: Crew | None = None
    """Where there are several producers."""
    outcomes: list[Outcomes] = field(default_factory=list)
    done: int = 0
    """Messages that have an answer; without confirms, that were sent."""
    published: int = 0
    """Confirmed and not returned; without confirms, sent."""
    _producer: produce.Producer | None = None
    _began: float = 0.0

    def run(self) -> Generator[Progress, None, None]:
        """Publish all of it."""
        self._began = time.monotonic()
        if self.crew is not None and self.scenario.sent_by_processes:
            yield from self._run_processes(self.crew)
        else:
            yield from self._run_here()
        confirms = self.scenario.workload.confirms
        self.published = sum(
            len(ledger.confirmed if confirms else ledger.attempted) for ledger in self.outcomes
        )

    def salvage(self) -> None:
        """Take what is known of the outcomes where ``run`` was left before its end."""
        if self.outcomes:
            return
        if self._producer is not None:
            self.outcomes = [self._producer.outcomes]
        elif self.crew is not None:
            for member in self.crew.running("producer"):
                self.crew.kill(member)
            for _ in self._take(self.crew):
                pass

    @property
    def in_flight(self) -> int | None:
        """Publishes without an answer at this moment; None where nobody can tell."""
        if not self.scenario.workload.confirms:
            return None
        if self._producer is not None:
            return self._producer.in_flight
        if self.crew is None:
            return None
        return sum(member.in_flight for member in self.crew.running("producer"))

    @property
    def blocked(self) -> str | None:
        """Why the broker has told a producer to wait; None when it has not."""
        if self._producer is not None:
            return self._producer.blocked
        running = [] if self.crew is None else self.crew.running("producer")
        return next((one.blocked for one in running if one.blocked is not None), None)

    @property
    def reconnects(self) -> bool:
        """Whether the producer here lost its connection and does not have another one yet."""
        if self._producer is None:
            return False
        link = self._producer.connection
        return link is None or link.closed

    def cut(self) -> str | None:
        """End the producer's connection without a word."""
        link = None if self._producer is None else self._producer.connection
        if link is None or link.closed:
            return None
        link.abandon()
        return "The producer's connection was closed without a word to the broker."

    def kill_one(self, pick: float | None = None) -> str | None:
        """Kill a producer and have another process go on from its ledger.

        ``pick``: its share of the list of those that run; None for the one that has done most.
        """
        crew = self.crew
        if crew is None or not (running := crew.running("producer")):
            return None
        member = max(running, key=lambda one: one.done)
        if pick is not None:
            member = running[int(pick * len(running))]
        done, in_flight = member.done, member.in_flight
        crew.kill(member)
        status = member.process.returncode
        if status is None or status >= 0 or member.file is None:
            return None
        after = crew.start(member.name, self._order(resume=str(member.file)))
        member.resumed = True
        crew.await_start([after])
        return (
            f"{member.name} (process {member.process.pid}) ended by signal {-status} after "
            f"{done:,} answers, with {in_flight:,} publishes unanswered; process "
            f"{after.process.pid} goes on from its ledger."
        )

    def _order(self, number: str = "", **what: Any) -> Order:
        return Order(
            role="producer",
            addresses=self.place.ways,
            connection=f"RabbitMQ Producer{number} ({platform.node()})",
            ledgers=str(self.folder),
            run=self.run_id,
            heartbeat_s=self.scenario.workload.heartbeat_s,
            seconds=self._seconds_left(),
            **what,
        )

    def _seconds_left(self) -> float | None:
        """Return for how long a producer that begins now may send; None for any time."""
        whole = self.scenario.workload.seconds
        return None if whole is None else max(whole - (time.monotonic() - self._began), 0.0)

    def _task(self, number: int, count: int) -> produce.Task:
        work = self.scenario.workload
        return produce.Task(
            topology=self.place.topology,
            source=Source(self.run_id, number),
            count=count,
            sender=self.sender,
            host=platform.node(),
            size=work.size,
            persistent=self.scenario.persistent,
            rate=None if work.rate is None else work.rate / work.producers,
            window=work.window,
            declare=False,
            confirms=work.confirms,
            mandatory=work.mandatory,
            nack_deadline_s=produce.NACK_DEADLINE_S if work.retry_nacks else 0.0,
            seconds=work.seconds,
            send_again=work.send_again if number == 1 else 0,
            progress_every=self.mark_every,
            confirm_timeout_s=work.confirm_timeout_s,
        )

    # --- one, here ---

    def _run_here(self) -> Iterator[Progress]:
        recorder = LedgerRecorder(self.folder, run=self.run_id, vhost=self.place.vhost)
        work = self.scenario.workload
        connect = self.place.dialer(f"RabbitMQ Producer ({platform.node()})", work.heartbeat_s)
        producer = produce.Producer(self._task(1, work.count), connect, recorder)
        self._producer = producer
        confirms = work.confirms
        with here(self.history, "producer 1", "producer", recorder):
            for event in producer.run():
                outcomes = producer.outcomes
                self.done = len(outcomes.acked if confirms else outcomes.attempted)
                yield event
        self.outcomes = [producer.outcomes]
        self.done = max(self.done, producer.summary().published)

    # --- several, as processes ---

    def _run_processes(self, crew: Crew) -> Iterator[Progress]:
        work = self.scenario.workload
        share, rest = divmod(work.count, work.producers)
        for i in range(work.producers):
            task = self._task(i + 1, share + (i < rest))
            crew.start(f"producer {i + 1}", self._order(f" {i + 1}", produce=task))
        total = None if work.seconds is not None else work.count
        marked = 0
        while crew.running("producer"):
            crew.listen(_LISTEN_S)
            self.done = sum(member.done for member in crew.of("producer") if not member.resumed)
            mark = self.done >= marked + self.mark_every
            marked = self.done if mark else marked
            yield Advanced(self.done, total, mark=False, blocked=self.blocked)
        yield from self._take(crew)

    def _take(self, crew: Crew) -> Iterator[Progress]:
        records = yield from crew.read("producer")
        self.outcomes += [one.outcomes for one in records if one.outcomes is not None]
