"""After the sending: every queue is counted, looked at, read to its end, and counted again.

First while nobody consumes, then a second witness looks where an expectation is about what it
finds, then each queue is consumed to its end and counted once more. All of it is written into the
run's history.

Yields progress. Refuses to judge (``proof``) and to know when something is broken (``schedule``).
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rabbitproof.errors import RabbitproofError
from rabbitproof.model import Note, Step
from rabbitproof.proof import expect
from rabbitproof.proof.ends import REPORT_NS
from rabbitproof.proof.history import Counted, Dropped, Found, Witnessed, dropped
from rabbitproof.text import safe
from rabbitproof.trial import witness
from rabbitproof.work import topology as wiring
from rabbitproof.work.link import passes
from rabbitproof.work.recorder import asked, effective

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.model import Progress, Queue
    from rabbitproof.proof.history import Writer
    from rabbitproof.proof.ledger import QueueReceipts
    from rabbitproof.trial.place import Place
    from rabbitproof.trial.plan import Scenario
    from rabbitproof.trial.receiving import Receiving
    from rabbitproof.trial.samples import Samples
    from rabbitproof.trial.sending import Sending

_SECOND_LOOK_S: Final = 15.0
"""How long a second source is asked until it agrees."""
_BACK_S: Final = 60.0
"""Within which queues answer after their broker does; a stream took 20 s on a busy machine."""
_GONE_S: Final = 5.0
"""Within which a broker no longer counts a consumer that has gone."""
_LOOK_S: Final = 0.2
_EXPIRE_S: Final = 10.0
"""Within which the broker has removed what is older than its time to live."""
_NAME: Final = f"RabbitMQ Prover ({platform.node()})"


@dataclass(slots=True)
class Collecting:
    """What is done with the queues of one trial."""

    scenario: Scenario
    place: Place
    sending: Sending
    receiving: Receiving
    samples: Samples
    history: Writer
    _ready: dict[str, int] = field(default_factory=dict)
    """Logical name -> messages before a consumer started."""
    _gone: dict[str, int] = field(default_factory=dict)
    """Reason -> copies that are known to be gone for it."""

    def dropped(self, queue: str, reason: str, copies: int, evidence: str) -> None:
        """Note that so many copies in a queue are gone for that reason."""
        name = self.place.queue(queue).name
        self.history.write(Dropped(queue=name, reason=reason, copies=copies, evidence=evidence))
        self._gone[reason] = self._gone.get(reason, 0) + copies
        self.history.write(Witnessed(name=f"K_{reason}", count=self._gone[reason]))

    def begin(self, connection: Connection, channel: int) -> None:
        """Write down what each queue is, and what it holds before anything is sent."""
        cluster = str(connection.server_properties.get("cluster_name", ""))
        for queue in self.place.topology.queues:
            found = asked(self.place.open_api, cluster, self.place.vhost, queue.name)
            if found is not None:
                self.history.write(Found(queue=queue.name, is_now=effective(found)))
            self._count(connection, channel, queue)

    def await_queues(self) -> None:
        """Wait until the broker answers for every queue: after a fault some take longer than it.

        Raises what it said last when that takes too long.
        """
        until = time.monotonic() + _BACK_S
        missing = [queue.name for queue in self.place.topology.queues]
        while missing:
            try:
                with self.place.connect(_NAME) as connection:
                    while missing:
                        wiring.look(connection, connection.open_channel(), missing[-1])
                        missing.pop()
            except RabbitproofError as error:
                if not passes(error) or time.monotonic() > until:
                    raise
                time.sleep(_LOOK_S)

    def count_ready(self) -> Iterator[Progress]:
        """Count every queue while nobody consumes, once its count stands still."""
        published = self.sending.published
        with self.place.connect(_NAME) as connection:
            channel = connection.open_channel()
            for queue in self.place.topology.queues:
                name = self.place.logical[queue.name]
                lagging = queue.kind == "stream" or self.scenario.safe
                wiring.settled_count(connection, channel, queue, published if lagging else 0)
                ttl = queue.extra.get("x-message-ttl")
                if isinstance(ttl, int):
                    _await_expiry(connection, channel, queue.name, ttl / 1000.0)
                ready = self._count(connection, channel, queue).messages or 0
                self._ready[name] = ready
                yield Step(f"{name} holds {ready:,} Ready", done=True)

    def look(self) -> Iterator[Progress]:
        """Let the second witness count, where the expectation is about what it finds."""
        wanted = expect.needs(self.scenario.expect)
        topology = self.place.topology
        for name, queue in (("K", topology.work), ("K_audit", topology.audit)):
            if name in wanted and queue is not None:
                sight = witness.peek(self.place, queue)
                known = self.receiving.seen_by_processes() if queue is topology.work else None
                missing = None if sight is None else sight.missing(self.sending.outcomes, known)
                self.history.write(Witnessed(name=name, count=missing))
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
        self.history.write(Witnessed(name="K_dead", count=sum(drop.copies for drop in found)))
        for dead in found:
            work = self.place.topology.work.name
            evidence = f"{dead.copies:,} dead letters say {dead.reason}."
            for entry in dropped(work, dead.reason, dead.receipts, self.sending.run_id, evidence):
                self.history.write(entry)
            yield Step(f"{dead.copies:,} dead letters, {dead.reason}", done=True)

    def collect(self) -> Iterator[Progress]:
        """Consume the queues to their end, and count them once more."""
        owing = []
        for queue in self.place.topology.queues:
            if queue is not self.place.topology.work or self.scenario.workload.consume != "never":
                receipts = yield from self._drain(queue)
                if queue.kind != "classic" and self._owes(receipts):
                    owing.append(queue)
        yield from self._count_at_last(owing)

    def _drain(self, queue: Queue) -> Generator[Progress, None, QueueReceipts]:
        """Consume a queue to its end."""
        name = self.place.logical[queue.name]
        is_work = queue is self.place.topology.work
        yield Step(
            f"reading {name} to its end"
            if is_work and self.receiving.processes
            else f"consuming {name}" + ("" if is_work else ", the mirror copy, to compare")
        )
        ready = self._ready.get(name)
        if ready is None:
            ready = 0 if is_work else self.sending.published
        expected = min(self.sending.published or ready, ready)

        # Where processes consumed, what they received is a line already; here comes a small rest.
        alone = not (self.receiving.processes if is_work else self.receiving.audits)

        def watch(received: int) -> None:
            if alone:
                self.samples.take(f"received from {name}", received)

        got = yield from self.receiving.drain(queue, expected, watch)
        if alone:
            self.samples.take(f"received from {name}", got.consumed, final=True)
        yield Step(f"{got.consumed:,} received", done=True)
        return got

    def _owes(self, receipts: QueueReceipts) -> bool:
        return any(
            ledger.wanted - receipts.of(ledger.source).known for ledger in self.sending.outcomes
        )

    def _count(self, connection: Connection, channel: int, queue: Queue) -> Counted:
        """Count a queue by a passive declare, and write it down."""
        found = wiring.look_again(connection, channel, queue.name)
        counted = Counted(
            queue=queue.name,
            by="declare",
            messages=int(found.message_count or 0),
            consumers=int(found.consumer_count or 0),
        )
        self.history.write(counted)
        return counted

    def _count_at_last(self, owing: list[Queue]) -> Iterator[Progress]:
        """Count all queues now that everybody has left them.

        Those with replicas, and streams, which owe messages are asked for at a second source as
        well: a passive declare answers 0 when the leader does not answer in time.
        """
        ended = time.monotonic()
        with self.place.connect(_NAME) as connection:
            channel = connection.open_channel()
            counts = {}
            for queue in self.place.topology.queues:
                counted = self._count(connection, channel, queue)
                while counted.consumers and time.monotonic() < ended + _GONE_S:
                    connection.wait(_LOOK_S)
                    counted = self._count(connection, channel, queue)
                counts[queue.name] = counted.messages
            for queue in owing:
                yield Note(
                    f"{safe(queue.name)} owes messages; asking a second source whether it is empty."
                )
                while (rest := ended + REPORT_NS / 1e9 + _LOOK_S - time.monotonic()) > 0:
                    connection.wait(rest)
                deadline = time.monotonic() + _SECOND_LOOK_S
                while True:
                    found = self.place.queue_count(queue.name)
                    self.history.write(Counted(queue=queue.name, by="api", messages=found))
                    if found == counts[queue.name] or time.monotonic() > deadline:
                        break
                    connection.wait(1.0)


def _await_expiry(connection: Connection, channel: int, name: str, ttl_s: float) -> None:
    """Wait until the broker has removed what is older than its time to live, or is slow to."""
    connection.wait(ttl_s)
    deadline = time.monotonic() + _EXPIRE_S
    while wiring.message_count(connection, channel, name) and time.monotonic() < deadline:
        connection.wait(0.05)
