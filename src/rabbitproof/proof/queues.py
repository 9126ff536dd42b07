"""What a run's files say of one of its queues: the evidence that is judged.

Pure: no I/O, no clock. Refuses to say when a count may be believed (``ends``) and to judge
(``verdict``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyroaring import BitMap

from rabbitproof.identity import Source
from rabbitproof.proof import ends, whole
from rabbitproof.proof.evidence import Drop, QueueEvidence, limits, proves_drained
from rabbitproof.proof.history import Dropped
from rabbitproof.proof.ledger import QueueReceipts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rabbitproof.proof.ledger import Receipts
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
        for source, got in _refused(readers).by_source.items():
            # It had left the queue: who sees a further copy has it from somebody who sent it again.
            receipts.of(source).again |= got.seen
    # A count from before the end of it all says nothing about what is left now.
    found = None if history is None else ends.told(queue, history)
    proves = found is not None or bool(readers)
    if found is None:
        last = ends.last_look(queue, run.producers, readers)
        found = (None, None) if last is None else ends.counts(queue, last)
    if queue.kind == "stream" and readers:  # reading takes nothing from it
        found = ends.unread(found[0], readers), ends.unread(found[1], readers)
    left, second = found
    unsaid = whole.unsaid(run, readers)
    return QueueEvidence(
        name=queue.name,
        kind=queue.kind,
        kind_known=queue.kind_known,
        receipts=receipts,
        left=left,
        second=second,
        drained=proves and proves_drained(queue.kind, left, second),
        drops=(*_dropped(run, queue.name), *rejected(readers)),
        unsaid=tuple(map(whole.who, unsaid)),
        unsaid_handle=any(one.header.options.get("answer") != "reject" for one in unsaid),
        limits=_limits(queue),
        consumers=_at_once(readers),
        unended=sum(map(_gave_back, readers)),
        passes=max(1, sum(_connections(one) for one in readers)),
        before=_before(run, queue),
    )


def _dropped(run: Run, name: str) -> Iterator[Drop]:
    """Yield what the history says was dropped from a queue, by name and by number."""
    for one in run.history.of(Dropped) if run.history else ():
        if one.queue != name:
            continue
        receipts = QueueReceipts(foreign=one.foreign)
        for producer, ranges in one.names.items():
            got = receipts.of(Source(run.id, producer))
            for first, last in ranges:
                got.add(range(first, last + 1), redelivered=False)
        if one.names or one.foreign:
            yield Drop(one.reason, receipts=receipts, evidence=one.evidence)
        if one.copies:
            yield Drop(one.reason, one.copies, evidence=one.evidence)


def _before(run: Run, queue: RunQueue) -> int:
    """Return what a queue held before the first publish, as far as anybody counted it."""
    if run.history is not None:
        return ends.held(queue, run.history, "producer") or 0
    said = (one.first or one.header for one in run.producers)
    counts = [
        each.messages or 0
        for one in said
        for each in one.topology.queues
        if each.name == queue.name
    ]
    return min(counts, default=0)


def rejected(readers: Sequence[Record]) -> tuple[Drop, ...]:
    """Return what consumers refused for good, of which nobody handled a copy.

    That it was seen does not make it done; that somebody else acknowledged a copy does.
    """
    handled: dict[Source, BitMap] = {}
    for one in readers:
        for source, got in (one.receipts.by_source if one.receipts else {}).items():
            again = one.header.options.get("answer") == "requeue"
            done = BitMap() if again else got.seen - _refused_by(one, got)
            handled[source] = handled.get(source, BitMap()) | done
    named = QueueReceipts()
    for source, got in _refused(readers).by_source.items():
        left = got.seen - handled[source]
        if left:
            named.of(source).add(left.to_array(), redelivered=False)
    return (Drop("rejected", receipts=named, dead=False),) if named.by_source else ()


def _refused(readers: Sequence[Record]) -> QueueReceipts:
    """Return what any of these refused for good."""
    refused = QueueReceipts()
    for one in readers:
        for source, got in (one.receipts.by_source if one.receipts else {}).items():
            refused.of(source).add(_refused_by(one, got).to_array(), redelivered=False)
    return refused


def _refused_by(one: Record, got: Receipts) -> BitMap:
    """Return what one refused, of the messages of one producer."""
    return got.seen if one.header.options.get("answer") == "reject" else got.rejected


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


def _gave_back(one: Record) -> bool:
    """Say whether the queue may have again what this consumer wrote down as seen.

    It was killed, or its connection ended before its last acknowledgement was handled; or it
    gives messages back, which is what it was asked to do, or what a window does with those that
    nobody answered.
    """
    return (
        one.end is None
        or any(event.name == "lost" for event in one.events)
        or one.header.options.get("answer") == "requeue"
        or one.end.returned > 0
    )


def _connections(one: Record) -> int:
    return sum(event.name == "connected" for event in one.events)
