"""When a session is tried again, how long that waits, and when it is given up. Pure.

A session is what a participant has with a broker, over as many connections as it takes. A
connection that can be opened proves little: one that breaks whenever the first message comes
opens well, and would be opened for ever. So what counts is progress:

- a confirm;
- a delivery that was not seen before;
- where nothing is due (nothing there to receive, nothing to send yet, the broker blocked by an
  alarm), a connection that stood like that for ``QUIET_S``.

Giving up. The time runs from the moment when a connection was lost (or the answer that was due did
not come, which ends one) until there is progress. A new connection alone never ends it.

Pauses. Two tries never begin less than ``FIRST_GAP_S`` after each other. While there is no progress
between them the gap doubles, up to ``LONGEST_GAP_S``. It is cut by up to ``SPREAD`` at random, so
that many clients that lost one broker do not come back all at once.

Every time is monotonic seconds and comes in as an argument. Refuses to connect, to wait, and to
know which errors pass (``link``).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_GAP_S: Final = 0.1
LONGEST_GAP_S: Final = 5.0
"""Longer than this a broker that is back should not wait for us."""
SPREAD: Final = 0.2
QUIET_S: Final = 5.0
"""A connection that is to break because of what is on it does so within milliseconds."""
LEAST_PATIENCE_S: Final = 1.0
"""What an answer gets at least, also just before giving up."""

_NEVER: Final = float("inf")


class Retry:
    """The tries of one session. Tell it what happens; ask it for how long to wait."""

    __slots__ = (
        "_came", "_chance", "_gap", "_give_up_s", "_may_come_again", "_next", "_quiet_since",
        "_tried", "since", "tries", "unproven",
    )  # fmt: skip

    def __init__(
        self, give_up_s: float = _NEVER, chance: Callable[[], float] = random.random
    ) -> None:
        """Give up after so many seconds without progress; ``chance`` draws from 0 to 1."""
        self.since: float | None = None
        """When the trouble began: the first loss after the last progress."""
        self.tries = 0
        """Since then."""
        self.unproven = False
        """No progress since the last try: ``received`` and ``stands`` want to be told."""
        self._give_up_s = give_up_s
        self._chance = chance
        self._tried = self._next = -_NEVER
        """When the last try began, and from when on the next one may."""
        self._gap = 0.0
        self._quiet_since: float | None = None
        self._came = 0
        """Deliveries on this connection."""
        self._may_come_again = 0
        """How many of them may have come on an earlier one."""

    # --- what happened ---

    def begin(self, now: float) -> None:
        """Note that a try to connect begins, the first or another one."""
        self.tries += 1
        self.unproven = True
        self._gap = min(max(2 * self._gap, FIRST_GAP_S), LONGEST_GAP_S)
        self._tried = now
        self._next = now + max(FIRST_GAP_S, self._gap * (1 - SPREAD * self._chance()))
        self._quiet_since, self._came = None, 0

    def lost(self, now: float, may_come_again: int = 0) -> None:
        """Note that a connection is of no use any more.

        ``may_come_again``: of the deliveries on it, how many the broker may deliver once more.
        """
        if self.since is None:
            self.since, self.tries = now, 0
        self._may_come_again = max(self._may_come_again, may_come_again)

    def progress(self) -> None:
        """Note that something was confirmed, or is new."""
        self.since, self.unproven = None, False
        self._gap, self._next, self._may_come_again = 0.0, self._tried + FIRST_GAP_S, 0

    def received(self, count: int, *, fresh: bool) -> None:
        """Note deliveries; ``fresh``: one of them is known not to have come before.

        Those without an identity can't be recognised. But when more came than may come again,
        some of them are new.
        """
        self._quiet_since = None
        self._came += count
        if fresh or self._came > self._may_come_again:
            self.progress()

    def stands(self, now: float, *, due: bool) -> None:
        """Note that the connection stands and nothing came; ``due``: something should have."""
        if due:
            self._quiet_since = None
        elif self._quiet_since is None:
            self._quiet_since = now
        elif now - self._quiet_since >= QUIET_S:
            self.progress()

    # --- what follows from it ---

    def left(self, now: float) -> float:
        """Return the seconds until this is given up, 0 when that is now."""
        return _NEVER if self.since is None else max(0.0, self.since + self._give_up_s - now)

    def pause(self, now: float, until: float = _NEVER) -> float:
        """Return for how many seconds to wait before the next try.

        Not beyond ``until``, nor beyond the moment of giving up, which has a last try.
        """
        at = min(self._next, until, now + self.left(now))
        return max(at, self._tried + FIRST_GAP_S, now) - now

    def patience(self, now: float, usual: float) -> float:
        """Return how many seconds an answer gets that is due from ``now`` on."""
        return min(usual, max(self.left(now), LEAST_PATIENCE_S))
