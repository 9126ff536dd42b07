"""A whole bench, small, on a real broker."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING
from unittest.mock import Mock

import pytest

from rabbitproof.address import parse
from rabbitproof.errors import BenchFailed
from rabbitproof.model import Client, Note
from rabbitproof.trial import bench
from rabbitproof.trial.bench import Bench, Plan
from rabbitproof.trial.peers import catalogue
from rabbitproof.trial.peers.catalogue import Peer
from rabbitproof.trial.place import Place
from rabbitproof.trial.runner import Job, start
from support import ready, topology, witness

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Vhost

COUNT = 400


def place(vhost: Vhost) -> Place:
    wanted = topology()
    names = {queue.name: queue.name for queue in wanted.queues}
    return Place(parse(vhost.url), wanted, names, "a broker of the tests", vhost.name, Mock())


def plan(*topologies: str, clients: tuple[str, ...] = ()) -> Plan:
    return Plan(topologies, clients or ("pika",), COUNT, 1, balanced=False, window=100, prefetch=50)


def test_mixed_traffic_is_all_consumed(vhost: Vhost, tmp_path: Path) -> None:
    """The ceiling knows its bytes to the last one, and our consumer counts every message."""
    list((one := Bench(plan("mixed"), place(vhost), tmp_path)).run())

    assert one.result is not None
    assert [(row.role, row.client, row.messages) for row in one.result.rows] == [
        ("consume", "ceiling", COUNT),
        ("consume", "rabbitproof", COUNT),
    ]


@pytest.mark.parametrize("name", [name for name in bench.TOPOLOGIES if name != bench.MIXED])
def test_a_bench_measures_every_client_in_both_roles(
    vhost: Vhost, tmp_path: Path, name: str
) -> None:
    one = Bench(plan(name), place(vhost), tmp_path)

    list(one.run())

    result = one.result
    assert result is not None
    assert result.skipped == ()
    assert [client.name for client in result.clients] == ["ceiling", "rabbitproof", "pika"]
    found = {(row.topology, row.role, row.client): row for row in result.rows}
    assert found.keys() == {
        (name, role, client)
        for role in ("publish", "consume")
        for client in ("ceiling", "rabbitproof", "pika")
    }
    for (_, _, client), row in found.items():
        assert row.messages == (2 * COUNT if row.topology == "quorum" else COUNT)
        assert row.per_s.median > 0
        assert row.cpu_us.median > 0
        assert row.peak_bytes > 8 << 20
        assert (row.of_ceiling is None) == (client == "ceiling")
    assert result.environment["rabbitmq"][0].isdigit()


@pytest.mark.slow
def test_a_client_that_only_claims_to_publish_is_left_out(
    vhost: Vhost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the queue holds decides, not what the client says."""
    line = '{"messages": 400, "unique": 400, "seconds": 0.001, "cpu_seconds": 0.001}'
    liar = Peer(
        Client("pika", "1", confirms=True),
        publish=True,
        consume=True,
        command=(sys.executable, "-c", f"print('{line}')"),
    )
    monkeypatch.setattr(catalogue, "find", lambda *_: liar)
    one = Bench(plan("classic"), place(vhost), tmp_path)

    notes = [event.text for event in one.run() if isinstance(event, Note)]

    assert any("pika is left out: After pika the work queue holds 0 messages" in n for n in notes)
    assert one.result is not None
    assert {row.client for row in one.result.rows} == {"ceiling", "rabbitproof"}
    assert {taken.client for taken in one.result.measurements} == {"ceiling", "rabbitproof"}
    assert len(one.result.skipped) == 1


@pytest.mark.slow
def test_a_client_that_is_not_installed_is_left_out(
    vhost: Vhost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "find", lambda name, _: f"{name} is skipped; install it.")
    one = Bench(plan("classic"), place(vhost), tmp_path)

    list(one.run())

    assert one.result is not None
    assert one.result.skipped == ("pika is skipped; install it.",)
    assert len(one.result.rows) == 4


@pytest.mark.slow
def test_foreign_messages_in_the_ceilings_way_are_an_error(vhost: Vhost, tmp_path: Path) -> None:
    """It counts bytes; what it does not expect must not become a rate."""
    one = Bench(plan("classic"), place(vhost), tmp_path)
    wanted = one._topology("classic")
    one._make(wanted)
    with witness(vhost.url) as channel:
        for _ in range(COUNT):
            channel.basic_publish("direct.exchange", "work", b"somebody else's")

    with pytest.raises(BenchFailed, match="held something else"):
        start(bench._CEILING, Job("consume", wanted, COUNT, 100, 50), vhost.url)


def test_nothing_of_the_bench_is_left_in_the_queues(vhost: Vhost, tmp_path: Path) -> None:
    list(Bench(plan("classic"), place(vhost), tmp_path).run())

    assert ready(vhost.url, "work.queue") == 0
