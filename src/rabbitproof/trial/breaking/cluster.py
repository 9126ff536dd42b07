"""Faults of a cluster of ours: its nodes one by one, and the network between them.

Rules: after each fault the cluster is whole again, or the fault says what is missing. The node that
is hit is named by its number, as everywhere. A node that leads the queue is hit where the fault
is about that, or the plan picks the victim.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from rabbitproof.broker import readiness
from rabbitproof.errors import NodeFailed, Overdue, UsageError
from rabbitproof.trial.breaking.waiting import until

if TYPE_CHECKING:
    from rabbitproof.broker.cluster import Cluster
    from rabbitproof.trial.faults import Scene
    from rabbitproof.trial.plan import FaultPlan

_ELECTED_S: Final = 30.0
"""Within which another node leads; RabbitMQ's election takes a second or two."""
_BY_ITSELF_S: Final = 15.0
"""Within which a cluster that heals by itself has healed."""


def _leader_kill(plan: FaultPlan, scene: Scene) -> str | None:
    cluster, name = _cluster(scene), scene.place.queue(plan.queue).name
    leader = cluster.leader(scene.place.vhost, name)
    if leader is None:
        raise Overdue(f"Nobody leads {plan.queue} at this moment.")
    began = time.monotonic()
    _kill(cluster, leader)
    try:
        after = until(
            scene,
            lambda: cluster.leader(scene.place.vhost, name, besides=leader),
            _ELECTED_S,
            "No other node led the queue.",
        )
    except Overdue:
        _bring_back(cluster, leader)
        raise
    elected = time.monotonic() - began
    scene.last(plan.lasts_s)
    back = _bring_back(cluster, leader)
    return (
        f"Node {leader} led {plan.queue} and was gone after SIGKILL; node {after} led it "
        f"{elected:.1f} s later. {back}"
    )


def _node_kill(plan: FaultPlan, scene: Scene) -> str | None:
    cluster = _cluster(scene)
    number = _victim(plan, scene, cluster)
    _kill(cluster, number)
    scene.last(plan.lasts_s)
    return f"Node {number} was gone after SIGKILL. {_bring_back(cluster, number)}"


def _node_pause(plan: FaultPlan, scene: Scene) -> str | None:
    cluster = _cluster(scene)
    number = _victim(plan, scene, cluster)
    node = cluster.nodes[number - 1]
    began = time.monotonic()
    try:
        node.pause()
        silent = readiness.amqp_version(node.port, unnamed="?") is None
        scene.last(plan.lasts_s)
    finally:
        node.resume()
    lasted = time.monotonic() - began
    whole = _heal(cluster, number)
    if not silent:
        return None
    return f"Node {number} stood still for {lasted:.1f} s and said nothing; {whole}"


def _partition(plan: FaultPlan, scene: Scene) -> str | None:
    cluster = _cluster(scene)
    number = _victim(plan, scene, cluster)
    others = [each for each in range(1, len(cluster.nodes) + 1) if each != number]
    began = time.monotonic()
    try:
        told = cluster.cut({number}, others)
        scene.last(plan.lasts_s)
    finally:
        cluster.heal()
    lasted = time.monotonic() - began
    whole = _heal(cluster, number)
    if not told.get("held"):
        return None
    return (
        f"Node {number} heard nothing of nodes {' and '.join(map(str, others))} for {lasted:.1f} s "
        f"({told['held']} connections between nodes were silent); {whole}"
    )


def _rolling_restart(plan: FaultPlan, scene: Scene) -> str | None:
    cluster = _cluster(scene)
    began, parts = time.monotonic(), []
    for number, node in enumerate(cluster.nodes, start=1):
        before = node.pid
        node.shut_down()
        scene.last(plan.lasts_s)
        node.start_again()
        cluster.await_whole()
        if before is None or node.pid in {None, before}:
            return None
        parts.append(f"node {number} (process {before}, now {node.pid})")
    return (
        f"Restarted in good order, one after the other: {', '.join(parts)}; "
        f"{time.monotonic() - began:.1f} s in all."
    )


def _kill(cluster: Cluster, number: int) -> None:
    node = cluster.nodes[number - 1]
    node.kill()
    if node.pid is not None:
        raise NodeFailed(f"Node {number} was not gone after SIGKILL; end it by hand.")


def _bring_back(cluster: Cluster, number: int) -> str:
    """Start a killed node again and wait until the cluster is whole; return it as a sentence."""
    began = time.monotonic()
    cluster.nodes[number - 1].start_again()
    cluster.await_whole()
    return (
        f"It was started again, and the cluster was whole {time.monotonic() - began:.1f} s after "
        "that."
    )


def _heal(cluster: Cluster, number: int) -> str:
    """Wait until the cluster is whole, and help as an operator would; return it as a sentence.

    Where metadata are in Mnesia (up to 4.2) nodes that missed each other for longer than the net
    tick do not always join again by themselves; RabbitMQ's guide says to restart the smaller side.
    """
    began = time.monotonic()
    try:
        cluster.await_whole(_BY_ITSELF_S)
    except NodeFailed as failure:
        node = cluster.nodes[number - 1]
        if node.pid is not None:
            node.shut_down()
        node.start_again()
        cluster.await_whole()
        why = str(failure).partition(" s. ")[2].partition(" Look at")[0]
        return (
            f"{_BY_ITSELF_S:.0f} s later the cluster had not healed by itself ({why.rstrip('.')}), "
            f"so node {number} was restarted, and all was whole "
            f"{time.monotonic() - began - _BY_ITSELF_S:.1f} s after that."
        )
    return f"the cluster was whole again {time.monotonic() - began:.1f} s after that."


def _victim(plan: FaultPlan, scene: Scene, cluster: Cluster) -> int:
    """Choose whom it is done to: a node that leads nothing of ours, or the one of the share."""
    count = len(cluster.nodes)
    if plan.pick is not None:
        return 1 + int(plan.pick * count)
    led = cluster.leader(scene.place.vhost, scene.place.queue(plan.queue).name)
    return next(each for each in range(count, 0, -1) if each != led)


def _cluster(scene: Scene) -> Cluster:
    if scene.place.cluster is None:
        raise UsageError("There is no cluster of ours here; leave out --url.")
    return scene.place.cluster


HOW: Final = {
    "leader-kill": _leader_kill,
    "node-kill": _node_kill,
    "node-pause": _node_pause,
    "partition": _partition,
    "rolling-restart": _rolling_restart,
}
