"""What a run's history proves together with its ledgers, and what it can't."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from zlib import crc32

import pytest
from msgspec import structs
from pyroaring import BitMap

from files import RUN, SECOND, START, consumed, cut, empty, produced, told, took_part
from rabbitproof.errors import LedgerFailed
from rabbitproof.identity import Source
from rabbitproof.model import Claims, FaultRecord
from rabbitproof.proof import frames, history
from rabbitproof.proof import record as ledgers
from rabbitproof.proof.entries import DeclaredQueue, Effective, Wiring
from rabbitproof.proof.history import (
    Began,
    Broke,
    Counted,
    Dropped,
    Ended,
    Found,
    Measured,
    Over,
    Plan,
    Sampled,
    Writer,
    read,
)
from rabbitproof.proof.journal import Journal
from rabbitproof.proof.ledger import QueueReceipts, runs
from rabbitproof.proof.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rabbitproof.model import TrialResult

QUORUM = Found(queue="work.queue", is_now=Effective(type="quorum"))
NOBODY = Claims(empties=False)


def decided(folder: Path) -> tuple[str, int, int]:
    """The verdict, how many are lost, and how many are undecided."""
    result = verify([folder])
    queue = result.verdict.queues["logical"]
    return str(result.verdict.decision), queue.lost, queue.undecided


def reasons(folder: Path) -> str:
    return " ".join(verify([folder]).verdict.reasons)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The clock since the boot, in seconds, as a history's writer sees it."""
    now = [100]
    monkeypatch.setattr(history, "since_boot_ns", lambda: now[0] * SECOND)
    return now


def test_what_the_plan_says_is_told_with_the_verdict(tmp_path: Path) -> None:
    produced(tmp_path)
    consumed(tmp_path, numbers=range(1, 10))
    told(
        tmp_path,
        *took_part(tmp_path),
        empty(),
        Sampled(at_s=1.0, totals={"confirmed": 10}, depths={"logical": 3}),
        Measured(without_service_s=1.5, longest_gap_s=4.5, values={"disk_mb": 7}),
        title="T",
        versions={"rabbitmq": "4.3.6"},
    )
    result = verify([tmp_path])
    assert (str(result.verdict.decision), result.scenario, result.title) == ("FAIL", "offline", "T")
    assert result.verdict.queues["logical"].lost == 1
    assert "kept no ledger" not in reasons(tmp_path)
    assert (result.longest_gap_s, result.without_service_s) == (4.5, 1.5)
    assert (result.environment["rabbitmq"], result.environment["disk_mb"]) == ("4.3.6", 7)
    assert [one.name for one in result.series] == ["confirmed", "logical ready"]


# --- who took part, and with what -------------------------------------------------------------


@pytest.mark.parametrize(("seen", "decision"), [(11, "PASS"), (10, "FAIL")])
def test_a_ledger_without_an_end_is_whole_if_somebody_says_so(
    tmp_path: Path, seen: int, decision: str
) -> None:
    """Both died, and whoever saw them end wrote down how long their files were."""
    produced(tmp_path, end=None)
    consumed(tmp_path, numbers=range(1, seen), end=None)
    told(tmp_path, *took_part(tmp_path), empty())
    assert decided(tmp_path)[0] == decision


def test_and_what_was_said_last_counts(tmp_path: Path) -> None:
    """A producer was killed, and another process went on with its file."""
    path = produced(tmp_path, end=None)
    consumed(tmp_path)
    first = history.ended(path.stem, "producer", "killed", "", path)
    assert first.size is not None
    first = structs.replace(first, size=first.size - 20)
    told(tmp_path, Began(name=path.stem, kind="producer"), first, *took_part(tmp_path), empty())
    assert decided(tmp_path)[0] == "PASS"


@pytest.mark.parametrize("kind", ["producer", "consumer"])
def test_and_cut_off_if_it_is_shorter(tmp_path: Path, kind: str) -> None:
    produced(tmp_path)
    consumed(tmp_path)
    told(tmp_path, *took_part(tmp_path), empty())
    cut(tmp_path / f"{kind}-{kind[0]}.ledger", 3)
    assert decided(tmp_path)[0] == "UNKNOWN"
    assert f"({kind}-{kind[0]}.ledger) is cut off: it has" in reasons(tmp_path)
    assert "known by number only" not in reasons(tmp_path)


def test_and_another_file_of_that_name_is_not_taken_for_it(tmp_path: Path) -> None:
    produced(tmp_path)
    path = consumed(tmp_path)
    told(tmp_path, *took_part(tmp_path), empty())
    path.unlink()
    consumed(tmp_path, numbers=range(11, 21))
    assert "is not the one that the history" in reasons(tmp_path)


