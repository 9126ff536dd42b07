"""When a count says what a queue held when everything was over.

A history says so by the order of its entries: what stands behind the end of all who had to do with
a queue came after them. Without one, the ends of ledgers do, by their clocks.

Pure: no I/O, no clock. Refuses to judge (``verdict``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rabbitproof.proof.history import Began, Counted, Ended

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rabbitproof.proof.history import History
    from rabbitproof.proof.record import Record
    from rabbitproof.proof.run import RunQueue

CLOCKS_NS: Final = 2 * 10**9
"""By how much one host's clock has to be ahead of another's before "later" is believed: what a
synchronised clock is never off by."""

REPORT_NS: Final = 6 * 10**9
"""So long after the last one was there, the Management API's count is from after that: queues with
replicas and streams report theirs every 5 s."""

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
        if (
            one.end is not None
            and (one.end.consumers.get(queue.name) == 0 or (readers and queue.kind == "stream"))
            and all(_later(one, other) for other in producers if other is not one)
        ):
            return one
    return None


def counts(queue: RunQueue, one: Record) -> tuple[int | None, int | None]:
    """Return what a queue held when a participant ended, and what a second source said."""
    if one.end is None:
        return None, None
    return one.end.counts.get(queue.name), one.end.second.get(queue.name)


def told(queue: RunQueue, history: History) -> tuple[int | None, int | None] | None:
    """Return the same as a history has it; None where it has no count from behind the end.

    What is counted while somebody still consumes is none, and what the Management API says within
    some seconds after the last one was there is old.
    """
    over = all_gone(queue, history)
    ended = history.entries[over - 1].t_ns if over else 0
    counted = {
        one.by: one
        for one in history.entries[over:]
        if isinstance(one, Counted)
        and one.queue == queue.name
        and (one.by == "declare" or one.t_ns >= ended + REPORT_NS)
    }
    if history.cut is not None or not (last := counted.get("declare")):
        return None
    if last.consumers and queue.kind != "stream":
        return None
    second = counted.get("api")
    return last.messages, None if second is None else second.messages


def all_gone(queue: RunQueue, history: History) -> int:
    """Return from which entry on all who had to do with a queue had ended; behind the last one
    where somebody had not.
    """
    ours = {one.name for one in history.of(Began) if one.kind == "producer"}
    ours |= {one.name for one in history.of(Began) if one.queue == queue.name}
    open_ones: set[str] = set()
    over = 0
    for place, entry in enumerate(history.entries):
        if isinstance(entry, (Began, Ended)) and entry.name in ours:
            (open_ones.add if isinstance(entry, Began) else open_ones.discard)(entry.name)
            over = place + 1
    return len(history.entries) if open_ones else over


def held(queue: RunQueue, history: History, role: str) -> int | None:
    """Return what a queue held before anybody of that role was there: ``producer``, or
    ``consumer`` once all producers had ended. None where nobody counted it then.
    """
    sending: set[str] = set()
    sent = role == "producer"
    found = None
    for entry in history.entries:
        if isinstance(entry, Began) and entry.kind == "producer":
            if role == "producer":
                return found
            sending.add(entry.name)
        elif isinstance(entry, Ended) and entry.kind == "producer":
            sending.discard(entry.name)
            sent = not sending
        elif isinstance(entry, Began) and entry.queue == queue.name:
            return found
        elif isinstance(entry, Counted) and entry.queue == queue.name and sent:
            found = entry.messages if entry.by == "declare" else found
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
    return one.last_ns if one.end is None else one.end.t_ns


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
    if one.end is not None and one.end.clock_ns is not None:
        end = min(end, one.end.clock_ns)
    last = max(last, (other.clock_ns or 0) + grace)
    if mine.host == theirs.host and not mine.boot and not theirs.boot:
        # Perhaps the same, where no system says: after a restart the clock begins anew.
        return since_boot and end > last
    return end > last + CLOCKS_NS
