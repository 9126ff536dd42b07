"""What is wrong with a broker, in words: each with its number and with what to do. Pure.

Holds: the judgement over a snapshot and its rates. Refuses to hold: how they are come by, and
how a problem is drawn.

Rules: nothing is claimed of a figure that the broker does not give. Red is what stops messages
or puts them in danger now; yellow is what will, or may be wanted. The worst comes first. Of
many alike, the worst are named and the others counted.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from rabbitproof.snapshot import Problem
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rabbitproof.snapshot import ConsumerSample, Key, NodeSample, QueueSample, Snapshot

_NAMED = 3
"""Queues that one problem names; more are counted."""
_NEARLY = 0.9
"""A share of a limit from which on it is close."""
_MIB = 2**20


def diagnose(
    snapshot: Snapshot, silent: Callable[[Key], bool], earlier: Snapshot | None = None
) -> tuple[Problem, ...]:
    """Return what is wrong, the worst first.

    ``silent`` tells of a queue whether it was seen to get no acknowledgement for some time;
    ``earlier`` is an older snapshot, to tell what grows.
    """
    found = [
        *_nodes(snapshot),
        *_blocked(snapshot),
        *_queues_without_leader(snapshot),
        *_quorum(snapshot),
        *_states(snapshot),
        *_stuck(snapshot, silent),
        *_unroutable(snapshot, earlier),
        *_no_consumer(snapshot),
    ]
    return tuple(sorted(found, key=lambda problem: problem.level != "red"))


def _nodes(snapshot: Snapshot) -> Iterator[Problem]:
    for node in snapshot.nodes:
        name = safe(node.name, 60)
        if node.running is False:
            yield Problem("red", f"node {name} is down", "start it, or look at its log")
            continue
        if node.partitions:
            others = ", ".join(safe(one, 60) for one in node.partitions[:_NAMED])
            yield Problem(
                "red",
                f"node {name} is cut off from {len(node.partitions)} node(s): {others}",
                "repair the network between them, then restart the side you trust less",
            )
        yield from _memory(node, name)
        yield from _disk(node, name)
        for what, used, limit, do in (
            ("file descriptors", node.files, node.files_limit, "raise the limit (ulimit -n)"),
            ("sockets", node.sockets, node.sockets_limit, "close connections or raise ulimit -n"),
        ):
            if used is not None and limit and used >= _NEARLY * limit:
                yield Problem("yellow", f"node {name} uses {used:,} of {limit:,} {what}", do)


def _memory(node: NodeSample, name: str) -> Iterator[Problem]:
    used, limit = node.memory, node.memory_limit
    of = "" if used is None or not limit else f": {used // _MIB:,} of {limit // _MIB:,} MiB"
    if node.memory_alarm:
        yield Problem(
            "red",
            f"memory alarm on {name}{of}; all publishers of the cluster are blocked",
            "consume or purge messages, or raise vm_memory_high_watermark",
        )
    elif used is not None and limit and used >= _NEARLY * limit:
        yield Problem(
            "yellow",
            f"memory of {name} is nearly used up{of}; beyond it publishers are blocked",
            "consume messages, or raise vm_memory_high_watermark",
        )


def _disk(node: NodeSample, name: str) -> Iterator[Problem]:
    free, limit = node.disk_free, node.disk_limit
    of = (
        "" if free is None or not limit else f": {free // _MIB:,} MiB free, limit {limit // _MIB:,}"
    )
    if node.disk_alarm:
        yield Problem(
            "red",
            f"disk alarm on {name}{of}; all publishers of the cluster are blocked",
            "make room on the disk of its data, or lower disk_free_limit",
        )
    elif free is not None and limit and free * _NEARLY <= limit:
        yield Problem(
            "yellow",
            f"disk of {name} is nearly full{of}; below it publishers are blocked",
            "make room on the disk of its data",
        )


def _blocked(snapshot: Snapshot) -> Iterator[Problem]:
    if snapshot.connections is None:
        return
    # "blocking" is a connection that would be blocked if it published.
    blocked = [one for one in snapshot.connections if one.state == "blocked"]
    if blocked:
        names = _names([one.client or one.name for one in blocked])
        yield Problem(
            "red",
            f"{len(blocked)} publisher(s) blocked by the broker: {names}",
            "end the memory or disk alarm; they go on by themselves then",
        )


def _queues_without_leader(snapshot: Snapshot) -> Iterator[Problem]:
    bad = [queue for queue in snapshot.queues if queue.leader == ""]
    if bad:
        yield Problem(
            "red",
            f"{len(bad)} queue(s) without leader: {_queue_names(bad)}",
            "bring back the nodes of their members; until then they take and give nothing",
        )


def _quorum(snapshot: Snapshot) -> Iterator[Problem]:
    lost, bare = [], []
    for queue in snapshot.queues:
        if not queue.members or queue.online is None or queue.leader == "":
            continue
        majority = queue.members // 2 + 1
        if queue.online < majority:
            lost.append(queue)
        elif queue.online == majority and queue.online < queue.members:
            bare.append(queue)
    if lost:
        worst = lost[0]
        yield Problem(
            "red",
            f"{len(lost)} queue(s) without a majority of members online: {_queue_names(lost)} "
            f"({worst.online} of {worst.members})",
            "bring back the nodes of their members; until then they take and give nothing",
        )
    if bare:
        worst = bare[0]
        yield Problem(
            "yellow",
            f"quorum in danger: {len(bare)} queue(s) with a bare majority online: "
            f"{_queue_names(bare)} ({worst.online} of {worst.members})",
            "bring back the missing node before another one goes",
        )


def _states(snapshot: Snapshot) -> Iterator[Problem]:
    down = [queue for queue in snapshot.queues if queue.state in {"down", "crashed", "stopped"}]
    if down:
        yield Problem(
            "red",
            f"{len(down)} queue(s) not running: {_queue_names(down)} ({safe(down[0].state, 20)})",
            "start the node they are on, or look at its log",
        )


def full(snapshot: Snapshot) -> Iterator[tuple[QueueSample, int, int]]:
    """Yield each queue whose consumers hold all they may, how many they are and how much that is.

    As long as that is not known of one of them, nothing is said of the queue.
    """
    by_queue: dict[Key, list[ConsumerSample]] = defaultdict(list)
    for consumer in snapshot.consumers or ():
        if consumer.manual is not False:
            by_queue[consumer.vhost, consumer.queue].append(consumer)
    for queue in snapshot.queues:
        consumers = by_queue.get(queue.key, ())
        limits = [one.prefetch or None for one in consumers if one.manual]
        if not queue.unacked or not consumers or len(limits) < len(consumers) or None in limits:
            continue
        allowed = sum(filter(None, limits))
        if queue.unacked >= allowed:
            yield queue, len(consumers), allowed


def _stuck(snapshot: Snapshot, silent: Callable[[Key], bool]) -> Iterator[Problem]:
    """Find queues whose consumers hold all they may and acknowledge nothing."""
    for queue, consumers, allowed in full(snapshot):
        if silent(queue.key):
            waiting = f", {queue.ready:,} messages wait" if queue.ready else ""
            yield Problem(
                "red",
                f"{consumers} consumer(s) of {safe(queue.name, 60)} hold all {allowed:,} "
                f"messages that their prefetch allows and acknowledge none{waiting}",
                "look at what these consumers do, or restart them: what they hold goes back",
            )


def _unroutable(snapshot: Snapshot, earlier: Snapshot | None) -> Iterator[Problem]:
    for what, fate, do in (
        (
            "dropped",
            "were dropped: no queue was bound for their routing key",
            "bind one, and publish with the mandatory flag to be told",
        ),
        (
            "returned",
            "were returned to their publisher: no queue was bound for their routing key",
            "bind a queue, or correct the routing key",
        ),
    ):
        count = getattr(snapshot, f"unroutable_{what}")
        if not count:
            continue
        before = None if earlier is None else getattr(earlier, f"unroutable_{what}")
        grown = count - before if before is not None and count >= before else 0
        now = f", {grown:,} of them since watching began" if grown else " since the node started"
        level = "red" if grown and what == "dropped" else "yellow"
        yield Problem(level, f"{count:,} message(s) {fate}{now}", do)  # type: ignore[arg-type]  # one of the two levels


def _no_consumer(snapshot: Snapshot) -> Iterator[Problem]:
    listed = None
    if snapshot.consumers is not None:
        listed = {(one.vhost, one.queue) for one in snapshot.consumers}
    idle = [
        queue
        for queue in snapshot.queues
        if queue.ready
        and queue.type not in {"", "stream"}  # a stream keeps what was read
        and (queue.key not in listed if listed is not None else queue.consumers == 0)
        and not queue.consumers
    ]
    if idle:
        idle.sort(key=lambda queue: -(queue.ready or 0))
        waiting = sum(queue.ready or 0 for queue in idle)
        yield Problem(
            "yellow",
            f"{waiting:,} message(s) wait in {len(idle)} queue(s) without consumer: "
            f"{_queue_names(idle)}",
            "start a consumer, unless they are kept on purpose",
        )


def _queue_names(queues: list[QueueSample]) -> str:
    return _names([queue.name for queue in queues])


def _names(names: list[str]) -> str:
    shown = ", ".join(safe(name, 60) for name in names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED:,} more"
