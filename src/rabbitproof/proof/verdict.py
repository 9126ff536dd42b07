"""The verdict: all ledgers of a run and the broker's own counts, united and judged.

The question is asked for each queue by itself, because the broker answers each publish once for
all queues: a confirm does not say that *every* queue has a copy, when one of two bindings was
missing or a queue was deleted, and a nack does not say that none has.

Decided in this order:

1. FAIL when a confirmed message is lost, a message is corrupt, or something that the scenario
   claims did not hold. Three things every run claims: that no second copy of a message sent
   once came as if it were the first, that first copies kept their order where order is promised,
   and that no confirmed message was dropped for a reason that the scenario does not permit.
2. UNKNOWN when that could not be proven: a confirmed message was not seen in a queue that is
   not provably drained, the books do not balance, a ledger is missing
   or cut, a fault never fired, or
   nothing was confirmed at all.
3. PASS otherwise. Redelivered duplicates and copies of what was sent twice are counted and fail
   nothing: at least once is what a broker promises.

Pure: no I/O, no clock. Refuses to find things out (``trial``), to count (``books``) and to show
(``view``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pyroaring import BitMap

from rabbitproof.model import Decision, Verdict
from rabbitproof.proof.books import audit
from rabbitproof.proof.evidence import Gaps, QueueEvidence
from rabbitproof.proof.ledger import one_each

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from rabbitproof.model import QueueVerdict
    from rabbitproof.proof.ledger import Outcomes

_WENT: Final = {
    "expired": "expired",
    "maxlen": "{} dropped because the queue was full",
    "delivery_limit": "{} dropped at the delivery limit",
    "rejected": "{} rejected by a consumer",
    "purged": "{} purged",
}
"""Reason of a drop -> in words; {} is for "was" or "were"."""


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that a scenario promises, and whether it held."""

    text: str
    """A whole sentence that is true when it held."""
    held: bool | None
    """None: nobody knows."""
    found: str = ""
    """What was found instead, or why nobody knows: a whole sentence."""


def judge(
    outcomes: Sequence[Outcomes],
    queues: dict[str, QueueEvidence],
    claims: Sequence[Claim] = (),
    *,
    missing: Sequence[str] = (),
    gaps: Gaps = Gaps(),  # noqa: B008 - a frozen value
    unfired: Sequence[str] = (),
    permits: Collection[str] = (),
    others: bool = False,
) -> Verdict:
    """Return the verdict over a run.

    ``outcomes`` has the ledgers of all producers (several of one that was started again are
    united, in this order), ``queues`` the evidence by logical name. ``missing`` names
    participants whose ledger is missing, ``gaps`` says what else is not known, ``unfired`` names
    faults that never happened. ``permits`` are reasons for which the scenario allows confirmed
    messages to be dropped. ``others``: nobody says that all consumers kept a ledger.
    """
    ledgers = one_each(outcomes)
    ours = {ledger.source for ledger in ledgers}
    strangers = any(
        queue.receipts and (queue.receipts.foreign or queue.receipts.by_source.keys() - ours)
        for queue in queues.values()
    )
    cut = _unattempted(ledgers, queues)
    incomplete = bool(missing or gaps.consumers)
    strangers = strangers or bool(cut or gaps.producers)
    torn = bool(cut or gaps.resent)
    judged = {
        name: audit(ledgers, queue, incomplete=incomplete, strangers=strangers)
        for name, queue in queues.items()
    }
    word = "confirmed" if all(ledger.confirms for ledger in ledgers) else "sent"
    failures: list[str] = []
    doubts: list[str] = []
    notes: list[str] = []
    for name, queue in judged.items():
        failures += _failures(name, queue, word, others=others)
        # What is not in a ledger that is not whole may make these no faults.
        part = torn or incomplete
        (doubts if part else failures).extend(_as_if_first(name, queue, torn=part))
        open_end = incomplete or queues[name].unsaid_handle
        (doubts if open_end else failures).extend(
            _unhandled(name, queue, word, permits, torn=open_end, others=others)
        )
        unclear = 0 if "rejected" in permits else _unclear(ledgers, queues[name])
        open_ones = _open(
            name,
            queue,
            queues[name],
            word,
            incomplete=incomplete,
            unclear=unclear,
        )
        # What nobody read can't be decided by its count alone; that leaves the run as it is.
        (notes if _said_only(queue, queues[name]) else doubts).extend(open_ones)
        notes += _notes(name, queue, queues[name], word, permits)
    failures += [
        claim.found or f"This did not hold: {claim.text}" for claim in claims if claim.held is False
    ]
    doubts += [claim.found for claim in claims if claim.held is None]
    doubts += [f"The ledger of {name} is missing: what it saw is not known." for name in missing]
    doubts += dict.fromkeys((*cut, *gaps.producers, *gaps.consumers))
    for name in dict.fromkeys(unfired):
        doubts.append(f"The fault {name} never fired, so nothing was shown.")
    if not sum(len(ledger.wanted) for ledger in ledgers):
        doubts.append("Nothing was confirmed, so nothing was proven.")
    elif not any(_decided(queue) for queue in judged.values()):
        doubts.append("No queue was read and none is decided by its count, so nothing was proven.")
    open_or_fine = Decision.UNKNOWN if doubts else Decision.PASS
    return Verdict(
        decision=Decision.FAIL if failures else open_or_fine,
        reasons=tuple(failures + doubts),
        attempted=sum(len(ledger.attempted) for ledger in ledgers),
        confirmed=sum(len(ledger.confirmed) for ledger in ledgers),
        nacked=sum(len(ledger.nacked) for ledger in ledgers),
        returned=sum(len(ledger.returned) for ledger in ledgers),
        in_doubt=sum(len(ledger.in_doubt) for ledger in ledgers),
        queues=judged,
        notes=tuple(notes),
    )


