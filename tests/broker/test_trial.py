"""The reliability test end to end, on a good broker and with somebody meddling."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.address import parse
from rabbitproof.model import Advanced, Decision, Step
from rabbitproof.trial import faults, place, receiving, scenario, suite
from rabbitproof.trial.plan import FaultPlan
from rabbitproof.trial.trial import Trial
from support import finish, judged_again, ready, topology, witness

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def carry_out(
    node: Any,
    url: str,
    wiring: Any,
    count: int,
    meddle: Callable[[Any], None] | None = None,
    name: str = "offline",
) -> Any:
    address = parse(url)
    login = replace(address[0], vhost="/")
    run = "0a1b2c3d4e5f"
    with place.shared(address, node.management_url, login, wiring, run, lambda _: None) as here:
        trial = Trial(scenario.adapted(scenario.find(name), count=count), here, run)
        for event in trial.run():
            if meddle and isinstance(event, Step) and "Ready" in event.text:
                with witness(here.addresses[0].url()) as channel:
                    meddle(channel)
                meddle = None
    return trial.result


@pytest.mark.parametrize(
    ("work", "audit"),
    [("classic", "classic"), ("quorum", "quorum"), ("quorum", "stream"), ("classic", None)],
)
def test_a_good_broker_passes(node: Any, vhost: Any, work: str, audit: str | None) -> None:
    """Every kind of queue passes, and every message is accounted for."""
    wiring = replace(
        topology(),
        work=replace(topology().work, kind=work),
        audit=None if audit is None else replace(topology().audit, kind=audit),
    )
    result = carry_out(node, vhost.url, wiring, 2000)
    assert result.verdict.decision is Decision.PASS, result.verdict
    assert result.verdict.confirmed == 2000
    for queue in result.verdict.queues.values():
        assert (queue.received, queue.unique, queue.lost) == (2000, 2000, 0)
        assert (queue.duplicates_redelivered, queue.duplicates_unflagged) == (0, 0)
        assert (queue.reordered, queue.left_in_queue) == (0, 0)


def test_the_stress_test_uses_lazy_queues_and_checks_both(node: Any, vhost: Any) -> None:
    """Its topology is lazy where the release still knows that; both copies are judged."""
    queues = topology()
    lazy = replace(
        queues,
        work=replace(queues.work, lazy=True),
        audit=queues.audit and replace(queues.audit, lazy=True),
    )

    def look(channel: Any) -> None:
        properties = channel.connection._impl.server_properties
        old = tuple(map(int, properties["version"].split(".")[:2])) < (3, 12)
        for name in ("work.queue", "audit.queue"):  # equivalent, or it would raise
            arguments = {"x-queue-mode": "lazy"} if old else {}
            channel.queue_declare(name, durable=True, arguments=arguments)
        looked.append(True)

    looked: list[bool] = []
    result = carry_out(node, vhost.url, lazy, 2000, look, "stress")
    assert looked
    assert (result.verdict.decision, result.scenario) == (Decision.PASS, "stress")
    assert [queue.unique for queue in result.verdict.queues.values()] == [2000, 2000]


def test_every_phase_marks_its_tenths(node: Any, vhost: Any) -> None:
    """Sending, consuming and comparing each say ten times how far they are, and since when."""
    address = parse(vhost.url)
    login = replace(address[0], vhost="/")
    run = "0a1b2c3d4e5f"
    with place.shared(address, node.management_url, login, topology(), run, lambda _: None) as here:
        trial = Trial(scenario.adapted(scenario.find("stress"), count=2000), here, run)
        marks = [event for event in trial.run() if isinstance(event, Advanced) and event.mark]
        assert trial._receiving.consumer(here.topology.work, 5).task.prefetch == 5000
    assert [mark.done for mark in marks] == [*range(200, 2001, 200)] * 3
    assert [mark.sample is None for mark in marks] == [True] * 10 + [False] * 20
    for phase in (marks[:10], marks[10:20], marks[20:]):
        seconds = [mark.seconds for mark in phase]
        assert 0 < seconds[0] <= seconds[-1] < 60
        assert seconds == sorted(seconds)


def steal(channel: Any) -> None:
    for _ in range(3):
        channel.basic_get("work.queue", auto_ack=True)


def alter(channel: Any) -> None:
    _, properties, body = channel.basic_get("work.queue", auto_ack=True)
    channel.basic_publish("", "work.queue", body.replace(b"Hello", b"Jello"), properties)


def double(channel: Any) -> None:
    method, properties, body = channel.basic_get("audit.queue")
    channel.basic_nack(method.delivery_tag, requeue=True)
    channel.basic_publish("", "audit.queue", body, properties)
    channel.basic_publish("", "audit.queue", body, properties)


@pytest.mark.parametrize(
    ("meddle", "queue", "expected"),
    [
        (steal, "work.queue", {"lost": 3, "unique": 1997}),
        (alter, "work.queue", {"corrupt": 1, "unique": 1999}),
        (double, "audit.queue", {"duplicates_unflagged": 1, "duplicates_redelivered": 1}),
    ],
)
def test_meddling_is_found(
    node: Any,
    vhost: Any,
    meddle: Callable[[Any], None],
    queue: str,
    expected: dict[str, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stolen, an altered and a doubled message each fail the run, with their number."""
    monkeypatch.setattr(receiving, "IDLE_S", 2.0)
    result = carry_out(node, vhost.url, topology(), 2000, meddle)
    assert result.verdict.decision is Decision.FAIL
    found = result.verdict.queues[queue]
    assert {name: getattr(found, name) for name in expected} == expected
    if meddle is steal:
        assert found.lost_ids == tuple(f"0a1b2c3d-4e5f-8001-8000-{n:012x}" for n in (1, 2, 3))


