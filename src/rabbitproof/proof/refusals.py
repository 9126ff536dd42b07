"""What consumers refused for good, and whether anybody else handled it.

A ledger has what came, not what became of it: a broker that was not heard of again may not have
heard the answer either.

Pure: no I/O, no clock. Refuses to judge (``verdict``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyroaring import BitMap

from rabbitproof.proof.ledger import QueueReceipts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rabbitproof.identity import Source
    from rabbitproof.proof.ledger import Receipts
    from rabbitproof.proof.record import Record


def refusals(
    readers: Sequence[Record], resent: Mapping[Source, BitMap], *, drained: bool
) -> tuple[QueueReceipts, QueueReceipts]:
    """Return what was surely refused and handled by nobody, and what perhaps was.

    That it was seen does not make it done; that somebody else acknowledged a copy does.
    ``resent``: what was sent more than once. ``drained``: the queue is proven empty, and nothing
    left it otherwise, so that nothing went back to it for good.
    """
    heard = [one for one in readers if drained or not _unheard(one)]
    others = [one for one in readers if one.header.options.get("answer") != "requeue"]
    surely = _less(refused(heard), (_taken(one, resent) for one in others))
    return surely, _less(refused(readers), [handled(readers), _sets(surely)])


def handled(readers: Sequence[Record]) -> dict[Source, BitMap]:
    """Return what came to those who surely gave nothing back, and was not refused by them."""
    out: dict[Source, BitMap] = {}
    for one in readers:
        for source, mine in ({} if gave_back(one) else _taken(one)).items():
            out[source] = out.get(source, BitMap()) | mine
    return out


def refused(readers: Iterable[Record]) -> QueueReceipts:
    """Return what any of these refused for good."""
    out = QueueReceipts()
    for one in readers:
        for source, got in (one.receipts.by_source if one.receipts else {}).items():
            out.of(source).add(_refused_by(one, got).to_array(), redelivered=False)
    return out


def gave_back(one: Record) -> bool:
    """Say whether the queue may have again what this consumer wrote down as seen.

    It was killed, or its connection ended before its last acknowledgement was handled; or it
    gives messages back, which is what it was asked to do, or what a window does with those that
    nobody answered.
    """
    return (
        _unheard(one)
        or one.header.options.get("answer") == "requeue"
        or (one.end is not None and one.end.returned > 0)
    )


def _unheard(one: Record) -> bool:
    """Say whether the broker may not have heard what this consumer answered last."""
    return one.end is None or any(event.name == "lost" for event in one.events)


def _refused_by(one: Record, got: Receipts) -> BitMap:
    """Return what one refused, of the messages of one producer."""
    return got.seen if one.header.options.get("answer") == "reject" else got.rejected


def _taken(one: Record, resent: Mapping[Source, BitMap] | None = None) -> dict[Source, BitMap]:
    """Return what one saw and did not refuse.

    With what was ``resent``, also what it perhaps took: it had two copies, of one that was sent
    again or two first ones, and a ledger does not tell which of them it refused.
    """
    found = one.receipts.by_source if one.receipts else {}
    out = {source: got.seen - _refused_by(one, got) for source, got in found.items()}
    if resent is None or one.header.options.get("answer") == "reject":
        return out
    for source, mine in out.items():
        got = found[source]
        again = got.again | resent.get(source, BitMap())
        out[source] = mine | got.fresh.twice | got.twice & again
    return out


def _sets(receipts: QueueReceipts) -> dict[Source, BitMap]:
    return {source: got.seen for source, got in receipts.by_source.items()}


def _less(receipts: QueueReceipts, others: Iterable[dict[Source, BitMap]]) -> QueueReceipts:
    """Return what is in there and in none of the others."""
    left = _sets(receipts)
    for other in others:
        left = {source: mine - other.get(source, BitMap()) for source, mine in left.items()}
    out = QueueReceipts()
    for source, mine in left.items():
        if mine:
            out.of(source).add(mine.to_array(), redelivered=False)
    return out
