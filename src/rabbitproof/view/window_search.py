"""What the window's filter has found so far, and the search for the next message. No widgets.

A filter looks at every message once, a slice of time after the other, and goes on as more come.
While states change, one that asks for states (``is:``) looks at all of them anew now and then.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

from rabbitproof.view.listing import Numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rabbitproof.received import Inbox

_RESCAN_S: Final = 1.0
"""How often a filter on states is applied anew while states change."""


class Search:
    """One filter; empty to begin with."""

    def __init__(self, inbox: Inbox) -> None:
        self.query = ""
        self._inbox = inbox
        self._matches: list[int] = []
        self._next = 1
        """The first number that the filter has not looked at."""
        self._scanned = 0.0
        self._scan_changes = -1

    def begin(self, query: str) -> None:
        """Filter by something else; empty: not at all. ``query`` is a valid one."""
        self.query = query
        self._matches, self._next = [], 1

    def forget(self) -> None:
        """Forget what was found; what was looked at is not looked at again."""
        self._matches = []

    def listed(self, newest: int) -> Numbers:
        """Return what the table lists, up to the newest message that is shown."""
        single, span = self._inbox.span()
        span = range(span.start, min(span.stop, newest + 1))
        if not self.query:
            return Numbers(single, span)
        matches = self._matches
        if matches and matches[0] < span.start:  # some may be held no longer
            cut = bisect_left(matches, span.start)
            kept = set(single)
            self._matches = [n for n in matches[:cut] if n in kept] + matches[cut:]
        return Numbers((), self._matches)

    def work(self, newest: int, now: float, until: float) -> bool:
        """Go on looking for about ``until - now`` seconds; return whether the list changed."""
        if not self.query:
            return False
        if (
            "is:" in self.query
            and self._next > newest
            and now - self._scanned >= _RESCAN_S
            and self._scan_changes != self._inbox.changes
        ):
            self._matches, self._next = [], 1
        if self._next == 1:
            self._scanned, self._scan_changes = now, self._inbox.changes
        if self._next > newest:
            return False
        found = self._inbox.search(self.query, self._next, newest + 1, until - now)
        self._next = found.after
        self._matches += found.numbers
        return bool(found.numbers) or self._next > newest

    def find(
        self, query: str, start: int, step: int, seconds: float, fits: Callable[[int], bool]
    ) -> Generator[None, None, int | None]:
        """Look for a message from ``start`` on, about ``seconds`` between two yields.

        Return the first that ``fits``, None when there is none.
        """
        while True:
            number, start = self._inbox.find(query, start, step, seconds)
            if number is not None and fits(number):
                return number
            if number is not None:
                start = number + step
            elif not start:
                return None
            yield
