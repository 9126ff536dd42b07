from __future__ import annotations

import time
import tracemalloc
from dataclasses import replace
from itertools import islice
from typing import Any

import pytest

from rabbitproof.identity import Source, message_id
from rabbitproof.model import Decision
from rabbitproof.proof.books import lost_ids
from rabbitproof.proof.evidence import Drop, QueueEvidence, proves_drained
from rabbitproof.proof.ledger import Outcomes, QueueReceipts
from rabbitproof.proof.verdict import Claim, judge

ONE, TWO = Source("0a1b2c3d4e5f", 1), Source("0a1b2c3d4e5f", 2)


def sent(count: int = 10, source: Source = ONE, *, confirmed: bool = True) -> Outcomes:
    outcomes = Outcomes(source)
    outcomes.attempt(range(1, count + 1))
    if confirmed:
        outcomes.confirm(range(1, count + 1))
    return outcomes


def got(*numbers: int, source: Source = ONE) -> QueueReceipts:
    receipts = QueueReceipts()
    receipts.of(source).add(numbers, redelivered=False)
    return receipts


def queue(receipts: QueueReceipts | None, left: int | None = 0, **known: Any) -> QueueEvidence:
    known = {"kind": "classic", "drained": left == 0, "consumers": 1} | known
    return QueueEvidence("q", receipts=receipts, left=left, **known)


ALL = tuple(range(1, 11))
MOST = tuple(range(1, 10))


# --- when a queue is proven empty -------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "left", "second", "proven"),
    [
        ("classic", 0, None, True), ("classic", 1, 0, False), ("classic", None, 0, False),
        ("quorum", 0, None, False), ("quorum", 0, 0, True), ("quorum", 0, 3, False),
        ("stream", 0, None, False), ("stream", 0, 0, True),
    ],
)  # fmt: skip
def test_when_counts_prove_that_a_queue_is_empty(
    kind: Any, left: int | None, second: int | None, proven: bool
) -> None:
    """A queue with replicas may answer 0 wrongly, so a second source has to agree."""
    assert proves_drained(kind, left, second) is proven


@pytest.mark.parametrize("kind", ["quorum", "stream"])
@pytest.mark.parametrize("second", [None, 1, 0])
def test_a_zero_that_nobody_confirms_loses_nothing(kind: Any, second: int | None) -> None:
    """One unseen message of such a queue is undecided until a second source agrees."""
    evidence = queue(got(*MOST), kind=kind, drained=proves_drained(kind, 0, second), second=second)
    verdict = judge([sent()], {"q": evidence})
    if second == 0:
        assert (verdict.decision, verdict.queues["q"].lost) == (Decision.FAIL, 1)
    else:
        assert (verdict.decision, verdict.queues["q"].undecided) == (Decision.UNKNOWN, 1)
        assert "not proven" in verdict.reasons[0]


@pytest.mark.parametrize("kind", ["classic", "quorum", "stream"])
def test_what_was_seen_needs_no_proof_of_a_drain(kind: Any) -> None:
    """Nothing is missing, so it does not matter what an empty queue says of itself."""
    assert judge([sent()], {"q": queue(got(*ALL), None, kind=kind)}).decision is Decision.PASS
    unsure = queue(got(*ALL), 0, kind=kind, drained=False)
    assert judge([sent()], {"q": unsure}).decision is Decision.PASS


# --- a queue that nobody consumed -------------------------------------------------------------


def counted(left: int | None, **known: Any) -> dict[str, QueueEvidence]:
    return {"work": queue(got(*ALL)), "audit": queue(None, left, drained=False, **known)}


def test_a_count_as_high_as_what_was_confirmed_is_as_good_as_seen() -> None:
    """With nothing that could have put another copy there."""
    verdict = judge([sent()], counted(10))
    audit = verdict.queues["audit"]
    assert (verdict.decision, verdict.notes) == (Decision.PASS, ())
    assert (audit.judged_by, audit.lost, audit.books.left) == ("count", 0, 10)


def test_a_count_that_is_too_low_is_a_loss() -> None:
    """However little else is known; which messages, nobody can say."""
    verdict = judge([sent()], counted(7))
    audit = verdict.queues["audit"]
    assert verdict.decision is Decision.FAIL
    assert (audit.lost, audit.lost_among, audit.lost_ids) == (3, 10, ())


