from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from rabbitproof.model import (
    Books,
    Decision,
    FaultRecord,
    QueueVerdict,
    TrialResult,
    Verdict,
)
from rabbitproof.view import verdict as words

GOOD = QueueVerdict(
    name="work.queue", judged_by="ledger", received=100, unique=100, lost=0, lost_ids=(),
    undecided=0, recovered=0, duplicates_redelivered=0, duplicates_resent=0,
    duplicates_unflagged=0, corrupt=0, foreign=0, reordered=0, order_unchecked=None,
    left_in_queue=0, books=Books(wanted=100, seen=100),
)  # fmt: skip
BAD = replace(
    GOOD, received=95, unique=94, lost=2, lost_among=2, lost_ids=("id-1", "id-2"), lost_head=1,
    lost_middle=1, lost_tail=0, recovered=1, nacked_delivered=1, dropped={"expired": 3},
    unhandled={"expired": 3}, dead_lettered=3, reordered=None, left_in_queue=None,
    order_unchecked="several consumers shared the queue",
    books=Books(wanted=100, seen=93, damaged=1, dropped=3, left=1, lost=2, residue=0),
)  # fmt: skip


def result(decision: Decision = Decision.PASS, **changes: Any) -> TrialResult:
    settings = {
        "decision": decision, "reasons": (), "attempted": 101, "confirmed": 100, "nacked": 1,
        "returned": 0, "in_doubt": 0, "queues": {"work.queue": GOOD},
    } | changes  # fmt: skip
    return TrialResult(
        verdict=Verdict(**settings),
        scenario="offline",
        run="0a1b2c3d4e5f",
        publish_per_s=25_000,
        consume_per_s=50_000,
        claims=(("All was well.", True),),
        environment={"rabbitmq": "3.10.8"},
    )


def test_the_books_are_a_sum_that_a_person_can_follow() -> None:
    """A column for each queue; what is nought everywhere and says nothing is left out."""
    shown = words.details(result(Decision.FAIL, queues={"work.queue": BAD, "audit.queue": GOOD}))
    start = next(i for i, line in enumerate(shown) if "work.queue  audit.queue" in line)
    end = next(i for i, line in enumerate(shown) if line.startswith("left in the queue"))
    table = shown[start : end + 1]
    assert {len(line) for line in table if line} == {len(table[0])}
    assert [" ".join(line.split()) for line in table] == [
        "work.queue audit.queue",
        "should be here 100 100",
        "= seen 93 100",
        "+ came only damaged 1 0",
        "+ dropped, reason known 3 0",
        "+ still in the queue 1 0",
        "+ lost 2 0",
        "",
        "copies received 95 100",
        "duplicates: not flagged 0 0",
        "corrupt 0 0",
        "out of order - 0",
        "not confirmed, but here 1 0",
        "of them nacked 1 0",
        "copies expired 3 0",
        "left in the queue ? 0",
    ]
    assert "lost in work.queue (1 at the head, 1 in the middle): id-1, id-2" in shown
    assert "order was not checked: several consumers shared the queue." in shown
    assert "  [ok] All was well." in shown
    assert "of 101 messages: 100 confirmed, 1 nacked, 0 returned, 0 in doubt" in shown


def test_a_good_run_shows_the_noughts_that_matter() -> None:
    """Lost, unflagged, corrupt, out of order and left, and no other."""
    shown = words.details(result())
    labels = [line[:24].strip() for line in shown if line[24:].strip().isdigit()]
    assert labels == [
        "should be here", "= seen", "+ lost", "copies received", "duplicates: not flagged",
        "corrupt", "out of order", "left in the queue",
    ]  # fmt: skip


def test_copies_too_many_and_what_nobody_can_tell_are_rows() -> None:
    """What does not balance stands in the table as well as among the reasons."""
    odd = replace(GOOD, books=Books(wanted=100, seen=99, undecided=1, residue=-2), residue=-2)
    lines = words.details(result(Decision.UNKNOWN, queues={"work.queue": odd}))
    shown = [" ".join(line.split()) for line in lines]
    assert "+ nobody can tell 1" in shown
    assert "copies too many for that 2" in shown


def test_pass_names_the_queues_of_which_it_says_nothing() -> None:
    """Every queue, but those that nobody read."""
    assert words.headline(result()).endswith("was accounted for in every queue.")
    counted = replace(GOOD, judged_by="count", books=Books(wanted=100, undecided=100))
    said = words.headline(result(queues={"work.queue": GOOD, "audit.queue": counted}))
    assert said.endswith("in every queue but audit.queue, which nobody read.")


def test_names_and_reasons_from_outside_are_made_safe() -> None:
    """A queue's name can't command the terminal."""
    evil = "\x1b[31mred"
    bad = result(
        Decision.FAIL,
        queues={evil: replace(BAD, dropped={evil: 1})},
        reasons=(f"2 are lost in {evil}.",),
        notes=(f"{evil} was noted.",),
    )
    shown = "\n".join([words.headline(bad), *words.details(bad)])
    assert "\x1b" not in shown
    assert "  note: " in shown


def test_the_object_has_what_is_documented() -> None:
    """Reasons that dropped nothing are there with 0; faults are there with their evidence."""
    full = replace(
        result(Decision.FAIL, queues={"work.queue": BAD}, notes=("A note.",)),
        faults=(FaultRecord("broker-kill", 1.2, fired=True, evidence="It died."),),
    )
    told = json.loads(json.dumps(words.as_object(full)))
    assert told["verdict"] == "FAIL"
    assert told["notes"] == ["A note."]
    queue = told["queues"]["work.queue"]
    assert queue["dropped"] == {
        "expired": 3, "maxlen": 0, "delivery_limit": 0, "rejected": 0, "purged": 0
    }  # fmt: skip
    assert (queue["lost"], queue["lost_ids"]) == (2, ["id-1", "id-2"])
    assert queue["reordered"] is None
    assert queue["reordered_reason"] == "several consumers shared the queue"
    assert queue["books"]["wanted"] == 100
    (fault,) = told["faults"]
    assert fault.items() >= {"name": "broker-kill", "at_s": 1.2, "fired": True}.items()
