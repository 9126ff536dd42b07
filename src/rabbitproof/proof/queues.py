"""What a run's files say of one of its queues: the evidence that is judged.

Pure: no I/O, no clock. Refuses to say when a count may be believed (``ends``) and to judge
(``verdict``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rabbitproof.identity import Source
from rabbitproof.proof import ends, whole
from rabbitproof.proof.evidence import TIMED, Drop, QueueEvidence, limits, proves_drained
from rabbitproof.proof.history import Counted, Dropped
from rabbitproof.proof.ledger import QueueReceipts, one_each
from rabbitproof.proof.refusals import gave_back, handled, refusals, refused

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rabbitproof.proof.history import History
    from rabbitproof.proof.record import Record
    from rabbitproof.proof.run import Run, RunQueue


def evidence(run: Run, logical: str) -> QueueEvidence:
    """Return what the files say of a queue."""
    queue, history = run.queues[logical], run.history
    readers = run.readers(queue)
    receipts: QueueReceipts | None = None
    if readers:
        receipts = QueueReceipts()
        receipts.unite(one.receipts for one in readers if one.receipts is not None)
        for source, got in refused(readers).by_source.items():
            # It had left the queue: who sees a further copy has it from somebody who sent it again.
            receipts.of(source).again |= got.seen
    # A count from before the end of it all says nothing about what is left now.
    if history is not None and whole.all_told([*run.producers, *readers], history):
        found = ends.told(queue, history)  # by the order of its entries, whatever clocks say
        proves = found is not None
    else:
        last = ends.last_look(queue, run.producers, readers)
        found = None if last is None else ends.counts(queue, last)
        proves = bool(readers)
    found = found or (None, None)
    if queue.kind == "stream" and readers:  # reading takes nothing from it
        found = ends.unread(found[0], readers), ends.unread(found[1], readers)
    left, second = found
    drained = proves and proves_drained(queue.kind, left, second)
    sent = [one.outcomes for one in run.producers if one.outcomes is not None]
    resent = {one.source: one.resent for one in one_each(sent)}
    dropped, may_drop = tuple(_dropped(run, queue)), _limits(queue)
    emptied = bool(may_drop) or any(one.reason != "rejected" for one in dropped)
    surely, perhaps = refusals(readers, resent, drained=drained and not emptied)
    unsaid = whole.unsaid(run, readers)
    return QueueEvidence(
        name=queue.name,
        kind=queue.kind,
        kind_known=queue.kind_known,
        receipts=receipts,
        left=left,
        second=second,
        drained=drained,
        drops=(
            *dropped,
            *([Drop("rejected", receipts=surely, dead=False)] if surely.by_source else ()),
        ),
        unclear=perhaps,
        handled=handled(readers),
        unsaid=tuple(map(whole.who, unsaid)),
        unsaid_handle=any(one.header.options.get("answer") != "reject" for one in unsaid),
        limits=may_drop,
        consumers=_at_once(readers),
        unended=sum(map(gave_back, readers)),
        passes=max(1, sum(_connections(one) for one in readers)),
        before=_before(run, queue),
    )


def _dropped(run: Run, queue: RunQueue) -> Iterator[Drop]:
    """Yield what the history says was dropped from a queue, by name and by number."""
    history = run.history
    over = 0 if history is None else _final(queue, history)
    for place, one in enumerate(history.entries if history else ()):
        if not isinstance(one, Dropped) or one.queue != queue.name:
            continue
        final = place >= over
        receipts = QueueReceipts(foreign=one.foreign)
        for producer, ranges in one.names.items():
            got = receipts.of(Source(run.id, producer))
            for first, last in ranges:
                got.add(range(first, last + 1), redelivered=False)
        if one.names or one.foreign:
            yield Drop(one.reason, receipts=receipts, evidence=one.evidence, final=final)
        if one.copies:
            yield Drop(one.reason, one.copies, evidence=one.evidence, final=final)


def _final(queue: RunQueue, history: History) -> int:
    """Return from which entry on nothing more can be dropped that would be missed.

    All have ended; and where some may go by themselves, it was counted before that was read.
    """
    over = ends.all_gone(queue, history)
    if not any(one.removeprefix("x-") in TIMED for one in _limits(queue)):
        return over
    counts = [
        place
        for place, one in enumerate(history.entries)
        if isinstance(one, Counted) and one.queue == queue.name
    ]
    return max(over, *counts[-1:], 0)


def _before(run: Run, queue: RunQueue) -> int | None:
    """Return what a queue held before the first publish; None where nobody counted it."""
    if run.history is not None:
        return ends.held(queue, run.history, "producer")
    said = (one.first or one.header for one in run.producers)
    counts = [
        each.messages for one in said for each in one.topology.queues if each.name == queue.name
    ]
    known = [count for count in counts if count is not None]
    return min(known) if known and len(known) == len(counts) else None


def _limits(queue: RunQueue) -> tuple[str, ...]:
    """Return by what a queue may drop messages, as anybody knows it."""
    found: dict[str, None] = {}
    for _, each in queue.described:
        effective = each.effective
        arguments = each.arguments if effective is None else effective.arguments or each.arguments
        policy = effective.policy_definition if effective is not None else None
        found |= dict.fromkeys(limits(arguments, policy or {}))
    return tuple(found)


def _at_once(readers: Sequence[Record]) -> int:
    """Return how many of these consumed at the same time, at most.

    One without an end may have gone on for any time.
    """
    edges = sorted(
        [((one.first or one.header).started_ns, 1) for one in readers]
        + [(one.last_ns, -1) for one in readers if one.ended]
    )
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


def _connections(one: Record) -> int:
    return sum(event.name == "connected" for event in one.events)