def test_a_file_that_grew_is_not_known_to_be_whole(tmp_path: Path) -> None:
    """Somebody went on with it, and may do so still."""
    path = produced(tmp_path, end=None)
    consumed(tmp_path)
    told(tmp_path, *took_part(tmp_path), empty())
    assert decided(tmp_path)[0] == "PASS"
    known = ledgers.read(path)
    with Journal.resume(known, known.header):
        pass
    assert decided(tmp_path)[0] == "UNKNOWN"
    assert "has no end, and nobody says that it is whole" in reasons(tmp_path)


def test_a_producers_ledger_of_which_nobody_says_that_it_is_whole_leaves_it_open(
    tmp_path: Path,
) -> None:
    produced(tmp_path, end=None)
    consumed(tmp_path)
    told(tmp_path, *took_part(tmp_path, marked=False), empty())
    assert decided(tmp_path)[0] == "UNKNOWN"
    assert "has no end, and nobody says that it is whole" in reasons(tmp_path)


@pytest.mark.parametrize("wrote", [True, False], ids=["a file that is gone", "no file"])
def test_a_participant_whose_ledger_is_not_there_makes_it_unknown(
    tmp_path: Path, wrote: bool
) -> None:
    produced(tmp_path)
    other = Ended(name="c", kind="consumer", how="failed", file="c.ledger" if wrote else "")
    told(tmp_path, *took_part(tmp_path), Began(name="c", kind="consumer"), other, empty(10))
    assert decided(tmp_path)[0] == "UNKNOWN"
    assert "the consumer c" in reasons(tmp_path)


@pytest.mark.parametrize("marked", [True, False], ids=["a history", "none"])
def test_what_one_rejected_another_may_have_handled_whose_ledger_is_not_all_here(
    tmp_path: Path, marked: bool
) -> None:
    """It was retried from the dead-letter queue."""
    produced(tmp_path)
    consumed(tmp_path, options={"answer": "reject"})
    other = consumed(tmp_path, "d", pid=2)
    if marked:
        told(tmp_path, *took_part(tmp_path), empty())
    assert str(verify([tmp_path]).verdict.decision) == "PASS"
    cut(other, 2)
    assert str(verify([tmp_path]).verdict.decision) == "UNKNOWN"
    kept = "" if marked else ", or a consumer that kept no ledger did"
    assert f"and nobody whose ledger is all here handled them{kept}." in reasons(tmp_path)


def test_with_one_that_is_not_here_no_order_was_promised(tmp_path: Path) -> None:
    """Two consumers shared the queue."""
    produced(tmp_path)
    consumed(tmp_path, numbers=[2, 1, 3, 4])
    other = consumed(tmp_path, "d", numbers=range(5, 11), pid=2)
    told(tmp_path, *took_part(tmp_path), empty())
    assert decided(tmp_path)[0] == "PASS"
    other.unlink()
    assert decided(tmp_path)[0] == "UNKNOWN"
    assert "1 message was delivered by logical behind later ones" in reasons(tmp_path)


def test_and_so_does_one_of_which_only_the_beginning_is_known(tmp_path: Path) -> None:
    produced(tmp_path)
    told(tmp_path, *took_part(tmp_path), Began(name="c", kind="consumer"), empty(10))
    assert "the consumer c" in reasons(tmp_path)


def test_but_not_whose_ledger_is_here_and_whose_end_nobody_wrote_down(tmp_path: Path) -> None:
    produced(tmp_path)
    consumed(tmp_path)
    begun = [one for one in took_part(tmp_path) if not isinstance(one, Ended)]
    told(tmp_path, *begun, over=False)
    assert "is missing" not in reasons(tmp_path)


# --- the history itself -----------------------------------------------------------------------


def test_a_history_without_an_end_leaves_it_open(tmp_path: Path) -> None:
    """Whatever it says may have changed after that, so nothing is lost either."""
    produced(tmp_path)
    consumed(tmp_path, numbers=range(1, 9), end=None)
    told(tmp_path, *took_part(tmp_path), empty(), over=False)
    assert decided(tmp_path) == ("UNKNOWN", 0, 2)
    assert "has no end: the run was not over" in reasons(tmp_path)


def test_nor_does_a_damaged_one_prove_anything(tmp_path: Path) -> None:
    produced(tmp_path)
    consumed(tmp_path, numbers=range(1, 9))
    path = told(tmp_path, *took_part(tmp_path), empty())
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)
    assert decided(tmp_path)[:2] == ("UNKNOWN", 0)
    assert "is damaged" in reasons(tmp_path)


