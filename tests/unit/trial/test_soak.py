"""What a soak is made of, and what it says of memory."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING
from unittest.mock import MagicMock

import pytest

from files import RUN, produced
from rabbitproof.model import Note, Step
from rabbitproof.proof.history import Plan
from rabbitproof.trial import scenario, soak
from rabbitproof.trial import trial as trials
from rabbitproof.trial.kinds import CATALOGUE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def wrong(_: tuple[str | int, ...], key: str, what: str) -> AssertionError:
    return AssertionError(f"{key} {what}")


@pytest.mark.parametrize("private", [True, False])
def test_a_soak_is_a_scenario_whose_parts_fit(private: bool) -> None:
    """On somebody's broker it breaks only what is its own."""
    plan = soak.plan(30, 1, private=private)
    scenario.check(plan, wrong)  # type: ignore[arg-type]  # what it makes is only raised
    broken = {CATALOGUE[fault.name].needs_node for fault in plan.faults}
    assert broken == ({True, False} if private else {False})
    assert (plan.workload.audit, plan.workload.consume) == ("during", "during")
    assert plan.workload.rate == soak.RATE
    assert soak.plan(30, 1, private=True, rate=50).workload.rate == 50


def test_memory_is_compared_with_what_it_was_after_the_warm_up() -> None:
    """What it was before that says nothing; the most is that of the time after it."""
    usage = soak.Usage()
    usage.note(90_000_000, warm=False)
    assert usage.told()["growth_percent"] is None
    for size in (50_000_000, 60_000_000, 55_000_000):
        usage.note(size, warm=True)
    usage.note(70_000_000, warm=True, sending=False)
    assert usage.told() == {"at_2_min": 50.0, "end": 55.0, "most": 70.0, "growth_percent": 10.0}


def test_a_soak_shorter_than_a_minute_has_an_end_all_the_same() -> None:
    """Its only look is the one after the sending."""
    usage = soak.Usage()
    usage.note(50_000_000, warm=False, sending=False)
    assert usage.told()["end"] == 50.0


def test_a_folder_inside_another_counts_once(tmp_path: Path) -> None:
    """The ledgers are inside the node's folder."""
    inner = tmp_path / "inner"
    inner.mkdir()
    (inner / "a").write_bytes(b"x" * 100)
    (tmp_path / "b").write_bytes(b"x" * 10)
    assert soak._size({tmp_path, inner}) == 110
    assert soak._size({inner}) == 100


def test_why_a_soak_ended_early_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What happens while messages are sent is not shown, but for this."""
    sending = MagicMock(outcomes=[], done=5)
    sending.salvage = lambda: setattr(sending, "outcomes", [1])

    def hire(trial: trials.Trial, *_: object) -> None:
        trial._sending, trial._receiving = sending, MagicMock(done=3)
        trial._gaps, trial._faults = (
            MagicMock(without_service_s=0.0, longest_s=0.0),
            MagicMock(records=[]),
        )
        trial._receiving.crew = None

    def carry_out(_: trials.Trial) -> Iterator[Step]:
        yield Step("now something is broken")
        raise trials._BrokerGone("It did not come back.")

    for name, what in {"_hire": hire, "_carry_out": carry_out}.items():
        monkeypatch.setattr(trials.Trial, name, what)
    plan = Plan(run=RUN, scenario="soak")
    monkeypatch.setattr(trials.Trial, "_plan", lambda *_, **__: plan)
    monkeypatch.setattr(trials.wiring, "lazy_works", lambda _: True)
    monkeypatch.setattr(trials.Proxy, "start", lambda _: nullcontext(MagicMock()))
    place = MagicMock(nodes=(), addresses=())
    trial = trials.Trial(soak.plan(1, 1, private=True), place, RUN, keep=tmp_path)
    produced(tmp_path)
    events = [*soak.Soak(trial).run()]
    assert Note("It did not come back.") in events
    assert Step("now something is broken") not in events
