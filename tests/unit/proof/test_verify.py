"""What files alone can prove, and what they can't."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from msgspec import convert, structs

from files import (
    OTHER,
    QUEUE,
    RUN,
    SECOND,
    START,
    consumed,
    cut,
    empty,
    header,
    produced,
    told,
    took_part,
)
from rabbitproof.errors import LedgerFailed, UsageError
from rabbitproof.identity import Source
from rabbitproof.model import Claims, Expectation, FaultRecord
from rabbitproof.proof.entries import DeclaredQueue, End, Wiring
from rabbitproof.proof.history import Began, Broke, Dropped, Measured
from rabbitproof.proof.journal import Journal
from rabbitproof.proof.record import read
from rabbitproof.proof.verify import verify
from rabbitproof.view import verdict as words

if TYPE_CHECKING:
    from pathlib import Path

    from rabbitproof.model import TrialResult


def decided(folder: Path, **options: Any) -> tuple[str, int, int]:
    """The verdict, how many are lost, and how many are undecided."""
    result = verify([folder], **options)
    queue = result.verdict.queues["work.queue"]
    return str(result.verdict.decision), queue.lost, queue.undecided


def reasons(result: TrialResult) -> str:
    return " ".join(result.verdict.reasons)


def test_all_seen_is_a_pass_with_its_figures(tmp_path: Path) -> None:
    produced(tmp_path)
    consumed(tmp_path)
    result = verify([tmp_path])
    assert (str(result.verdict.decision), result.run) == ("PASS", RUN)
    assert result.publish_per_s == 5
    assert result.environment["rabbitmq"] == "3.10.8"


def test_a_report_stands_for_the_ledgers_in_it(tmp_path: Path) -> None:
    """They lie in ledgers/RUN, and the report is what people have at hand."""
    inside = tmp_path / "ledgers" / "0a1b2c3d4e5f"
    produced(inside)
    consumed(inside)
    for folder in (tmp_path, tmp_path / "ledgers"):
        assert verify([folder]).verdict.decision == "PASS"


def test_what_is_unseen_in_a_drained_queue_is_lost_or_taken(tmp_path: Path) -> None:
    produced(tmp_path)
    consumed(tmp_path, numbers=range(1, 10))
    result = verify([tmp_path])
    assert decided(tmp_path) == ("FAIL", 1, 0)
    assert "or taken by a consumer that kept no ledger" in reasons(result)


UNPROVEN: dict[str, dict[str, Any]] = {
    "as many are left": {"left": 2},
    "the broker did not say": {"left": None},
    "another consumer held some": {"consumers": 1},
    "nobody knows who held some": {"consumers": None},
    "it was killed": {"end": None},
    "it ended before the producer": {"end": 4},
    "two hosts' clocks are too close": {"end": 6},
}


@pytest.mark.parametrize("why", UNPROVEN)
def test_without_proof_that_the_queue_was_empty_nothing_is_called_lost(
    tmp_path: Path, why: str
) -> None:
    produced(tmp_path)
    consumed(tmp_path, numbers=range(1, 9), **UNPROVEN[why])
    decision, lost, _ = decided(tmp_path)
    assert (decision, lost) == ("UNKNOWN", 0)


def test_what_is_neither_seen_nor_left_is_lost(tmp_path: Path) -> None:
    produced(tmp_path)
    consumed(tmp_path, numbers=range(1, 8), left=2)
    assert decided(tmp_path)[:2] == ("FAIL", 1)


def test_a_consumer_that_ended_before_the_producer_began_proves_nothing(tmp_path: Path) -> None:
    """Ten were confirmed after it had found the queue empty: they are there, not lost."""
    consumed(tmp_path, numbers=[], end=1)
    produced(tmp_path, started_ns=START + 60 * SECOND)
    decision, lost, _ = decided(tmp_path)
    assert (decision, lost) == ("UNKNOWN", 0)


def test_on_one_host_the_clock_decides_without_a_margin(tmp_path: Path) -> None:
    produced(tmp_path)
    consumed(tmp_path, numbers=range(1, 9), end=6, host="a")
    assert decided(tmp_path) == ("FAIL", 2, 0)


def test_within_one_boot_a_clock_that_was_set_changes_nothing(tmp_path: Path) -> None:
    """The consumer's clock says that it ended an hour before the producer began."""
    boot = {"host": "a", "boot": "boot-1"}
    produced(tmp_path, monotonic_ns=100 * SECOND, **boot)
    consumed(
        tmp_path,
        numbers=range(1, 9),
        started_ns=START - 3600 * SECOND,
        monotonic_ns=101 * SECOND,
        **boot,
    )
    assert decided(tmp_path) == ("FAIL", 2, 0)


