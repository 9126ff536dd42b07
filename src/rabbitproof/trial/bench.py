"""A bench: our client beside the wire ceiling and other clients, on one node, in one run.

Every measurement is a process of its own, started on queues that were just made, and does the
same work: the same topology, persistence, properties, window or prefetch, every message id
recorded. Rounds are interleaved so that drift hits all alike, and their order is balanced
(``order``). Our own figures come from the commands that users run, with ``--json``.

A client that fails is left out with its own words; ours and the ceiling must not fail. Before a
figure counts, the broker is asked whether the messages really are where they should be.

Yields progress, prints nothing. Refuses to do arithmetic (``figures``) and to know how another
client is written (``peers``).
"""

from __future__ import annotations

import platform
import sys
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from rabbitproof import __version__
from rabbitproof.amqp import methods
from rabbitproof.errors import BenchFailed, UsageError
from rabbitproof.model import Client, Comparison, Measurement, Note, Step
from rabbitproof.text import safe
from rabbitproof.trial import mixture, order
from rabbitproof.trial.ceiling import CONSUMER_TAG
from rabbitproof.trial.figures import compare
from rabbitproof.trial.peers import catalogue
from rabbitproof.trial.peers.catalogue import Peer
from rabbitproof.trial.runner import OURS, Job, start
from rabbitproof.work import topology as wiring

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rabbitproof.model import Progress, QueueType, Role, Topology
    from rabbitproof.trial.place import Place

CEILING: Final = "ceiling"
JAVA: Final = "java"
CLIENTS: Final = (CEILING, OURS, *catalogue.NAMES)
"""In the order of the table."""
TOPOLOGIES: Final[dict[str, tuple[QueueType, QueueType, bool]]] = {
    "classic": ("classic", "classic", False),
    "lazy": ("classic", "classic", True),
    "quorum": ("quorum", "stream", False),
    "mixed": ("classic", "classic", False),
}
"""Name -> type of the work queue, type of the audit queue, lazy."""
MIXED: Final = "mixed"
"""Traffic of all kinds (``mixture``), to be consumed: by ours and by the ceiling, since others
record message ids alone and much of this traffic has none."""
ROLES: Final[tuple[Role, ...]] = ("publish", "consume")

