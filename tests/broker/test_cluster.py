"""Several nodes as one cluster: whole when started, broken one by one, gone afterwards."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from rabbitproof.broker import readiness
from rabbitproof.broker.cluster import Cluster
from rabbitproof.broker.install import version_key
from rabbitproof.errors import UsageError
from support import eventually, leftovers, put, take, witness

if TYPE_CHECKING:
    from pathlib import Path

    from rabbitproof.broker.install import Installation


@pytest.mark.slow  # three nodes; one of them twice
def test_a_cluster_survives_the_death_of_a_leader(cache: Path, installation: Installation) -> None:
    with Cluster.start(installation) as cluster:
        with witness(cluster.nodes[0].url) as channel:
            for name in ("one", "two", "three"):
                channel.queue_declare(name, durable=True, arguments={"x-queue-type": "quorum"})
            channel.confirm_delivery()
            channel.basic_publish("", "one", b"kept")
        leaders = {cluster.leader("/", name) for name in ("one", "two", "three")}
        assert leaders == {1, 2, 3}  # spread

        before = cluster.leader("/", "one")
        assert before is not None
        cluster.nodes[before - 1].kill()
        assert cluster.problem() == f"Node {before} is down."
        after = eventually(lambda: cluster.leader("/", "one", besides=before), "a new leader")
        with witness(cluster.nodes[after - 1].url) as channel:
            channel.confirm_delivery()
            channel.basic_publish("", "one", b"meanwhile")
        cluster.nodes[before - 1].start_again()
        cluster.await_whole()
        with witness(cluster.nodes[before - 1].url) as channel:
            got = [channel.basic_get("one", auto_ack=True)[2] for _ in range(2)]
        assert got == [b"kept", b"meanwhile"]
    assert leftovers(cache) == []


@pytest.mark.slow  # three nodes
def test_a_node_that_is_cut_off_comes_back(cache: Path, installation: Installation) -> None:
    with Cluster.start(installation) as cluster:
        put(cluster.nodes[0].url, b"kept")
        assert cluster.cut({3}, {1, 2})["held"] > 0
        third = cluster.nodes[2]
        # With metadata in Khepri, as RabbitMQ 4.3 has them, there is nothing to pause for.
        if version_key(cluster.version) < (4, 3):
            eventually(lambda: readiness.amqp_version(third.port, unnamed="?") is None, "it pauses")
        else:
            eventually(lambda: cluster.problem() is not None, "it is missed")
        assert cluster.nodes[0].pid is not None
        assert third.pid is not None
        assert cluster.problem() is not None
        cluster.heal()
        cluster.await_whole(60)
        assert take(third.url) == b"kept"
    assert leftovers(cache) == []


def test_a_cluster_has_a_sensible_size(installation: Installation) -> None:
    began = time.monotonic()
    with pytest.raises(UsageError, match="1 to 7"):
        Cluster.start(installation, nodes=8)
    assert time.monotonic() - began < 1
