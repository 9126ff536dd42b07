"""What a participant writes down while it works: its ledger, figures over time, events, its end.

``Recorder`` keeps nothing, for participants without ``--ledger``. ``LedgerRecorder`` keeps all of
it in a journal. A participant takes its ledger from here, so that each change is written down as
it is made, and calls ``flush`` before it acknowledges anything.

Refuses to know bytes and files (``proof``), and how a participant works (``produce``, ``consume``).
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import time
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, Final

from msgspec import structs

from rabbitproof import __version__
from rabbitproof.errors import RabbitproofError
from rabbitproof.process import Life, Process, boot_id, since_boot_ns
from rabbitproof.proof.entries import DeclaredQueue, Effective, End, Header, Wiring
from rabbitproof.proof.journal import Journal
from rabbitproof.work import topology as wiring
from rabbitproof.work.depths import Depths

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.broker.answers import QueueInfo
    from rabbitproof.broker.management import Management
    from rabbitproof.model import Topology
    from rabbitproof.proof.ledger import Outcomes, QueueReceipts
    from rabbitproof.proof.record import Record
    from rabbitproof.work import consume, produce

_SAMPLE_S: Final = 0.5
"""Seconds between two samples of figures: 120 a minute, of 100 bytes each."""
_REPORT_S: Final = 6.0
"""Within which a queue with replicas has reported its count to the Management API; they do so
every 5 s."""


class Recorder:
    """Keeps nothing. Its ledgers live in memory."""

    keeps = False
    path: Path | None = None
    """The file that is written, once there is one."""

    def outcomes(self, connection: Connection, task: produce.Task, known: Outcomes) -> Outcomes:
        """Begin: return the ledger that a producer is to use from now on."""
        return known

    def receipts(
        self, connection: Connection, task: consume.Task, known: QueueReceipts
    ) -> QueueReceipts:
        """Begin: return the ledger that a consumer is to use from now on."""
        return known

    def flush(self) -> None:
        """Have all that the ledger was told outlive this process. Raises LedgerFailed."""

    def round(self, figures: Callable[[], dict[str, Any]]) -> None:
        """Pass once through a participant's loop; ``figures`` is asked now and then."""

    def event(self, name: str, **details: Any) -> None:
        """Note that something happened."""

    def stopped(self, error: BaseException) -> None:
        """Note that the participant ends before it has done all."""

    def doubts(self, queue: str) -> bool:
        """Say whether a count of 0 in this queue needs a second source."""
        return False

    def second_count(self, connection: Connection, queue: str) -> int | None:
        """Return what a second source counts in a queue; None when it does not say."""
        return None

    def end(self, **values: Any) -> None:
        """Note that all is done; ``values`` are fields of ``proof.entries.End``."""

    def close(self) -> None:
        """Close the file. May be called more than once."""