def test_and_a_clock_that_was_set_forward_makes_no_loss(tmp_path: Path) -> None:
    boot = {"host": "a", "boot": "boot-1"}
    produced(tmp_path, monotonic_ns=1000 * SECOND, **boot)
    consumed(
        tmp_path,
        numbers=[],
        started_ns=START + 3600 * SECOND,
        monotonic_ns=100 * SECOND,
        **boot,
    )
    assert decided(tmp_path)[:2] == ("UNKNOWN", 0)


def test_a_clock_that_stood_still_makes_no_loss(tmp_path: Path) -> None:
    """The producer's machine slept for an hour before it published the last two."""
    produced(tmp_path, clock=3_605)
    consumed(tmp_path, numbers=range(1, 9), end=1_800)
    assert decided(tmp_path)[:2] == ("UNKNOWN", 0)
    consumed(tmp_path, "late", numbers=[], end=3_700, pid=9)
    assert decided(tmp_path)[:2] == ("FAIL", 2)


def test_nor_one_that_was_set_where_no_system_names_its_boot(tmp_path: Path) -> None:
    """The consumer's clock is an hour ahead; the one that nobody sets says that it ended before."""
    produced(tmp_path, host="a", monotonic_ns=1_000 * SECOND)
    forward = START + 3_600 * SECOND
    consumed(tmp_path, numbers=range(1, 9), host="a", started_ns=forward, monotonic_ns=SECOND)
    assert decided(tmp_path)[:2] == ("UNKNOWN", 0)


def test_what_a_consumer_without_an_end_may_have_seen_is_not_lost(tmp_path: Path) -> None:
    """The queue is empty, and 10 may be in the part of its ledger that is not here."""
    produced(tmp_path)
    consumed(tmp_path, "killed", numbers=range(1, 6), end=None, pid=2)
    consumed(tmp_path, "next", numbers=range(6, 10), pid=3)
    assert decided(tmp_path) == ("UNKNOWN", 0, 1)
    assert "the ledger of killed (consumer-killed.ledger) has no end" in reasons(verify([tmp_path]))


def test_and_where_nothing_is_unseen_without_it_it_is_a_pass(tmp_path: Path) -> None:
    produced(tmp_path)
    consumed(tmp_path, "killed", numbers=range(1, 6), end=None, pid=2)
    consumed(tmp_path, "next", numbers=range(6, 11), pid=3)
    result = verify([tmp_path])
    assert str(result.verdict.decision) == "PASS"
    assert "are counted as far as it goes" in " ".join(result.verdict.notes)
    assert result.verdict.queues["work.queue"].reordered is None, "it may still run"


def test_a_producer_that_died_is_believed_to_have_gone_on_for_a_while(tmp_path: Path) -> None:
    produced(tmp_path, end=None)  # its last sample is one second after its start
    consumed(tmp_path, "early", numbers=range(1, 9), end=2, host="a", pid=2)
    assert decided(tmp_path)[:2] == ("UNKNOWN", 0)
    consumed(tmp_path, "late", numbers=[], end=9, host="a", pid=3)
    assert decided(tmp_path) == ("FAIL", 2, 0)


@pytest.mark.parametrize(("second", "decision"), [(None, "UNKNOWN"), (3, "UNKNOWN"), (0, "FAIL")])
def test_a_quorum_queue_needs_a_second_source(
    tmp_path: Path, second: int | None, decision: str
) -> None:
    effective = {"type": "quorum"}
    queues = [{"name": "work.queue", "role": "work", "effective": effective}]
    topology = {"exchange": "x", "routing_key": "k", "vhost": "/", "queues": queues}
    produced(tmp_path, topology=topology)
    consumed(tmp_path, numbers=range(1, 9), second=second)
    assert decided(tmp_path)[0] == decision


TYPES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None, str]] = {
    "nobody knows": ({"type": "classic", "durable": True}, {"declare": True}, None, "UNKNOWN"),
    "it was there": ({"durable": False}, {"declare": False}, None, "UNKNOWN"),
    "a transient one": ({"durable": False}, {"declare": True}, None, "FAIL"),
    "it was asked for": (
        {"durable": True, "arguments": {"x-queue-type": "quorum"}}, {"declare": True}, None,
        "UNKNOWN",
    ),
    "the consumer asked": ({}, {"declare": False}, {"type": "classic"}, "FAIL"),
    "the consumer knows better": (
        {"durable": False}, {"declare": True}, {"type": "quorum"}, "UNKNOWN",
    ),
}  # fmt: skip


@pytest.mark.parametrize("why", TYPES)
def test_a_queue_of_which_nobody_knows_the_type_may_have_replicas(tmp_path: Path, why: str) -> None:
    """A count of 0 alone proves that a classic queue is empty, and no other one."""
    queue, options, effective, decision = TYPES[why]
    described = [{"name": "work.queue", "role": "work", **queue}]
    produced(tmp_path, topology={"vhost": "/", "queues": described}, options=options)
    known = [{"name": "work.queue", "effective": effective}]
    consumed(tmp_path, numbers=range(1, 9), topology={"vhost": "/", "queues": known})
    assert decided(tmp_path)[0] == decision