def test_a_message_stolen_before_the_count_breaks_the_claim(node: Any, vhost: Any) -> None:
    """Both queues have to hold exactly what was confirmed before a consumer starts."""
    address = parse(vhost.url)
    login = replace(address[0], vhost="/")
    run = "0a1b2c3d4e5f"
    with place.shared(address, node.management_url, login, topology(), run, lambda _: None) as here:
        trial = Trial(scenario.adapted(scenario.find("offline"), count=100), here, run)
        for event in trial.run():
            if isinstance(event, Step) and "confirmed in" in event.text:
                with witness(here.addresses[0].url()) as channel:
                    _, properties, body = channel.basic_get("audit.queue", auto_ack=True)
                    channel.basic_publish("", "work.queue", body, properties)
    assert trial.result is not None
    reasons = trial.result.verdict.reasons
    for name, count in (("work.queue", 101), ("audit.queue", 99)):
        assert any(f"{name} held {count} Ready messages before" in reason for reason in reasons)


def test_nothing_is_left_behind_where_no_vhost_may_be_made(vhost: Any) -> None:
    """Without the Management API a trial uses names of its own and removes them."""
    with witness(vhost.url) as channel:
        channel.queue_declare("work.queue", durable=True)
        channel.basic_publish("", "work.queue", b"precious")
    address = parse(vhost.url)
    with place.shared(
        address, "http://127.0.0.1:9", address[0], topology(), "0a1b2c3d4e5f", lambda _: None
    ) as here:
        chosen = scenario.adapted(scenario.find("offline"), count=500)
        trial = Trial(chosen, here, "0a1b2c3d4e5f")
        for _ in trial.run():
            pass
        mine = here.topology.work.name
    assert trial.result is not None
    assert trial.result.verdict.decision is Decision.PASS
    assert list(trial.result.verdict.queues) == ["work.queue", "audit.queue"]
    assert trial.result.verdict.queues["work.queue"].name == mine != "work.queue"
    assert ready(vhost.url, "work.queue") == 1
    with witness(vhost.url) as channel, pytest.raises(Exception, match="NOT_FOUND"):
        channel.queue_declare(mine, passive=True)


UNSAFE = [one.name for one in suite.scenarios_of(safe=False) if faults.refusal(one) is None]


@pytest.mark.parametrize("name", UNSAFE)
def test_what_loses_by_design_is_found_exactly(
    node: Any, vhost: Any, name: str, tmp_path: Path
) -> None:
    """To the last message and with the right reason, on a broker that is not ours."""
    address = parse(vhost.url)
    login = replace(address[0], vhost="/")

    def where(one: Any, run: str) -> Any:
        wiring = one.wiring()
        return place.shared(address, node.management_url, login, wiring, run, lambda _: None)

    chosen = scenario.find(name)
    entry = finish(suite.run_scenario(chosen, where, private=False, ledgers=tmp_path / "run")).entry
    result = entry.result
    assert result is not None, (entry.left_out, entry.broken)
    assert result.surprises == (), result.verdict
    assert str(result.verdict.decision) == chosen.expect.verdict
    judged_again(tmp_path / "run", result)


def test_processes_share_the_work(node: Any, vhost: Any) -> None:
    """Two producers and three consumers, each a process with a ledger; all together pass."""
    address = parse(vhost.url)
    login = replace(address[0], vhost="/")
    chosen = scenario.adapted(scenario.find("competing-consumers"), count=3000)
    run = "0a1b2c3d4e5f"
    with place.shared(address, node.management_url, login, topology(), run, lambda _: None) as here:
        trial = Trial(chosen, here, run)
        for _ in trial.run():
            pass
    result = trial.result
    assert result is not None
    assert result.verdict.decision is Decision.PASS, result.verdict
    assert (result.verdict.attempted, result.verdict.confirmed) == (3000, 3000)
    work = result.verdict.queues["work.queue"]
    assert (work.unique, work.lost, work.left_in_queue) == (3000, 0, 0)
    assert work.order_unchecked == "several consumers shared the queue"
    assert result.latency["confirm"]["count"] > 0
    assert result.latency["end_to_end"]["count"] > 0
    assert all(member.ended for member in trial._sending.crew.members)
    received = next(one.points for one in result.series if one.name == "received from work.queue")
    spans = pairwise(received)
    counted = sum((after - before) * rate for (before, _), (after, rate) in spans)
    assert counted <= 1.1 * 3000  # none of them shown twice


def test_a_fault_that_never_fired_leaves_it_open(node: Any, vhost: Any) -> None:
    """UNKNOWN, and the fault is named."""
    address = parse(vhost.url)
    login = replace(address[0], vhost="/")
    offline = scenario.adapted(scenario.find("offline"), count=100)
    chosen = replace(offline, faults=(FaultPlan("queue-purge", at_s=3600.0),))
    run = "0a1b2c3d4e5f"
    with place.shared(address, node.management_url, login, topology(), run, lambda _: None) as here:
        trial = Trial(chosen, here, run)
        for _ in trial.run():
            pass
    assert trial.result is not None
    assert trial.result.verdict.decision is Decision.UNKNOWN
    assert "queue-purge" in trial.result.verdict.reasons[0]
    (record,) = trial.result.faults
    assert (record.fired, record.evidence) == (False, "Its moment never came.")
