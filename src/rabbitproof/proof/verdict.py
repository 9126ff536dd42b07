"""The verdict: all ledgers of a run and the broker's own counts, united and judged.

The question is asked for each queue by itself, because the broker answers each publish once for
all queues: a confirm does not say that *every* queue has a copy, when one of two bindings was
missing or a queue was deleted, and a nack does not say that none has.

Decided in this order:

1. FAIL when a confirmed message is lost, a message is corrupt, or something that the scenario
   claims did not hold (an unflagged second copy of a message sent once breaks a claim that
   every run makes).
2. UNKNOWN when that could not be proven: a confirmed message was not seen in a queue that is
   not provably drained, or nothing was confirmed at all.
3. PASS otherwise. Redelivered duplicates and copies of what was sent twice are counted and fail
   nothing: at least once is what a broker promises.

Pure: no I/O, no clock. Refuses to find things out (``trial``) and to show them (``view``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rabbitproof.identity import message_id
from rabbitproof.model import Decision, QueueVerdict, Verdict
from rabbitproof.proof.ledger import Receipts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyroaring import BitMap

    from rabbitproof.model import QueueType
    from rabbitproof.proof.ledger import Outcomes, QueueReceipts

LOST_IDS_SHOWN = 1_000
"""Message ids in a verdict; the whole list may have millions."""


@dataclass(frozen=True, slots=True)
class QueueEvidence:
    """What is known of one queue at the end of a run."""

    name: str
    """Its real name on the broker."""
    kind: QueueType
    receipts: QueueReceipts | None
    """All consumers' ledgers united; None when nobody consumed it."""
    left: int | None
    """Messages that the broker still counts after all consumers ended."""
    drained: bool
    """Proven to hold nothing more that was not seen."""
    consumers: int = 0
    """How many consumed it."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that a scenario promises, and whether it held."""

    text: str
    """A whole sentence that is true when it held."""
    held: bool
    found: str = ""
    """What was found instead: a whole sentence."""


@dataclass(slots=True)
class _Tally:
    """Sums over the producers, for one queue."""

    received: int = 0
    unique: int = 0
    unseen: int = 0
    recovered: int = 0
    redelivered: int = 0
    resent: int = 0
    unflagged: int = 0
    corrupt: int = 0
    foreign: int = 0
    inversions: int = 0
    again: bool = False
    """Some copy was redelivered or sent again, so that order means nothing."""
    unseen_ids: list[str] = field(default_factory=list)


def judge(
    outcomes: Sequence[Outcomes],
    queues: dict[str, QueueEvidence],
    claims: Sequence[Claim] = (),
) -> Verdict:
    """Return the verdict over a run.

    ``outcomes`` has one ledger for each producer, ``queues`` the evidence by logical name.
    """
    judged = {name: _judge_queue(outcomes, queue) for name, queue in queues.items()}
    failures, doubts = _weigh(judged)
    failures += [
        claim.found or f"This did not hold: {claim.text}" for claim in claims if not claim.held
    ]
    confirms = all(ledger.confirms for ledger in outcomes)
    confirmed = sum(len(ledger.confirmed) for ledger in outcomes)
    attempted = sum(len(ledger.attempted) for ledger in outcomes)
    if not (confirmed if confirms else attempted):
        doubts.append("Nothing was confirmed, so nothing was proven.")
    open_or_fine = Decision.UNKNOWN if doubts else Decision.PASS
    return Verdict(
        decision=Decision.FAIL if failures else open_or_fine,
        reasons=tuple(failures + doubts),
        attempted=attempted,
        confirmed=confirmed,
        nacked=sum(len(ledger.nacked) for ledger in outcomes),
        returned=sum(len(ledger.returned) for ledger in outcomes),
        in_doubt=sum(len(ledger.in_doubt) for ledger in outcomes),
        queues=judged,
    )


def _weigh(judged: dict[str, QueueVerdict]) -> tuple[list[str], list[str]]:
    """Return what makes the queues' verdicts fail, and what leaves them open."""
    failures: list[str] = []
    doubts: list[str] = []
    for name, queue in judged.items():
        if queue.lost:
            what = "confirmed messages are" if queue.lost > 1 else "confirmed message is"
            failures.append(f"{queue.lost:,} {what} lost in {name}.")
        if queue.corrupt:
            what = "messages" if queue.corrupt > 1 else "message"
            failures.append(f"{queue.corrupt:,} {what} in {name} did not have the right checksum.")
        if queue.duplicates_unflagged:
            failures.append(
                f"{name} delivered {queue.duplicates_unflagged:,} second copies as if they were "
                "the first, of messages that were sent once."
            )
        if queue.undecided:
            doubts.append(
                f"{queue.undecided:,} confirmed messages were not seen in {name}, and it is not "
                "proven that nothing is left in it."
            )
    return failures, doubts