class LedgerRecorder(Recorder):
    """Keeps everything in a ledger file in ``folder``, which begins when there is a connection."""

    keeps = True

    def __init__(
        self,
        folder: Path,
        *,
        run: str = "",
        vhost: str = "/",
        open_api: Callable[[], Management] | None = None,
        connect: Callable[[], Connection] | None = None,
        options: dict[str, Any] | None = None,
        resume: Record | None = None,
    ) -> None:
        """Keep the file in ``folder``, or go on with that of ``resume``.

        ``run``: what a consumer is told of the run. ``options``: what the command was given
        beyond the task, no password. ``connect``: opens a further connection, on which the depth
        of the queues is asked once a second; without it nobody asks.
        """
        self.path = None if resume is None else resume.path
        self._folder = folder
        self._run = run
        self._vhost = vhost
        self._open_api = open_api
        self._connect = connect
        self._depths: Depths | None = None
        self._options = options or {}
        self._resume = resume
        self._journal: Journal | None = None
        self._began = 0
        self._offset = 0
        self._next = 0.0
        self._figures: Callable[[], dict[str, Any]] | None = None
        self._kinds: dict[str, str] = {}
        """Queue -> its type, where the Management API said it."""

    # --- the beginning ---

    def outcomes(self, connection: Connection, task: produce.Task, known: Outcomes) -> Outcomes:
        """Begin or go on with the file."""
        header = self._header(
            connection,
            kind="producer",
            run=task.source.run,
            producer=task.source.producer,
            name=task.sender,
            topology=self._wiring(connection, task.topology),
            options=_options(task) | self._options,
        )
        if self._resume is None:
            stem = f"producer-{task.source.run}-{task.source.producer:03d}"
            self._journal = Journal.create(self._folder, stem, header)
        else:
            self._journal = Journal.resume(self._resume, header)
            self.event("resumed", pid=os.getpid(), torn=self._resume.torn)
        self.path = self._journal.path
        self.event("connected")
        self._watch([queue.name for queue in task.topology.queues])
        return self._journal.outcomes(known)

    def receipts(
        self, connection: Connection, task: consume.Task, known: QueueReceipts
    ) -> QueueReceipts:
        """Begin the file."""
        header = self._header(
            connection,
            kind="consumer",
            run=self._run,
            producer=0,
            name=task.name,
            queue=task.queue,
            topology=Wiring(
                vhost=self._vhost,
                queues=(
                    DeclaredQueue(
                        name=task.queue, effective=self._effective(connection, task.queue)
                    ),
                ),
            ),
            options=_options(task) | self._options,
        )
        stem = f"consumer-{_plain(task.name)}-{secrets.token_hex(4)}"
        self._journal = Journal.create(self._folder, stem, header)
        self.path = self._journal.path
        self.event("connected")
        self._watch([task.queue])
        return self._journal.receipts()

    def _watch(self, queues: Sequence[str]) -> None:
        if self._connect is not None:
            self._depths = Depths(self._connect, queues)
            self._depths.begin()

    def _header(self, connection: Connection, **values: Any) -> Header:
        self._began = time.time_ns()
        self._offset = since_boot_ns()
        server = connection.server_properties
        return Header(
            host=platform.node(),
            pid=os.getpid(),
            started_ns=self._began,
            queue=values.pop("queue", ""),
            versions={
                "rabbitmq": str(server.get("version", "")),
                "erlang": str(server.get("platform", "")).removeprefix("Erlang/OTP "),
                "cluster": str(server.get("cluster_name", "")),
                "python": platform.python_version(),
                "platform": platform.platform(),
                "rabbitproof": __version__,
            },
            process=Process.of().write(),
            boot=boot_id(),
            monotonic_ns=self._offset,
            **values,
        )

    def _wiring(self, connection: Connection, topology: Topology) -> Wiring:
        declared = wired(topology, self._vhost, lazy_works=wiring.lazy_works(connection))
        queues = []
        for queue, each in zip(topology.all, declared.queues, strict=True):
            known: dict[str, Any] = {"effective": self._effective(connection, queue.name)}
            if self._resume is None:  # what another process had published is not there before
                known["messages"], _ = wiring.end_count(connection, queue, 0)
            queues.append(structs.replace(each, **known))
        return structs.replace(declared, queues=tuple(queues))

    def _effective(self, connection: Connection, queue: str) -> Effective | None:
        """Return what the Management API says of a queue; None where it does not answer."""
        if self._open_api is None:
            return None
        cluster = str(connection.server_properties.get("cluster_name", ""))
        found = asked(self._open_api, cluster, self._vhost, queue)
        if found is not None:
            self._kinds[queue] = found.type
        return None if found is None else effective(found)

    # --- meanwhile ---

    def flush(self) -> None:
        """Write down all that the ledger was told."""
        if self._journal is not None:
            self._journal.flush()

    def round(self, figures: Callable[[], dict[str, Any]]) -> None:
        """Write down what came of this round, and figures when they are due."""
        journal = self._journal
        if journal is None:
            return
        self._figures = figures
        now = time.monotonic()
        if now >= self._next:
            self._next = now + _SAMPLE_S
            self._sample(journal, figures)
        elif journal.header.kind == "producer":
            # An answer that a killed producer had and did not write down would be in doubt. What
            # a consumer received can wait for its acknowledgement: it comes again without one.
            journal.flush()

    def _sample(self, journal: Journal, figures: Callable[[], dict[str, Any]]) -> None:
        values = figures()
        if self._depths is not None and (depth := self._depths.newest):
            values["depth"] = depth
        journal.sample(self.now_ns(), values, time.time_ns())

    def event(self, name: str, **details: Any) -> None:
        """Write down that something happened; when nothing can be written, that is known."""
        if self._journal is not None and not self._journal.failed:
            self._journal.event(self.now_ns(), name, details)

    def stopped(self, error: BaseException) -> None:
        """Write down why it ends early; an interrupt may have come in the middle of a write."""
        if isinstance(error, KeyboardInterrupt) and self._journal is not None:
            self._journal.settle()
        self.event("stopped", why=str(error) or type(error).__name__)

    def now_ns(self) -> int:
        """Return the time by this participant's clock as it was when it began."""
        return self._began + since_boot_ns() - self._offset

    # --- the end ---

    def doubts(self, queue: str) -> bool:
        """Say so of all but classic queues, also where nobody said what it is."""
        return self._open_api is not None and self._kinds.get(queue) != "classic"

    def second_count(self, connection: Connection, queue: str) -> int | None:
        """Return what the Management API counts, once it has had the time to count.

        Queues with replicas and streams report every 5 s: what it says before that is old.
        """
        deadline = time.monotonic() + _REPORT_S
        while (rest := deadline - time.monotonic()) > 0:
            connection.wait(min(rest, 1.0))
        cluster = str(connection.server_properties.get("cluster_name", ""))
        found = self._open_api and asked(self._open_api, cluster, self._vhost, queue)
        return None if found is None else found.messages

    def end(self, **values: Any) -> None:
        """Write the end record."""
        journal = self._journal
        if journal is None:
            return
        if self._figures is not None:
            self._sample(journal, self._figures)
        now, clock = self.now_ns(), time.time_ns()
        journal.end(End(t_ns=now, clock_ns=clock, **values))

    def close(self) -> None:
        """Close the file."""
        if self._depths is not None:
            self._depths.end()
        if self._journal is not None:
            self._journal.close()


