"""Whether the audit trail of a run has what the workers got, from the ledgers of its participants.

Compares the copies in the two queues with each other, and both with what was confirmed. A
difference counts only where the broker said that the queue was empty at the end: otherwise the
missing message may still be in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyroaring import BitMap

from rabbitproof.identity import message_id
from rabbitproof.model import Decision
from rabbitproof.proof.ledger import QueueReceipts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rabbitproof.identity import Source
    from rabbitproof.proof.record import Record

NAMED = 20
"""Message ids that are named; more are counted."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two queues."""

    name: str
    """Empty when no participant says which queue that is."""
    seen: int
    lacks: int
    """Messages that the other queue's consumers got, or that were confirmed, and these did not."""
    lacks_ids: tuple[str, ...]
    drained: bool
    """The broker counted nothing in it when its last consumer ended."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What came of it."""

    decision: Decision
    reasons: tuple[str, ...]
    confirmed: int | None
    """None: no producer left a ledger."""
    work: Side
    audit: Side


def compare(
    records: Sequence[Record], work: str | None = None, audit: str | None = None
) -> Comparison:
    """Compare; ``work`` and ``audit`` name the queues where the ledgers do not say it."""
    work = work or _named(records, "work")
    audit = audit or _named(records, "audit")
    producers = [record.outcomes for record in records if record.outcomes is not None]
    wanted: dict[Source, BitMap] = {}
    for outcomes in producers:
        wanted[outcomes.source] = wanted.get(outcomes.source, BitMap()) | outcomes.confirmed
    of_work, of_audit = _receipts(records, work), _receipts(records, audit)
    for receipts in (of_work, of_audit):
        for source, one in receipts.by_source.items():
            wanted[source] = wanted.get(source, BitMap()) | one.seen
    sides = [
        _side(name, receipts, wanted, _drained(records, name))
        for name, receipts in ((work, of_work), (audit, of_audit))
    ]
    confirmed = sum(len(outcomes.confirmed) for outcomes in producers) if producers else None
    decision, reasons = _decide(records, sides, wanted)
    return Comparison(decision, tuple(reasons), confirmed, sides[0], sides[1])


def _named(records: Iterable[Record], role: str) -> str:
    """Return the queue of that role, as the participants describe the topology."""
    for record in records:
        for queue in record.header.topology.get("queues", ()):
            if isinstance(queue, dict) and queue.get("role") == role and queue.get("name"):
                return str(queue["name"])
    return ""


def _receipts(records: Iterable[Record], queue: str) -> QueueReceipts:
    united = QueueReceipts()
    united.unite(
        record.receipts
        for record in records
        if record.receipts is not None and queue and record.header.queue == queue
    )
    return united


def _drained(records: Iterable[Record], queue: str) -> bool:
    consumers = [record for record in records if record.header.queue == queue and record.receipts]
    return any(record.counts.get(queue) == 0 for record in consumers)


def _side(name: str, receipts: QueueReceipts, wanted: dict[Source, BitMap], drained: bool) -> Side:  # noqa: FBT001 - a column like the others
    lacking = {
        source: numbers - receipts.of(source).seen for source, numbers in list(wanted.items())
    }
    ids = [id_ for source, numbers in lacking.items() for id_ in _ids(source, numbers)][:NAMED]
    count = sum(len(numbers) for numbers in lacking.values())
    return Side(name, receipts.unique, count, tuple(ids), drained)


def _ids(source: Source, numbers: BitMap) -> Iterator[str]:
    for n in list(numbers[:NAMED]):
        yield message_id(source, n)


def _decide(
    records: Sequence[Record], sides: Sequence[Side], wanted: dict[Source, BitMap]
) -> tuple[Decision, list[str]]:
    unknown, failed = [], []
    for role, side in zip(("work", "audit"), sides, strict=True):
        if not side.name:
            unknown.append(
                f"No ledger says which queue is the {role} queue; name it with --{role}-queue."
            )
        elif not any(record.header.queue == side.name for record in records):
            unknown.append(
                f"No consumer of '{side.name}' left a ledger here; consume it with --ledger."
            )
        elif side.lacks and side.drained:
            failed.append(f"'{side.name}' lacks {side.lacks} messages and is empty.")
        elif side.lacks:
            unknown.append(
                f"{side.lacks} messages were not received from '{side.name}', which was not "
                "empty at the end; consume the rest with --ledger."
            )
    if not any(wanted.values()):
        unknown.append("There is no message in these ledgers; name the folder of a run.")
    if failed:
        return Decision.FAIL, failed + unknown
    return (Decision.UNKNOWN if unknown else Decision.PASS), unknown
