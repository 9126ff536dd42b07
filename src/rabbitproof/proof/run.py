"""Which run a folder is judged for, its queues, and whose ledgers belong to it.

Pure: no I/O, no clock. Refuses to find files (``folder``) and to trust them (``whole``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

from rabbitproof.errors import UsageError
from rabbitproof.proof.entries import DeclaredQueue
from rabbitproof.proof.history import Found
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rabbitproof.model import QueueType
    from rabbitproof.proof.folder import Folder
    from rabbitproof.proof.history import History
    from rabbitproof.proof.record import Record


@dataclass(frozen=True, slots=True)
class RunQueue:
    """A queue of the run."""

    name: str
    role: str
    """``work`` or ``audit``; empty where nobody says."""
    described: tuple[tuple[bool, DeclaredQueue], ...] = ()
    """What the files say of it, and whether whoever says it declared it so."""
    kind: QueueType = "quorum"
    kind_known: bool = False
    """False: ``kind`` is what makes a count prove the least."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run, as its files tell it."""

    id: str
    history: History | None
    """None: nobody says who took part."""
    producers: tuple[Record, ...]
    consumers: tuple[Record, ...]
    """Of its queues; they may have read other runs' messages as well."""
    queues: dict[str, RunQueue]
    """By logical name, those that are judged."""
    unsure: tuple[Record, ...] = ()
    """Consumers of which nobody knows whether it was its queues that they read."""

    @property
    def everybody(self) -> tuple[Record, ...]:
        """All participants whose ledgers are here."""
        return (*self.producers, *self.consumers)

    def readers(self, queue: RunQueue) -> list[Record]:
        """Return the consumers of one queue."""
        return [one for one in self.consumers if one.header.queue == queue.name]

    def of_role(self, role: str) -> str | None:
        """Return the logical name of the work or the audit queue; None where nobody says."""
        return next((name for name, queue in self.queues.items() if queue.role == role), None)

    def queue_of(self, role: str) -> RunQueue | None:
        """Return that queue."""
        name = self.of_role(role)
        return None if name is None else self.queues[name]


def chosen(found: Folder, run: str | None, named: Mapping[str, str] = MappingProxyType({})) -> Run:
    """Return the run that is meant. Raise UsageError where that can't be known.

    ``named``: role -> the queue that has it, where the ledgers do not say so.
    """
    name = _choose(found, run)
    history = found.histories.get(name)
    producers = tuple(
        one for one in found.records if one.outcomes is not None and one.header.run == name
    )
    names = _names(producers, history, named)
    real = {queue.name for queue in names.values()}
    read = [
        (one, _takes_part(one, name, real, producers))
        for one in found.records
        if one.receipts is not None
    ]
    consumers = tuple(one for one, part in read if part)
    unsure = tuple(one for one, part in read if part is None)
    described = [
        (one.header.options.get("declare") is True, queue)
        for one in (*producers, *consumers)
        for queue in one.header.topology.queues
    ]
    if history is not None:
        described += [(True, queue) for queue in history.plan.topology.queues]
        described += [
            (False, DeclaredQueue(name=one.queue, effective=one.is_now))
            for one in history.of(Found)
        ]
    queues = {
        logical: _typed(replace(queue, described=tuple(
            (declared, each) for declared, each in described if each.name == queue.name
        )))
        for logical, queue in names.items()
    }  # fmt: skip
    return Run(name, history, producers, consumers, queues, unsure)


def _choose(found: Folder, run: str | None) -> str:
    producers = [one for one in found.records if one.outcomes is not None]
    sizes: dict[str, int] = dict.fromkeys(found.histories, 0)
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


def _names(
    producers: Sequence[Record], history: History | None, named: Mapping[str, str]
) -> dict[str, RunQueue]:
    """Return the queues to judge, by logical name: the plan's, else those of the producers.

    With those that were ``named``, which the producers may know nothing of.
    """
    told = [queue for one in producers for queue in one.header.topology.queues]
    logical = {queue.name: queue.name for queue in told if queue.role in ("work", "audit")}
    if history is not None:
        told = [*told, *history.plan.topology.queues]
        logical = history.plan.names
    roles = {queue.name: queue.role for queue in told if queue.role not in named}
    roles |= {name: role for role, name in named.items()}
    logical = logical | {name: name for name in named.values() if name not in logical}
    return {shown: RunQueue(name, roles.get(name, "")) for name, shown in logical.items()}


def _typed(queue: RunQueue) -> RunQueue:
    """Return a queue with its type, as the files know it.

    What the broker said of it; else what somebody that declared it asked for. A queue of which
    nobody knows may be a quorum queue (without a type in its arguments, the default of its vhost
    decides), and then a count of 0 alone proves little; or a stream, which may be read twice.
    """
    said = {each.effective.type for _, each in queue.described if each.effective is not None}
    said = said - {""} or {_declared_type(*each) for each in queue.described} - {""}
    if said == {"classic"}:
        return replace(queue, kind="classic", kind_known=True)
    streamed = any(each.type == "stream" for _, each in queue.described)
    stream = "stream" in said or (not said and streamed)
    known = said in ({"stream"}, {"quorum"})
    return replace(queue, kind="stream" if stream else "quorum", kind_known=known)


def _declared_type(declared: bool, queue: DeclaredQueue) -> str:  # noqa: FBT001  one of a pair
    """Return which type a queue has because somebody declared it."""
    if not declared:
        return ""
    asked = queue.arguments.get("x-queue-type")
    if isinstance(asked, str):
        return asked
    # No other type can be transient, whatever the default of the vhost.
    return "classic" if queue.durable is False else ""


def _takes_part(
    one: Record, run: str, queues: set[str], producers: Sequence[Record]
) -> bool | None:
    """Say whether a consumer read one of the run's queues; None where nobody knows.

    Until somebody gives a cluster a name, each of its nodes tells its own.
    """
    header = one.header
    if header.run not in ("", run) or header.queue not in queues:
        return False
    if header.run == run:
        return True
    vhosts = {each.header.topology.vhost for each in producers} - {""}
    if header.topology.vhost and vhosts and header.topology.vhost not in vhosts:
        return False
    clusters = {each.header.versions.get("cluster", "") for each in producers} - {""}
    cluster = header.versions.get("cluster", "")
    if not cluster or not clusters or cluster in clusters:
        return True
    came = () if one.receipts is None else one.receipts.by_source
    return True if any(source.run == run for source in came) else None
