"""The private node, or cluster, that outlives its command (``rabbitproof broker up``).

Holds: where it is kept, starting it unless it is up, breaking it by hand, ending it.
Refuses to hold: how a node works (``node.py``) and what people are told (``cli/broker.py``).

Rules
-----
- One at a time for each cache folder; two commands at once wait for each other.
- Its data stay until somebody asks for their removal.
- Its login is guest/guest, which RabbitMQ accepts from the loopback only, where alone it listens.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from rabbitproof.broker import lease, lock, ports, readiness, watchdog
from rabbitproof.broker.cluster import MOST_NODES, Cluster
from rabbitproof.broker.install import cache_folder, check_path, provide
from rabbitproof.broker.layout import State
from rabbitproof.broker.node import Node
from rabbitproof.errors import NodeFailed, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_WAIT_S = 120.0
"""For another ``up`` or ``down`` to finish; a first ``up`` fetches RabbitMQ."""


def folder() -> Path:
    """Return where the node keeps its data."""
    return cache_folder() / "broker"


def known() -> list[Node]:
    """Return every node that ``up`` left, whether or not it runs; clean up first what killed
    owners left of other nodes.
    """
    lease.collect(cache_folder() / "nodes")
    return [node for place in _places() if (node := Node.known(place)) is not None]


def current() -> list[Node]:
    """Return the nodes that are up, none when it is down."""
    return [node for node in known() if node.pid is not None]


def up(
    *,
    amqp_port: int,
    management_port: int,
    fresh: bool,
    note: Callable[[str], None],
    nodes: int | None = None,
) -> tuple[list[Node], bool]:
    """Return all nodes and whether any had to be started; ``fresh`` discards earlier data.

    What is up already is left alone, whatever ports and data were asked for, and what was killed
    is started again as it was. Without ``nodes``: as many as the last time, or one.
    """
    with _alone():
        found = known()
        running = [node for node in found if node.pid is not None]
        if running or (not fresh and nodes in {None, len(found)} and _crashed(found)):
            down = [node for node in found if node.pid is None]
            if down:
                note(f"starting again {len(down)} node{'s' * (len(down) > 1)} that went down")
                Cluster(tuple(down)).start_again()
                Cluster(tuple(found)).await_whole()
            return found, bool(down)
        _end_leftovers()
        if fresh:
            watchdog.remove(folder())
            found = []
        wanted = nodes or len(found) or 1
        if found and wanted != len(found):
            raise NodeFailed(
                f"The data of the last time are of {len(found)} node{'s' * (len(found) > 1)}; say "
                f"--nodes {len(found)} to have them again, or --fresh to delete them."
            )
        installation = provide(note)
        many = f", {wanted} nodes of one cluster" if wanted > 1 else ""
        note(f"starting RabbitMQ {installation.version}{many}")
        username, password = "guest", "guest"  # RabbitMQ's own, good for the loopback only
        if wanted > 1:
            cluster = Cluster.start(
                installation,
                nodes=wanted,
                directory=folder(),
                amqp_port=amqp_port,
                management_port=management_port,
                username=username,
                password=password,
                owned=False,
            )
            return list(cluster.nodes), True
        node = Node.start(
            installation,
            directory=folder(),
            amqp_port=amqp_port,
            management_port=management_port,
            username=username,
            password=password,
            owned=False,
        )
        return [node], True


def down(*, delete: bool) -> bool:
    """End every node, keeping the data unless ``delete``; return whether it was up."""
    if not folder().exists():
        return False
    with _alone():
        running = current()
        if running:
            # Data that are about to be deleted need no orderly end, which takes seconds.
            Cluster(tuple(running)).stop(gracefully=not delete)
        _end_leftovers()
        if delete:
            watchdog.remove(folder())
        return bool(running)


def kill(number: int | None = None) -> tuple[Node, int]:
    """Kill a node with SIGKILL; its data stay. Return it and the pid that it had.

    ``number``: which one of a cluster; the only one needs none.
    """
    with _alone():
        node, pid = _up(number)
        node.kill()
        return node, pid


def pause(number: int | None = None) -> tuple[Node, int]:
    """Stop a node with SIGSTOP: connections stay open and nothing answers. Return as ``kill``."""
    with _alone():
        node, pid = _up(number)
        if node.paused:
            raise NodeFailed(
                f"The node with pid {pid} is paused already; `rabbitproof broker resume` lets it "
                "go on."
            )
        node.pause()
        return node, pid


def resume(number: int | None = None) -> tuple[Node, int]:
    """Let a node go on that ``pause`` stopped. Return as ``kill``."""
    with _alone():
        node, pid = _up(number)
        if not node.paused:
            raise NodeFailed(
                f"The node with pid {pid} is not paused; `rabbitproof broker pause` pauses it."
            )
        node.resume()
        return node, pid


def restart(number: int | None = None) -> list[Node]:
    """End a node in good order, if it is up, and start it again with its ports and its data.

    Without ``number``: all of them, at the same time. Return those that were started.
    """
    with _alone():
        found = known()
        several = number is None and len(found) > 1
        chosen = found if several else [_chosen(found, number)]
        cluster = Cluster(tuple(chosen))
        cluster.shut_down()
        for node in chosen:
            if not ports.is_free(node.port):
                raise NodeFailed(
                    f"Port {node.port} is taken on this machine; stop what listens there, or start "
                    "at another port with `rabbitproof broker up --port N`."
                )
        cluster.start_again()
        if all(node.pid is not None and not node.paused for node in found):
            Cluster(tuple(found)).await_whole()
        return chosen


def _up(number: int | None) -> tuple[Node, int]:
    """Return the node of that number, which is up, and its pid."""
    node = _chosen(known(), number)
    if node.pid is None:
        raise NodeFailed(
            f"{'The private RabbitMQ' if number is None else f'Node {number}'} is not up; start it "
            "again with `rabbitproof broker restart`."
        )
    return node, node.pid


def _chosen(found: list[Node], number: int | None) -> Node:
    """Return the node of that number, or the only one."""
    if not found:
        raise NodeFailed("No private RabbitMQ is up; start it with `rabbitproof broker up`.")
    if number is None and len(found) > 1:
        raise UsageError(
            f"There are {len(found)} nodes; say which one, --node 1 to --node {len(found)}."
        )
    if not 1 <= (number or 1) <= len(found):
        raise NodeFailed(f"There is no node {number}; `rabbitproof broker status` shows them.")
    return found[(number or 1) - 1]


def log_tail(n: int, number: int = 1) -> list[str]:
    """Return the last ``n`` lines of a node's log, also after it went down."""
    places = _places()
    if not 1 <= number <= len(places):
        raise NodeFailed(f"There is no node {number}; there are {len(places)}.")
    return readiness.log_tail(places[number - 1] / "log" / "rabbit.log", n)


def _places() -> list[Path]:
    """Return where the nodes keep their data: one folder alone, or one for each of a cluster."""
    members = [folder() / f"node-{number}" for number in range(1, MOST_NODES + 1)]
    return [place for place in members if place.is_dir()] or [folder()]


def _crashed(found: list[Node]) -> bool:
    """Tell whether a node left something running, which one that was put down does not."""
    return any(watchdog.marked(node.mark) for node in found)


def _end_leftovers() -> None:
    """End what a node that crashed left running: its epmd, its helpers."""
    for place in _places():
        state = State.read(place)
        if state is not None:
            watchdog.end_processes(state.mark)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    cache = check_path(cache_folder())
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with lock.held(cache / "broker.lock", deadline_s=_WAIT_S):
            yield
    except TimeoutError:
        raise NodeFailed(
            f"Another `rabbitproof broker` has been busy for {_WAIT_S:g} s; end it, then try again."
        ) from None
    except OSError as error:
        raise NodeFailed(
            f"The node's files could not be kept in {cache} ({error.strerror or error}); make room"
            " there or name another folder with RABBITPROOF_CACHE."
        ) from error