@pytest.mark.parametrize("odd", ["resent", "in doubt", "foreign", "too many"])
def test_a_count_that_does_not_decide_is_said_and_decides_nothing(odd: str) -> None:
    """The other queue decides the run."""
    outcomes, queues = sent(), counted(11 if odd == "too many" else 10)
    if odd == "resent":
        outcomes.attempt([3], again=True)
    elif odd == "in doubt":
        outcomes.attempt([11])
    elif odd == "foreign":
        receipts = queues["work"].receipts
        assert receipts is not None
        receipts.foreign = 1
    verdict = judge([outcomes], queues)
    assert (verdict.decision, verdict.reasons) == (Decision.PASS, ())
    assert verdict.queues["audit"].lost == 0
    assert any("audit" in note for note in verdict.notes)


@pytest.mark.parametrize("evidence", [counted(None), counted(0, kind="quorum")])
def test_no_count_at_all_is_unknown(evidence: dict[str, QueueEvidence]) -> None:
    """Neither a count that nobody could ask for, nor a 0 of a queue with replicas."""
    verdict = judge([sent()], evidence)
    assert verdict.decision is Decision.UNKNOWN
    assert verdict.queues["audit"].undecided == 10


def test_counts_that_decide_nothing_prove_nothing() -> None:
    """When no queue was read, there is nothing that could decide."""
    outcomes = sent()
    outcomes.attempt([3], again=True)
    verdict = judge([outcomes], {"q": queue(None, 10, drained=False)})
    assert verdict.decision is Decision.UNKNOWN
    assert judge([outcomes], {}).decision is Decision.UNKNOWN


# --- who took part ----------------------------------------------------------------------------


def test_with_a_ledger_missing_nothing_is_called_lost() -> None:
    """It may be in there; but what is corrupt is corrupt."""
    evidence = queue(got(*MOST))
    verdict = judge([sent()], {"q": evidence}, missing=["Worker-2"])
    assert (verdict.decision, verdict.queues["q"].lost) == (Decision.UNKNOWN, 0)
    assert any("Worker-2" in reason for reason in verdict.reasons)
    assert evidence.receipts is not None
    evidence.receipts.of(ONE).add_corrupt(3)
    assert judge([sent()], {"q": evidence}, missing=["Worker-2"]).decision is Decision.FAIL


def test_where_nobody_knows_who_took_part_the_reason_says_so() -> None:
    """A consumer without a ledger may have it."""
    (reason,) = judge([sent()], {"q": queue(got(*MOST))}, others=True).reasons
    assert reason == (
        "1 confirmed message is lost in q, or taken by a consumer that kept no ledger."
    )


def test_a_fault_that_never_fired_leaves_it_open() -> None:
    """Nothing was shown; a loss is a loss all the same."""
    fine, bad = queue(got(*ALL)), queue(got(*MOST))
    assert judge([sent()], {"q": fine}, unfired=["broker-kill"]).decision is Decision.UNKNOWN
    assert len(judge([sent()], {"q": fine}, unfired=["connection-cut"] * 3).reasons) == 1
    assert judge([sent()], {"q": bad}, unfired=["broker-kill"]).decision is Decision.FAIL


def test_a_producer_that_was_started_again_is_one_producer() -> None:
    """What both sessions sent was sent twice, so a second copy breaks no promise."""
    first, second = sent(6, confirmed=False), Outcomes(ONE)
    first.confirm(range(1, 4))
    second.attempt(range(4, 11))
    second.confirm(range(4, 11))
    receipts = got(*ALL)
    receipts.of(ONE).add([4, 5], redelivered=False)
    verdict = judge([first, second], {"q": queue(receipts)})
    found = verdict.queues["q"]
    assert verdict.decision is Decision.PASS
    assert (verdict.attempted, verdict.confirmed) == (10, 10)
    assert (found.duplicates_resent, found.duplicates_unflagged) == (2, 0)
    assert len(first.attempted) == 6  # ledgers stay as they are


def test_each_producer_has_its_own_order_and_its_own_ends() -> None:
    """Interleaved is not out of order; head and tail are those of the producer."""
    receipts = QueueReceipts()
    for n in (2, 3, 5):
        receipts.of(ONE).add([n], redelivered=False)
        receipts.of(TWO).add([n - 1], redelivered=False)
    verdict = judge([sent(5), sent(4, TWO)], {"q": queue(receipts)})
    found = verdict.queues["q"]
    assert found.reordered == 0
    assert (found.lost_head, found.lost_middle, found.lost_tail) == (1, 2, 0)
    assert found.lost_ids == (message_id(ONE, 1), message_id(ONE, 4), message_id(TWO, 3))


# --- order ------------------------------------------------------------------------------------


