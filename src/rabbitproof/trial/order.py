"""In which order clients take their turns, so that none profits from its place. Pure.

What ran just before leaves something behind: full queues still being deleted, a warm cache, a
broker that is paging. A Williams design is a Latin square that is balanced for such first-order
carry-over: over the whole design every client has each position equally often, and directly
follows each other client equally often. Source: E. J. Williams, "Experimental designs balanced
for the estimation of residual effects of treatments", Australian Journal of Scientific Research
A 2 (1949) 149-168.

Not balanced: who follows the last of one round, at the beginning of the next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def whole(clients: int) -> int:
    """Return how many rounds a whole design for that many clients has."""
    return clients if clients % 2 == 0 or clients == 1 else 2 * clients


def rounds(clients: Sequence[str], count: int) -> list[list[str]]:
    """Return ``count`` rounds, each of them all clients in the order of their turns.

    Exactly balanced when ``count`` is a multiple of ``whole(len(clients))``. Otherwise the last
    design is cut short, and the balance is approximate; with an odd number of clients half a
    design still has every client in each position equally often.
    """
    if len(set(clients)) != len(clients):
        raise ValueError("A client is in the list twice; name each of them once.")
    if count < 0:
        raise ValueError(f"There can't be {count} rounds; ask for 0 or more.")
    design = _design(len(clients))
    return [[clients[i] for i in design[turn % len(design)]] for turn in range(count)]


def _design(k: int) -> list[list[int]]:
    """Return the rows of the design for k treatments, numbered from 0."""
    # Williams' first row, 0 1 k-1 2 k-2 ...: the steps between neighbours are 1, -2, 3, -4 ...
    # modulo k. For an even k these are all different, so adding 1 to the row k-1 times makes
    # every pair of neighbours occur once.
    first = [(place + 1) // 2 if place % 2 else (k - place // 2) % k for place in range(k)]
    rows = [[(number + shift) % k for number in first] for shift in range(k)] or [[]]
    if k == whole(k):
        return rows
    # For an odd k half of the steps occur twice, the others not at all; they are those of the
    # mirrored rows.
    return rows + [row[::-1] for row in rows]
