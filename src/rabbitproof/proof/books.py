"""The books of one queue: every message that it should have had is in exactly one place.

A message was seen, came damaged, was dropped for a known reason, is still there, is lost, or
nobody can tell. What consumers wrote down names each message. What the broker counts names none:
a count explains an unseen message only when no other copy can be what was counted (a second copy
of something resent, a requeued copy of something seen, something in doubt or foreign). Where one
can, the message stays undecided. (That a broker makes a copy of its own and then loses just that
is not allowed for: no count could tell.)

Pure: no I/O, no clock. Works on sets, never message by message, so that a million lost messages
cost what ten do. Refuses to decide what fails a run (``verdict``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pyroaring import BitMap

from rabbitproof.identity import message_id
from rabbitproof.model import Books, QueueVerdict
from rabbitproof.proof.evidence import REFUSED
from rabbitproof.proof.ledger import Receipts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rabbitproof.identity import Source
    from rabbitproof.proof.evidence import QueueEvidence
    from rabbitproof.proof.ledger import Outcomes, QueueReceipts

LOST_IDS_SHOWN: Final = 1_000
"""Message ids in a verdict; the whole list may have millions."""


@dataclass(slots=True)
class _Tally:
    """Sums over the producers, for one queue."""

    wanted: int = 0
    seen: int = 0
    damaged: int = 0
    received: int = 0
    unique: int = 0
    recovered: int = 0
    nacked_delivered: int = 0
    returned_delivered: int = 0
    redelivered: int = 0
    resent: int = 0
    unflagged: int = 0
    corrupt: int = 0
    foreign: int = 0
    reordered: int = 0
    named: int = 0
    """Wanted and unseen, and found among what was dropped."""
    unhandled: dict[str, int] = field(default_factory=dict)
    """Reason -> wanted messages dropped by name that were not seen, or refused."""
    head: int = 0
    middle: int = 0
    tail: int = 0
    unseen: int = 0
    """Wanted, and neither seen nor dropped by name."""
    others: int = 0
    """Messages that are not wanted and were not seen, each of which may have a copy here: of this
    run, or there before it."""
    copies_unknown: bool = False
    """There may be any number of copies that are no first copies."""
    first_ids: list[str] = field(default_factory=list)


def audit(
    outcomes: Sequence[Outcomes],
    queue: QueueEvidence,
    *,
    incomplete: bool = False,
    strangers: bool = False,
) -> QueueVerdict:
    """Return the books of one queue and all that was counted in it.

    ``outcomes`` has one ledger for each producer. ``incomplete``: a participant's ledger is
    missing, so that what nobody saw may have been seen by that one. ``strangers``: foreign
    messages were published as well.
    """
    receipts = queue.receipts
    tally = _tally(outcomes, queue)
    tally.copies_unknown = tally.copies_unknown or strangers or queue.unended > 0
    tally.others += queue.before or 0
    by_number = receipts is None or any(drop.count for drop in queue.drops)
    if queue.before is None and by_number:
        tally.copies_unknown = True
    books = _balance(tally, queue, incomplete=incomplete or bool(queue.unsaid))
    exact = books.lost == tally.unseen
    unchecked = _why_order_means_nothing(queue)
    dropped: dict[str, int] = {}
    dead_lettered = 0
    unhandled = dict(tally.unhandled)
    by_count = books.dropped - tally.named
    for drop in queue.drops:
        found = _copies_of(outcomes, drop.receipts)
        dropped[drop.reason] = dropped.get(drop.reason, 0) + drop.count + found
        dead_lettered += found if drop.dead else 0
        nobody_had = drop.count
        if drop.reason not in REFUSED:
            nobody_had = min(drop.count, by_count)
            by_count -= nobody_had
        unhandled[drop.reason] = unhandled.get(drop.reason, 0) + nobody_had
    return QueueVerdict(
        name=queue.name,
        judged_by="count" if receipts is None else "ledger",
        received=tally.received,
        unique=tally.unique,
        lost=books.lost,
        lost_ids=tuple(tally.first_ids) if exact and books.lost else (),
        undecided=books.undecided,
        recovered=tally.recovered,
        duplicates_redelivered=tally.redelivered,
        duplicates_resent=tally.resent,
        duplicates_unflagged=tally.unflagged,
        corrupt=tally.corrupt,
        foreign=tally.foreign,
        reordered=None if unchecked else tally.reordered,
        order_unchecked=unchecked,
        left_in_queue=queue.left,
        lost_head=tally.head if exact else 0,
        lost_middle=tally.middle if exact else 0,
        lost_tail=tally.tail if exact else 0,
        nacked_delivered=tally.nacked_delivered,
        returned_delivered=tally.returned_delivered,
        dropped={reason: copies for reason, copies in dropped.items() if copies},
        residue=books.residue,
        lost_among=tally.unseen if books.lost else 0,
        dead_lettered=dead_lettered,
        unhandled={reason: messages for reason, messages in unhandled.items() if messages},
        books=books,
    )


def lost_ids(outcomes: Sequence[Outcomes], queue: QueueEvidence) -> Iterator[str]:
    """Yield the message ids of all that was wanted here and is neither seen nor dropped by name.

    In order of producer and number. These are the lost ones where the verdict says that exactly
    so many are lost; they are those among which the lost ones are where it says fewer.
    """
    named = _dropped_by_name(queue)
    for ledger in outcomes:
        unseen = _unseen(ledger, _received(queue, ledger.source), named.get(ledger.source))
        for n in unseen:
            yield message_id(ledger.source, n)


def _received(queue: QueueEvidence, source: Source) -> Receipts:
    found = None if queue.receipts is None else queue.receipts.by_source.get(source)
    return Receipts() if found is None else found


def _dropped_by_name(queue: QueueEvidence) -> dict[Source, BitMap]:
    """Return what was found among the dropped, whatever the reason."""
    out: dict[Source, BitMap] = {}
    for drop in queue.drops:
        if drop.receipts is not None:
            for source, got in drop.receipts.by_source.items():
                out[source] = out.get(source, BitMap()) | got.known
    return out


def _copies_of(outcomes: Sequence[Outcomes], receipts: QueueReceipts | None) -> int:
    """Return how many copies of these producers' messages, whole or damaged, are in there."""
    if receipts is None:
        return 0
    ours = {ledger.source for ledger in outcomes}
    return sum(_copies(got) for source, got in receipts.by_source.items() if source in ours)


