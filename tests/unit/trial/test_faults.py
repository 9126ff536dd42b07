"""Which fault is due when, what is refused where, and what a record says."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.errors import BrokerUnreachable, UsageError
from rabbitproof.trial import faults, scenario
from rabbitproof.trial.plan import CATALOGUE, FaultPlan

if TYPE_CHECKING:
    from rabbitproof.model import FaultRecord


def names(found: list[FaultPlan]) -> list[str]:
    return [plan.name for plan in found]


def test_a_fault_is_due_at_its_share_or_second() -> None:
    """Those of consumers by what was received, all others by what was sent; once each."""
    schedule = faults.Schedule(
        (
            FaultPlan("broker-kill", at_share=0.5),
            FaultPlan("consumer-kill", at_share=0.5),
            FaultPlan("queue-purge", at_s=2.0),
        )
    )
    assert schedule.due(0.49, 0.49, 1.9) == []
    assert names(schedule.due(0.5, 0.4, 0.0)) == ["broker-kill"]
    assert names(schedule.due(1.0, 0.5, 0.0)) == ["consumer-kill"]
    assert names(schedule.missed) == ["queue-purge"]
    assert names(schedule.due(1.0, 1.0, 2.0)) == ["queue-purge"]
    assert schedule.due(1.0, 1.0, 9.0) == []
    assert schedule.missed == []


def test_a_fault_can_come_again() -> None:
    """So often, so long after the last time."""
    schedule = faults.Schedule((FaultPlan("unbind", at_share=0.1, times=3, every_s=2.0),))
    moments = [at for at in range(20) if schedule.due(0.2, 0.0, float(at))]
    assert moments == [0, 2, 4]


@pytest.mark.parametrize("name", scenario.names())
def test_only_what_breaks_a_broker_needs_one_of_our_own(name: str) -> None:
    """Refused with the reason and what to do; on a private node nothing is."""
    found = scenario.find(name)
    faults.check(found, private=True)
    if any(CATALOGUE[plan.name].needs_node for plan in found.faults):
        with pytest.raises(UsageError, match=r"others may use .* leave out --url"):
            faults.check(found, private=False)
    else:
        faults.check(found, private=False)


class Scene:
    """A trial to which nothing can be done."""

    place: Any = None
    cuts: str | None = None

    def dropped(self, queue: str, reason: str, copies: int, evidence: str) -> None: ...

    def in_flight(self) -> int | None:
        return 17

    def cut(self) -> str | None:
        return self.cuts

    def kill_consumer(self) -> str | None:
        raise BrokerUnreachable


def fired(name: str, scene: Scene) -> FaultRecord:
    work = faults.fire(FaultPlan(name, at_s=0), scene, 1.25)
    while True:
        try:
            next(work)
        except StopIteration as end:
            record: FaultRecord = end.value
            return record


def test_a_fault_leaves_a_record() -> None:
    """When, what was in flight, and what was seen of it; nothing to see is not fired."""
    nothing = fired("connection-cut", Scene())
    assert (nothing.fired, nothing.in_flight, nothing.at_s) == (False, 17, 1.25)
    scene = Scene()
    scene.cuts = "Cut."
    done = fired("connection-cut", scene)
    assert (done.fired, done.evidence) == (True, "Cut.")
    failed = fired("consumer-kill", scene)
    assert not failed.fired
    assert failed.evidence.startswith("It could not be done: Nobody answers")


def test_a_fault_for_a_queue_that_there_is_not() -> None:
    """A sentence, no crash."""
    offline = scenario.find("offline")
    without = replace(offline, topology=replace(offline.topology, audit=None)).wiring()
    place: Any = type("P", (), {"topology": without, "logical": {"work.queue": "work.queue"}})
    with pytest.raises(UsageError, match=r"has no audit\.queue"):
        faults.real(place, "audit.queue")
