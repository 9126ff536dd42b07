"""When the end of a ledger says what a queue held when everything was over.

Pure: no I/O, no clock. Refuses to judge (``verdict``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rabbitproof.proof.record import Record
    from rabbitproof.proof.run import RunQueue

CLOCKS_NS: Final = 2 * 10**9
"""By how much one host's clock has to be ahead of another's before "later" is believed: what a
synchronised clock is never off by."""

LAST_WORDS_NS: Final = 2 * 10**9
"""For how long a producer without an end may have gone on after the last time in its ledger: it
writes a sample twice a second, and none while it waits, which is for a second at most."""


def last_look(
    queue: RunQueue, producers: Sequence[Record], readers: Sequence[Record]
) -> Record | None:
    """Return the ledger whose end says what the queue held when everything was over.

    Its participant ended in good order, after every producer had done all that it ever did, and
    nobody else consumed the queue then, who might have held some. When a consumer was killed,
    what it had not acknowledged went back to the queue before: as long as it held messages, it
    counted as a consumer. None when no end says that.
    """
    for one in sorted(readers or producers, key=end_ns, reverse=True):
        consumers = one.end.get("consumers")
        others = consumers.get(queue.name) if isinstance(consumers, dict) else None
        if (
            one.ended
            and (others == 0 or (readers and queue.kind == "stream"))
            and all(_later(one, other) for other in producers if other is not one)
        ):
            return one
    return None


def counts(
    queue: RunQueue, one: Record, readers: Sequence[Record]
) -> tuple[int | None, int | None]:
    """Return what was left in a queue when a participant ended, and what a second source said."""
    second = (one.end.get("second") or {}).get(queue.name)
    found = (one.counts.get(queue.name), second)
    if queue.kind == "stream" and readers:  # reading takes nothing from it
        return unread(found[0], readers), unread(found[1], readers)
    return found


def unread(count: int | None, readers: Sequence[Record]) -> int | None:
    """Return how many of a stream's messages nobody read; None where that can't be told.

    Who reads it from its first message on reads its beginning, again with every connection: so
    the longest pass counts, not the sum. Who begins anywhere else may have begun behind some, and
    of a stream that has fewer than were read, the beginning is gone.
    """
    passes = [
        most
        for one in readers
        if one.header.options.get("stream_offset") == "first"
        for most in one.passes
    ]
    read = max(passes, default=None)
    return None if count is None or read is None or read > count else count - read


def end_ns(one: Record) -> int:
    """Return when a participant ended, by its clock; the last time in its ledger without an end."""
    end = one.end.get("t_ns")
    return end if isinstance(end, int) else one.last_ns


def _later(one: Record, other: Record) -> bool:
    """Say whether the end of ``one`` was surely after the last that ``other`` wrote down.

    Two clocks may say so: the one that nobody sets, and the host's own, which knows of the time
    for which a machine stood still. Where both were written down, both have to.
    """
    mine, theirs = one.header, other.header
    grace = 0 if other.ended else LAST_WORDS_NS
    end, last = end_ns(one), other.last_ns + grace
    since_boot = (
        end - mine.started_ns + mine.monotonic_ns > last - theirs.started_ns + theirs.monotonic_ns
    )
    if mine.boot and mine.boot == theirs.boot:
        return since_boot  # one machine, not restarted between
    if mine.host == theirs.host and not mine.boot and not theirs.boot:
        # Perhaps the same, where no system says: after a restart the clock begins anew.
        return since_boot and end > last
    ended = one.end.get("clock_ns")
    end = min(end, ended) if isinstance(ended, int) else end
    last = max(last, (other.clock_ns or 0) + grace)
    return end > last + CLOCKS_NS
