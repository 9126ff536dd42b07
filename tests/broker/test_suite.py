"""Several scenarios on one private node: what goes wrong with one never reaches the next.

And several releases one after the other: what goes wrong with one never reaches the next either.
"""

from __future__ import annotations

import json
import os
import shlex
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.broker import releases
from rabbitproof.cli.exits import Exit
from rabbitproof.cli.releases import Every
from rabbitproof.errors import NodeFailed
from rabbitproof.model import Decision
from rabbitproof.trial import dice, place, scenario, suite
from support import finish

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def venue(node: Any) -> Any:
    return lambda one, run: place.on_node(node, one.wiring(), run)


def test_a_scenario_becomes_an_entry(venue: Any) -> None:
    """With its result, and with what its faults were drawn from."""
    chosen = dice.drawn(scenario.adapted(scenario.find("offline"), count=500), 11)
    carried = finish(suite.run_scenario(chosen, venue, private=True))
    entry = carried.entry
    assert (entry.scenario, entry.decision, entry.left_out) == ("offline", Decision.PASS, None)
    assert entry.result.verdict.confirmed == 500
    assert entry.result.environment["seed"] == 11
    assert 0 < entry.result.longest_gap_s < 60
    assert carried.trial is not None
    assert not suite.went_wrong(carried)


def test_what_breaks_a_broker_is_left_out_where_it_is_not_ours(venue: Any) -> None:
    """With the reason, and without a verdict."""
    carried = finish(suite.run_scenario(scenario.find("broker-kill"), venue, private=False))
    assert carried.entry.decision is None
    assert "needs a broker of our own" in carried.entry.left_out


def test_an_error_is_unknown_and_not_the_end() -> None:
    """The entry has the sentence; the node is not trusted any more."""

    @contextmanager
    def broken(_one: Any, _run: str) -> Iterator[Any]:
        raise NodeFailed("The node did not come back.")
        yield

    carried = finish(suite.run_scenario(scenario.find("offline"), broken, private=True))
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
    carried = finish(suite.run_scenario(scenario.find("offline"), stuck, private=True))
    assert time.monotonic() - began < 10
    assert carried.entry.decision is Decision.UNKNOWN
    assert "its deadline" in carried.entry.broken


def test_a_deadline_grows_with_the_work() -> None:
    """A million messages get more time than ten thousand, and a slow rate more than a fast one."""
    short, long = scenario.find("offline"), scenario.find("stress")
    assert 180 < suite.deadline_s(short) < suite.deadline_s(long) < 720
    slow = scenario.adapted(short, seconds=600)
    assert suite.deadline_s(slow) > 1200


@pytest.fixture
def several(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A cache with two releases of this machine's, and one that does not start; their versions."""
    known = {releases.series(one.version): one for one in releases.cached()}
    if len(known) < 2:
        pytest.skip("needs two releases in the cache: `rabbitproof broker versions --fetch 4.0`")
    newest, *_, oldest = known.values()
    folder = tmp_path / "cache/releases"
    folder.mkdir(parents=True)
    for one in (newest, oldest):
        (folder / one.version).symlink_to(releases.tree(one))
    stillborn = folder / "3.99.0"
    home = stillborn / "usr/lib/rabbitmq/lib/rabbitmq_server-3.99.0"
    programs = ("sbin/rabbitmq-env", "sbin/rabbitmq-server", "../../../erlang/bin/erl")
    for program in (home / name for name in programs):
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text("#!/bin/sh\nexit 1\n")
        program.chmod(0o755)
    (home / "plugins").mkdir()
    monkeypatch.setenv("RABBITPROOF_CACHE", str(folder.parent))
    monkeypatch.setattr(releases, "find", lambda: None)
    return [newest.version, oldest.version]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a release is fetched with apt")
def test_all_releases_one_after_the_other(
    several: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each on a broker of its own release; one that does not start is UNKNOWN, and only that."""
    chosen = [scenario.adapted(scenario.find("offline"), count=500)]
    report = tmp_path / "report"
    typed = shlex.join(
        ("rabbitproof", "prove", "--all", "--rabbitmq", "all", "--report", str(report))
    )
    every = Every(typed, None, report, as_json=True)
    assert every.run(chosen) is Exit.UNKNOWN
    told = json.loads(capsys.readouterr().out)
    assert set(told["releases"]) == {*several, "3.99.0"}
    broken = told["releases"].pop("3.99.0")
    assert broken["verdict"] == "UNKNOWN"
    assert "ended while it started" in broken["broken"]
    for version, found in told["releases"].items():
        (one,) = found["scenarios"]
        assert (one["verdict"], one["result"]["confirmed"]) == ("PASS", 500)
        assert one["result"]["environment"]["rabbitmq"] == version
        assert found["environment"]["rabbitmq"] == version
        page = (report / version / "offline/report.html").read_text("utf-8")
        assert f"rabbitproof prove offline --rabbitmq {version}" in page
    assert told["differences"] == []
