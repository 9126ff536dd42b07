"""Getting a lost connection back, for every participant the same way.

Refuses to decide what is done with a new connection: that is passed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import stamina

from rabbitproof.errors import ConnectionFailed, ConnectionLost, Overdue
from rabbitproof.model import Note

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rabbitproof.amqp.connection import Connection

GIVE_UP_S: Final = 120.0
"""Seconds without a connection after which a participant gives up. A broker that was killed is
back within about 10; a machine that boots needs a minute."""

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0
"""Backoff between attempts, with jitter so that many clients do not come at once. Kept short:
a refused attempt on a broker that is starting costs nothing."""


def reopen(
    failure: Exception,
    open_and_prepare: Callable[[], Connection],
    give_up_s: float = GIVE_UP_S,
) -> Generator[Note, None, Connection]:
    """Open a connection again after ``failure``; return it ready for use.

    ``open_and_prepare`` is called until it succeeds or ``give_up_s`` seconds have passed; then
    the last error is raised. A refusal by a broker that answers is final at once.
    """
    stamina.instrumentation.set_on_retry_hooks(())  # it would log each attempt by itself
    yield Note(f"{failure} Reconnecting for up to {give_up_s:.0f} s.")
    attempts = stamina.retry_context(
        on=(ConnectionFailed, ConnectionLost, Overdue),
        attempts=None,
        timeout=give_up_s,
        wait_initial=_FIRST_PAUSE_S,
        wait_max=_LONGEST_PAUSE_S,
        wait_jitter=_FIRST_PAUSE_S,
    )
    for attempt in attempts:
        with attempt:
            connection = open_and_prepare()
    yield Note("Connected again.")
    return connection