def _unattempted(ledgers: Sequence[Outcomes], queues: dict[str, QueueEvidence]) -> list[str]:
    """Return whose ledgers lack frames, as whole sentences.

    A number is in the ledger before the connection gets it. So a whole message that came and
    whose number was never attempted proves that this is not all that its producer wrote.
    """
    out = []
    for ledger in ledgers:
        came = BitMap()
        for queue in queues.values():
            for receipts in (queue.receipts, *(drop.receipts for drop in queue.drops)):
                got = receipts and receipts.by_source.get(ledger.source)
                came |= (got.seen - ledger.attempted) if got else BitMap()
        if came:
            out.append(_lacks(ledger, came))
    return out


def _lacks(ledger: Outcomes, came: BitMap) -> str:
    last, high = max(ledger.attempted, default=0), came.max()
    what = f"ends at {last:,}, and {high:,} came" if high > last else f"lacks {high:,}, which came"
    more = f", and {len(came) - 1:,} more of such" if len(came) > 1 else ""
    return (
        f"The ledger of producer {ledger.source.producer} {what}{more}: it is not whole, and what "
        "it lacks may be lost; copy it again from the host that wrote it."
    )


def _messages(count: int, word: str = "") -> str:
    """Return "1 confirmed message was" or "3 confirmed messages were"."""
    what = f"{word} message".strip()
    return f"{count:,} {what}s were" if count != 1 else f"{count:,} {what} was"


def _failures(name: str, queue: QueueVerdict, word: str, *, others: bool) -> list[str]:
    """Return what makes a queue's verdict fail, whatever ledgers may lack."""
    out: list[str] = []
    if queue.lost:
        among = queue.lost_among
        what = f"{word} messages are" if queue.lost > 1 else f"{word} message is"
        which = "" if among == queue.lost else f", among the {among:,} that were not seen"
        taken = ", or taken by a consumer that kept no ledger" if others else ""
        out.append(f"{queue.lost:,} {what} lost in {name}{which}{taken}.")
    if queue.corrupt:
        what = "messages" if queue.corrupt > 1 else "message"
        out.append(f"{queue.corrupt:,} {what} in {name} did not have the right checksum.")
    return out


def _unhandled(
    name: str, queue: QueueVerdict, word: str, permits: Collection[str], *, torn: bool, others: bool
) -> Iterator[str]:
    """Yield what was dropped for a reason, and not handled by anybody whose ledger is here.

    ``torn``: there may be others. ``others``: or some that kept none.
    """
    taken = ", or a consumer that kept no ledger did" if others else ""
    who = "nobody whose ledger is all here" if torn else "nobody"
    for reason, count in queue.unhandled.items():
        if reason not in permits:
            what = "it" if count == 1 else "them"
            yield f"{_went(count, reason, word, name)}, and {who} handled {what}{taken}."