def wired(topology: Topology, vhost: str, *, lazy_works: bool) -> Wiring:
    """Return a topology as it is written down."""
    return Wiring(
        vhost=vhost,
        exchange=topology.exchange,
        routing_key=topology.routing_key,
        queues=tuple(
            DeclaredQueue(
                name=queue.name,
                role=topology.role(queue),
                type=queue.kind,
                durable=queue.durable,
                lazy=queue.lazy,
                bound=queue.bound,
                extra=dict(queue.extra),
                arguments=queue.arguments(lazy_works=lazy_works),
            )
            for queue in topology.all
        ),
    )


def asked(
    open_api: Callable[[], Management], cluster: str, vhost: str, queue: str
) -> QueueInfo | None:
    """Return what the Management API says of a queue, with the policy that applies to it.

    None where it does not answer, or belongs to another cluster than the one that AMQP named:
    another broker's queue of that name would be worse than none.
    """
    try:
        with open_api() as api:
            if not cluster or api.overview().cluster != cluster:
                return None
            found = api.queue(vhost, queue)
            if found is not None and found.policy and not found.policy_definition:
                return replace(found, policy_definition=api.policy(vhost, found.policy))
            return found
    except RabbitproofError:
        return None


def effective(found: QueueInfo) -> Effective:
    """Return a queue as it is written down."""
    return Effective(
        type=found.type,
        durable=found.durable,
        arguments=found.arguments,
        policy=found.policy,
        policy_definition=found.policy_definition,
    )


def writer_life(header: Header) -> Life:
    """Say whether the process that wrote a ledger still runs, as far as that can be told here."""
    process = Process.read(header.process)
    return "unknown" if process is None else process.life()


def _options(task: produce.Task | consume.Task) -> dict[str, Any]:
    names = {one.name for one in fields(task)} - {"topology", "source"}
    return {name: getattr(task, name) for name in sorted(names)}


def _plain(name: str) -> str:
    """Return a name as a part of a file's name that every system takes."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", name)[:40].strip("-") or "consumer"
