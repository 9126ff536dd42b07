"""From measurements to the figures of the table. Pure.

Rules: a figure over several rounds is the median with the lowest and the highest; of an even
number of rounds the median is the mean of the two in the middle. A ratio is taken between two
clients in the same round, where both met the same machine, and its median is the median of these
ratios, not the ratio of two medians. A round that one of the two missed makes no pair.
"""

from __future__ import annotations

from math import isfinite
from statistics import median, median_low
from typing import TYPE_CHECKING, Final, get_args

from rabbitproof.model import Role, Row, Spread
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rabbitproof.model import Client, Measurement

    Rounds = dict[int, Measurement]
    """What one client did in one role on one topology, by round."""

_ROLES: Final[tuple[Role, ...]] = get_args(Role)
"""Publish before consume."""


def compare(
    measurements: Iterable[Measurement],
    clients: tuple[Client, ...],
    ceiling: str = "ceiling",
    java: str = "java",
) -> tuple[Row, ...]:
    """Return the rows of the table.

    Topologies are in the order of their first measurement, publishing comes before consuming,
    and clients are in the order given. ``ceiling`` and ``java`` name the two that the others
    are set against. Who measured nothing has no row.

    Raises ValueError for measurements that nothing can be computed from.
    """
    names = [client.name for client in clients]
    taken: dict[str, dict[tuple[Role, str], Rounds]] = {}
    for one in measurements:
        _check(one, names)
        rounds = taken.setdefault(one.topology, {}).setdefault((one.role, one.client), {})
        if one.round in rounds:
            raise ValueError(f"{_named(one)} was measured twice; number the rounds anew.")
        rounds[one.round] = one
    rows = []
    for jobs in taken.values():
        for role in _ROLES:
            for name in names:
                rounds = jobs.get((role, name), {})
                if rounds:
                    base = jobs.get((role, ceiling), {}) if name != ceiling else {}
                    peer = jobs.get((role, java), {}) if name != java else {}
                    rows.append(_row(rounds, base, peer))
    return tuple(rows)


def _named(one: Measurement) -> str:
    return f"Round {one.round} of {safe(one.client)} ({one.role}, {safe(one.topology)})"


def _check(one: Measurement, names: list[str]) -> None:
    if one.client not in names:
        raise ValueError(f"{_named(one)} is of an unknown client; add it to the clients.")
    if not (isfinite(one.seconds) and one.seconds > 0):
        raise ValueError(
            f"{_named(one)} took {one.seconds} seconds; a measurement has to last, "
            "so check its clock."
        )
    if one.messages < 1:
        raise ValueError(f"{_named(one)} had {one.messages} messages; measure at least one.")
    if not (isfinite(one.cpu_seconds) and one.cpu_seconds >= 0):
        raise ValueError(
            f"{_named(one)} used {one.cpu_seconds} seconds of CPU; check how it was measured."
        )


def _row(rounds: Rounds, ceiling: Rounds, java: Rounds) -> Row:
    taken = list(rounds.values())
    first = taken[0]
    return Row(
        topology=first.topology,
        role=first.role,
        client=first.client,
        rounds=len(taken),
        messages=median_low(one.messages for one in taken),
        per_s=_spread([_per_s(one) for one in taken]),
        of_ceiling=_ratio(rounds, ceiling),
        of_java=_ratio(rounds, java),
        cpu_us=_spread([one.cpu_seconds / one.messages * 1e6 for one in taken]),
        peak_bytes=max(one.peak_bytes for one in taken),
    )


def _per_s(one: Measurement) -> float:
    return one.messages / one.seconds


def _ratio(rounds: Rounds, base: Rounds) -> Spread | None:
    pairs = [_per_s(one) / _per_s(base[n]) for n, one in rounds.items() if n in base]
    return _spread(pairs) if pairs else None


def _spread(values: list[float]) -> Spread:
    return Spread(min(values), median(values), max(values))
