"""Getting a lost connection back, for every participant the same way.

Knows which errors may pass by themselves. Refuses to decide how long to wait between two tries and
when to give up (``retry``), what is done with a new connection (that is passed in) and which of
several brokers it leads to (``amqp/dial``).
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Final

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
    from collections.abc import Callable, Generator, Iterable

    from rabbitproof.amqp.connection import Connection
    from rabbitproof.model import Progress
    from rabbitproof.work.retry import Retry

GIVE_UP_S: Final = 120.0
"""Seconds from a loss without progress after which a participant gives up. A broker that was killed
is back within about 10; a machine that boots needs a minute."""

CONFIRM_TIMEOUT_S: Final = 60.0
"""Seconds without any answer while publishes are open, after which the connection is given up and
all of them are sent again on another one. A broker that works answers within a few."""
BLOCKED_DEADLINE_S: Final = 3600.0
"""Seconds for which an alarm of the broker, which it told us of, is waited for."""

_INTERNAL_ERROR: Final = 541
"""What RabbitMQ says when a queue's leader is away (AMQP 0-9-1, section 1.2: internal-error)."""


_NO_REPLICA: Final = re.compile("does not have a (running )?replica on the local node")
"""RabbitMQ's own words; 4.3 says ``running``."""


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
    return isinstance(error, PreconditionFailed) and _NO_REPLICA.search(error.reply) is not None


def check_silence(
    connection: Connection,
    retry: Retry,
    since: float,
    in_flight: int,
    blocked: str | None,
    confirm_timeout_s: float = CONFIRM_TIMEOUT_S,
) -> None:
    """Raise when publishes have been without an answer for too long, or until it is given up.

    ``since`` is when the last answer came, or what was sent first after that (monotonic seconds).
    Raises ConnectionLost, so that it is tried on another connection; or GivenUp, when the broker
    has said ``blocked`` for an hour: it lives, and another connection would be blocked as well.
    """
    silent = time.monotonic() - since
    if blocked is None and silent > retry.patience(since, confirm_timeout_s):
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
    retry: Retry,
    failure: Exception,
    connect: Callable[[], Connection],
    prepare: Callable[[Connection], Iterable[Progress]],
    *,
    worth_it: Callable[[Exception], bool] = passes,
    until: float = float("inf"),
) -> Generator[Progress, None, None]:
    """Open a connection again after ``failure``, which ``retry`` was told of, and prepare it.

    Both callables are called until they succeed, or until ``retry`` gives up: then GivenUp is
    raised. What is not ``worth_it`` is raised at once. No try takes longer than what is left. The
    first one does not wait beyond ``until`` (monotonic seconds).
    """
    began = now = time.monotonic()
    if retry.left(began):
        yield Note(f"{failure} Reconnecting for up to {retry.left(began):.0f} s.")
    while True:
        if not retry.left(now):
            raise _given_up(retry, now, failure) from failure
        yield Disconnected(now - began, str(failure))
        time.sleep(retry.pause(time.monotonic(), until))
        retry.begin(time.monotonic())
        try:
            where = yield from _try(retry, connect, prepare)
            break
        except RabbitproofError as error:
            if not worth_it(error):
                raise
            failure, now, until = error, time.monotonic(), float("inf")
    several = len(getattr(connect, "addresses", ())) > 1
    yield Note(f"Connected again{f', to {where}' if several else ''}.")


def _given_up(retry: Retry, now: float, failure: Exception) -> GivenUp:
    seconds = now - (now if retry.since is None else retry.since)
    tried = f"There was no progress for {seconds:.0f} s, in {retry.tries} tries"
    if not retry.tries:
        tried = "This was not tried again"
    return GivenUp(f"{tried} (--give-up-after). {failure}")


def _try(
    retry: Retry,
    connect: Callable[[], Connection],
    prepare: Callable[[Connection], Iterable[Progress]],
) -> Generator[Progress, None, str]:
    """Connect and prepare once; return where to."""
    now = time.monotonic()
    connection = within(connect, retry.left(now))
    usual = connection.patience
    connection.patience = retry.patience(now, usual)
    try:
        yield from prepare(connection)
    except BaseException:
        connection.abandon()
        shun(connect)
        raise
    connection.patience = usual
    return connection.where