def _as_if_first(name: str, queue: QueueVerdict, *, torn: bool) -> Iterator[str]:
    """Yield what a queue delivered as if it were the first copy of what was sent once.

    ``torn``: a producer's ledger may lack that it was sent again.
    """
    doubt = ", as far as the files here tell" if torn else ""
    if queue.duplicates_unflagged:
        yield (
            f"{name} delivered {queue.duplicates_unflagged:,} second copies as if they were "
            f"the first, of messages that were sent once{doubt}."
        )
    if queue.reordered:
        yield (
            f"{_messages(queue.reordered)} delivered by {name} behind later ones of the same "
            f"producer{doubt}."
        )


def _went(count: int, reason: str, word: str, queue: str) -> str:
    what = f"{word} message" if count == 1 else f"{word} messages"
    how = _WENT.get(reason, "{} dropped (" + reason + ")")
    place = "from" if reason == "purged" else "in"
    return f"{count:,} {what} {how.format('was' if count == 1 else 'were')} {place} {queue}"


def _open(
    name: str,
    queue: QueueVerdict,
    evidence: QueueEvidence,
    word: str,
    *,
    incomplete: bool,
    unclear: int,
) -> list[str]:
    """Return what leaves a queue's verdict open.

    ``unclear``: wanted messages that were refused, and perhaps handled by somebody else.
    """
    out: list[str] = []
    books = queue.books
    if evidence.receipts is not None and books.left:
        out.append(
            f"{_messages(books.left, word)} not seen in {name}, which still holds as many: "
            "consume them, then judge again."
        )
    if books.undecided:
        if evidence.counted != 0:
            why = "it is not proven that nothing is left in it"
        elif incomplete:
            why = "may have been received by one whose ledger is not all here"
        elif evidence.unsaid:
            why = (
                f"the ledger of {' and that of '.join(evidence.unsaid)} has no end: nobody says "
                "that all it received is in there"
            )
        elif evidence.unexplained:
            why = (
                f"it has {' and '.join(evidence.unexplained)}, by which the broker may have "
                "dropped them: look among its dead letters, if it has a place for them"
            )
        else:
            why = "what was dropped from it is known by number only"
        seen = "not seen" if evidence.receipts is not None else "only counted"
        out.append(f"{_messages(books.undecided, word)} {seen} in {name}, and {why}.")
    if unclear:
        out.append(
            f"{_messages(unclear, word)} rejected by a consumer in {name}; it or another one that "
            "had a copy may have given that back, so nobody says what became of it."
        )
    if books.residue < 0:
        out.append(
            f"The books of {name} do not balance: {-books.residue:,} more copies were counted in "
            "it than there are messages that could explain them."
        )
    return out


def _unclear(ledgers: Sequence[Outcomes], evidence: QueueEvidence) -> int:
    """Return how many were refused that another consumer had, and may have given back."""
    refused = evidence.unclear.by_source if evidence.unclear else {}
    return sum(
        len(refused[one.source].seen & one.wanted) for one in ledgers if one.source in refused
    )


def _said_only(queue: QueueVerdict, evidence: QueueEvidence) -> bool:
    """Say whether what is open in this queue does not leave the run open."""
    return queue.judged_by == "count" and evidence.counted is not None


def _decided(queue: QueueVerdict) -> bool:
    return queue.judged_by == "ledger" or not queue.books.undecided


def _notes(
    name: str, queue: QueueVerdict, evidence: QueueEvidence, word: str, permits: Collection[str]
) -> list[str]:
    """Return what has to be said of a queue and decides nothing."""
    out = [
        f"{_went(count, reason, word, name)}, which this scenario permits."
        for reason, count in queue.unhandled.items()
        if reason in permits
    ]
    if evidence.unsaid:
        out.append(
            f"The ledger of {' and that of '.join(evidence.unsaid)} has no end, and nobody says "
            f"that it is whole: copies and damage in {name} are counted as far as it goes."
        )
    return out
