"""What was refused for good, and when that makes a verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from files import consumed, empty, produced, told, took_part
from rabbitproof.proof.history import Dropped
from rabbitproof.proof.verify import verify

if TYPE_CHECKING:
    from pathlib import Path

REJECTS = {"answer": "reject"}


def judged(folder: Path) -> tuple[str, str]:
    verdict = verify([folder]).verdict
    return str(verdict.decision), " ".join(verdict.reasons)


def test_what_its_reader_may_have_given_back_was_handled_by_nobody_for_sure(tmp_path: Path) -> None:
    """One had all ten and lost its connection; the other refused one of them, perhaps that copy."""
    produced(tmp_path)
    consumed(tmp_path, "had", events=["lost", "connected"])
    consumed(tmp_path, "refuses", numbers=[3], options=REJECTS)
    decision, why = judged(tmp_path)
    assert decision == "UNKNOWN"
    assert "1 confirmed message was rejected by a consumer in work.queue; it or another one" in why


@pytest.mark.parametrize(("left", "decision"), [(4, "UNKNOWN"), (0, "FAIL")])
def test_a_refusal_that_was_not_heard_left_the_message_where_it_was(
    tmp_path: Path, left: int, decision: str
) -> None:
    """Unless the queue is proven empty: then the broker heard of it in the end."""
    produced(tmp_path)
    consumed(tmp_path, events=["lost", "connected"], left=left, options=REJECTS)
    assert judged(tmp_path)[0] == decision


@pytest.mark.parametrize("torn", ["nameless", "endless"])
def test_who_handled_it_may_stand_in_a_ledger_that_is_not_whole(tmp_path: Path, torn: str) -> None:
    produced(tmp_path)
    consumed(tmp_path, "refuses", options=REJECTS)
    other: dict[str, Any] = {"numbers": [], "end": None}
    path = consumed(tmp_path, "other", **other)
    if torn == "nameless":
        path.write_bytes(b"")
    decision, why = judged(tmp_path)
    assert decision == "UNKNOWN"
    assert (
        "10 confirmed messages were rejected by a consumer in work.queue, and nobody whose" in why
    )


@pytest.mark.parametrize(("events", "decision"), [([], "PASS"), (["lost", "connected"], "FAIL")])
def test_a_poison_message_of_which_another_copy_was_handled_is_done(
    tmp_path: Path, events: list[str], decision: str
) -> None:
    """But not if who had it may have given it back, which is what makes a message poison."""
    produced(tmp_path)
    consumed(tmp_path, events=events)
    dead = Dropped(queue="work.queue", reason="delivery_limit", names={1: ((3, 3),)})
    told(tmp_path, empty(), *took_part(tmp_path), dead, empty())
    assert judged(tmp_path)[0] == decision
