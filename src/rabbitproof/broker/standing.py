"""The one private node that outlives the command that started it (``rabbitproof broker up``).

Holds: where it is kept, starting it unless it is up, ending it.
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

from rabbitproof.broker import lease, lock, readiness, watchdog
from rabbitproof.broker.install import cache_folder, check_path, provide
from rabbitproof.broker.layout import State
from rabbitproof.broker.node import Node
from rabbitproof.errors import NodeFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_WAIT_S = 120.0
"""For another ``up`` or ``down`` to finish; a first ``up`` fetches RabbitMQ."""


def folder() -> Path:
    """Return where the node keeps its data."""
    return cache_folder() / "broker"


def current() -> Node | None:
    """Return the node when it is up; clean up first what killed owners left of other nodes."""
    lease.collect(cache_folder() / "nodes")
    return Node.attach(folder())


def up(
    *, amqp_port: int, management_port: int, fresh: bool, note: Callable[[str], None]
) -> tuple[Node, bool]:
    """Return the node and whether it had to be started; ``fresh`` discards earlier data.

    A node that is up already is left alone, whatever ports and data were asked for.
    """
    with _alone():
        node = current()
        if node is not None:
            return node, False
        _end_leftovers()
        if fresh:
            watchdog.remove(folder())
        installation = provide(note)
        note(f"starting RabbitMQ {installation.version}")
        return (
            Node.start(
                installation,
                directory=folder(),
                amqp_port=amqp_port,
                management_port=management_port,
                username="guest",
                password="guest",  # noqa: S106 - RabbitMQ's own, good for the loopback only
                owned=False,
            ),
            True,
        )


def down(*, delete: bool) -> bool:
    """End the node, keeping its data unless ``delete``; return whether it was up."""
    if not folder().exists():
        return False
    with _alone():
        node = current()
        if node is not None:
            # Data that are about to be deleted need no orderly end, which takes seconds.
            node.stop(gracefully=not delete)
        _end_leftovers()
        if delete:
            watchdog.remove(folder())
        return node is not None


def log_tail(n: int) -> list[str]:
    """Return the last ``n`` lines of the node's log, also after it went down."""
    return readiness.log_tail(folder() / "log" / "rabbit.log", n)


def _end_leftovers() -> None:
    """End what a node that crashed left running: its epmd, its helpers."""
    state = State.read(folder())
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
