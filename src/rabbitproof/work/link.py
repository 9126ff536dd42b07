"""Getting a lost connection back, for every participant the same way.

Knows which errors may pass by themselves, how long to wait between two attempts, and when to give
up. Refuses to decide what is done with a new connection (that is passed in) and which of several
brokers it leads to (``amqp/dial``).
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Final

import stamina

from rabbitproof.amqp.dial import Dialer
from rabbitproof.errors import (
    ConnectionClosed,
    ConnectionFailed,
    ConnectionLost,
    GivenUp,
    NotFound,
    Overdue,
    PreconditionFailed,
    RabbitproofError,
    RemoteProtocolError,
)
from rabbitproof.model import Disconnected, Note
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from rabbitproof.amqp.connection import Connection

GIVE_UP_S: Final = 120.0
"""Seconds without a connection after which a participant gives up. A broker that was killed is
back within about 10; a machine that boots needs a minute."""

CONFIRM_TIMEOUT_S: Final = 60.0
"""Seconds without any answer while publishes are open, after which the connection is given up and
all of them are sent again on another one. A broker that works answers within a few."""
BLOCKED_DEADLINE_S: Final = 3600.0
"""Seconds for which an alarm of the broker, which it told us of, is waited for."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 0.5
"""Backoff between attempts, doubling; each is cut by up to a half at random, so that many clients
do not come at once. Kept short: a refused attempt on a broker that is starting costs nothing, and
the longest one is the longest that a broker waits for us when it is back."""

_LEAST_PATIENCE_S: Final = 1.0
"""What an answer gets at least, also just before giving up."""

_INTERNAL_ERROR: Final = 541
"""What RabbitMQ says when a queue's leader is away (AMQP 0-9-1, section 1.2: internal-error)."""


_NO_REPLICA: Final = "does not have a replica on the local node"


def passes(error: Exception) -> bool:
    """Say whether trying again may help.

    A broker that is gone, silent or starting comes back; so does a queue whose node is down, which
    is another 404 than that of a queue that does not exist.
    """
    if isinstance(error, NotFound):
        return "NOT_FOUND - no " not in error.reply
    if isinstance(error, ConnectionClosed):
        return error.code == _INTERNAL_ERROR
    if isinstance(error, PreconditionFailed):
        return lacks_replica(error)
    return isinstance(error, (ConnectionFailed, ConnectionLost, Overdue, RemoteProtocolError))


def lacks_replica(error: Exception) -> bool:
    """Say whether a stream was asked for on a node that has no copy of it, or none yet.

    A node that was restarted starts its copy a moment after it lets clients in; another one has it.
    """
    return isinstance(error, PreconditionFailed) and _NO_REPLICA in error.reply


def check_silence(
    connection: Connection,
    since: float,
    in_flight: int,
    blocked: str | None,
    confirm_timeout_s: float = CONFIRM_TIMEOUT_S,
) -> None:
    """Raise when publishes have been without an answer for too long.

    ``since`` is when the last answer came, or what was sent first after that (monotonic seconds).
    Raises ConnectionLost, so that it is tried on another connection; or GivenUp, when the broker
    has said ``blocked`` for an hour: it lives, and another connection would be blocked as well.
    """
    silent = time.monotonic() - since
    if blocked is None and silent > confirm_timeout_s:
        raise ConnectionLost(
            f"The broker at {connection.where} answered no publish for {silent:.0f} s; look at "
            "its log, and whether a queue has lost its leader."
        )
    if blocked is not None and silent > BLOCKED_DEADLINE_S:
        raise GivenUp(
            f"The broker at {connection.where} has been blocked for {silent:.0f} s "
            f"({safe(blocked, 200)}); {in_flight} messages stay in doubt. Make room there, then "
            "run this again."
        )


def shun(connect: Callable[[], Connection]) -> None:
    """Have the next connection lead to another broker, if there is one."""
    if isinstance(connect, Dialer):
        connect.shun()


def has_others(connect: Callable[[], Connection]) -> bool:
    """Say whether there is another broker than the one that was connected to."""
    return isinstance(connect, Dialer) and len(connect.addresses) > 1


def within(connect: Callable[[], Connection], seconds: float) -> Connection:
    """Connect, and take no more than so many seconds for it where that can be had."""
    return connect.within(seconds) if isinstance(connect, Dialer) else connect()


def reopen(
    failure: Exception,
    connect: Callable[[], Connection],
    prepare: Callable[[Connection], None],
    give_up_s: float = GIVE_UP_S,
    *,
    since: float | None = None,
    worth_it: Callable[[Exception], bool] = passes,
) -> Generator[Note | Disconnected, None, Connection]:
    """Open a connection again after ``failure``; return it ready for use.

    Both callables are called until they succeed, or until ``give_up_s`` seconds have passed since
    ``since`` (monotonic seconds; None: now): then GivenUp is raised. What is not ``worth_it`` is
    raised at once. No attempt takes longer than what is left.
    """
    stamina.instrumentation.set_on_retry_hooks(())  # it would log each attempt by itself
    began = time.monotonic() if since is None else since
    until, pauses = began + give_up_s, _pauses()
    last: Exception = failure
    left = until - time.monotonic()
    if left <= 0:
        raise _given_up(give_up_s, last)
    yield Note(f"{failure} Reconnecting for up to {left:.0f} s.")

    def pause(error: Exception) -> bool | float:
        nonlocal last
        last = error
        left = until - time.monotonic()
        return min(next(pauses), left) if left > 0 and worth_it(error) else False

    try:
        for attempt in stamina.retry_context(on=pause, attempts=None, timeout=None):
            yield Disconnected(time.monotonic() - began, str(last))
            with attempt:
                connection = _attempt(connect, prepare, max(until - time.monotonic(), 0.0))
    except RabbitproofError as error:
        if worth_it(error):
            raise _given_up(give_up_s, error) from error
        raise
    where = connection.where if len(getattr(connect, "addresses", ())) > 1 else ""
    yield Note(f"Connected again{f', to {where}' if where else ''}.")
    return connection


def _attempt(
    connect: Callable[[], Connection], prepare: Callable[[Connection], None], left: float
) -> Connection:
    connection = within(connect, left)
    usual = connection.patience
    connection.patience = min(usual, max(left, _LEAST_PATIENCE_S))
    try:
        prepare(connection)
    except BaseException:
        connection.abandon()
        shun(connect)
        raise
    connection.patience = usual
    return connection


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE_S
    while True:
        yield pause * random.uniform(0.5, 1.0)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _given_up(give_up_s: float, last: Exception) -> GivenUp:
    return GivenUp(f"This was tried again for {give_up_s:.0f} s (--give-up-after). {last}")
