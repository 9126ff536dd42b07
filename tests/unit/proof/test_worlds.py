"""Thousands of random runs, written as files and judged: nothing is said that is not so."""

from __future__ import annotations

import pytest

from fuzz import draw, files, planted, runner

WORLDS, PARTS = 3_000, 6
FOUND = {
    119: "second copies of what was sent again behind the cut of its ledger: the broker's fault",
    2: "so was their order",
    292: "refused, and still there, or handled by one whose ledger is missing: FAIL",
    174: "a fault that fired behind the cut of the history never fired",
    2394: "a message of which two copies were dropped was two",
    7193: "refused by one, and had by another one that gave it back: PASS",
    253: "what was dropped after somebody had read the dead letters was lost",
    1006: "so was one of several",
    1715: "so was what was sent without confirms",
    6296: "a stranger's copy was purged, and a message that is there was said to be",
    8052: "nobody knew what a counted queue held before, so that was 0: PASS over a loss",
}
"""Seeds of worlds that were judged wrongly once. Whoever changes how worlds are drawn draws others:
the kinds are tested in ``test_verify`` and ``test_refusals`` as well, and in ``fuzz.planted``."""


@pytest.mark.parametrize("part", range(PARTS))
def test_no_verdict_over_a_random_world_is_wrong(part: int) -> None:
    account = runner.run_all(range(part, WORLDS, PARTS))
    stories = [runner.tell(seed) for seed, _ in account.wrong[:1]]
    assert not account.wrong, "\n".join(stories)


def test_what_was_judged_wrongly_once_is_judged_rightly() -> None:
    account = runner.run_all(FOUND)
    assert not account.wrong, [runner.tell(seed) for seed, _ in account.wrong[:1]]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_worlds_hold_what_they_have_to() -> None:
    """Each kind of event in one world of twenty, a loss in one of four, and few of them open."""
    account = runner.run_all(range(10_000))
    assert account.short() == []


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", planted.FAULTS)
def test_each_fault_of_the_past_is_found_again(name: str) -> None:
    assert planted.worlds_until_found(name) is not None


def test_a_world_is_the_same_whenever_it_is_drawn() -> None:
    with runner.folder() as top, files.clocks():
        first, second = (runner.one(draw.script(7), top) for _ in range(2))
    assert (first.script, first.decision, first.books) == (
        second.script,
        second.decision,
        second.books,
    )
