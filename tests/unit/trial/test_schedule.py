"""Which fault is due when, and that one comes after the other."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.errors import NodeFailed
from rabbitproof.model import Step
from rabbitproof.trial import faults
from rabbitproof.trial.gaps import Gaps
from rabbitproof.trial.plan import FaultPlan
from rabbitproof.trial.schedule import Faults, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable


def names(found: list[FaultPlan]) -> list[str]:
    return [plan.name for plan in found]


def test_a_fault_is_due_at_its_share_or_second() -> None:
    """Those of consumers by what was received, all others by what was sent; once each."""
    schedule = Schedule(
        (
            FaultPlan("broker-kill", at_share=0.5),
            FaultPlan("consumer-kill", at_share=0.5),
            FaultPlan("queue-purge", at_s=2.0),
        )
    )
    assert schedule.due(0.49, 0.49, 1.9) == []
    assert names(schedule.due(0.5, 0.4, 0.0)) == ["broker-kill"]
    assert names(schedule.due(1.0, 0.5, 0.0)) == ["consumer-kill"]
    assert names(schedule.due(1.0, 1.0, 2.0)) == ["queue-purge"]
    assert schedule.due(1.0, 1.0, 9.0) == []


def test_a_fault_can_come_again() -> None:
    """So often, so long after the last time."""
    schedule = Schedule((FaultPlan("unbind", at_share=0.1, times=3, every_s=2.0),))
    moments = [at for at in range(3) if schedule.due(0.2, 0.0, float(at))]
    assert moments == [0, 2]
    moments = [at for at in range(3, 20) if schedule.due(0.2, 0.0, float(at))]
    assert moments == [4]


class Scene:
    """A trial in which faults do what a test says."""

    place: Any = None

    def __init__(self) -> None:
        self.faults: Faults | None = None

    def dropped(self, queue: str, reason: str, copies: int, evidence: str) -> None: ...

    def in_flight(self) -> int | None:
        return 3

    def blocked(self) -> str | None:
        return None

    def last(self, seconds: float) -> None:
        assert self.faults is not None
        self.faults.last(seconds)

    def reconnects(self) -> bool:
        return False

    def cut(self) -> str | None:
        return "Cut."

    def kill_consumer(self, _pick: float | None) -> str | None:
        return None

    def kill_producer(self, _pick: float | None) -> str | None:
        return None


def unrest(*plans: FaultPlan) -> Faults:
    scene = Scene()
    scene.faults = Faults(plans, scene, lambda: 1.0, Gaps(), lambda _: None)
    return scene.faults


def does(monkeypatch: pytest.MonkeyPatch, name: str, what: Callable[[Any], str | None]) -> None:
    monkeypatch.setitem(faults.HOW, name, lambda _plan, scene: what(scene))


def test_work_goes_on_while_a_fault_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is begun, not waited for; its record is there when it has ended."""
    over = threading.Event()
    does(monkeypatch, "broker-kill", lambda _: "Done." if over.wait(10) else None)
    with unrest(FaultPlan("broker-kill", at_s=0)) as all_of_them:
        begun = list(all_of_them.due(0.0, 0.0))
        assert [event.done for event in begun if isinstance(event, Step)] == [False]
        assert all_of_them.busy
        assert list(all_of_them.due(0.1, 0.0)) == []
        assert all_of_them.records == []
        over.set()
        assert [event for event in all_of_them.finish() if isinstance(event, Step)] == [
            Step("Done.", done=True)
        ]
    (record,) = all_of_them.records
    assert (record.name, record.fired, record.in_flight) == ("broker-kill", True, 3)


def test_one_comes_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due while another one lasts waits for its end, also what is done in an instant."""
    over, order = threading.Event(), []
    does(monkeypatch, "broker-kill", lambda _: (over.wait(10), order.append("kill"), "Killed.")[2])
    does(monkeypatch, "queue-purge", lambda _: (order.append("purge"), "Purged.")[1])
    plans = (FaultPlan("broker-kill", at_s=0), FaultPlan("queue-purge", at_s=0))
    with unrest(*plans) as all_of_them:
        list(all_of_them.due(0.0, 0.0))
        list(all_of_them.due(0.0, 0.0))
        assert order == []
        over.set()
        list(all_of_them.finish())
    assert order == ["kill", "purge"]
    assert [record.name for record in all_of_them.records] == ["broker-kill", "queue-purge"]


def test_a_cut_waits_for_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer that connects again has none to cut; at the end nobody waits any longer."""
    away = True
    monkeypatch.setattr(Scene, "reconnects", lambda _: away)
    with unrest(FaultPlan("connection-cut", at_s=0, times=2)) as all_of_them:
        assert list(all_of_them.due(0.0, 0.0)) == []
        away = False
        list(all_of_them.due(0.0, 0.0))  # and the second one with it
        assert [record.fired for record in all_of_them.records] == [True, True]
    away = True
    with unrest(FaultPlan("connection-cut", at_s=0)) as all_of_them:
        list(all_of_them.due(0.0, 0.0))
        assert all_of_them.records == []
        list(all_of_them.finish())
        assert len(all_of_them.records) == 1


def test_nothing_lasts_longer_than_the_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever leaves it, with Ctrl+C or an error, does not wait for an outage of an hour."""
    undone = []

    def for_an_hour(scene: Scene) -> str:
        try:
            scene.last(3600)
        finally:
            undone.append(True)
        return "An hour."

    does(monkeypatch, "partition", for_an_hour)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), unrest(FaultPlan("partition", at_s=0)) as all_of_them:
        list(all_of_them.due(0.0, 0.0))
        raise KeyboardInterrupt
    assert undone
    assert time.monotonic() - began < 10


def test_what_goes_wrong_in_a_fault_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """An expected failure is a record, a mistake of ours is raised."""

    def fails(_: Scene) -> str:
        raise NodeFailed("It did not come back.")

    does(monkeypatch, "broker-kill", fails)
    with unrest(FaultPlan("broker-kill", at_s=0)) as all_of_them:
        list(all_of_them.due(0.0, 0.0))
        list(all_of_them.finish())
    (record,) = all_of_them.records
    assert not record.fired
    assert record.evidence == "It could not be done: It did not come back."
    does(monkeypatch, "broker-kill", lambda _: str(1 // 0))
    with unrest(FaultPlan("broker-kill", at_s=0)) as all_of_them:
        list(all_of_them.due(0.0, 0.0))
        with pytest.raises(ZeroDivisionError):
            list(all_of_them.finish())


def test_a_fault_that_fails_while_it_is_looked_at_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its failure is raised at one of the next looks: else a fault would be missing in the end."""
    fail = threading.Event()
    does(monkeypatch, "broker-kill", lambda _: str(1 // 0) if fail.wait(10) else None)
    with unrest(FaultPlan("broker-kill", at_s=0)) as all_of_them:
        list(all_of_them.due(0.0, 0.0))
        (thread,) = [one for one in threading.enumerate() if one.name == "broker-kill"]
        alive = thread.is_alive

        def fails_now() -> bool:
            fail.set()
            thread.join(10)
            return alive()

        monkeypatch.setattr(thread, "is_alive", fails_now)
        with pytest.raises(ZeroDivisionError):
            list(all_of_them.finish())
