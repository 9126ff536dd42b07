"""How long messages took: percentiles that can be trusted.

A latency is counted in an HDR histogram: 1 microsecond to 1 hour, three significant digits, so a
percentile is no more than 0.1 % above the value that it stands for, however rare. Nothing is
averaged and nothing is sampled.

Recording has to be cheap, for it happens in the loops that have to keep up with a broker. So what
is recorded is counted under the lowest value of the bucket that it will fall into, which is its
first eleven bits, and the histogram itself is built when somebody asks.

Pure: no I/O, no clock; nanoseconds come in. Refuses to know what is measured, from when to when
(``work``), and to word it (``view``).
"""

from __future__ import annotations

import sys
from typing import Any, Final

from rabbitproof.proof.codec import Count, Value

SHORTEST_NS: Final = 1_000
LONGEST_NS: Final = 3_600 * 10**9
"""What took longer is counted as one hour in the percentiles; ``max`` says what it was."""
_DIGITS: Final = 3
_BITS: Final = 11
"""Bits that hold three digits: a bucket of the histogram is as wide as the twelfth."""

_POINTS: Final = 20
"""Points of a curve for each step to a tenth of what is left, about half of that."""
_PERCENTILES: Final = {"p50": 5_000, "p90": 9_000, "p99": 9_900, "p99_9": 9_990, "p99_99": 9_999}
"""Name -> hundredths of a percent."""

WARM_UP_NS: Final = 10**9
WARM_UP_SHARE: Final = 0.05
"""The warm-up ends after this time or this share of the messages, whichever is over first."""


class Counts(Value, frozen=True, kw_only=True):
    """What a ``Latency`` has counted."""

    counts: tuple[tuple[Count, Count], ...] = ()
    """Lowest value of a bucket in nanoseconds, and how many fell into it."""
    highest: Count = 0
    negative: Count = 0


class Latencies(Value, frozen=True, kw_only=True):
    """What a participant has counted, written at its end."""

    warm: Counts
    steady: Counts
    one_host: bool | None = None
    """Whether all messages came from the host that received them; None where nothing was
    received, so that one clock alone was asked."""
    live: bool | None = None
    """Whether the consumer was there before the first message was sent."""

    @property
    def anything(self) -> bool:
        """Whether anything was counted."""
        return bool(
            self.warm.counts or self.steady.counts or self.warm.negative or self.steady.negative
        )


class Latency:
    """Latencies of many messages."""

    __slots__ = ("_counts", "_highest", "negative")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        """Lowest value of a bucket in nanoseconds -> how many fell into it."""
        self._highest = 0
        self.negative = 0
        """Messages that arrived before they were sent: a clock was set, or two disagree. They are
        counted here and nowhere else."""

    def record(self, ns: int, count: int = 1) -> None:
        """Count ``count`` messages that took ``ns`` nanoseconds."""
        if ns < 0:
            self.negative += count
            return
        if ns > self._highest:
            self._highest = ns
        if (rest := ns.bit_length() - _BITS) > 0:
            ns = ns >> rest << rest
        self._counts[ns] = self._counts.get(ns, 0) + count

    @property
    def count(self) -> int:
        """How many messages were counted, without the negative ones."""
        return sum(self._counts.values())

    def dump(self) -> Counts:
        """Return all that was counted."""
        return Counts(
            counts=tuple(sorted(self._counts.items())),
            highest=self._highest,
            negative=self.negative,
        )

    def add(self, counted: Counts) -> None:
        """Add what another participant counted."""
        for ns, count in counted.counts:
            self._counts[ns] = self._counts.get(ns, 0) + count
        self._highest = max(self._highest, counted.highest)
        self.negative += counted.negative

    def curve(self) -> tuple[tuple[float, float], ...]:
        """Return (percentile, milliseconds) from the quickest message to the slowest."""
        total, so_far, next_at = self.count, 0, 0.0
        out: list[tuple[float, float]] = []
        for ns, count in sorted(self._counts.items()):
            so_far += count
            at = 100 * so_far / total
            if at >= next_at or so_far == total:
                out.append((round(at, 5), _ms(ns)))
                # As many points between 90 and 99 as between 99 and 99.9: the tail is the point.
                next_at = at + (100 - at) / _POINTS
        return (*out[:-1], (100.0, _ms(self._highest))) if out else ()

    def summary(self) -> dict[str, Any]:
        """Return count, percentiles and maximum in milliseconds, and how many were negative.

        A percentile is the lowest value that at least so many percent of the messages did not
        exceed; None when there are no messages.
        """
        total = self.count
        if not total:
            nothing = dict.fromkeys((*_PERCENTILES, "max"))
            return {"count": 0, **nothing, "negative": self.negative}
        # Imported here because --help and whoever measures nothing need not pay for it.
        from hdrh.histogram import HdrHistogram

        histogram = HdrHistogram(SHORTEST_NS, LONGEST_NS, _DIGITS)
        for ns, count in self._counts.items():
            histogram.record_value(min(ns, LONGEST_NS), count)
        # Asked for a percentile, the library rounds to the nearest rank, which may be one too low.
        exact = {
            name: 100 * -(-share * total // 10_000) / total for name, share in _PERCENTILES.items()
        }
        found = histogram.get_percentile_to_value_dict(list(exact.values()))
        return {
            "count": total,
            **{name: _ms(min(found[at], self._highest)) for name, at in exact.items()},
            "max": _ms(self._highest),
            "negative": self.negative,
        }


class RunLatency:
    """The latencies of one participant's run, those of its warm-up kept apart.

    The warm-up (first uses of code, caches, a window that fills) is left out, unless the run
    was over before it was: then all there is is told, and that nothing was left out.
    """

    __slots__ = ("_most", "_steady", "_warm")

    def __init__(self, total: int | None) -> None:
        """``total``: how many messages there will be, if that is known."""
        self._most = sys.maxsize if total is None else int(total * WARM_UP_SHARE)
        self._warm, self._steady = Latency(), Latency()

    def record(self, ns: int, count: int, *, after_ns: int, done: int) -> None:
        """Count ``count`` messages that took ``ns``.

        ``after_ns`` after the run began, with ``done`` messages before them.
        """
        if after_ns < WARM_UP_NS and done < self._most:
            warm = min(count, self._most - done)
            self._warm.record(ns, warm)
            count -= warm
        if count:
            self._steady.record(ns, count)

    def dump(self, **more: bool) -> Latencies:
        """Return all that was counted, with what is known beside it."""
        return Latencies(warm=self._warm.dump(), steady=self._steady.dump(), **more)

    def add(self, counted: Latencies) -> None:
        """Add what another participant of the same run counted."""
        self._warm.add(counted.warm)
        self._steady.add(counted.steady)

    def curve(self) -> tuple[tuple[float, float], ...]:
        """Return (percentile, milliseconds) of what ``summary`` is about."""
        return self._steady.curve() if self._steady.count else self._warm.curve()

    def summary(self) -> dict[str, Any]:
        """Return a summary of ``Latency`` and ``warm_up_left_out``, a number of messages."""
        warm, steady = self._warm, self._steady
        if steady.count or steady.negative:
            return steady.summary() | {"warm_up_left_out": warm.count + warm.negative}
        return warm.summary() | {"warm_up_left_out": 0}


def _ms(ns: int) -> float:
    return round(ns / 1e6, 3)