def test_and_it_may_be_a_stream_that_was_read_twice(tmp_path: Path) -> None:
    queues = [{"name": "work.queue", "role": "work", "type": "classic"}]
    topology = {"vhost": "/", "queues": queues}
    produced(tmp_path, topology=topology, options={"declare": False})
    twice = [*range(1, 11), *range(1, 11)]
    consumed(tmp_path, events=["lost", "connected"], numbers=twice, topology=topology)
    result = verify([tmp_path])
    assert str(result.verdict.decision) == "PASS"
    assert result.verdict.queues["work.queue"].duplicates_unflagged == 0


def test_a_queue_that_nobody_read_is_judged_by_its_count(tmp_path: Path) -> None:
    produced(tmp_path, before=0)
    assert verify([tmp_path]).verdict.queues["work.queue"].judged_by == "count"
    assert decided(tmp_path)[0] == "PASS"


def test_but_not_if_nobody_knows_what_it_held_before(tmp_path: Path) -> None:
    """Ten that were there before count like ten that are lost."""
    produced(tmp_path)
    assert decided(tmp_path)[0] == "UNKNOWN"


def test_with_a_consumer_that_kept_no_ledger_a_count_says_nothing(tmp_path: Path) -> None:
    produced(tmp_path, left=3, consumers=1)
    assert decided(tmp_path)[:2] == ("UNKNOWN", 0)


def test_two_runs_are_named_and_one_can_be_chosen(tmp_path: Path) -> None:
    produced(tmp_path)
    produced(tmp_path, "q", run=OTHER, pid=2, numbers=range(1, 4), confirmed=range(1, 4))
    consumed(tmp_path, numbers=range(1, 11))
    with pytest.raises(UsageError, match=rf"2 runs: .*{OTHER} \(3 messages\).*Choose one with"):
        verify([tmp_path])
    assert decided(tmp_path, run=RUN)[0] == "PASS"
    with pytest.raises(UsageError, match="No ledger here is of the run nonsense; there are"):
        verify([tmp_path], "nonsense")


def test_without_a_producer_nobody_knows_what_was_sent(tmp_path: Path) -> None:
    consumed(tmp_path)
    with pytest.raises(UsageError, match="There is no producer's ledger here"):
        verify([tmp_path])


def test_a_producer_whose_messages_came_and_whose_ledger_did_not_is_missing(
    tmp_path: Path,
) -> None:
    produced(tmp_path)
    consumed(tmp_path)
    consumed(tmp_path, "d", source=Source(RUN, 2), pid=2)
    result = verify([tmp_path])
    assert str(result.verdict.decision) == "UNKNOWN"
    assert "producer 2 of this run" in reasons(result)


def in_two_halves(folder: Path) -> Path:
    """A producer's ledger: header, attempt and confirm of 1 to 5, of 6 to 10, its end."""
    with Journal.create(folder, "producer-p", header("producer", "p")) as journal:
        outcomes = journal.outcomes()
        for numbers in (range(1, 6), range(6, 11)):
            outcomes.attempt(numbers)
            outcomes.confirm(numbers)
        journal.end(convert({"t_ns": START + 5 * SECOND, "counts": {}, "consumers": {}}, End))
    return journal.path


@pytest.mark.parametrize("rest", [0, 5], ids=["at a frame", "within one"])
def test_what_came_shows_that_a_producers_ledger_is_cut(tmp_path: Path, rest: int) -> None:
    """10 is lost, and the part of the ledger that says so is missing: 6 to 9 came."""
    path = in_two_halves(tmp_path)
    consumed(tmp_path, numbers=range(1, 10))
    assert decided(tmp_path) == ("FAIL", 1, 0)
    whole = path.read_bytes()
    cut(path, 3)
    path.write_bytes(whole[: path.stat().st_size + rest])
    result = verify([tmp_path])
    assert str(result.verdict.decision) == "UNKNOWN"
    assert "The ledger of producer 1 ends at 5, and 9 came, and 3 more of such" in reasons(result)


def test_a_producers_ledger_without_an_end_leaves_it_open(tmp_path: Path) -> None:
    """All that it knows came; what it does not know may be lost."""
    path = in_two_halves(tmp_path)
    consumed(tmp_path, numbers=range(1, 6))
    assert decided(tmp_path)[0] == "FAIL"
    cut(path, 3)
    result = verify([tmp_path])
    assert str(result.verdict.decision) == "UNKNOWN"
    assert "producer 1 (producer-p.ledger) has no end" in reasons(result)
    assert "--resume" in reasons(result)


def test_what_the_rest_of_a_cut_ledger_proves_lost_is_lost(tmp_path: Path) -> None:
    path = in_two_halves(tmp_path)
    consumed(tmp_path, numbers=range(1, 5))
    cut(path, 3)
    assert decided(tmp_path) == ("FAIL", 1, 0)


