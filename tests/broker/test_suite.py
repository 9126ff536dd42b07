"""Several scenarios on one private node: what goes wrong with one never reaches the next."""

from __future__ import annotations

import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.errors import NodeFailed
from rabbitproof.model import Decision
from rabbitproof.trial import dice, place, scenario, suite

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator


def finish(work: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


@pytest.fixture
def venue(node: Any) -> Any:
    return lambda one, run: place.on_node(node, one.wiring(), run)


def test_a_scenario_becomes_an_entry(venue: Any) -> None:
    """With its result, and with what its faults were drawn from."""
    chosen = dice.drawn(scenario.adapted(scenario.find("offline"), count=500), 11)
    carried = finish(suite.carry_out(chosen, venue, private=True))
    entry = carried.entry
    assert (entry.scenario, entry.decision, entry.left_out) == ("offline", Decision.PASS, None)
    assert entry.result.verdict.confirmed == 500
    assert entry.result.environment["seed"] == 11
    assert 0 < entry.result.longest_gap_s < 60
    assert carried.trial is not None
    assert not suite.went_wrong(carried)


def test_what_breaks_a_broker_is_left_out_where_it_is_not_ours(venue: Any) -> None:
    """With the reason, and without a verdict."""
    carried = finish(suite.carry_out(scenario.find("broker-kill"), venue, private=False))
    assert carried.entry.decision is None
    assert "needs a broker of our own" in carried.entry.left_out


def test_an_error_is_unknown_and_not_the_end() -> None:
    """The entry has the sentence; the node is not trusted any more."""

    @contextmanager
    def broken(_one: Any, _run: str) -> Iterator[Any]:
        raise NodeFailed("The node did not come back.")
        yield

    carried = finish(suite.carry_out(scenario.find("offline"), broken, private=True))
    assert carried.entry.decision is Decision.UNKNOWN
    assert "did not come back" in carried.entry.broken
    assert suite.went_wrong(carried)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no interval timer")
def test_a_trial_that_never_ends_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it waits for: its deadline is a signal."""
    monkeypatch.setattr(suite, "deadline_s", lambda _: 0.3)

    @contextmanager
    def stuck(_one: Any, _run: str) -> Iterator[Any]:
        threading.Event().wait(30)
        yield

    began = time.monotonic()
    carried = finish(suite.carry_out(scenario.find("offline"), stuck, private=True))
    assert time.monotonic() - began < 10
    assert carried.entry.decision is Decision.UNKNOWN
    assert "its deadline" in carried.entry.broken


def test_a_deadline_grows_with_the_work() -> None:
    """A million messages get more time than ten thousand, and a slow rate more than a fast one."""
    short, long = scenario.find("offline"), scenario.find("stress")
    assert 180 < suite.deadline_s(short) < suite.deadline_s(long) < 720
    slow = scenario.adapted(short, seconds=600)
    assert suite.deadline_s(slow) > 1200