def test_what_was_redelivered_or_sent_again_may_come_late() -> None:
    """Only first unflagged copies of what was sent once have an order."""
    outcomes, receipts = sent(), got(1, 2, 3, 7, 8, 9, 10)
    outcomes.attempt([4], again=True)
    outcomes.confirm([4])
    receipts.of(ONE).add([4], redelivered=False)
    receipts.of(ONE).add([5, 6], redelivered=True)
    assert judge([outcomes], {"q": queue(receipts)}).queues["q"].reordered == 0
    late = got(*range(2, 11), 1)
    verdict = judge([sent()], {"q": queue(late)})
    assert (verdict.decision, verdict.queues["q"].reordered) == (Decision.FAIL, 1)


@pytest.mark.parametrize(
    ("known", "why"),
    [
        ({"consumers": 2}, "several consumers shared the queue"),
        ({"consumers": 0}, "it is not known how many consumers shared the queue"),
    ],
)
def test_where_no_order_is_promised_the_reason_stands_instead(
    known: dict[str, Any], why: str
) -> None:
    """And nothing fails."""
    verdict = judge([sent()], {"q": queue(got(*range(2, 11), 1), **known)})
    found = verdict.queues["q"]
    assert (verdict.decision, found.reordered) == (Decision.PASS, None)
    assert found.order_unchecked == why


# --- streams ----------------------------------------------------------------------------------


def test_a_stream_read_twice_has_no_duplicates() -> None:
    """But a message that came oftener than it was read is one."""
    receipts = got(*ALL)
    receipts.unite([got(*ALL)])
    twice = queue(receipts, kind="stream", passes=2)
    verdict = judge([sent()], {"q": twice})
    assert (verdict.decision, verdict.queues["q"].received) == (Decision.PASS, 20)
    receipts.of(ONE).add([4], redelivered=False)
    verdict = judge([sent()], {"q": twice})
    assert (verdict.decision, verdict.queues["q"].duplicates_unflagged) == (Decision.FAIL, 1)
    assert judge([sent()], {"q": replace(twice, kind="classic")}).queues[
        "q"
    ].duplicates_unflagged == 11  # fmt: skip


# --- what is dropped --------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["expired", "maxlen", "purged"])
@pytest.mark.parametrize("named", [True, False])
def test_a_drop_is_no_loss_and_fails_unless_it_is_permitted(reason: str, named: bool) -> None:
    """By name or by number."""
    drop = Drop(reason, receipts=got(10)) if named else Drop(reason, count=1)
    evidence = {"q": queue(got(*MOST), drops=(drop,))}
    verdict = judge([sent()], evidence)
    found = verdict.queues["q"]
    assert (verdict.decision, found.lost) == (Decision.FAIL, 0)
    assert found.dropped == found.unhandled == {reason: 1}
    assert found.dead_lettered == (1 if named else 0)
    verdict = judge([sent()], evidence, permits={reason})
    assert (verdict.decision, verdict.reasons) == (Decision.PASS, ())
    assert any("permits" in note for note in verdict.notes)


@pytest.mark.parametrize("why", ["redelivered", "unended", "resent", "in doubt", "foreign"])
def test_a_count_excuses_nothing_where_it_may_be_of_other_copies(why: str) -> None:
    """Two purged copies may be of the message that is missing, or not."""
    outcomes, receipts = sent(), got(*MOST)
    unended = 0
    if why == "redelivered":
        receipts.of(ONE).add([5], redelivered=True)
    elif why == "unended":
        unended = 1
    elif why == "resent":
        outcomes.attempt([5], again=True)
    elif why == "in doubt":
        outcomes.attempt([11, 12])
    else:
        receipts.foreign = 1
    evidence = queue(receipts, drops=(Drop("purged", count=1),), unended=unended)
    verdict = judge([outcomes], {"q": evidence}, permits={"purged"})
    found = verdict.queues["q"]
    assert (verdict.decision, found.lost, found.undecided) == (Decision.UNKNOWN, 0, 1)
    assert "by number only" in verdict.reasons[0]


def test_what_is_missing_beyond_all_counts_is_lost_in_any_case() -> None:
    """Three are missing and two were counted, of whatever they were."""
    receipts = got(*range(1, 8))
    receipts.of(ONE).add([5], redelivered=True)
    evidence = queue(receipts, drops=(Drop("purged", count=2),))
    verdict = judge([sent()], {"q": evidence}, permits={"purged"})
    found = verdict.queues["q"]
    assert (verdict.decision, found.lost, found.undecided) == (Decision.FAIL, 1, 2)
    assert (found.lost_among, found.lost_ids) == (3, ())


