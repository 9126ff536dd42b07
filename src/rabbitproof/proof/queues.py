"""What a run's files say of one of its queues: the evidence that is judged.

Pure: no I/O, no clock. Refuses to say when a count may be believed (``ends``) and to judge
(``verdict``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyroaring import BitMap

from rabbitproof.proof import ends, whole
from rabbitproof.proof import manifest as manifests
from rabbitproof.proof.evidence import Drop, QueueEvidence, limits, proves_drained
from rabbitproof.proof.ledger import QueueReceipts
from rabbitproof.proof.run import queues_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rabbitproof.identity import Source
    from rabbitproof.proof.ledger import Receipts
    from rabbitproof.proof.record import Record
    from rabbitproof.proof.run import Run


def evidence(run: Run, logical: str) -> QueueEvidence:
    """Return what the ledgers, and the manifest if there is one, say of a queue."""
    queue, manifest = run.queues[logical], run.manifest
    readers = run.readers(queue)
    receipts: QueueReceipts | None = None
    if readers:
        receipts = QueueReceipts()
        receipts.unite(one.receipts for one in readers if one.receipts is not None)
        for source, got in _refused(readers).by_source.items():
            # It had left the queue: who sees a further copy has it from somebody who sent it again.
            receipts.of(source).again |= got.seen
    common: dict[str, Any] = {
        "name": queue.name,
        "kind": queue.kind,
        "kind_known": queue.kind_known,
        "receipts": receipts,
        "unsaid": tuple(whole.who(one) for one in whole.unsaid(run, readers)),
        "limits": _limits(run, queue.name),
        "consumers": _at_once(readers),
        "unended": sum(map(_gave_back, readers)),
        "passes": max(1, sum(_connections(one) for one in readers)),
    }
    if manifest is not None:
        said = manifest.queues[logical]
        common |= {
            name: said[name]
            for name in ("consumers", "unended", "passes", "second", "unordered")
            if said.get(name) is not None
        }
        common["unended"] = max(common["unended"], sum(map(_gave_back, readers)))
        return QueueEvidence(
            left=said.get("left"),
            drained=bool(said.get("drained")),
            drops=(*manifests.drops(said, manifest.run), *rejected(readers)),
            **common,
        )
    common["drops"] = rejected(readers)
    last = ends.last_look(queue, run.producers, readers)
    # A count from before the end of it all says nothing about what is left now.
    left, second = (None, None) if last is None else ends.counts(queue, last, readers)
    return QueueEvidence(
        left=left,
        second=second,
        drained=bool(readers) and proves_drained(queue.kind, left, second),
        **common,
    )


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


def _limits(run: Run, name: str) -> tuple[str, ...]:
    """Return by what a queue may drop messages, as any participant knows it."""
    found: dict[str, None] = {}
    for one in run.everybody:
        for queue in queues_of(one):
            if queue.get("name") == name:
                effective = _object(queue.get("effective"))
                arguments = _object(effective.get("arguments", queue.get("arguments")))
                policy = _object(effective.get("policy_definition"))
                found |= dict.fromkeys(limits(arguments, policy))
    return tuple(found)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


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
    returned = one.end.get("returned")
    return (
        not one.ended
        or any(event.name == "lost" for event in one.events)
        or one.header.options.get("answer") == "requeue"
        or (isinstance(returned, int) and returned > 0)
    )


def _connections(one: Record) -> int:
    return sum(event.name == "connected" for event in one.events)