WINDOW: Final = 20_000
PREFETCH: Final = 5_000
"""What the stress scenario and set-ups like PerfTest's use; the same for every client."""
_SHARE: Final = {"pika": 0.3, "pika-confirms": 0.02, "aio-pika": 0.1}
"""Of the messages, for clients so slow that they would take most of the time of a bench."""
_LENGTH: Final = {"quorum": 2}
"""Times as many, where a broker gives several times as many a second as from a classic queue."""
_LEAST: Final = 1_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a bench is asked to do."""

    topologies: tuple[str, ...] = tuple(TOPOLOGIES)
    clients: tuple[str, ...] = CLIENTS
    count: int = 50_000
    rounds: int = 5
    """At least so many; where it has to, a round more, so that the order is balanced."""
    balanced: bool = True
    window: int = WINDOW
    prefetch: int = PREFETCH

    def __post_init__(self) -> None:
        for what, given, known in (
            ("--topology", self.topologies, tuple(TOPOLOGIES)),
            ("--clients", self.clients, CLIENTS),
        ):
            if not given:
                raise UsageError(f"{what} names nothing; it knows {', '.join(known)}.")
            for name in given:
                if name not in known:
                    raise UsageError(
                        f"{what} does not know '{safe(name)}'; it knows {', '.join(known)}."
                    )

    def messages(self, client: str, topology: str) -> int:
        """How many messages one measurement of a client has."""
        count = self.count * _LENGTH.get(topology, 1)
        return max(min(count, _LEAST), int(count * _SHARE.get(client, 1.0)))


@dataclass(slots=True)
class Bench:
    """One bench on one place. ``run`` does it; ``result`` is there afterwards."""

    plan: Plan
    place: Place
    folder: Path
    """Where other clients may be compiled."""
    result: Comparison | None = None
    _peers: dict[str, Peer] = field(default_factory=dict)
    _skipped: list[str] = field(default_factory=list)
    _measured: list[Measurement] = field(default_factory=list)

    def run(self) -> Iterator[Progress]:
        """Carry it out."""
        if self.place.addresses[0].tls is not None:
            raise UsageError("bench measures plain AMQP; name an amqp:// URL with --url.")
        started = datetime.now(UTC).isoformat(timespec="seconds")
        yield from self._find()
        steps = [
            (topology, role, number, client)
            for topology in self.plan.topologies
            for role in (ROLES if topology != MIXED else ("consume",))
            for number, row in enumerate(self._rounds(topology, role), 1)
            for client in row
        ]
        most = max(self.plan.messages(OURS, topology) for topology in self.plan.topologies)
        yield Step(f"{len(steps)} measurements of up to {most:,} messages")
        for done, (topology, role, number, client) in enumerate(steps, 1):
            if client not in self._peers:
                continue  # it failed before
            head = f"{done}/{len(steps)} {topology}, {role}, round {number}, {client}"
            try:
                found = self._measure(topology, role, number, client)
            except BenchFailed as failure:
                if client in (OURS, CEILING):
                    raise
                why = f"{client} is left out: {failure}"
                self._drop(client, why)
                yield Note(why)
                continue
            self._measured.append(found)
            rate = found.messages / found.seconds
            yield Step(f"{head}: {rate:,.0f} msg/s", done=True)
        clients = tuple(self._peers[name].client for name in CLIENTS if name in self._peers)
        self.result = Comparison(
            clients=clients,
            skipped=tuple(self._skipped),
            rows=compare(self._measured, clients, CEILING, JAVA),
            measurements=tuple(self._measured),
            environment=self._environment(started),
        )

    # --- who takes part ---

    def _find(self) -> Iterator[Progress]:
        """Find the clients that were asked for; ours and the ceiling always take part."""
        for name in CLIENTS:
            found: Peer | str
            if name == CEILING:
                found = _CEILING
            elif name == OURS:
                found = _OURS
            elif name not in self.plan.clients:
                continue
            else:
                found = catalogue.find(name, self.folder)
            if isinstance(found, str):
                self._skipped.append(found)
                yield Note(found)
            else:
                self._peers[name] = found

    def _rounds(self, topology: str, role: Role) -> list[list[str]]:
        takes_part = [
            name
            for name, peer in self._peers.items()
            if (peer.publish if role == "publish" else peer.consume)
            and (topology != MIXED or name in (CEILING, OURS))
        ]
        rounds = self.plan.rounds
        if self.plan.balanced:
            whole = order.whole(len(takes_part))
            rounds = -(-rounds // whole) * whole
        return order.rounds(takes_part, rounds)

    def _drop(self, client: str, why: str) -> None:
        del self._peers[client]
        self._measured = [one for one in self._measured if one.client != client]
        self._skipped.append(why)

    # --- one measurement ---

    def _measure(self, topology: str, role: Role, number: int, client: str) -> Measurement:
        wanted = self._topology(topology)
        plan, peer = self.plan, self._peers[client]
        count = plan.messages(client, topology)
        job = Job(role, wanted, count, plan.window, plan.prefetch)

        def prepare() -> tuple[str, ...]:
            self._make(wanted)
            more: tuple[str, ...] = ()
            if topology == MIXED:
                size = self._mix(wanted, count)
                if client == CEILING:
                    more = ("--bytes", str(size))
            elif role == "consume":
                start(_OURS, replace(job, role="publish"), self.place.addresses[0].url())
            if role == "consume":
                self._require(wanted, count, OURS)
            return more

        report, peak = start(peer, job, self.place.addresses[0].url(), prepare, self.folder)
        self._require(wanted, count if role == "publish" else 0, client)
        recorded = report.get("consumed" if topology == MIXED else "unique")
        if role == "consume" and recorded is not None and recorded != count:
            raise BenchFailed(
                f"{client} recorded {recorded} distinct messages of {count}; its figures would be "
                "wrong, look at what else uses the broker."
            )
        return Measurement(
            topology=topology,
            role=role,
            client=client,
            round=number,
            messages=count,
            seconds=float(report["seconds"]),
            cpu_seconds=float(report["cpu_seconds"]),
            peak_bytes=peak,
        )

    def _topology(self, name: str) -> Topology:
        work, audit, lazy = TOPOLOGIES[name]
        base = self.place.topology
        if base.audit is None:
            raise AssertionError("a bench has an audit queue")
        return replace(
            base,
            work=replace(base.work, kind=work, durable=True, lazy=lazy),
            audit=replace(base.audit, kind=audit, durable=True, lazy=lazy),
        )

    def _mix(self, topology: Topology, count: int) -> int:
        """Fill the work queue with mixed traffic; return the bytes of the ceiling's deliveries."""
        with self.place.connect("RabbitMQ Bench") as connection:
            sent = mixture.fill(
                connection, topology.exchange, topology.routing_key, topology.work.name, count
            )
        return sent + count * (mixture.DELIVERY_EXTRA + len(CONSUMER_TAG))

    def _make(self, topology: Topology) -> None:
        """Delete the queues and declare them again: every client starts from empty ones."""
        with self.place.connect("RabbitMQ Bench") as connection:
            channel = connection.open_channel()
            for queue in topology.queues:
                connection.call(channel, methods.QueueDelete(queue=queue.name))
            for _ in wiring.declare(connection, channel, topology):
                pass

    def _require(self, topology: Topology, count: int, client: str) -> None:
        """See that the work queue holds what it should: a wrong table is worse than none."""
        with self.place.connect("RabbitMQ Bench") as connection:
            channel = connection.open_channel()
            there = wiring.settled_count(connection, channel, topology.work, count)
        if there != count:
            raise BenchFailed(
                f"After {client} the work queue holds {there} messages instead of {count}; its "
                "figures would be wrong, look at what else uses the broker."
            )

    def _environment(self, started: str) -> dict[str, Any]:
        with self.place.connect("RabbitMQ Bench") as connection:
            server = connection.server_properties
        return {
            "rabbitproof": __version__,
            "started": started,
            "rabbitmq": safe(str(server.get("version", "?"))),
            "erlang": safe(str(server.get("platform", "?"))).removeprefix("Erlang/OTP "),
            "python": platform.python_version(),
            "machine": f"{psutil.cpu_count()} × {_processor()}, {platform.system()} "
            f"{platform.release()}",
            "broker": self.place.where,
            "count": self.plan.count,
            "window": self.plan.window,
            "prefetch": self.plan.prefetch,
        }


_OURS: Final = Peer(
    Client(OURS, __version__, confirms=True),
    publish=True,
    consume=True,
    command=(sys.executable, "-m", "rabbitproof"),
)
_CEILING: Final = Peer(
    Client(
        CEILING,
        __version__,
        confirms=True,
        note="The wire ceiling: replays encoded bytes, counts without parsing, records nothing.",
    ),
    publish=True,
    consume=True,
    command=(sys.executable, "-m", "rabbitproof.trial.ceiling"),
)


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def select(names: str | None, known: Sequence[str]) -> tuple[str, ...]:
    """Return the names in a list separated by commas; all known ones without a list."""
    if names is None:
        return tuple(known)
    return tuple(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
