"""What a bench decides before a client's process runs."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest

from rabbitproof.address import parse
from rabbitproof.errors import UsageError
from rabbitproof.model import Client, Queue, Topology
from rabbitproof.trial import bench
from rabbitproof.trial.bench import Bench, Plan
from rabbitproof.trial.peers.catalogue import Peer
from rabbitproof.trial.place import Place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

URL = "amqp://bob:secret@localhost:5672/"
TOPOLOGY = Topology("x", "work", Queue("work.queue"), Queue("audit.queue"))


def program(text: str, name: str = "other") -> Peer:
    """A client whose program is this Python text."""
    client = Client(name, "1", confirms=True)
    return Peer(client, publish=True, consume=True, command=(sys.executable, "-c", text))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"topologies": ("classic", "nope")}, "--topology does not know 'nope'; it knows classic"),
        ({"clients": ("pika", "\x1b[31m")}, r"--clients does not know '\x1b[31m'; it knows"),
        ({"topologies": ()}, "--topology names nothing"),
    ],
)
def test_a_plan_knows_its_words(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as caught:
        Plan(**settings)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("given", "names"),
    [(None, ("a", "b")), ("b", ("b",)), (" b, a,b ,", ("b", "a")), ("c", ("c",))],
)
def test_names_are_separated_by_commas(given: str | None, names: tuple[str, ...]) -> None:
    assert bench.select(given, ("a", "b")) == names


def test_slow_clients_send_fewer_messages_but_not_too_few() -> None:
    plan = Plan(count=100_000)

    assert plan.messages("java", "lazy") == plan.messages(bench.OURS, "classic") == 100_000
    assert plan.messages("pika-confirms", "classic") == 2_000
    assert Plan(count=10_000).messages("pika-confirms", "classic") == 1_000
    assert Plan(count=500).messages("pika-confirms", "classic") == 500


def test_a_quorum_queue_gets_twice_as_many() -> None:
    assert Plan(count=100_000).messages(bench.OURS, "quorum") == 200_000
    assert Plan(count=100_000).messages("pika", "quorum") == 60_000


def place(connect: Callable[[], Any] | None = None) -> Place:
    names = {queue.name: queue.name for queue in TOPOLOGY.queues}
    return Place(parse(URL), TOPOLOGY, names, "nowhere", "/", Mock())


def test_tls_is_refused_before_anything_is_started(tmp_path: Path) -> None:
    there = replace(place(), addresses=parse("amqps://localhost/"))

    with pytest.raises(UsageError, match="plain AMQP"):
        list(Bench(Plan(), there, tmp_path).run())


def test_each_role_has_whole_designs(tmp_path: Path) -> None:
    """Six publish in six rounds, five consume in ten; each stands at each place equally often."""
    one = Bench(Plan(rounds=5), place(), tmp_path)
    for name in ("ceiling", "rabbitproof", "a", "b", "c"):
        one._peers[name] = program("pass", name)
    one._peers["d"] = replace(program("pass", "d"), consume=False)

    publish, consume = one._rounds("classic", "publish"), one._rounds("classic", "consume")

    assert (len(publish), len(consume)) == (6, 10)
    for rounds in (publish, consume):
        for column in zip(*rounds, strict=True):
            assert len({column.count(name) for name in set(column)}) == 1
            assert set(column) == set(rounds[0])


def test_mixed_traffic_is_for_those_who_need_no_ids(tmp_path: Path) -> None:
    one = Bench(Plan(rounds=2), place(), tmp_path)
    for name in ("ceiling", "rabbitproof", "java"):
        one._peers[name] = program("pass", name)

    assert {name for row in one._rounds("mixed", "consume") for name in row} == {
        "ceiling",
        "rabbitproof",
    }


def test_a_quick_bench_has_as_many_rounds_as_were_asked_for(tmp_path: Path) -> None:
    one = Bench(Plan(rounds=1, balanced=False), place(), tmp_path)
    for name in ("ceiling", "rabbitproof", "a"):
        one._peers[name] = program("pass", name)

    assert len(one._rounds("classic", "publish")) == 1
