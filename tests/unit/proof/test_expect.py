"""Whether exactly the expected came out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from rabbitproof.model import Decision, Expectation, QueueVerdict, Verdict
from rabbitproof.proof import expect

WORK = QueueVerdict(
    name="work.queue",
    judged_by="ledger",
    received=5,
    unique=5,
    lost=3,
    lost_ids=(),
    undecided=0,
    recovered=0,
    duplicates_redelivered=0,
    duplicates_resent=0,
    duplicates_unflagged=0,
    corrupt=0,
    foreign=0,
    reordered=0,
    order_unchecked=None,
    left_in_queue=0,
    dropped={"expired": 2},
)
WANTED = Expectation(
    "FAIL", "Because.", {"nacked": 0}, {"lost": "K", "dropped.expired": "K_dead"}, {}
)
SEEN = {"K": 3, "K_dead": 2}


def verdict(decision: Decision = Decision.FAIL) -> Verdict:
    return Verdict(decision, (), 10, 8, 0, 0, 0)


def told(work: QueueVerdict = WORK, wanted: Expectation = WANTED, **seen: Any) -> list[str]:
    return expect.surprises(wanted, verdict(), work, None, SEEN | seen)


def test_exactly_the_expected_is_no_surprise() -> None:
    """Every number is as planted, and nothing else is damaged."""
    assert told() == []
    assert expect.needs(WANTED) == {"K", "K_dead"}
    assert expect.needs(None) == set()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"lost": 2}, "work.queue: lost is 2, expected was K = 3."),
        ({"lost": 4}, "work.queue: lost is 4, expected was K = 3."),
        ({"dropped": {}}, "work.queue: dropped.expired is 0, expected was K_dead = 2."),
        ({"dropped": {"expired": 2, "maxlen": 1}}, "dropped.maxlen is 1, expected was nothing"),
        ({"corrupt": 1}, "work.queue: corrupt is 1, expected was nothing of the kind."),
        ({"duplicates_unflagged": 1}, "duplicates_unflagged is 1, expected was nothing"),
        ({"undecided": 1}, "undecided is 1, expected was nothing"),
    ],
)
def test_each_difference_is_told(change: dict[str, Any], says: str) -> None:
    """One too few, one too many, and damage that nobody planted."""
    (found,) = told(replace(WORK, **change))
    assert says in found


def test_a_witness_that_saw_nothing_proves_nothing() -> None:
    """K of 0 is a scenario in which nothing happened; None, one that nobody watched."""
    assert "Nothing happened: K is 0 by the second witness." in told(replace(WORK, lost=0), K=0)
    assert "The second witness could not tell K." in told(K=None)


def test_another_verdict_is_a_surprise() -> None:
    """Also when all numbers are right."""
    found = expect.surprises(WANTED, verdict(Decision.PASS), WORK, None, SEEN)
    assert found == ["The verdict is PASS, expected was FAIL."]


def test_a_queue_that_there_is_not_is_a_surprise() -> None:
    """An expectation of the audit queue, where there is none."""
    wanted = replace(WANTED, audit={"lost": 1})
    assert "There is no audit queue." in told(wanted=wanted)
