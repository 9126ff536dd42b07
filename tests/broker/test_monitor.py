"""The monitor on a real broker: what it shows is what is there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.broker.management import Management
from rabbitproof.broker.node import Node
from rabbitproof.broker.watch import Watch
from rabbitproof.snapshot import Rates
from rabbitproof.view import cards, closeup
from rabbitproof.work import doctor
from rabbitproof.work.diagnosis import full
from rabbitproof.work.monitor import Monitor
from rabbitproof.work.rates import STILL_S
from support import drive, eventually, producer, topology, witness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rabbitproof.broker.install import Installation
    from rabbitproof.snapshot import Detail, Picture

ROOT = Path(__file__).resolve().parents[2]
SETTLED_S = 40.0
"""Seconds for what the metrics show only at their next turns, every 5 s."""


@pytest.fixture
def eyes(node: Any, vhost: Any) -> Iterator[Monitor]:
    with Management(node.management_url, node.username, node.password) as api:
        yield Monitor(Watch(api, vhost=vhost.name))


def seen(eyes: Monitor) -> Picture:
    picture = eyes.refresh()
    assert picture.error is None
    assert picture.snapshot is not None
    return picture


def test_the_depth_shown_is_that_of_rabbitmqctl(node: Any, vhost: Any, eyes: Monitor) -> None:
    drive(producer(vhost.url, 1234))
    with witness(vhost.url) as channel:
        for _ in range(34):
            channel.basic_get("work.queue", auto_ack=True)
        kept = channel.basic_get("work.queue")
        shown = seen(eyes).snapshot
        assert shown is not None
        depths = {queue.name: (queue.ready, queue.unacked) for queue in shown.queues}
        assert depths == {"work.queue": (1199, 1), "audit.queue": (1234, 0)}
        assert kept
        if isinstance(node, Node):
            columns = ("name", "messages_ready", "messages_unacknowledged")
            listed = node.ctl("-q", "list_queues", "-p", vhost.name, "--no-table-headers", *columns)
            rows = {line.split("\t")[0]: line.split("\t")[1:] for line in listed.splitlines()}
            assert {name: [str(r), str(u)] for name, (r, u) in depths.items()} == rows


@pytest.mark.slow  # half a minute of traffic
def test_the_rate_shown_is_that_of_the_messages_moved(vhost: Any, eyes: Monitor) -> None:
    """At 200 messages a second, each of the rates shown over 30 s is within 10 % in the mean."""
    task = producer(vhost.url, 200 * 52, rate=200.0)
    import threading

    moving = threading.Thread(target=drive, args=(task,))
    moving.start()
    try:
        shown, began = [], time.monotonic()
        never = threading.Event()
        while time.monotonic() - began < 50:
            rate = seen(eyes).rates.get((vhost.name, "work.queue"))
            if rate is not None and time.monotonic() - began > 20:
                shown.append(rate.publish)
            never.wait(3)  # as often as the monitor looks
    finally:
        moving.join()
    assert len(shown) >= 8
    assert all(value is not None for value in shown)
    assert sum(filter(None, shown)) / len(shown) == pytest.approx(200, rel=0.1)


def test_consumers_appear_with_their_connection_and_leave_again(vhost: Any, eyes: Monitor) -> None:
    with witness(vhost.url) as channel:
        channel.queue_declare("q", durable=True)
        channel.basic_qos(prefetch_count=7)
        channel.basic_consume("q", lambda *_: None, consumer_tag="tag")
        eventually(lambda: bool(seen(eyes).snapshot.consumers), "a consumer", SETTLED_S)  # type: ignore[union-attr]
        snapshot = seen(eyes).snapshot
        assert snapshot is not None
        assert snapshot.consumers is not None
        (one,) = snapshot.consumers
        assert (one.queue, one.tag, one.prefetch, one.manual) == ("q", "tag", 7, True)
        detail = eyes.close_up(vhost.name, "q")
        assert detail is not None
        assert ("", "q") in detail.bindings
        assert [consumer.tag for consumer, _ in detail.consumers] == ["tag"]
        assert detail.missing == ()
    eventually(lambda: not seen(eyes).snapshot.consumers, "no consumer", SETTLED_S)  # type: ignore[union-attr]
    assert "consumer tag left q" in [event.text for event in seen(eyes).events]


@pytest.mark.slow  # no word of acknowledgements in two reports
def test_stuck_consumers_are_found(vhost: Any, eyes: Monitor) -> None:
    drive(producer(vhost.url, 30, topology=topology(audit=None)))
    with witness(vhost.url) as channel:
        channel.basic_qos(prefetch_count=10)
        channel.basic_consume("work.queue", lambda *_: None)

        def found() -> bool:
            channel.connection.process_data_events(0)
            return any(
                "acknowledge none, 20 messages wait" in one.what for one in seen(eyes).problems
            )

        eventually(found, "the diagnosis", SETTLED_S)


def test_a_healthy_stream_is_no_alarm_and_has_not_none_for_a_leader(
    node: Any, vhost: Any, eyes: Monitor
) -> None:
    """RabbitMQ 3.10 tells no leader of a stream, which is another thing than having none."""
    with witness(vhost.url) as channel:
        channel.queue_declare("s", durable=True, arguments={"x-queue-type": "stream"})
        for _ in range(20):
            channel.basic_publish("", "s", b"x")
    detail: Detail | None = None

    def told() -> bool:
        nonlocal detail
        detail = eyes.close_up(vhost.name, "s")
        return detail is not None and detail.queue.online == 1

    eventually(told, "who holds the stream", SETTLED_S)
    assert detail is not None
    page = "\n".join(map(cards.plain, closeup.lines(detail, Rates(), time.time(), 100)))
    assert "1 of 1 members online" in page
    assert "leader none" not in page
    login = ["--username", node.username, "--password", node.password]
    shown = monitor("--host", node.management_url, "--vhost", vhost.name, "--once", *login)
    assert (shown.returncode, "✗" in shown.stdout) == (0, False)
    assert "● s  [" in shown.stdout
    command = [sys.executable, "-m", "rabbitproof", "doctor", "--url", vhost.url]
    checked = subprocess.run(
        [*command, "--management-url", node.management_url],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (checked.returncode, "[FAIL]" in checked.stdout) == (0, False)
    assert "[OK] state: no alarm, no stuck consumer, nothing unroutable" in checked.stdout


def test_a_node_shows_its_figures(eyes: Monitor) -> None:
    snapshot = seen(eyes).snapshot
    assert snapshot is not None
    node = snapshot.nodes[0]
    assert node.running
    assert None not in (node.memory, node.memory_limit, node.disk_free, node.files, node.uptime)
    assert snapshot.missing == ()


@pytest.mark.slow  # an alarm and a restart
def test_a_memory_alarm_and_a_kill_are_told_and_survived(private_node: Node) -> None:
    drive(producer(private_node.url, 100))
    private_node.settle()
    with Management(
        private_node.management_url, private_node.username, private_node.password
    ) as api:
        eyes = Monitor(Watch(api))
        seen(eyes)
        private_node.ctl("set_vm_memory_high_watermark", "absolute", "10MB")

        def alarmed() -> bool:
            return any(one.what.startswith("memory alarm on ") for one in seen(eyes).problems)

        eventually(alarmed, "the alarm", SETTLED_S)
        private_node.kill()
        failed = eyes.refresh()
        assert failed.error is not None
        assert failed.error.endswith("rabbitmq-plugins enable rabbitmq_management.")
        assert failed.snapshot is not None
        private_node.start_again()
        eventually(lambda: eyes.refresh().error is None, "the recovery", SETTLED_S)
        eventually(
            lambda: {q.total for q in seen(eyes).snapshot.queues} == {100},  # type: ignore[union-attr]
            "the messages",
            SETTLED_S,
        )
        assert all(
            value is None or 0 <= value < 1000
            for rates in seen(eyes).rates.values()
            for value in (rates.publish, rates.ack)
        )
        texts = [event.text for event in eyes.refresh().events]
        assert "the broker answers again" in texts


def monitor(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **variables}
    return subprocess.run(
        [sys.executable, str(ROOT / "src" / "monitor.py"), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_door_shows_the_cards(node: Any, vhost: Any) -> None:
    drive(producer(vhost.url, 5))
    login = ["--host", node.management_url, "--username", node.username, "--vhost", vhost.name]
    done = monitor(*login, "--once", "--password", node.password)
    assert done.returncode == 0
    assert "● work.queue  [" in done.stdout
    assert "  Messages: Ready=     5  Unacked=     0  Total=     5\n" in done.stdout
    assert done.stderr.count("\n") == 1  # the warning about --password
    refused = monitor(*login, "--once", "--password", "wrong")
    assert refused.returncode == 3
    assert "401" in refused.stderr
    one = json.loads(monitor(*login, "--once", "--json", "--password", node.password).stdout)
    assert [queue["ready"] for queue in one["queues"]] == [5, 5]


def test_named_queues_are_asked_over_amqp_where_there_is_no_api(vhost: Any) -> None:
    drive(producer(vhost.url, 5))
    where = ["--host", "http://127.0.0.1:1", "--url", vhost.url]
    done = monitor(*where, "--once", "--queue", "work.queue")
    assert done.returncode == 0
    assert "Ready=     5  Unacked=     ?  Total=     ?" in done.stdout
    assert "can't be reached" in done.stdout


@pytest.mark.slow  # two nodes
def test_messages_that_are_not_counted_make_no_consumer_stuck(installation: Installation) -> None:
    """It holds all it may, and whether it acknowledges is what this broker does not tell."""
    with Node.start(installation, settings={"management.rates_mode": "none"}) as node:
        drive(producer(node.url, 30, topology=topology(audit=None)))
        with (
            Management(node.management_url, node.username, node.password) as api,
            witness(node.url) as channel,
        ):
            channel.basic_qos(prefetch_count=10)
            channel.basic_consume("work.queue", lambda *_: None)
            eyes = Monitor(Watch(api))
            eventually(lambda: bool(list(full(seen(eyes).snapshot))), "a consumer", SETTLED_S)  # type: ignore[arg-type]
            end = time.monotonic() + STILL_S + 3
            while time.monotonic() < end:
                channel.connection.process_data_events(1)
                assert [one for one in seen(eyes).problems if one.level == "red"] == []
            picture = seen(eyes)
            assert picture.snapshot is not None
            assert not picture.snapshot.metrics
            found = list(doctor._management(api, None, topology()))
    (rates,) = [one for one in found if one.check == "metrics"]
    assert rates.fix == "set management.rates_mode = basic"


def test_metrics_that_are_off_are_not_zeros(installation: Installation) -> None:
    settings = {"management_agent.disable_metrics_collector": "true"}
    with Node.start(installation, settings=settings) as node:
        drive(producer(node.url, 50))
        with Management(node.management_url, node.username, node.password) as api:
            picture = Monitor(Watch(api)).refresh()
            found = list(doctor._shown(api, None))
    assert [one.level for one in found if "alarms" in one.text] == ["skip"]
    assert "ok" not in {one.level for one in found}
    assert picture.error is None
    assert picture.snapshot is not None
    assert not picture.snapshot.metrics
    assert {queue.total for queue in picture.snapshot.queues} <= {50, None}
    assert all(rates.publish is None for rates in picture.rates.values())
