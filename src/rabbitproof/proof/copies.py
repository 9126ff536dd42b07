"""How often each of many numbers came, in sets instead of counters.

Pure: no I/O, no clock. Refuses to know what a copy means (``ledger``, ``books``).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from pyroaring import BitMap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_LAYERS = 16
"""Sets that a number of copies is kept in; each costs a set operation a batch once it is used."""
_FEW = 64
"""Numbers that are counted one by one beyond the last layer; more are kept as a set."""


class Copies:
    """How often each number came, as layers: layer k holds the numbers that came k+1 times.

    Nearly all numbers come once, so all but the first layer are empty or small. A message that
    is requeued for ever comes thousands of times: copies beyond the last layer are counted one
    by one, or kept as they came where many came at once. So what a file of a few bytes says of a
    million numbers never costs more than some sets.
    """

    __slots__ = ("beyond", "layers", "more")

    def __init__(self) -> None:
        self.layers: list[BitMap] = [BitMap()]
        self.beyond: Counter[int] = Counter()
        self.more: list[BitMap] = []
        """Beyond the last layer, one copy of each number in each of these."""

    def add(self, numbers: Sequence[int]) -> None:
        """Count one copy of each of these; a number may stand in ``numbers`` several times."""
        if not numbers:
            return
        first = self.layers[0]
        if isinstance(numbers, range) and numbers.step == 1:
            if not first.range_cardinality(numbers.start, numbers.stop):
                first.add_range(numbers.start, numbers.stop)
                return
            coming = BitMap(numbers)
        else:
            coming = BitMap(numbers)
            if len(coming) != len(numbers):
                for n in numbers:
                    self._add_one(n)
                return
        self._add_set(coming)

    def _add_set(self, coming: BitMap) -> None:
        """Count one copy of each of these."""
        for depth in range(_LAYERS):
            if not coming:
                return
            if depth == len(self.layers):
                self.layers.append(BitMap())
            layer = self.layers[depth]
            known = coming & layer
            layer |= coming
            coming = known
        if len(coming) > _FEW:
            self.more.append(coming)
        else:
            self.beyond.update(coming)

    def _add_one(self, n: int) -> None:
        for layer in self.layers:
            if n not in layer:
                layer.add(n)
                return
        if len(self.layers) < _LAYERS:
            self.layers.append(BitMap([n]))
        else:
            self.beyond[n] += 1

    def unite(self, other: Copies) -> None:
        """Add all copies that another participant counted."""
        for layer in (*other.layers, *other.more):
            if layer:
                self._add_set(layer)
        for n, count in other.beyond.items():
            for _ in range(count):
                self._add_one(n)

    @property
    def once(self) -> BitMap:
        """The numbers that came at least once."""
        return self.layers[0]

    @property
    def twice(self) -> BitMap:
        """The numbers that came at least twice."""
        return self.layers[1] if len(self.layers) > 1 else BitMap()

    @property
    def total(self) -> int:
        """All copies."""
        return sum(map(len, (*self.layers, *self.more))) + self.beyond.total()

    def extra(self, among: BitMap | None = None, *, free: int = 1) -> int:
        """Return how many copies came beyond the first of each number, of ``among`` or all.

        Beyond the first ``free`` ones, if that is said: 0 counts every copy.
        """
        if among is None and free == 1:
            return self.total - len(self.layers[0])
        layered = 0
        paid = max(0, free - _LAYERS)
        for layer in (*self.layers[free:], *self._unpaid(paid)):
            layered += len(layer) if among is None else layer.intersection_cardinality(among)
        for n, count in self.beyond.items():
            if among is None or n in among:
                rest = max(0, paid - sum(n in each for each in self.more)) if paid else 0
                layered += max(0, count - rest)
        return layered

    def _unpaid(self, paid: int) -> Iterator[BitMap]:
        """Yield what is in ``more`` without the first so many copies of each number."""
        free = [BitMap() for _ in range(min(paid, len(self.more)))]
        for coming in self.more:
            left = coming
            for layer in free:
                known = left & layer
                layer |= left
                left = known
            yield left
