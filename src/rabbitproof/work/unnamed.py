"""Which messages without an identity come again after a connection ended. Pure.

Nothing tells such a message from others. But how many of them were left unanswered is known, and
so many come again; of those that were answered last, it is not known whether the broker heard it.
"""

from __future__ import annotations


class Unnamed:
    """Counts the messages without an identity of one consumer, over all of its connections."""

    __slots__ = ("_again", "_answered", "_doubtful", "_open")

    def __init__(self) -> None:
        self._open = self._answered = 0
        """On this connection."""
        self._again = self._doubtful = 0
        """From the connections before: how many come again, and how many more may."""

    def came_before(self, *, redelivered: bool) -> bool:
        """Note one that came; say whether it is one of those that come again."""
        self._open += 1
        if not redelivered:
            self._doubtful = 0  # what comes again comes before what is new
            return False
        if self._again:
            self._again -= 1
        elif self._doubtful:
            self._doubtful -= 1
        else:
            return False  # somebody else had it
        return True

    def answered(self) -> None:
        """Note that all that came were answered."""
        self._answered += self._open
        self._open = 0

    def lost(self, prefetch: int) -> None:
        """Note that the connection ended. No more than the prefetch was not heard of."""
        self._again += self._open
        self._doubtful = min(self._doubtful + self._answered, prefetch)
        self._open = self._answered = 0