@pytest.mark.parametrize("end", [5, None], ids=["it ended", "it was killed"])
def test_without_confirms_what_a_killed_producer_wrote_down_may_never_have_been_sent(
    tmp_path: Path, end: int | None
) -> None:
    """Also where the history says that its ledger is whole."""
    produced(tmp_path, confirmed=[], end=end, options={"confirms": False})
    consumed(tmp_path, numbers=range(1, 6))
    told(tmp_path, *took_part(tmp_path), empty())
    found = verify([tmp_path]).verdict
    queue = found.queues["logical"]
    assert (str(found.decision), queue.lost, queue.recovered) == (
        ("FAIL", 5, 0) if end else ("UNKNOWN", 0, 5)
    )  # fmt: skip


def test_what_a_cut_ledger_may_have_sent_again_is_not_the_brokers_fault(tmp_path: Path) -> None:
    """Its connection broke, and it sent all but one again: twice to the consumer, and late."""
    again = range(2, 11)
    with Journal.create(tmp_path, "producer-p", header("producer", "p")) as journal:
        outcomes = journal.outcomes()
        outcomes.attempt(range(1, 11))
        outcomes.confirm([1])
        outcomes.attempt(again, again=True)
        outcomes.confirm(again)
        journal.end(End(t_ns=START + 5 * SECOND))
    consumed(tmp_path, numbers=[1, *reversed(again), *again])
    assert decided(tmp_path)[0] == "PASS"
    cut(journal.path, 3)
    result = verify([tmp_path])
    assert str(result.verdict.decision) == "UNKNOWN"
    told_so = ", as far as the files here tell."
    assert [one.endswith(told_so) for one in result.verdict.reasons] == [True, True, False]


