"""Every fault for real: it fires, says what shows that, and nothing that was confirmed is lost."""

from __future__ import annotations

import re
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rabbitproof.identity import new_run
from rabbitproof.model import Decision
from rabbitproof.trial import scenario, suite
from support import finish, judged_again

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

ONE_NODE = {  # those beside these are tested with the proxy, or much the same
    "broker-pause": r"stood still for \d+\.\d s; its port took a connection .* and said nothing",
    "memory-alarm": r"told the publishers to wait \('low on memory'\) and kept them for",
    "connection-close": r"says that 3 connections were closed and lists none of them",
    "producer-kill": r"ended by signal 9 after [\d,]+ answers, .* goes on from its ledger",
    "network-cut": r"3 connections were reset, and \d+ attempts to connect refused",
    "half-open": r"connections seemed to be open while [\d,]+ bytes were dropped",
    "confirms-swallowed": r"\d+ frames with the broker's confirms, for [\d,]+ messages or more",
}
CLUSTER = {  # the others are much the same, and take minutes
    "leader-kill": r"Node \d led work\.queue and was gone after SIGKILL; node \d led it",
    "partition": r"Node \d heard nothing of nodes \d and \d for 1\d\.\d s \(\d+ connections",
}


@contextmanager
def started(installation: Any, scenario_name: str) -> Iterator[suite.Nodes]:
    """Private brokers that may be broken; the one for that scenario is up."""
    with suite.Nodes(installation, lambda _: None) as nodes:
        with nodes.venue(scenario.find(scenario_name), new_run()):
            pass
        yield nodes


@pytest.fixture(scope="module")
def alone(installation: Any) -> Iterator[suite.Nodes]:
    with started(installation, "offline") as nodes:
        yield nodes


@pytest.fixture(scope="module")
def cluster(installation: Any) -> Iterator[suite.Nodes]:
    with started(installation, "leader-kill") as nodes:
        yield nodes


def carried_out(brokers: suite.Nodes, name: str, folder: Path) -> Any:
    """Return the result of a scenario that has to fire all its faults and lose nothing."""
    chosen = scenario.find(name)
    entry = finish(suite.run_scenario(chosen, brokers.venue, private=True, ledgers=folder)).entry
    assert entry.result is not None, entry
    faults = entry.result.faults
    assert [one for one in faults if not one.fired] == []
    assert len(faults) == sum(plan.times for plan in chosen.faults)
    verdict = entry.result.verdict
    assert entry.decision is Decision.PASS, (verdict, faults)
    assert [queue.lost for queue in verdict.queues.values()] == [0, 0]
    judged_again(folder, entry.result)
    return entry.result


@pytest.mark.parametrize("name", ONE_NODE)
def test_a_broker_a_network_or_a_client_breaks(
    alone: suite.Nodes, name: str, tmp_path: Path
) -> None:
    """With one node; a producer that is blocked or alone with itself goes on afterwards."""
    result = carried_out(alone, name, tmp_path / "run")
    for record in result.faults:
        assert re.search(ONE_NODE[name], record.evidence), record.evidence
        assert record.in_flight is not None
        assert record.until_s > record.at_s > 0
    if name == "confirms-swallowed":  # they come twice, under the same id
        assert result.verdict.queues["work.queue"].duplicates_resent > 0


@pytest.mark.parametrize("name", CLUSTER)
def test_a_cluster_breaks(cluster: suite.Nodes, name: str, tmp_path: Path) -> None:
    """Three nodes, a quorum queue and a stream; a majority goes on, and nothing is lost."""
    result = carried_out(cluster, name, tmp_path / "run")
    (record,) = result.faults
    assert re.search(CLUSTER[name], record.evidence), record.evidence
    assert result.longest_gap_s < 30


def test_a_broker_that_does_not_come_back_is_unknown(installation: Any, tmp_path: Path) -> None:
    """Somebody took its port meanwhile: a verdict all the same, and the node's log is kept."""
    found = scenario.find("broker-kill")
    (fault,) = found.faults
    # At a pace at which the kill comes in the middle, however fast the broker and slow the machine.
    chosen = replace(
        found,
        faults=(replace(fault, at_share=0.2, lasts_s=3.0),),
        workload=replace(found.workload, rate=2_000.0),
    )
    with suite.Nodes(installation, lambda _: None) as brokers, socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        thread = None

        @contextmanager
        def venue(one: Any, run: str) -> Iterator[Any]:
            nonlocal thread
            with brokers.venue(one, run) as place:
                thread = threading.Thread(target=take_port, args=(place.node, thief))
                thread.start()
                yield place

        carried = finish(suite.run_scenario(chosen, venue, private=True, ledgers=tmp_path / "run"))
        assert thread is not None
        thread.join()
    entry = carried.entry
    assert entry.decision is Decision.UNKNOWN, entry
    assert entry.result is not None, entry.broken
    (record,) = entry.result.faults
    assert not record.fired
    assert "It could not be done" in record.evidence
    assert 0 < entry.result.verdict.confirmed < chosen.count
    (log,) = carried.trial.logs.values()
    assert any("eaddrinuse" in line for line in log), log[-20:]
    assert suite.went_wrong(carried)
    judged_again(tmp_path / "run", entry.result)


def take_port(node: Any, thief: socket.socket) -> None:
    """Listen where the node did, as soon as it is dead."""
    until = time.monotonic() + 60
    while node.pid is not None and time.monotonic() < until:
        time.sleep(0.01)
    while time.monotonic() < until:
        try:
            thief.bind(("127.0.0.1", node.port))
            thief.listen()
        except OSError:
            time.sleep(0.01)
        else:
            return
