"""Which run a folder is judged for, its queues, and whose ledgers belong to it.

Pure: no I/O, no clock. Refuses to find files (``folder``) and to trust them (``whole``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from rabbitproof.errors import UsageError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rabbitproof.model import QueueType
    from rabbitproof.proof.folder import Folder
    from rabbitproof.proof.manifest import Manifest
    from rabbitproof.proof.record import Record


@dataclass(frozen=True, slots=True)
class RunQueue:
    """A queue of the run."""

    name: str
    kind: QueueType
    clusters: frozenset[str]
    vhosts: frozenset[str]
    kind_known: bool = True
    """False: ``kind`` is what makes a count prove the least."""
    role: str = ""
    """``work`` or ``audit``; empty where nobody says."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run, as its files tell it."""

    id: str
    manifest: Manifest | None
    """None: nobody says who took part."""
    producers: tuple[Record, ...]
    consumers: tuple[Record, ...]
    """Of its queues; they may have read other runs' messages as well."""
    queues: dict[str, RunQueue]
    """By logical name, those that are judged."""

    @property
    def everybody(self) -> tuple[Record, ...]:
        """All participants whose ledgers are here."""
        return (*self.producers, *self.consumers)

    def readers(self, queue: RunQueue) -> list[Record]:
        """Return the consumers of one queue."""
        return [one for one in self.consumers if one.header.queue == queue.name]


def chosen(found: Folder, run: str | None, named: Mapping[str, str] = MappingProxyType({})) -> Run:
    """Return the run that is meant. Raise UsageError where that can't be known.

    ``named``: role -> the queue that has it, where the ledgers do not say so.
    """
    name = _choose(found, run)
    manifest = next((one for one in found.manifests if one.run == name), None)
    producers = tuple(
        one for one in found.records if one.outcomes is not None and one.header.run == name
    )
    names = _topology(producers, manifest, named)
    consumers = tuple(
        one for one in found.records if one.receipts is not None and _takes_part(one, name, names)
    )
    queues = {
        logical: _typed(queue, (*producers, *consumers))
        if manifest is None or logical not in manifest.queues
        else queue
        for logical, queue in names.items()
    }
    return Run(name, manifest, producers, consumers, queues)


def _choose(found: Folder, run: str | None) -> str:
    producers = [one for one in found.records if one.outcomes is not None]
    sizes: dict[str, int] = {one.run: 0 for one in found.manifests}
    for one in producers:
        count = 0 if one.outcomes is None else len(one.outcomes.attempted)
        sizes[one.header.run] = sizes.get(one.header.run, 0) + count
    listed = ", ".join(f"{name} ({count:,} messages)" for name, count in sizes.items())
    if run is not None:
        if run not in sizes:
            there = f"; there are {listed}" if sizes else ""
            raise UsageError(f"No ledger here is of the run {safe(run, 40)}{there}.")
        return run
    if not sizes:
        raise UsageError(
            "There is no producer's ledger here, so nobody knows what was sent; copy it into one "
            "of the folders, or name its folder as well."
        )
    if len(sizes) > 1:
        raise UsageError(
            f"These are ledgers of {len(sizes)} runs: {listed}. Choose one with --run."
        )
    return next(iter(sizes))


def _topology(
    producers: Sequence[Record], manifest: Manifest | None, named: Mapping[str, str]
) -> dict[str, RunQueue]:
    """Return the queues to judge, by logical name: the manifest's, else those of the producers.

    With those that were ``named``, which the producers may know nothing of.
    """
    clusters = frozenset(str(one.header.versions.get("cluster", "")) for one in producers) - {""}
    vhosts = frozenset(str(one.header.topology.get("vhost", "")) for one in producers) - {""}
    told = [queue for one in producers for queue in queues_of(one)]
    roles = {str(one.get("name")): str(one.get("role")) for one in told}
    roles = {name: role for name, role in roles.items() if role not in named}
    roles |= {name: role for role, name in named.items()}
    kinds: dict[str, tuple[str, QueueType]] = {}
    if manifest is not None:
        kinds = {logical: (one["name"], one["kind"]) for logical, one in manifest.queues.items()}
    else:
        ours = (str(one.get("name")) for one in told if one.get("role") in ("work", "audit"))
        kinds = {name: (name, "quorum") for name in ours}
    there = {name for name, _ in kinds.values()}
    kinds |= {name: (name, "quorum") for name in named.values() if name not in there}
    return {
        logical: RunQueue(name, kind, clusters, vhosts, role=roles.get(name, ""))
        for logical, (name, kind) in kinds.items()
    }


def queues_of(one: Record) -> list[dict[str, Any]]:
    """Return the queues of a participant's topology."""
    queues = one.header.topology.get("queues")
    return [one for one in queues if isinstance(one, dict)] if isinstance(queues, list) else []


def _typed(queue: RunQueue, records: Sequence[Record]) -> RunQueue:
    """Return a queue with its type, as the participants know it.

    What the broker said of it; else what a producer that declared it asked for. A queue of which
    nobody knows may be a quorum queue (without a type in its arguments, the default of its vhost
    decides), and then a count of 0 alone proves little; or a stream, which may be read twice.
    """
    described = [(one, each) for one in records for each in queues_of(one)]
    described = [(one, each) for one, each in described if each.get("name") == queue.name]
    said = {_effective_type(each) for _, each in described} - {None}
    said = said or {_declared_type(one, each) for one, each in described} - {None}
    if said == {"classic"}:
        return replace(queue, kind="classic")
    stream = "stream" in said or (not said and any(e.get("type") == "stream" for _, e in described))
    return replace(queue, kind="stream" if stream else "quorum", kind_known=bool(said))


def _effective_type(queue: dict[str, Any]) -> str | None:
    effective = queue.get("effective")
    kind = effective.get("type") if isinstance(effective, dict) else None
    return kind if isinstance(kind, str) else None


def _declared_type(one: Record, queue: dict[str, Any]) -> str | None:
    """Return which type a queue has because a participant declared it."""
    if one.header.options.get("declare") is not True:
        return None
    arguments = queue.get("arguments")
    asked = arguments.get("x-queue-type") if isinstance(arguments, dict) else None
    if isinstance(asked, str):
        return asked
    # No other type can be transient, whatever the default of the vhost.
    return "classic" if queue.get("durable") is False else None


def _takes_part(one: Record, run: str, topology: dict[str, RunQueue]) -> bool:
    """Say whether a consumer read one of the run's queues."""
    header = one.header
    if header.run not in ("", run):
        return False
    cluster = str(header.versions.get("cluster", ""))
    vhost = str(header.topology.get("vhost", ""))
    return any(
        queue.name == header.queue
        and (not cluster or not queue.clusters or cluster in queue.clusters)
        and (not vhost or not queue.vhosts or vhost in queue.vhosts)
        for queue in topology.values()
    )