def test_a_damaged_dead_letter_is_corrupt() -> None:
    """Wherever it turns up."""
    dead = QueueReceipts()
    dead.of(ONE).add_corrupt(10)
    evidence = queue(got(*MOST), drops=(Drop("expired", receipts=dead),))
    found = judge([sent()], {"q": evidence}, permits={"expired"})
    assert (found.decision, found.queues["q"].corrupt) == (Decision.FAIL, 1)


def test_copies_too_many_are_never_passed_over() -> None:
    """Everything was seen, and the broker still counts two."""
    verdict = judge([sent()], {"q": queue(got(*ALL), 2)})
    assert (verdict.decision, verdict.queues["q"].residue) == (Decision.UNKNOWN, -2)
    assert "do not balance: 2 more copies" in verdict.reasons[0]


def test_a_count_that_does_not_balance_decides_nothing() -> None:
    """Ten stale ones were there before, and five of ours are lost: 15 are counted."""
    verdict = judge([sent()], {"q": queue(None, 15)})
    found = verdict.queues["q"]
    assert (verdict.decision, found.undecided, found.residue) == (Decision.UNKNOWN, 10, -5)
    assert "do not balance" in " ".join(verdict.notes)
    read = judge([sent()], {"q": queue(None, 15), "r": queue(got(*ALL))})
    assert (read.decision, read.queues["q"].undecided) == (Decision.PASS, 10)


# --- damaged and foreign ----------------------------------------------------------------------


def test_damaged_is_damaged_whoever_it_claims_to_be_from() -> None:
    """An altered id may name another run; a whole message of another run is only foreign."""
    receipts = got(*ALL)
    stranger = receipts.of(Source("ffffffffffff", 9))
    stranger.add_corrupt(1)
    stranger.add([2], redelivered=False)
    found = judge([sent()], {"q": queue(receipts)}).queues["q"]
    assert (found.corrupt, found.foreign, found.received) == (1, 1, 12)


def test_a_number_that_was_never_sent_is_foreign_once() -> None:
    """Each copy of it; and it is no message of this run."""
    found = judge([sent()], {"q": queue(got(*ALL, 11, 11))}).queues["q"]
    assert (found.foreign, found.unique, found.received) == (2, 10, 12)
    assert found.duplicates_unflagged == 0


# --- the run ----------------------------------------------------------------------------------


def test_without_confirms_what_was_sent_has_to_be_there() -> None:
    """Lost counts what was sent."""
    outcomes = Outcomes(ONE, confirms=False)
    outcomes.attempt(range(1, 11))
    verdict = judge([outcomes], {"q": queue(got(*MOST))})
    assert (verdict.decision, verdict.confirmed, verdict.queues["q"].lost) == (Decision.FAIL, 0, 1)
    assert verdict.reasons == ("1 sent message is lost in q.",)
    assert judge([outcomes], {"q": queue(got(*ALL))}).decision is Decision.PASS


def test_nothing_confirmed_proves_nothing() -> None:
    """Neither an empty run nor one in which all is in doubt."""
    assert judge([], {"q": queue(got())}).decision is Decision.UNKNOWN
    assert judge([sent(confirmed=False)], {"q": queue(got(*ALL))}).decision is Decision.UNKNOWN


def test_failures_come_before_doubts() -> None:
    """What is proven to be wrong is said first, and decides."""
    evidence = {"a": queue(got(*MOST), None), "b": queue(got(*MOST))}
    claims = [Claim("All was well.", held=False), Claim("It was.", held=False, found="Not so.")]
    verdict = judge([sent()], evidence, claims)
    assert verdict.decision is Decision.FAIL
    assert verdict.reasons[:3] == (
        "1 confirmed message is lost in b.", "This did not hold: All was well.", "Not so."
    )  # fmt: skip
    assert "not proven" in verdict.reasons[3]


def test_a_million_lost_messages_cost_no_more_than_ten() -> None:
    """They are judged as sets; ids are made one at a time, and a thousand of them are shown."""
    outcomes, evidence = sent(1_000_000), queue(got())
    tracemalloc.start()
    began = time.perf_counter()
    found = judge([outcomes], {"q": evidence}).queues["q"]
    ids = list(islice(lost_ids([outcomes], evidence), 5))
    took, (_, peak) = time.perf_counter() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (found.lost, found.lost_head, len(found.lost_ids)) == (1_000_000, 1_000_000, 1000)
    assert ids == list(found.lost_ids[:5])
    assert took < 1.0  # a hundredth of it, where nobody else has the processor
    assert peak < 2_000_000  # bytes
