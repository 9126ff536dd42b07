"""What is refused where, and what the record of a fault says."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock, Mock

import pytest

from rabbitproof.errors import BrokerUnreachable, NodeFailed, Overdue, UsageError
from rabbitproof.trial import faults, scenario
from rabbitproof.trial.breaking.waiting import until
from rabbitproof.trial.kinds import CATALOGUE
from rabbitproof.trial.place import Place
from rabbitproof.trial.plan import FaultPlan

if TYPE_CHECKING:
    from rabbitproof.model import FaultRecord


@pytest.mark.parametrize("name", scenario.names())
def test_only_what_breaks_a_broker_needs_one_of_our_own(name: str) -> None:
    """Refused with the reason and what to do; on a private node nothing is."""
    found = scenario.find(name)
    faults.check(found, private=True)
    needs = {CATALOGUE[one].needs for one in found.possible}
    if found.cluster.nodes > 1:
        with pytest.raises(UsageError, match=r"a cluster of 3 nodes of our own; or leave out"):
            faults.check(found, private=False, owner=True)
    elif "node" in needs:
        with pytest.raises(UsageError, match=r"others may use .* leave out --url"):
            faults.check(found, private=False, owner=True)
    elif "owner" in needs:
        with pytest.raises(UsageError, match=r"as an operator .* say --i-own-this-broker"):
            faults.check(found, private=False)
        faults.check(found, private=False, owner=True)
    else:
        faults.check(found, private=False)


class Scene:
    """A trial to which nothing can be done."""

    place: Any = None
    cuts: str | None = None

    def dropped(self, queue: str, reason: str, copies: int, evidence: str) -> None: ...

    def in_flight(self) -> int | None:
        return 17

    def blocked(self) -> str | None:
        return None

    def last(self, seconds: float) -> None: ...

    def reconnects(self) -> bool:
        return False

    def cut(self) -> str | None:
        return self.cuts

    def kill_consumer(self, _pick: float | None) -> str | None:
        raise BrokerUnreachable

    def kill_producer(self, _pick: float | None) -> str | None:
        return None


def test_what_was_waited_for_is_returned() -> None:
    """The first true answer; each look before it costs a wait."""
    answers, waits = iter([None, 0, 3]), []
    scene = Scene()
    scene.last = waits.append  # type: ignore[method-assign]
    assert until(scene, lambda: next(answers), 5, "Nothing came.", every_s=0.2) == 3
    assert waits == [0.2, 0.2]


def test_what_never_comes_is_overdue() -> None:
    """With the sentence that says what, and for how long it was waited for."""
    with pytest.raises(Overdue, match=r"Nothing came\. This was waited for 0 s\."):
        until(Scene(), lambda: None, 0, "Nothing came.")


def fired(name: str, scene: Scene) -> FaultRecord:
    return faults.carry_out(FaultPlan(name, at_s=0), scene, 1.25, scene.in_flight())


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


@pytest.mark.parametrize(
    ("name", "breaks", "mends"),
    [
        ("broker-pause", "node.pause", "node.resume"),
        ("node-pause", "third.pause", "third.resume"),
        ("partition", "cluster.cut", "cluster.heal"),
        ("memory-alarm", "node.ctl", "node.ctl"),
        ("disk-alarm", "node.ctl", "node.ctl"),
        ("half-open", "proxy.half_open", "proxy.heal"),
    ],
)
def test_what_could_not_be_broken_is_mended(name: str, breaks: str, mends: str) -> None:
    """It may have been broken all the same, by an order that was answered too late."""
    scene, nodes = Scene(), (Mock(), Mock(), Mock())
    cluster = Mock(nodes=nodes, leader=lambda *_: 1)
    scene.place = Mock(node=nodes[0], third=nodes[2], cluster=cluster)
    failing, mending = attrgetter(breaks, mends)(scene.place)
    failing.side_effect = [NodeFailed("No answer."), None]
    record = fired(name, scene)
    assert (record.fired, record.evidence) == (False, "It could not be done: No answer.")
    assert mending.call_count == (2 if mending is failing else 1)


def test_every_fault_of_the_catalogue_can_be_carried_out() -> None:
    """None is only a name."""
    assert set(faults.HOW) == set(CATALOGUE)


def test_poison_in_an_empty_queue_is_none() -> None:
    """Where nothing came, nothing was rejected."""
    scene = Scene()
    scene.place = MagicMock()
    scene.place.connect.return_value.__enter__.return_value.look_ahead.return_value = False
    record = fired("poison", scene)
    assert (record.fired, record.evidence) == (False, "There was nothing to do it to.")


def test_a_fault_for_a_queue_that_there_is_not() -> None:
    """A sentence, no crash."""
    offline = scenario.find("offline")
    without = replace(offline, topology=replace(offline.topology, audit=None)).wiring()
    here = Place((), without, {"work.queue": "work.queue"}, "nowhere", "/", Mock())
    assert here.queue("work.queue").name == "work.queue"
    with pytest.raises(UsageError, match=r"has no audit\.queue"):
        here.queue("audit.queue")
