"""The private node, or cluster, that outlives its command (``rabbitproof broker up``).

Holds: where it is kept, starting it unless it is up, breaking it by hand, ending it.
Refuses to hold: how a node works (``node.py``) and what people are told (``cli/broker.py``).

Rules
-----
- One at a time for each cache folder; two commands at once wait for each other.
- Its data stay until somebody asks for their removal, and another release never touches them.
- Its login is guest/guest, which RabbitMQ accepts from the loopback only, where alone it listens.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from rabbitproof.broker import lease, lock, ports, readiness, releases, watchdog
from rabbitproof.broker.cluster import MOST_NODES, Cluster
from rabbitproof.broker.install import cache_folder, check_path
from rabbitproof.broker.layout import State
from rabbitproof.broker.node import Node
from rabbitproof.errors import NodeFailed, UsageError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rabbitproof.broker.install import Installation

_AMQP: Final = 5672
_MANAGEMENT: Final = 15672

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
    amqp_port: int | None = None,
    management_port: int | None = None,
    fresh: bool = False,
    note: Callable[[str], None],
    nodes: int | None = None,
    rabbitmq: str | None = None,
) -> tuple[list[Node], bool]:
    """Return all nodes and whether any had to be started; ``fresh`` discards earlier data.

    What is up already is left alone, and what was killed is started again as it was. Raise
    UsageError where something else than what is up, or than the kept data are of, was asked for.
    Without ``nodes``: as many as the last time, or one. Without ports: RabbitMQ's own, and any free
    one for management beside another AMQP port. ``rabbitmq``: see ``releases.provide``; without it
    the release that the kept data are of.
    """
    with _alone():
        found = _seen()
        running = [node for node in found if node.pid is not None]
        differs = _differing(found, amqp_port, management_port, nodes, rabbitmq) if found else ""
        if running and differs:
            many = f" with {len(found)} nodes" if len(found) > 1 else ""
            raise UsageError(
                f"RabbitMQ {found[0].release} is up{many} on port {found[0].port} already, so"
                f" {safe(differs, 200)} can't be had; type `rabbitproof broker down`, then this"
                " again."
            )
        if running or (not fresh and not differs and _crashed(found)):
            down = [node for node in found if node.pid is None]
            if down:
                note(f"starting again {len(down)} node{'s' * (len(down) > 1)} that went down")
                Cluster(tuple(down)).start_again()
                Cluster(tuple(found)).await_whole()
            return found, bool(down)
        _end_leftovers()
        kept = [] if fresh else found
        wanted = nodes or len(kept) or 1
        if kept and wanted != len(kept):
            raise UsageError(
                f"The data of the last time are of {len(kept)} node{'s' * (len(kept) > 1)}; say "
                f"--nodes {len(kept)} to have them again, or --fresh to delete them."
            )
        if fresh:
            installation = releases.provide(rabbitmq, note)
            watchdog.remove(folder())  # not before there is what to start instead
        else:
            installation = _installation(kept, rabbitmq, note)
        many = f", {wanted} nodes of one cluster" if wanted > 1 else ""
        note(f"starting RabbitMQ {installation.version}{many}")
        amqp = _AMQP if amqp_port is None else amqp_port
        # Who asks for another port has something on the usual ones.
        usual = _MANAGEMENT if amqp == _AMQP else 0
        management = usual if management_port is None else management_port
        login = "guest"  # name and password: RabbitMQ's own, good for the loopback only
        if wanted > 1:
            cluster = Cluster.start(
                installation,
                nodes=wanted,
                directory=folder(),
                amqp_port=amqp,
                management_port=management,
                username=login,
                password=login,
                owned=False,
            )
            return list(cluster.nodes), True
        node = Node.start(
            installation,
            directory=folder(),
            amqp_port=amqp,
            management_port=management,
            username=login,
            password=login,
            owned=False,
        )
        return [node], True


def _differing(
    found: list[Node],
    amqp_port: int | None,
    management_port: int | None,
    nodes: int | None,
    rabbitmq: str | None,
) -> str:
    """Return the options in which something was asked for that these nodes are not."""
    first = found[0]
    asked = {
        f"--nodes {nodes}": nodes is not None and nodes != len(found),
        f"--port {amqp_port}": amqp_port and amqp_port != first.port,
        f"--management-port {management_port}": management_port
        and first.management_url != f"http://{ports.LOOPBACK}:{management_port}",
        f"--rabbitmq {rabbitmq}": rabbitmq is not None and not _is(first, rabbitmq),
    }
    return " and ".join(option for option, does in asked.items() if does)


def _is(node: Node, asked: str) -> bool:
    """Tell whether a node is what ``--rabbitmq`` asks for."""
    if asked == releases.INSTALLED or not releases.is_release(asked):
        found = releases.provide(asked, lambda _: None)
        return found.home == node.home
    return releases.matches(node.release, asked)


def _installation(
    found: list[Node], rabbitmq: str | None, note: Callable[[str], None]
) -> Installation:
    """Return what to start: what was asked for, if it can work on the data that were kept."""
    if not found:
        if any(place.joinpath("data").is_dir() for place in _places()):
            raise NodeFailed(
                f"There are data in {folder()} and nobody knows of which RabbitMQ; --fresh deletes"
                " them."
            )
        return releases.provide(rabbitmq, note)
    kept = found[0].release
    data = releases.series(kept)
    if not (rabbitmq or os.environ.get(releases.VARIABLE)):
        # Its very server, if that is still there, else a patch of the same release.
        same = [one for one in releases.here() if one.home == found[0].home]
        return same[0] if same else releases.provide(data, note)
    asked = rabbitmq or os.environ[releases.VARIABLE]
    wanted = None if releases.is_release(asked) else releases.provide(asked, note)
    version = wanted.version if wanted else asked
    if releases.series(version) != data:
        raise UsageError(
            f"The data that were kept are of RabbitMQ {kept}, and {version} would change them for"
            f" good; `rabbitproof broker up --rabbitmq {data}` goes on with them, --fresh deletes"
            " them."
        )
    return wanted or releases.provide(asked, note)


def down(*, delete: bool) -> bool:
    """End every node, keeping the data unless ``delete``; return whether it was up."""
    if not folder().exists():
        return False
    with _alone():
        running = [node for node in _seen() if node.pid is not None]
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
        found = _seen()
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
    node = _chosen(_seen(), number)
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


def _seen() -> list[Node]:
    """Return every node; raise NodeFailed where it can't be told whether one runs."""
    found = known()
    if any(node.unseen for node in found):
        raise NodeFailed(
            f"The RabbitMQ in {folder()} was started on another machine or in another container, "
            "and whether it runs can't be seen from here; stop it there, or name another folder "
            "with RABBITPROOF_CACHE."
        )
    return found


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