def _copies(got: Receipts) -> int:
    return got.fresh.total + got.redelivered.total + got.corrupt_copies


def _unseen(ledger: Outcomes, got: Receipts, named: BitMap | None) -> BitMap:
    # What came damaged did come: it is corrupt, which is bad enough, and not lost.
    unseen = ledger.wanted - got.seen - got.corrupt
    return unseen if named is None else unseen - named


def _tally(outcomes: Sequence[Outcomes], queue: QueueEvidence) -> _Tally:
    tally = _Tally()
    named = _dropped_by_name(queue)
    passes = queue.passes if queue.kind == "stream" or not queue.kind_known else 1
    for drop in queue.drops:
        if drop.receipts is not None:
            tally.corrupt += drop.receipts.corrupt
    if queue.receipts is not None:
        _count_strangers(tally, queue.receipts, {ledger.source for ledger in outcomes})
    for ledger in outcomes:
        got = _received(queue, ledger.source)
        _count_messages(tally, ledger, got, named.get(ledger.source, BitMap()), queue)
        _count_copies(tally, ledger, got, passes)
    return tally


def _count_strangers(tally: _Tally, receipts: QueueReceipts, ours: set[Source]) -> None:
    """Count what is not of these producers. Damaged is damaged, whoever it claims to be from."""
    tally.foreign += receipts.foreign
    tally.corrupt += receipts.corrupt_nameless
    tally.received += receipts.foreign + receipts.corrupt_nameless
    for source, got in receipts.by_source.items():
        if source not in ours:
            tally.foreign += got.fresh.total + got.redelivered.total
            tally.corrupt += got.corrupt_copies
            tally.received += _copies(got)