def _judge_queue(outcomes: Sequence[Outcomes], queue: QueueEvidence) -> QueueVerdict:
    if queue.receipts is None:
        return _judge_by_count(outcomes, queue)
    tally = _tally(outcomes, queue.receipts)
    lost = tally.unseen if queue.drained else 0
    unchecked = _why_order_means_nothing(outcomes, queue, tally)
    return QueueVerdict(
        name=queue.name,
        judged_by="ledger",
        received=tally.received,
        unique=tally.unique,
        lost=lost,
        lost_ids=tuple(tally.unseen_ids) if lost else (),
        undecided=tally.unseen - lost,
        recovered=tally.recovered,
        duplicates_redelivered=tally.redelivered,
        duplicates_resent=tally.resent,
        duplicates_unflagged=tally.unflagged,
        corrupt=tally.corrupt,
        foreign=tally.foreign,
        reordered=None if unchecked else tally.inversions,
        order_unchecked=unchecked,
        left_in_queue=queue.left,
    )


def _tally(outcomes: Sequence[Outcomes], receipts: QueueReceipts) -> _Tally:
    tally = _Tally(foreign=receipts.foreign, corrupt=receipts.corrupt_nameless)
    ours = {ledger.source: ledger for ledger in outcomes}
    for source, stranger in receipts.by_source.items():
        if source not in ours:
            tally.foreign += _copies(stranger)
    for source, ledger in ours.items():
        got = receipts.by_source.get(source) or Receipts()
        seen = got.seen
        tally.foreign += len(seen - ledger.attempted)  # our run's name, and never sent
        mine = seen & ledger.attempted
        wanted = ledger.confirmed if ledger.confirms else ledger.attempted
        # What came damaged did come: it is corrupt, which is bad enough, and not lost.
        unseen = wanted - seen - got.corrupt
        tally.received += _copies(got)
        tally.unique += len(mine)
        tally.unseen += len(unseen)
        tally.recovered += len(mine - wanted)
        tally.corrupt += got.corrupt_copies
        again = got.fresh.extra(ledger.resent)
        tally.resent += again
        tally.unflagged += got.fresh.extra() - again
        tally.redelivered += got.duplicates() - got.fresh.extra()
        tally.inversions += got.inversions
        tally.again = tally.again or bool(got.redelivered.total) or bool(ledger.resent)
        room = LOST_IDS_SHOWN - len(tally.unseen_ids)
        tally.unseen_ids += [message_id(source, n) for n in _first(unseen, room)]
    tally.received += tally.foreign + receipts.corrupt_nameless
    return tally


def _copies(receipts: Receipts) -> int:
    return receipts.fresh.total + receipts.redelivered.total + receipts.corrupt_copies


def _first(numbers: BitMap, count: int) -> list[int]:
    return list(numbers[:count]) if numbers else []


def _judge_by_count(outcomes: Sequence[Outcomes], queue: QueueEvidence) -> QueueVerdict:
    """Judge a queue that nobody consumed by how many messages the broker counts in it."""
    confirmed = sum(len(led.confirmed if led.confirms else led.attempted) for led in outcomes)
    open_ends = any(led.resent or led.in_doubt or led.nacked for led in outcomes)
    left = queue.left
    lost = 0 if left is None else max(0, confirmed - left)
    certain = left is not None and (lost > 0 or (left == confirmed and not open_ends))
    return QueueVerdict(
        name=queue.name,
        judged_by="count",
        received=0,
        unique=0,
        lost=lost,
        lost_ids=(),
        undecided=0,
        recovered=0,
        duplicates_redelivered=0,
        duplicates_resent=0,
        duplicates_unflagged=0,
        corrupt=0,
        foreign=0,
        reordered=None,
        order_unchecked="nobody consumed this queue"
        + ("" if certain else "; its count alone does not decide"),
        left_in_queue=left,
    )


def _why_order_means_nothing(
    outcomes: Sequence[Outcomes], queue: QueueEvidence, tally: _Tally
) -> str | None:
    """Return why order was not promised here; None when it was."""
    if len(outcomes) != 1:
        return "several producers published at the same time"
    if queue.consumers != 1:
        return "several consumers shared the queue"
    if tally.again:
        return "messages were redelivered or sent again"
    return None
