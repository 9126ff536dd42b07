"""A short soak: nothing piles up, one verdict at the end, and the memory is told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rabbitproof.model import Decision, Note
from rabbitproof.trial import place, soak
from rabbitproof.trial.plan import FaultPlan, QueuePlan
from rabbitproof.trial.trial import Trial
from support import judged_again, ready

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_a_stream_that_is_read_all_the_time_is_read_again_at_last(
    node: Any, tmp_path: Path
) -> None:
    """That the drain begins anew, and so does the reader when its connection breaks, doubles
    nothing and loses nothing.
    """
    work = replace(soak.SCENARIO.workload, count=10**6, seconds=3.0, rate=400.0)
    queues = replace(soak.SCENARIO.topology, audit=QueuePlan("stream"))
    faults = (FaultPlan("network-cut", at_s=1.0, lasts_s=0.5),)
    scenario = replace(soak.SCENARIO, workload=work, faults=faults, topology=queues)
    run = "0a1b2c3d4e5f"
    with place.on_node(node, scenario.wiring(), run) as here:
        trial = Trial(scenario, here, run, keep=tmp_path / "run")
        for _ in trial.run():
            pass
    assert trial.result is not None
    assert trial.result.verdict.decision is Decision.PASS, trial.result.verdict
    audit = trial.result.verdict.queues["audit.queue"]
    assert (audit.unique, audit.duplicates_unflagged) == (trial.result.verdict.confirmed, 0)
    assert audit.received > audit.unique
    judged_again(tmp_path / "run", trial.result)


def test_a_soak_reads_both_queues_all_the_time(node: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process reads the audit queue meanwhile, so its end finds next to nothing left in it."""
    monkeypatch.setattr(soak, "_EVERY_S", 0.5)
    monkeypatch.setattr(soak, "WARM_S", 1.0)
    work = replace(soak.SCENARIO.workload, count=10**6, seconds=3.0, rate=400.0)
    faults = (FaultPlan("consumer-kill", at_s=0.5, pick=0.9), FaultPlan("connection-cut", at_s=1.5))
    scenario = replace(soak.SCENARIO, workload=work, faults=faults, seed=4)
    run = "0a1b2c3d4e5f"
    with place.on_node(node, scenario.wiring(), run) as here:
        trial = Trial(scenario, here, run)
        running = soak.Soak(trial)
        notes, most = [], 0
        for event in running.run():
            if isinstance(event, Note):
                notes.append(event.text)
                if "min:" in event.text and not trial.state().sent_all:
                    most = max(most, ready(here.addresses[0].url(), "audit.queue"))
        assert trial.folder is not None
        assert not trial.folder.exists()
    result = trial.result
    assert result is not None
    assert result.verdict.decision is Decision.PASS, result.verdict
    confirmed = result.verdict.confirmed
    # What is overdue when the time is up is not sent any more; its last round may end a bit later.
    assert 600 < confirmed <= 1300
    assert [fault.fired for fault in result.faults] == [True, True]
    audit = result.verdict.queues["audit.queue"]
    assert (audit.judged_by, audit.unique, audit.lost) == ("ledger", confirmed, 0)
    assert most < 400
    assert result.environment["seed"] == 4
    assert set(result.environment["memory_mb"]) == {"prove", "consumers", "audit", "broker"}
    assert result.environment["memory_mb"]["prove"]["at_2_min"] > 10
    assert len([note for note in notes if "min:" in note]) >= 4
    assert any(note.startswith("memory from minute 2") for note in notes)