def _count_messages(
    tally: _Tally, ledger: Outcomes, got: Receipts, named: BitMap, queue: QueueEvidence
) -> None:
    """Count each message of one producer once."""
    wanted, seen = ledger.wanted, got.seen
    mine = seen & ledger.attempted
    open_ones = ledger.attempted - wanted
    recovered = mine & open_ones
    unseen = _unseen(ledger, got, named)
    tally.wanted += len(wanted)
    tally.seen += len(wanted & seen)
    tally.damaged += len((wanted & got.corrupt) - seen)
    tally.named += len((wanted & named) - seen - got.corrupt)
    tally.unseen += len(unseen)
    tally.others += len(open_ones - ledger.returned - seen - got.corrupt - named)
    tally.unique += len(mine)
    tally.recovered += len(recovered)
    if ledger.confirms:
        tally.nacked_delivered += len(recovered & ledger.nacked)
    tally.returned_delivered += len(recovered & ledger.returned)
    gone: dict[str, BitMap] = {}
    for drop in queue.drops:  # of which one reason may have several, with copies of one message
        found = drop.receipts and drop.receipts.by_source.get(ledger.source)
        if found:
            gone[drop.reason] = gone.get(drop.reason, BitMap()) | (found.known & wanted)
    for reason, messages in gone.items():
        done = seen | got.corrupt
        if reason in REFUSED:  # of what was seen, another copy was handled
            done = queue.handled.get(ledger.source, BitMap())
        nobodys = messages - done
        tally.unhandled[reason] = tally.unhandled.get(reason, 0) + len(nobodys)
    _split(tally, unseen, mine)
    room = LOST_IDS_SHOWN - len(tally.first_ids)
    if room > 0 and unseen:
        tally.first_ids += [message_id(ledger.source, n) for n in unseen[:room]]


def _split(tally: _Tally, unseen: BitMap, seen: BitMap) -> None:
    """Say how many of these are before the first that was seen, and how many behind the last.

    Where nothing was seen, everything is head: it ends with the first that was seen.
    """
    if not unseen:
        return
    if not seen:
        tally.head += len(unseen)
        return
    head = unseen.rank(seen.min())
    tail = len(unseen) - unseen.rank(seen.max())
    tally.head += head
    tally.tail += tail
    tally.middle += len(unseen) - head - tail


def _count_copies(tally: _Tally, ledger: Outcomes, got: Receipts, passes: int) -> None:
    """Count each copy that came of one producer's messages."""
    resent = ledger.resent | got.again  # by their producer, or by somebody else
    once = ledger.attempted - resent
    tally.received += _copies(got)
    tally.corrupt += got.corrupt_copies
    tally.resent += got.fresh.extra(resent & ledger.attempted, free=passes)
    tally.unflagged += got.fresh.extra(once, free=passes)
    flagged = got.redelivered
    both = (got.fresh.once & flagged.once).intersection_cardinality(ledger.attempted)
    tally.redelivered += flagged.extra(ledger.attempted) + both
    of_ours = got.fresh.extra(ledger.attempted, free=0) + flagged.extra(ledger.attempted, free=0)
    tally.foreign += got.fresh.total + flagged.total - of_ours  # our run's name, and never sent
    tally.reordered += len(got.behind & once)
    if resent or flagged.total:
        tally.copies_unknown = True


def _balance(tally: _Tally, queue: QueueEvidence, *, incomplete: bool) -> Books:
    """Explain what was not seen by the broker's counts, as far as they go."""
    unseen = tally.unseen
    gone = sum(drop.count for drop in queue.drops if drop.reason not in REFUSED)
    refused = sum(drop.count for drop in queue.drops if drop.reason in REFUSED)
    counted = queue.counted
    held = unseen if counted is None else counted
    lost = 0 if incomplete or queue.unexplained else max(0, unseen - held - gone - refused)
    dropped = left = residue = 0
    if not (tally.copies_unknown or tally.foreign or incomplete):
        # Of the copies that were counted, at most ``others`` are not of unseen messages.
        dropped = min(unseen - lost, max(0, gone - tally.others))
        left = min(unseen - lost - dropped, max(0, (counted or 0) - tally.others))
        residue = min(0, unseen + tally.others - gone - (counted or 0))
        if residue:
            # There are copies that nothing explains, so any of those counted may be one.
            dropped, left = 0, 0 if queue.receipts is None else left
    return Books(
        wanted=tally.wanted,
        seen=tally.seen,
        damaged=tally.damaged,
        dropped=tally.named + dropped,
        left=left,
        lost=lost,
        undecided=unseen - lost - dropped - left,
        residue=residue,
    )


def _why_order_means_nothing(queue: QueueEvidence) -> str | None:
    """Return why order was not promised here; None when it was.

    It is promised to each producer, which has one channel at a time, and one consumer.
    """
    if queue.receipts is None:
        return "nobody consumed this queue"
    if queue.consumers > 1:
        return "several consumers shared the queue"
    if queue.consumers < 1:
        return "it is not known how many consumers shared the queue"
    return None
