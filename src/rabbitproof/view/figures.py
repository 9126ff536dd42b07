"""The figures of a comparison as words: what its tables and its page have in common. Pure.

Refuses to hold: colours, columns, HTML, and arithmetic beyond percent and units (that is
``trial/figures.py``). What comes back is safe to show: names, notes and environment texts come
from outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rabbitproof.text import safe
from rabbitproof.view import surroundings

if TYPE_CHECKING:
    from collections.abc import Callable

    from rabbitproof.model import Comparison, Role, Row, Spread

OURS: Final = "rabbitproof"
CEILING: Final = "ceiling"
"""The names of the two clients that have a part of their own in what is shown."""
NONE: Final = "–"
"""Stands where there is no figure."""

_NAME, _SENTENCE = 40, 500
"""Characters shown of a name, and of a note, a reason or an entry of the environment, at most."""
_VERBS: Final[dict[Role, str]] = {"publish": "publishes", "consume": "consumes"}


@dataclass(frozen=True, slots=True)
class Line:
    """One client in one table, every figure as text."""

    client: str
    version: str
    ours: bool
    note: int
    """The number of its footnote; 0 for none."""
    missed: str
    """How many rounds it took part in, when it missed some."""
    confirms: str
    per_s: str
    per_s_range: str
    of_ceiling: str
    of_ceiling_range: str
    of_java: str
    of_java_range: str
    cpu_us: str
    peak_mb: str
    row: Row


@dataclass(frozen=True, slots=True)
class Job:
    """One table: a role on a topology."""

    topology: str
    role: Role
    length: str
    """How much was measured."""
    lines: tuple[Line, ...]

    @property
    def name(self) -> str:
        """Publish or Consume."""
        return self.role.capitalize()


def jobs(comparison: Comparison) -> list[Job]:
    """Return the tables, in the order of the rows."""
    parts: dict[tuple[str, Role], list[Row]] = {}
    for row in comparison.rows:
        parts.setdefault((row.topology, row.role), []).append(row)
    return [_job(comparison, rows) for rows in parts.values()]


def notes(comparison: Comparison) -> list[tuple[str, str]]:
    """Return the footnotes, numbered from 1: whose it is, and the sentence."""
    return [
        (safe(client.name, _NAME), safe(client.note, _SENTENCE))
        for client in comparison.clients
        if client.note
    ]


def versions(comparison: Comparison) -> list[str]:
    """Return the clients that have a version, each with it."""
    return [
        f"{safe(client.name, _NAME)} {safe(client.version, _NAME)}"
        for client in comparison.clients
        if client.version
    ]


def skipped(comparison: Comparison) -> list[str]:
    """Return who did not take part and why, a sentence each."""
    return [safe(reason, _SENTENCE) for reason in comparison.skipped]


def headline(comparison: Comparison) -> str:
    """Return in one sentence how near to the wire ceiling our own client comes."""
    if not comparison.rows:
        return "Nothing was measured."
    ours = [row for row in comparison.rows if row.client == OURS]
    if not ours:
        count = len({row.client for row in comparison.rows})
        return f"{count} client{'' if count == 1 else 's'} measured, without {OURS}."
    if shares := _by_role(ours, lambda row: row.of_ceiling, "at {:.0%}", "{:.0%}"):
        return f"{OURS} {shares} of the wire ceiling."
    rates = _by_role(ours, lambda row: row.per_s, "{:,.0f}", "{:,.0f}")
    return f"{OURS} {rates} messages a second; there was no wire ceiling to set that against."


def beside_java(comparison: Comparison) -> str:
    """Return in one sentence how it stands to the official Java client; empty without that."""
    ours = [row for row in comparison.rows if row.client == OURS]
    shares = _by_role(ours, lambda row: row.of_java, "at {:.0%}", "{:.0%}")
    return f"It {shares} of the rate of the official Java client." if shares else ""


def environment(comparison: Comparison) -> list[tuple[str, str]]:
    """Return name and value of what surrounded the bench; what we have no name for comes last."""
    return surroundings.told(comparison.environment)


def _job(comparison: Comparison, rows: list[Row]) -> Job:
    clients = {client.name: client for client in comparison.clients}
    noted = [client.name for client in comparison.clients if client.note]
    rounds = max(row.rounds for row in rows)
    messages = {row.messages for row in rows}
    each = f" of {messages.pop():,} messages" if len(messages) == 1 else ""
    lines = []
    for row in rows:
        client = clients.get(row.client)
        line = Line(
            client=safe(row.client, _NAME),
            version=safe(client.version, _NAME) if client else "",
            ours=row.client == OURS,
            note=noted.index(row.client) + 1 if row.client in noted else 0,
            missed="" if row.rounds == rounds else f"{row.rounds} of {rounds} rounds",
            confirms=NONE if client is None else "yes" if client.confirms else "no",
            per_s=_rate(row.per_s.median),
            per_s_range=f"{_rate(row.per_s.low)}–{_rate(row.per_s.high)}",
            of_ceiling=_share(row.of_ceiling),
            of_ceiling_range=_share_range(row.of_ceiling),
            of_java=_share(row.of_java),
            of_java_range=_share_range(row.of_java),
            cpu_us=f"{row.cpu_us.median:,.{0 if row.cpu_us.median >= 100 else 1}f}",
            peak_mb=f"{row.peak_bytes / 1e6:,.0f}",
            row=row,
        )
        lines.append(line)
    length = f"{rounds} round{'' if rounds == 1 else 's'}{each}"
    return Job(safe(rows[0].topology, _NAME), rows[0].role, length, tuple(lines))


def _by_role(
    rows: list[Row], figure: Callable[[Row], Spread | None], first: str, further: str
) -> str:
    """Say for each role what the medians are, from the lowest to the highest topology."""
    parts = []
    for role, verb in _VERBS.items():
        known = [spread.median for row in rows if row.role == role if (spread := figure(row))]
        if known:
            low, high = further.format(min(known)), further.format(max(known))
            to = "" if low == high else f" to {high}"
            parts.append(f"{verb} {first.format(min(known))}{to}")
    return " and ".join(parts)


def _rate(value: float) -> str:
    return f"{value:,.{0 if value >= 10 else 1}f}"


def _share(spread: Spread | None) -> str:
    return NONE if spread is None else f"{spread.median:.0%}"


def _share_range(spread: Spread | None) -> str:
    if spread is None:
        return ""
    low, high = f"{100 * spread.low:.0f}", f"{100 * spread.high:.0f}"
    return f"{low}%" if low == high else f"{low}–{high}%"
