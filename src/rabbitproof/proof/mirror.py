"""Whether the audit queue had what the work queue had: the verdict of a run, by its two queues.

The verdict is that of ``verify``. Here is only said what one queue's consumers lack that the
other's got, or that was confirmed; and a queue of which nobody left a ledger leaves it open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pyroaring import BitMap

from rabbitproof.identity import message_id
from rabbitproof.model import Decision
from rabbitproof.proof.folder import gather
from rabbitproof.proof.ledger import QueueReceipts
from rabbitproof.proof.run import chosen
from rabbitproof.proof.verify import judged
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from rabbitproof.identity import Source
    from rabbitproof.model import Verdict
    from rabbitproof.proof.run import Run, RunQueue

NAMED: Final = 20
"""Message ids that are named; more are counted."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two queues."""

    name: str
    """Empty when no participant says which queue that is."""
    seen: int
    """Messages of the run."""
    lacks: int
    """Messages that the other queue's consumers got, or that were confirmed, and these did not."""
    lacks_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mirror:
    """What came of it."""

    decision: Decision
    reasons: tuple[str, ...]
    notes: tuple[str, ...]
    run: str
    confirmed: int
    work: Side
    audit: Side


def check(
    folders: Sequence[Path],
    run: str | None = None,
    work: str | None = None,
    audit: str | None = None,
) -> Mirror:
    """Judge a run by its ledgers and compare its two queues.

    ``work`` and ``audit`` name them where the ledgers do not say it. Raises what ``verify`` does.
    """
    found = gather(folders)
    named = {role: name for role, name in (("work", work), ("audit", audit)) if name}
    meant = chosen(found, run, named)
    return compare(meant, judged(found, meant).result.verdict)


def compare(run: Run, verdict: Verdict) -> Mirror:
    """Return the verdict with what each queue lacks."""
    queues = {role: run.queue_of(role) for role in ("work", "audit")}
    got = {role: _receipts(run, queue) for role, queue in queues.items()}
    wanted = _wanted(run, got.values())
    sides = {
        role: _side("" if queue is None else queue.name, got[role], wanted)
        for role, queue in queues.items()
    }
    open_ones = [
        reason
        for role, queue in queues.items()
        if (reason := _not_compared(role, queue, run)) is not None
    ]
    decision = verdict.decision
    return Mirror(
        decision=Decision.UNKNOWN if open_ones and decision is Decision.PASS else decision,
        reasons=(*verdict.reasons, *open_ones),
        notes=verdict.notes,
        run=run.id,
        confirmed=verdict.confirmed,
        work=sides["work"],
        audit=sides["audit"],
    )


def _not_compared(role: str, queue: RunQueue | None, run: Run) -> str | None:
    """Say why nothing can be said of one of the two."""
    if queue is None:
        return f"No ledger says which queue is the {role} queue; name it with --{role}-queue."
    if not run.readers(queue):
        return (
            f"No consumer of '{safe(queue.name, 60)}' left a ledger here; consume it with --ledger."
        )
    return None


def _receipts(run: Run, queue: RunQueue | None) -> QueueReceipts:
    united = QueueReceipts()
    readers = run.readers(queue) if queue is not None else []
    united.unite(one.receipts for one in readers if one.receipts is not None)
    return united


def _wanted(run: Run, got: Iterable[QueueReceipts]) -> dict[Source, BitMap]:
    """Return the run's messages that were confirmed or came from either queue."""
    wanted: dict[Source, BitMap] = {}
    for one in run.producers:
        if one.outcomes is not None:
            source = one.outcomes.source
            wanted[source] = wanted.get(source, BitMap()) | one.outcomes.wanted
    for receipts in got:
        for source, each in receipts.by_source.items():
            if source.run == run.id:
                wanted[source] = wanted.get(source, BitMap()) | each.seen
    return wanted


def _side(name: str, got: QueueReceipts, wanted: dict[Source, BitMap]) -> Side:
    lacking = {source: numbers - got.of(source).seen for source, numbers in wanted.items()}
    ids = [message_id(source, n) for source, some in lacking.items() for n in some[:NAMED]]
    return Side(
        name,
        seen=sum(len(numbers & got.of(source).seen) for source, numbers in wanted.items()),
        lacks=sum(map(len, lacking.values())),
        lacks_ids=tuple(ids[:NAMED]),
    )