def test_of_two_copies_the_longer_one_counts(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    produced(one)
    consumed(one)
    path = told(one, *took_part(one), empty())
    two.mkdir()
    (two / path.name).write_bytes(path.read_bytes()[:-30])
    result = verify([two, one])
    assert str(result.verdict.decision) == "PASS"
    assert "copies of one history" in " ".join(result.verdict.notes)


def test_two_that_went_apart_leave_it_open(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    produced(one)
    consumed(one)
    told(one, *took_part(one), empty())
    told(two, *took_part(one), empty(5))
    assert "two histories of this run that went apart" in " ".join(
        verify([one, two]).verdict.reasons
    )


BAD: dict[str, bytes] = {
    "empty": b"",
    "of another kind": b"GIF89a",
    "a newer version": b"rabbitproof history 9\n",
    "no plan": frames.HISTORY,
    "a ledger": frames.LINE,
}


@pytest.mark.parametrize("kind", BAD)
def test_a_file_that_is_no_history_is_told_in_a_sentence(tmp_path: Path, kind: str) -> None:
    produced(tmp_path)
    (tmp_path / "x.history").write_bytes(BAD[kind])
    with pytest.raises(LedgerFailed, match=r"x\.history.*(copy it again|install a newer)"):
        verify([tmp_path])


SHAPES: dict[str, dict[str, Any]] = {
    "a text for a number": {"entry": "counted", "queue": "q", "by": "api", "messages": "2"},
    "below 0": {"entry": "counted", "queue": "q", "by": "api", "messages": -1},
    "an unknown key": {"entry": "over", "verdict": "PASS"},
    "an unknown entry": {"entry": "verdict"},
    "no such numbers": {
        "entry": "dropped", "queue": "q", "reason": "r", "names": {"1": [[0, 2**70]]},
    },
    "too many numbers": {
        "entry": "dropped", "queue": "q", "reason": "r", "names": {"1": [[1, 2**30]]},
    },
    "no such producer": {"entry": "dropped", "queue": "q", "reason": "r", "names": {"0": [[1, 2]]}},
    "a figure that is none": {"entry": "measured", "longest_gap_s": "x"},
    "a second plan": {"entry": "plan", "run": RUN, "scenario": "x"},
    "a fault after the end of the world": {
        "entry": "fault", "record": {"name": "x", "fired": True, "evidence": "", "at_s": "never"},
    },
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_an_entry_of_another_shape_is_damage(tmp_path: Path, shape: str) -> None:
    from rabbitproof.proof.codec import encode

    produced(tmp_path)
    consumed(tmp_path)
    path = told(tmp_path, *took_part(tmp_path), empty(), over=False)
    reader = frames.Reader(path.read_bytes(), frames.HISTORY)
    list(reader)
    with path.open("ab") as file:
        file.write(frames.frame(reader.crc, history.ENTRY, encode(SHAPES[shape])))
    assert decided(tmp_path)[0] == "UNKNOWN"
    assert "is damaged (" in reasons(tmp_path)


def test_a_plan_that_expects_what_no_verdict_has_is_none(tmp_path: Path) -> None:
    from rabbitproof.proof.codec import encode

    plan = {"entry": "plan", "run": RUN, "scenario": "x"}
    expects = {"verdict": "PASS", "why": "", "totals": {"reasons": 1}}
    for more, says in (({}, "has no end"), ({"expects": expects}, "has no plan")):
        payload = frames.frame(crc32(frames.HISTORY), history.ENTRY, encode(plan | more))
        (tmp_path / "x.history").write_bytes(frames.HISTORY + payload)
        with pytest.raises(LedgerFailed, match="has no plan") if more else nullcontext():
            assert says in str(read(tmp_path / "x.history").cut)


def test_a_history_is_for_its_owner_alone(tmp_path: Path) -> None:
    assert told(tmp_path).stat().st_mode & 0o077 == 0


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    entries = [Began(name="é\ud800", kind="producer"), empty(3), Over()]
    found = read(told(tmp_path, *entries, over=False))
    assert found.cut is None
    assert [type(one) for one in found.entries] == [Began, Counted, Over]
    assert found.of(Began)[0].name == "é\\ud800"


# --- counts -----------------------------------------------------------------------------------


def test_a_count_from_behind_everybodys_end_says_what_is_left(tmp_path: Path) -> None:
    """The consumer itself could not count any more."""
    produced(tmp_path)
    consumed(tmp_path, numbers=range(1, 9), left=None)
    told(tmp_path, *took_part(tmp_path), empty(1))
    assert decided(tmp_path)[:2] == ("FAIL", 1)


def test_one_from_before_it_does_not(tmp_path: Path) -> None:
    produced(tmp_path)
    consumed(tmp_path, numbers=range(1, 9), end=None)
    *all_but_last, last = took_part(tmp_path)
    told(tmp_path, *all_but_last, empty(), last)
    assert decided(tmp_path)[:2] == ("UNKNOWN", 0)


def test_nor_while_somebody_still_consumes(tmp_path: Path) -> None:
    produced(tmp_path)
    consumed(tmp_path, numbers=range(1, 9), end=None)
    told(tmp_path, *took_part(tmp_path), empty(0, consumers=1))
    assert decided(tmp_path)[:2] == ("UNKNOWN", 0)


@pytest.mark.parametrize(
    ("after_s", "says", "decision"), [(5, 0, "UNKNOWN"), (7, 0, "FAIL"), (7, 2, "UNKNOWN")]
)
def test_what_the_api_says_is_old_for_some_seconds(
    tmp_path: Path, clock: list[int], after_s: int, says: int, decision: str
) -> None:
    produced(tmp_path)
    consumed(tmp_path, numbers=range(1, 9))
    queue = DeclaredQueue(name="work.queue", role="work", type="quorum")
    plan = Plan(
        run=RUN, scenario="x", topology=Wiring(queues=(queue,)), names={"work.queue": "logical"},
        claims=NOBODY,
    )  # fmt: skip
    with Writer(tmp_path, plan) as writer:
        for entry in (QUORUM, *took_part(tmp_path), empty()):
            writer.write(entry)
        clock[0] += after_s
        writer.write(Counted(queue="work.queue", by="api", messages=says))
        writer.write(Over())
    assert decided(tmp_path)[0] == decision


def test_what_a_queue_held_before_may_be_what_is_counted(tmp_path: Path) -> None:
    """Ten of fifteen may be the old ones, so that five are lost, or none."""
    produced(tmp_path, left=15)
    told(tmp_path, empty(10), *took_part(tmp_path), empty(15))
    assert decided(tmp_path) == ("UNKNOWN", 0, 5)


def test_also_where_its_producer_counted_it(tmp_path: Path) -> None:
    queues = [
        {"name": "work.queue", "role": "work", "effective": {"type": "classic"}, "messages": 10}
    ]
    produced(tmp_path, left=15, topology={"vhost": "/", "queues": queues})
    result = verify([tmp_path])
    assert (str(result.verdict.decision), result.verdict.queues["work.queue"].undecided) == (
        "UNKNOWN", 5,
    )  # fmt: skip


# --- claims, faults, drops --------------------------------------------------------------------

READY = Claims(ready_before=True, empties=False)


def ready(folder: Path, *counts: Counted) -> TrialResult:
    """The verdict where these were counted before a consumer began."""
    produced(folder)
    consumed(folder)
    mine, its_end, began, ended = took_part(folder)
    told(folder, mine, its_end, *counts, began, ended, empty(), claims=READY)
    return verify([folder])


def test_a_claim_is_held_against_the_counts(tmp_path: Path) -> None:
    assert [held for _, held in ready(tmp_path / "a", empty(10)).claims] == [True]
    result = ready(tmp_path / "b", empty(9))
    assert str(result.verdict.decision) == "FAIL"
    assert result.claims == (
        ("logical held 9 Ready messages before a consumer started, not the 10 that were "
         "confirmed.", False),
    )  # fmt: skip


def test_and_what_nobody_counted_leaves_it_open(tmp_path: Path) -> None:
    result = ready(tmp_path)
    assert (str(result.verdict.decision), result.claims[0][1]) == ("UNKNOWN", None)
    assert "Nobody counted logical before a consumer started." in result.verdict.reasons


@pytest.mark.parametrize(("left", "decision"), [(0, "PASS"), (2, "FAIL"), (None, "UNKNOWN")])
def test_the_work_queue_is_claimed_to_be_empty(
    tmp_path: Path, left: int | None, decision: str
) -> None:
    produced(tmp_path)
    consumed(tmp_path, left=None, end=None)
    counts = [] if left is None else [empty(left)]
    told(tmp_path, *took_part(tmp_path), *counts, claims=Claims())
    assert decided(tmp_path)[0] == decision


@pytest.mark.parametrize("kind", ["producer", "consumer"])
def test_what_speaks_against_a_claim_may_be_what_a_cut_ledger_lacks(
    tmp_path: Path, kind: str
) -> None:
    """That half was confirmed, or came."""
    produced(tmp_path)
    consumed(tmp_path)
    consumed(tmp_path, "a", queue="audit.queue", pid=2)
    names = {"work.queue": "logical", "audit.queue": "mirror"}
    mine, its_end, *others, reads_audit, its_last = took_part(tmp_path)
    audit = {"queue": "audit.queue"}
    told(
        tmp_path,
        *(mine, its_end, empty(10), structs.replace(empty(10), **audit)),
        *(*others, structs.replace(reads_audit, **audit), its_last),
        *(empty(), structs.replace(empty(), **audit)),
        claims=Claims(ready_before=True, audit_equals_work=True),
        topology=Wiring(
            queues=tuple(DeclaredQueue(name=one, role=one.partition(".")[0]) for one in names)
        ),
        names=names,
    )
    assert (reasons(tmp_path), decided(tmp_path)[0]) == ("", "PASS")
    cut(tmp_path / f"{kind}-{kind[0]}.ledger", 2)
    result = verify([tmp_path])
    assert str(result.verdict.decision) == "UNKNOWN"
    told_so = [held for _, held in result.claims if not held]
    assert told_so == [None] * (2 if kind == "producer" else 1)
    assert "as far as the files here tell" in reasons(tmp_path)


def test_so_may_what_a_cut_history_lacks(tmp_path: Path) -> None:
    """Somebody read on, and the count from behind that is not here."""
    produced(tmp_path)
    consumed(tmp_path, numbers=range(1, 6), left=5)
    consumed(tmp_path, "d", numbers=range(6, 11), end=None, started_ns=START + 30 * SECOND)
    told(tmp_path, *took_part(tmp_path), over=False, claims=Claims())
    assert decided(tmp_path)[0] == "UNKNOWN"
    assert "Nobody could count logical at the end." in reasons(tmp_path)


KILL = FaultRecord("broker-kill", 1.5, fired=True, evidence="It died.")


@pytest.mark.parametrize(
    ("records", "decision"),
    [([KILL, KILL], "PASS"), ([KILL], "UNKNOWN"), ([KILL, replace(KILL, fired=False)], "UNKNOWN")],
)
def test_each_fault_that_was_planned_has_to_have_happened(
    tmp_path: Path, records: list[FaultRecord], decision: str
) -> None:
    produced(tmp_path)
    consumed(tmp_path)
    broke = [Broke(record=one) for one in records]
    told(tmp_path, *took_part(tmp_path), *broke, empty(), faults=("broker-kill", "broker-kill"))
    assert decided(tmp_path)[0] == decision
    assert ("broker-kill never fired" in reasons(tmp_path)) == (decision == "UNKNOWN")
    assert len(verify([tmp_path]).faults) == 2


def test_dropped_messages_are_in_the_books(tmp_path: Path) -> None:
    produced(tmp_path)
    consumed(tmp_path, numbers=range(1, 9))
    gone = Dropped(queue="work.queue", reason="expired", copies=2)
    permits = Claims(empties=False, permits=("expired",))
    told(tmp_path, *took_part(tmp_path), gone, empty(), claims=permits)
    queue = verify([tmp_path]).verdict.queues["logical"]
    assert (queue.lost, queue.dropped) == (0, {"expired": 2})


def test_by_name_they_are_as_many_entries_as_it_takes(tmp_path: Path) -> None:
    odd = range(1, 4 * history.RANGES, 2)
    receipts = QueueReceipts(foreign=3)
    receipts.of(Source(RUN, 1)).add(odd, redelivered=False)
    entries = list(history.dropped("work.queue", "maxlen", receipts, RUN, "So it is."))
    assert len(entries) == 3
    produced(tmp_path, numbers=range(1, 4 * history.RANGES), confirmed=range(1, 4 * history.RANGES))
    consumed(tmp_path, numbers=range(2, 4 * history.RANGES, 2))
    told(tmp_path, *took_part(tmp_path), *entries, empty())
    queue = verify([tmp_path]).verdict.queues["logical"]
    assert (queue.lost, queue.dropped, queue.dead_lettered) == (
        0, {"maxlen": len(odd)}, len(odd),
    )  # fmt: skip


def test_ranges_of_numbers_are_all_of_them() -> None:
    numbers = BitMap([1, 2, 3, 7, 9, 10])
    assert list(runs(numbers)) == [range(1, 4), range(7, 8), range(9, 11)]
    assert list(runs(BitMap())) == []


def test_a_queue_that_nobody_read_is_judged_by_the_count_of_the_history(tmp_path: Path) -> None:
    produced(tmp_path)
    told(tmp_path, *took_part(tmp_path), empty(7))
    assert decided(tmp_path)[:2] == ("FAIL", 3)
    assert verify([tmp_path]).verdict.queues["logical"].judged_by == "count"
