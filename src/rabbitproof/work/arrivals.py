"""How long messages took until they were here: a consumer's end-to-end latency.

A message says itself when it was due (header ``sent_ns``) and by whose clock (header ``host``).
Messages of one buffer of a producer share that time, so they are counted together.

Refuses to know which messages count (``consume``) and what a percentile is (``proof``).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rabbitproof.proof.latency import Latencies, RunLatency

if TYPE_CHECKING:
    from collections.abc import Sequence


class Arrivals:
    """When one consumer's messages arrived. Times are nanoseconds since 1970."""

    __slots__ = ("_began", "_count", "_first", "_host", "_latency", "_live", "_now", "_strange")

    def __init__(self, host: str, expect: int | None) -> None:
        """``host``: the name of this machine. ``expect``: how many messages will come, if known."""
        self._host = host.encode("utf-8", "surrogateescape")
        self._latency = RunLatency(expect)
        self._began = self._now = self._first = 0
        self._count = 0
        self._live = False
        self._strange = False
        """Some message came from another host, or does not say from where."""

    def begin(self, now: int) -> None:
        """Note that messages may come from now on."""
        self._began = now

    def at(self, now: int) -> None:
        """Note that something has just arrived; what is counted next came with it."""
        self._now = now

    def count(self, sent_ns: Sequence[int], host: bytes) -> None:
        """Count messages of one host by when they were due; 0 where that is not known."""
        first, size = sent_ns[0], len(sent_ns)
        if not self._count:
            self._first, self._live = self._now, first >= self._began
        if host != self._host:
            self._strange = True
        after = self._now - self._first
        if first == sent_ns[-1] and sent_ns.count(first) == size:
            groups = {first: size}
        else:
            groups = Counter(sent_ns)
        for sent, count in groups.items():
            if sent:
                self._latency.record(self._now - sent, count, after_ns=after, done=self._count)
            self._count += count

    @property
    def latency(self) -> RunLatency:
        """All latencies that were counted."""
        return self._latency

    def dump(self) -> Latencies:
        """Return all that was counted, as a ledger keeps it."""
        return self._latency.dump(one_host=not self._strange, live=self._live)

    def summary(self) -> dict[str, Any]:
        """Return the latencies, whose clocks are in them, and whether it was there in time."""
        return self._latency.summary() | {
            "clocks": "different hosts: their clocks' difference is in it"
            if self._strange
            else "one host",
            "live": self._live,
        }