def test_the_same_file_twice_counts_once_and_the_longer_copy_counts(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    produced(one)
    path = consumed(one)
    two.mkdir()
    shutil.copy(path, two)
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    result = verify([one, two])
    assert str(result.verdict.decision) == "PASS"
    assert result.verdict.queues["work.queue"].duplicates_unflagged == 0
    assert "copies of one ledger" in " ".join(result.verdict.notes)


def test_ledgers_that_began_as_one_and_went_apart_both_count(tmp_path: Path) -> None:
    """A copy was resumed while its writer lived: 9 and 10 are in one only, and are lost."""
    one, two = tmp_path / "one", tmp_path / "two"
    path = produced(one, numbers=range(1, 6), confirmed=range(1, 6), end=None)
    two.mkdir()
    copy = two / path.name
    shutil.copy(path, copy)
    resumed(path, range(6, 11))
    resumed(copy, [6], [7], [8])
    consumed(tmp_path / "c", numbers=range(1, 9))
    result = verify([one, two, tmp_path / "c"])
    queue = result.verdict.queues["work.queue"]
    assert (str(result.verdict.decision), queue.lost) == ("FAIL", 2)
    assert "began as one ledger and went apart: both count" in " ".join(result.verdict.notes)


def test_a_producer_may_have_gone_on_behind_the_damage_of_a_copy(tmp_path: Path) -> None:
    path = produced(tmp_path / "one", end=None, numbers=range(1, 6), confirmed=range(1, 6))
    shared = path.stat().st_size
    copy = tmp_path / path.name
    shutil.copy(path, copy)
    with Journal.resume(read(path), read(path).header) as journal:
        journal.end(End(t_ns=START + 5 * SECOND))
    consumed(tmp_path, numbers=range(1, 6))
    assert decided(tmp_path)[0] == "PASS"
    resumed(copy, [6])
    data = bytearray(copy.read_bytes())
    data[shared + 9] ^= 1
    copy.write_bytes(data)
    assert read(copy).damaged
    assert decided(tmp_path)[0] == "UNKNOWN"
    assert "There is another ledger that begins as that of producer 1" in reasons(
        verify([tmp_path])
    )


def resumed(path: Path, *numbers: Any) -> None:
    """Let another process go on with a ledger."""
    known = read(path)
    with Journal.resume(known, structs.replace(known.header, host="elsewhere")) as journal:
        outcomes = journal.outcomes(known.outcomes)
        for some in numbers:
            outcomes.attempt(some)
            outcomes.confirm(some)
            journal.flush()
        journal.end(convert({"t_ns": START + 6 * SECOND, "counts": {}, "consumers": {}}, End))


def test_a_consumers_ledger_that_went_apart_was_altered(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    produced(one)
    consumed(one)
    consumed(two, numbers=[*range(1, 10), 11])
    result = verify([one, two])
    assert str(result.verdict.decision) == "UNKNOWN"
    assert "so one of them was altered" in reasons(result)


GAVE_BACK: dict[str, dict[str, Any]] = {
    "its connection ended": {"events": ["lost", "connected"]},
    "it requeues": {"options": {"answer": "requeue"}},
    "a window was closed": {"ending": {"returned": 3}},
}


@pytest.mark.parametrize("why", GAVE_BACK)
def test_what_a_consumer_may_have_given_back_explains_further_copies(
    tmp_path: Path, why: str
) -> None:
    """All ten were seen, and the queue holds copies of them: its last acknowledgement was lost."""
    produced(tmp_path)
    consumed(tmp_path, left=10, **GAVE_BACK[why])
    assert decided(tmp_path)[0] == "PASS"


def test_and_without_that_nothing_does(tmp_path: Path) -> None:
    produced(tmp_path)
    consumed(tmp_path, left=10)
    assert decided(tmp_path)[0] == "UNKNOWN"


def test_a_ledger_keeps_which_copies_somebody_sent_again(tmp_path: Path) -> None:
    produced(tmp_path)
    with Journal.create(tmp_path, "consumer-c", header("consumer", "c")) as journal:
        got = journal.receipts().of(Source(RUN, 1))
        got.add(range(1, 11), redelivered=False)
        got.add([3, 7], redelivered=False, again=True)
        journal.end(convert({"t_ns": START + 20 * SECOND, "counts": {"work.queue": 0}}, End))
    result = verify([tmp_path])
    queue = result.verdict.queues["work.queue"]
    assert (str(result.verdict.decision), queue.duplicates_resent) == ("PASS", 2)


def test_what_a_consumer_rejected_was_handled_by_nobody(tmp_path: Path) -> None:
    produced(tmp_path)
    consumed(tmp_path, options={"answer": "reject"})
    result = verify([tmp_path])
    queue = result.verdict.queues["work.queue"]
    assert str(result.verdict.decision) == "FAIL"
    assert (queue.dropped, queue.unhandled, queue.dead_lettered) == (
        {"rejected": 10}, {"rejected": 10}, 0,
    )  # fmt: skip
    assert "rejected by a consumer in work.queue, and nobody handled them" in reasons(result)


def test_unless_it_was_killed_before_the_broker_heard_of_it(tmp_path: Path) -> None:
    """Then the queue has them again, and nobody counted it."""
    produced(tmp_path)
    consumed(tmp_path, options={"answer": "reject"}, end=None)
    result = verify([tmp_path])
    assert str(result.verdict.decision) == "UNKNOWN"
    assert "10 confirmed messages were rejected by a consumer in work.queue; it" in reasons(result)


def test_unless_another_one_acknowledged_a_copy(tmp_path: Path) -> None:
    """Three were retried from the dead-letter queue."""
    produced(tmp_path)
    consumed(tmp_path, options={"answer": "reject"}, numbers=range(1, 4))
    consumed(tmp_path, "d", numbers=range(2, 11), pid=2)
    found = verify([tmp_path]).verdict.queues["work.queue"]
    assert found.unhandled == {"rejected": 1}
    assert (found.duplicates_resent, found.duplicates_unflagged) == (2, 0)


def test_a_window_writes_down_what_was_rejected_by_hand(tmp_path: Path) -> None:
    """But not what came again after it."""
    produced(tmp_path)
    with Journal.create(tmp_path, "consumer-c", header("consumer", "c")) as journal:
        got = journal.receipts().of(Source(RUN, 1))
        got.add(range(1, 11), redelivered=False)
        got.reject([4, 5, 6])
        got.add([5], redelivered=True)
        counts = {"work.queue": 0}
        journal.end(
            convert({"t_ns": START + 20 * SECOND, "counts": counts, "consumers": counts}, End)
        )
    found = verify([tmp_path]).verdict
    assert (str(found.decision), found.queues["work.queue"].unhandled) == ("FAIL", {"rejected": 2})


def test_of_two_copies_at_a_window_one_may_have_been_handled(tmp_path: Path) -> None:
    with Journal.create(tmp_path, "producer-p", header("producer", "p")) as journal:
        outcomes = journal.outcomes()
        outcomes.attempt(range(1, 11))
        outcomes.attempt([4], again=True)
        outcomes.confirm(range(1, 11))
        journal.end(End(t_ns=START + 5 * SECOND))
    with Journal.create(tmp_path, "consumer-c", header("consumer", "c")) as journal:
        got = journal.receipts().of(Source(RUN, 1))
        got.add([*range(1, 11), 4], redelivered=False)
        got.reject([4])
        counts = {"work.queue": 0}
        journal.end(
            convert({"t_ns": START + 20 * SECOND, "counts": counts, "consumers": counts}, End)
        )
    assert decided(tmp_path)[0] == "UNKNOWN"
    assert "1 confirmed message was rejected by a consumer" in reasons(verify([tmp_path]))


LIMITS: dict[str, tuple[dict[str, Any], str]] = {
    "a time to live": ({"arguments": {"x-message-ttl": 1000}}, "x-message-ttl"),
    "a length": ({"arguments": {"x-max-length": 5, "x-overflow": "drop-head"}}, "x-max-length"),
    "a policy": ({"policy_definition": {"delivery-limit": 3}}, "delivery-limit"),
    "it refuses instead": ({"arguments": {"x-max-length": 5, "x-overflow": "reject-publish"}}, ""),
    "unlimited": ({"arguments": {"x-delivery-limit": -1}}, ""),
}


@pytest.mark.parametrize("why", LIMITS)
def test_what_a_queue_may_have_dropped_by_its_own_limits_is_not_lost(
    tmp_path: Path, why: str
) -> None:
    told, named = LIMITS[why]
    queues = [{"name": "work.queue", "role": "work", "effective": {"type": "classic", **told}}]
    produced(tmp_path, topology={"vhost": "/", "queues": queues})
    consumed(tmp_path, numbers=range(1, 9))
    assert decided(tmp_path) == (("UNKNOWN", 0, 2) if named else ("FAIL", 2, 0))
    assert not named or f"it has {named}, by which the broker may" in reasons(verify([tmp_path]))


def test_unless_what_they_dropped_is_known(tmp_path: Path) -> None:
    effective = {"type": "classic", "arguments": {"x-message-ttl": 1}}
    queues = [{"name": "work.queue", "role": "work", "effective": effective}]
    produced(tmp_path, topology={"vhost": "/", "queues": queues})
    consumed(tmp_path, numbers=range(1, 8))
    gone = Dropped(queue="work.queue", reason="expired", copies=2)
    told(tmp_path, *took_part(tmp_path), empty(), gone)
    assert verify([tmp_path]).verdict.queues["logical"].lost == 1


FROM_FIRST = {"stream_offset": "first"}


def streamed(folder: Path, *passes: Any, count: int = 10, **options: Any) -> TrialResult:
    """The verdict over a stream that one consumer read once with each connection."""
    queues = [{"name": "work.queue", "role": "work", "effective": {"type": "stream"}}]
    produced(folder, topology={"vhost": "/", "queues": queues})
    with Journal.create(
        folder, "consumer-c", header("consumer", "c", options=options or FROM_FIRST)
    ) as journal:
        for numbers in passes:
            journal.event(START, "connected")
            journal.receipts().of(Source(RUN, 1)).add(numbers, redelivered=False)
        counts = {"work.queue": count}
        end = {"t_ns": START + 20 * SECOND, "counts": counts, "second": counts}
        journal.end(convert(end | {"consumers": {"work.queue": 0}}, End))
    return verify([folder])


@pytest.mark.parametrize(
    ("passes", "count", "options", "decision"),
    [
        ([range(1, 11)], 10, {}, "PASS"),
        ([range(1, 7), range(1, 6)], 10, {}, "UNKNOWN"),  # four were never read
        ([range(1, 7), range(1, 11)], 10, {}, "PASS"),
        ([range(1, 10)], 9, {}, "FAIL"),  # all that it has was read, and 10 is not there
        ([range(1, 8), range(9, 11)], 5, {}, "UNKNOWN"),  # some of it was dropped meanwhile
        ([range(1, 8), range(9, 11)], 9, {"stream_offset": None}, "UNKNOWN"),
        ([range(1, 11)], 15, {"stream_offset": None}, "PASS"),  # five were there before
    ],
)
def test_of_a_stream_the_longest_pass_from_its_first_message_counts(
    tmp_path: Path, passes: list[range], count: int, options: dict[str, Any], decision: str
) -> None:
    result = streamed(tmp_path, *passes, count=count, **options)
    assert str(result.verdict.decision) == decision, result.verdict.reasons
    assert result.verdict.queues["work.queue"].duplicates_unflagged == 0


def test_a_torn_end_is_told(tmp_path: Path) -> None:
    produced(tmp_path)
    path = consumed(tmp_path)
    with path.open("ab") as file:
        file.write(b"\0\0")
    result = verify([tmp_path])
    assert str(result.verdict.decision) == "PASS"
    assert "ends in the middle of a frame" in " ".join(result.verdict.notes)


def test_a_damaged_or_empty_ledger_is_one_of_which_not_all_is_known(tmp_path: Path) -> None:
    produced(tmp_path)
    path = consumed(tmp_path)
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    (tmp_path / "empty.ledger").touch()
    result = verify([tmp_path])
    assert str(result.verdict.decision) == "UNKNOWN"
    assert "is damaged at byte" in reasons(result)
    assert "empty.ledger" in reasons(result)


def test_a_foreign_file_is_refused_by_name(tmp_path: Path) -> None:
    produced(tmp_path)
    (tmp_path / "x.ledger").write_bytes(b"GIF89a")
    with pytest.raises(LedgerFailed, match=r"x\.ledger is no ledger"):
        verify([tmp_path])


def test_a_consumer_of_another_broker_or_vhost_takes_no_part(tmp_path: Path) -> None:
    produced(tmp_path)
    consumed(tmp_path)
    consumed(tmp_path, "e", versions={"cluster": "another"}, source=Source(OTHER, 1), pid=2)
    consumed(tmp_path, "f", topology={"vhost": "another"}, pid=3)
    found = verify([tmp_path]).verdict
    assert (str(found.decision), found.queues["work.queue"].foreign) == ("PASS", 0)


def test_one_on_another_node_of_a_cluster_without_a_name_does(tmp_path: Path) -> None:
    """Each node tells its own name then; what it got shows that it read this queue."""
    produced(tmp_path)
    consumed(tmp_path, numbers=range(1, 9), versions={"cluster": "rabbit@two"})
    assert decided(tmp_path) == ("FAIL", 2, 0)


def test_and_of_one_that_got_nothing_nobody_knows(tmp_path: Path) -> None:
    """All may be lost. What another consumer got speaks for itself."""
    produced(tmp_path)
    consumed(tmp_path, numbers=(), versions={"cluster": "rabbit@two"})
    result = verify([tmp_path])
    assert str(result.verdict.decision) == "UNKNOWN"
    assert "whether c (consumer-c.ledger) read work.queue or" in reasons(result)
    consumed(tmp_path, "d", pid=2)
    assert decided(tmp_path)[0] == "PASS"


# --- files that somebody made up --------------------------------------------------------------

ESC = "\x1b]0;pwned\x1b\\\x1b[2J"


@pytest.mark.parametrize(
    "values",
    [
        {"topology": {"queues": 5}},
        {"topology": {"queues": [5]}},
        {"started_ns": 10**30},
        {"pid": -(10**30)},
    ],
)
def test_a_header_of_another_shape_is_a_sentence(tmp_path: Path, values: dict[str, Any]) -> None:
    produced(tmp_path, end=None, **values)
    with pytest.raises(LedgerFailed, match=r"producer-p\.ledger is damaged at byte"):
        verify([tmp_path])


@pytest.mark.parametrize(
    "end",
    [
        {"t_ns": 10**30},
        {"t_ns": "now"},
        {"counts": {"work.queue": -1}},
        {"consumers": [0]},
        {"second": {"work.queue": "0"}},
    ],
)
def test_an_end_of_another_shape_is_damage(tmp_path: Path, end: dict[str, Any]) -> None:
    produced(tmp_path)
    consumed(tmp_path, ending=end)
    result = verify([tmp_path])
    assert str(result.verdict.decision) == "UNKNOWN"
    assert "consumer-c.ledger is damaged at byte" in reasons(result)


def test_nothing_of_a_folder_reaches_a_terminal_as_it_is(tmp_path: Path) -> None:
    """Texts of the history and of the ledgers, wherever one may stand."""
    queues = [{"name": f"q{ESC}", "role": "work", "effective": {"type": "classic"}}]
    versions = {"rabbitmq": ESC, "erlang": ESC, "python": ESC, "cluster": ""}
    values = {"versions": versions, "host": ESC, "name": ESC, "topology": {"queues": queues}}
    produced(tmp_path, **values)
    consumed(tmp_path, **values | {"queue": f"q{ESC}"}, end=None)
    in_terminal(verify([tmp_path]))

    marks = [Began(name=ESC, kind="consumer"), Dropped(queue=f"q{ESC}", reason=ESC, copies=2)]
    broke = FaultRecord(ESC, 1.0, fired=False, evidence=ESC)
    told(
        tmp_path,
        *marks,
        Broke(record=broke),
        Measured(values={ESC: ESC}),
        scenario=ESC,
        title=ESC,
        teaches=ESC,
        command=ESC,
        started=ESC,
        where=ESC,
        versions=dict.fromkeys(("rabbitmq", "erlang", "python"), ESC),
        names={f"q{ESC}": ESC},
        claims=Claims(ready_before=True, audit_equals_work=True, permits=(ESC,)),
        faults=(ESC,),
        workload={ESC: ESC},
        expects=Expectation("PASS", ESC, work={"lost": ESC}),
    )
    in_terminal(verify([tmp_path]))


def in_terminal(result: TrialResult) -> None:
    lines = [words.headline(result), *words.details(result), *words.expectation(result)]
    assert not any("\x1b" in line for line in lines)
    assert "\x1b" not in json.dumps(words.as_object(result))


@pytest.mark.parametrize(("end", "decision"), [(5, "FAIL"), (None, "UNKNOWN")])
def test_what_a_torn_ledger_has_as_sent_once_may_have_been_sent_again(
    tmp_path: Path, end: int | None, decision: str
) -> None:
    """Second copies and their order are no broker's fault then, as far as anybody knows."""
    produced(tmp_path, end=end)
    consumed(tmp_path, numbers=[*range(1, 11), 4])
    result = verify([tmp_path])
    assert str(result.verdict.decision) == decision
    assert ("as far as the files here tell" in reasons(result)) is (end is None)


def test_the_last_word_of_a_cut_history_on_a_file_may_be_missing(tmp_path: Path) -> None:
    """It may have gone on with the ledger that was whole when the one before it was killed."""
    produced(tmp_path, end=None)
    consumed(tmp_path, numbers=[*range(1, 11), 4])
    told(tmp_path, *took_part(tmp_path), over=False)
    verdict = verify([tmp_path]).verdict
    assert str(verdict.decision) == "UNKNOWN"
    assert any("producer-p.ledger) has no end, and nobody says" in one for one in verdict.reasons)


@pytest.mark.parametrize(("at_last", "lost"), [(True, 2), (False, 0)])
def test_what_was_dropped_is_known_up_to_when_it_was_told(
    tmp_path: Path, at_last: bool, lost: int
) -> None:
    """What expires after somebody read the dead letters is not lost."""
    limited = QUEUE | {"effective": {"type": "classic", "arguments": {"x-message-ttl": 9}}}
    produced(tmp_path, topology={"vhost": "/", "queues": [limited]})
    consumed(tmp_path, numbers=range(1, 8))
    dead = Dropped(queue="work.queue", reason="expired", names={1: ((8, 8),)})
    began, *ended = took_part(tmp_path)
    entries = [began, *ended, empty(), dead] if at_last else [began, dead, *ended, empty()]
    told(tmp_path, *entries, topology=Wiring(queues=(convert(limited, DeclaredQueue),)))
    assert verify([tmp_path]).verdict.queues["logical"].lost == lost


def test_a_purge_is_not_told_of_what_may_still_be_there(tmp_path: Path) -> None:
    """One was unseen, one copy was purged and one is there: nobody knows which was a stranger's."""
    produced(tmp_path)
    consumed(tmp_path, numbers=range(1, 10))
    purge = Dropped(queue="work.queue", reason="purged", copies=1)
    told(tmp_path, empty(), *took_part(tmp_path), purge, empty(1))
    verdict = verify([tmp_path]).verdict
    assert (str(verdict.decision), verdict.queues["logical"].unhandled) == ("UNKNOWN", {})


def test_nor_do_two_purges_tell_of_more_than_were_wanted(tmp_path: Path) -> None:
    """Some of what they took were a stranger's."""
    produced(tmp_path)
    purges = [Dropped(queue="work.queue", reason="purged", copies=n) for n in (8, 3)]
    consumed(tmp_path, numbers=range(10, 11))
    told(tmp_path, empty(2), *took_part(tmp_path), *purges, empty())
    assert verify([tmp_path]).verdict.queues["logical"].unhandled == {"purged": 9}


def test_nor_a_purge_of_a_queue_of_which_nobody_knows_what_it_held_before(tmp_path: Path) -> None:
    produced(tmp_path)
    consumed(tmp_path, numbers=range(10, 11))
    purge = Dropped(queue="work.queue", reason="purged", copies=9)
    told(tmp_path, *took_part(tmp_path), purge, empty())
    queue = verify([tmp_path]).verdict.queues["logical"]
    assert (queue.unhandled, queue.undecided) == ({}, 9)


def test_that_a_fault_fired_may_stand_behind_the_cut(tmp_path: Path) -> None:
    produced(tmp_path)
    told(tmp_path, over=False, faults=("broker-kill",))
    assert "never fired" not in reasons(verify([tmp_path]))


def test_a_message_of_which_two_copies_were_dropped_is_one(tmp_path: Path) -> None:
    produced(tmp_path)
    consumed(tmp_path, numbers=range(1, 10))
    dead = Dropped(queue="work.queue", reason="expired", names={1: ((10, 10),)})
    told(tmp_path, empty(), *took_part(tmp_path), dead, dead, empty())
    queue = verify([tmp_path]).verdict.queues["logical"]
    assert (queue.unhandled, queue.dropped) == ({"expired": 1}, {"expired": 2})


@pytest.mark.parametrize(("known", "decision"), [(True, "FAIL"), (False, "UNKNOWN")])
def test_a_history_says_nothing_of_when_others_were_gone(
    tmp_path: Path, known: bool, decision: str
) -> None:
    """Whose ledger is here, and who is not in the history, may have published behind its count."""
    produced(tmp_path, end=100)
    consumed(tmp_path, numbers=range(1, 9), left=None)
    told(tmp_path, empty(), *took_part(tmp_path), empty())
    if not known:
        late = {"numbers": range(1, 5), "confirmed": range(1, 5), "producer": 2, "end": 100}
        produced(tmp_path, "late", **late)
    assert str(verify([tmp_path]).verdict.decision) == decision
