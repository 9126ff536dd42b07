"""A run whose producer died: what its ledger says is still to be done.

Refuses to know flags (``cli``) and how it is done (``produce``).
"""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from rabbitproof.errors import LedgerEmpty, LedgerFailed, UsageError
from rabbitproof.identity import Source
from rabbitproof.model import Queue, Topology
from rabbitproof.proof import record as records
from rabbitproof.text import safe
from rabbitproof.work.produce import Task
from rabbitproof.work.recorder import writer_life

if TYPE_CHECKING:
    from pathlib import Path

    from rabbitproof.proof.entries import Wiring
    from rabbitproof.proof.record import Record


def unfinished(folder: Path) -> Record | None:
    """Return the one producer's ledger in ``folder`` that has no end; None when all have one."""
    found = []
    for path in records.files([folder]):
        try:
            record = records.read(path)
        except LedgerEmpty:  # nothing was sent
            continue
        if record.header.kind == "producer" and not record.ended:
            found.append(record)
    if not found:
        return None
    if len(found) > 1:
        names = ", ".join(safe(record.path.name) for record in found)
        raise UsageError(
            f"{len(found)} producers' ledgers in {safe(str(folder))} have no end: {names}. Move "
            "all but one of them into folders of their own, then resume each."
        )
    (record,) = found
    if writer_life(record.header) == "lives":
        raise UsageError(
            f"The producer of {safe(record.path.name)} still runs as process {record.header.pid}; "
            "wait for its end, or stop it."
        )
    if record.damaged:
        raise LedgerFailed(record.damaged)
    return record


def elsewhere(record: Record) -> str | None:
    """Return a sentence when it can't be seen from here whether the writer still runs."""
    if writer_life(record.header) != "unknown":
        return None
    return (
        f"This ledger was written on {safe(record.header.host)}, by another version or in another "
        "container, and whether its producer still runs can't be seen from here. End it first: two "
        "that send the same run make copies, and ledgers that go apart."
    )


def task_of(record: Record) -> Task:
    """Return the task that a producer's ledger says it had; never with a purge."""
    header = record.header
    known = {one.name for one in fields(Task)} - {"topology", "source", "purge"}
    options = {name: value for name, value in header.options.items() if name in known}
    try:
        return Task(
            topology=_topology(header.topology),
            source=Source(header.run, header.producer),
            purge=False,
            **options,
        )
    except (KeyError, TypeError, ValueError):
        raise LedgerFailed(
            f"The ledger {safe(str(record.path))} does not say all that its producer was asked to "
            "do; it was written by another program and can't be resumed."
        ) from None


def _topology(found: Wiring) -> Topology:
    queues = {
        one.role: Queue(
            one.name,
            one.type or "classic",
            durable=bool(one.durable),
            lazy=one.lazy,
            bound=one.bound,
            extra=one.extra,
        )
        for one in found.queues
    }
    return Topology(
        found.exchange,
        found.routing_key,
        queues["work"],
        queues.get("audit"),
        queues.get("dead"),
    )
