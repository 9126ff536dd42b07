"""The TCP ports of a private node: free ones, or those that were asked for.

Holds: whether a port is free, and the choice of six that are. Refuses to hold: what listens
there (``layout.py``), and what to do when somebody was faster (``node.py``, which tries others).
"""

from __future__ import annotations

import os
import random
import socket
import time
from typing import TYPE_CHECKING

from rabbitproof.broker.layout import Ports
from rabbitproof.errors import NodeFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

LOOPBACK = "127.0.0.1"

_RANGE = (10_000, 32_000)
"""Below the range that systems use for outgoing connections, which could take a port from us."""

_SEARCH_S = 10.0
"""For free ports; a look costs microseconds, so this is tens of thousands of looks."""


def choose(
    amqp: int, management: int, *, tls: bool, epmd: int = 0, besides: Iterable[int] = ()
) -> Ports:
    """Return the node's ports: those asked for, after a look whether they are free, and others.

    0 means any. ``epmd`` is not looked at: the nodes of a cluster share one. None of ``besides``
    is chosen. Raise NodeFailed with the option to change when one that was asked for is taken.
    """
    for option, port in (("--port", amqp), ("--management-port", management)):
        if port and not is_free(port):
            raise NodeFailed(
                f"Port {port} is taken on this machine; stop what listens there or choose another"
                f" port with {option}."
            )
    taken = {amqp, management, epmd, *besides}
    found: list[int] = []
    until = time.monotonic() + _SEARCH_S
    while len(found) < 6:
        port = random.randint(*_RANGE)
        if port not in taken and is_free(port):
            taken.add(port)
            found.append(port)
        elif time.monotonic() > until:
            raise NodeFailed("No free TCP port was found on 127.0.0.1; end what holds so many.")
    return Ports(
        amqp=amqp or found[0],
        management=management or found[1],
        prometheus=found[2],
        distribution=found[3],
        epmd=epmd or found[4],
        tls=found[5] if tls else 0,
    )


def any_free() -> int:
    """Return a port that is free now."""
    return choose(0, 0, tls=False).epmd


def is_free(port: int) -> bool:
    """Tell whether a server could listen on that port of the loopback now."""
    with socket.socket() as probe:
        if os.name == "posix":  # as RabbitMQ does: a port in TIME_WAIT is free
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except OSError:
            return False
    return True
