"""The report of a trial: one HTML page to show around.

The verdict comes first, then what was done, the books, what was lost, how it went over time, how
long messages took, what all of this does not say, and how to do it again. Refuses to write files
(``cli/report.py``), to draw (``curve.py``), and to decide anything. Pure.

All that comes from outside is made safe as for a terminal, then escaped; the page runs no script
and loads nothing, and its size does not grow with the run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.model import Decision
from rabbitproof.text import safe
from rabbitproof.view import accounts, surroundings
from rabbitproof.view import verdict as words
from rabbitproof.view.curve import COLOURS, HALF, NARROW, WIDE, Mark, over_time, percentiles
from rabbitproof.view.pages import drawing, render

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rabbitproof.model import FaultRecord, QueueVerdict, Series, TrialResult

GENERATOR: Final = '<meta name="generator" content="rabbitproof">'
"""Stands in the head of each page: whoever writes one over another sees that it was ours."""

_SHORT, _NAME, _SENTENCE, _COMMAND = 24, 60, 500, 2_000
"""Characters shown at most, of a name also where there is little room."""
_LARGE: Final = 120
"""Characters that a sentence shown large may have."""
_REASONS, _CLAIMS, _QUEUES, _FAULTS, _LINES = 20, 50, 24, 60, 12
"""Shown of each at most; the object in report.json has all of them."""

_MEANING: Final = {
    Decision.PASS: "No message was lost, none was damaged, and everything that was promised held.",
    Decision.FAIL: "A message was lost or damaged, or something that was promised did not hold.",
    Decision.UNKNOWN: "Nothing wrong was proven, and neither was that all is well.",
}
_LATENCIES: Final = {
    "confirm": ("To the confirm", "from when a message was due to be sent, to its confirm"),
    "end_to_end": ("End to end", "from when a message was due to be sent, to its arrival"),
}
_PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99_9": 99.9, "p99_99": 99.99}
_PASSWORD: Final = re.compile(r"(?<=://)([^\s/:@]*):[^\s/@]+@")

NOT_TESTED: Final = (
    "kill -9 of a broker is not a power cut: what the kernel still holds reaches the disk.",
    "One machine is not a network: no packet was lost, delayed or torn apart on its way.",
)
"""Said when a trial says nothing itself."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A drawing for wide and one for narrow screens, and what its lines are."""

    title: str
    wide: str
    narrow: str
    legend: tuple[tuple[int, str], ...]
    """Number of the colour, name."""


def page(result: TrialResult, lost_files: Mapping[str, str] | None = None) -> str:
    """Return the report.

    ``lost_files``: logical name of a queue -> file beside the page with all its lost ids.
    """
    verdict = result.verdict
    queues = dict(list(verdict.queues.items())[:_QUEUES])
    headline, reasons = _headline(result)
    return render(
        "report.html.j2",
        verdict=verdict,
        decision=str(verdict.decision),
        meaning=_MEANING[verdict.decision],
        headline=headline,
        scenario=safe(result.scenario, _NAME),
        title=safe(result.title, _SENTENCE).rstrip("."),
        teaches=safe(" ".join(result.teaches.split()), 2_000),
        expected=_expected(result),
        missed=not result.safe and not _expected(result),
        run=safe(result.run, _NAME),
        started=safe(surroundings.when(result.started), _NAME),
        notes=_some([safe(note, _SENTENCE) for note in verdict.notes], _REASONS),
        reasons=_some(reasons, _REASONS),
        figures=_key_figures(result),
        done=done(result),
        claims=[(safe(text, _SENTENCE), held) for text, held in result.claims[:_CLAIMS]],
        more_claims=max(0, len(result.claims) - _CLAIMS),
        queue_names=[safe(name, _NAME) for name in queues],
        real_names=[_real_name(name, queue) for name, queue in queues.items()],
        more_queues=len(verdict.queues) - len(queues),
        books=accounts.books(result, queues),
        counted=accounts.counted(queues),
        remarks=accounts.remarks(queues),
        lost=accounts.lost(queues, lost_files or {}),
        charts=_charts(result),
        faults=[_fault(fault) for fault in result.faults[:_FAULTS]],
        numbers=[str(number) for number in range(1, len(result.faults) + 1)],
        more_faults=max(0, len(result.faults) - _FAULTS),
        latencies=_latencies(result),
        not_tested=[safe(text, _SENTENCE) for text in result.not_tested or NOT_TESTED],
        environment=_environment(result),
        wiring=_wiring(result),
        command=command(result),
    )


def _unasked(result: TrialResult) -> bool:
    """Say whether the producers asked for no confirms: all is in doubt, and is missed if lost."""
    verdict = result.verdict
    missed = any(queue.books.wanted for queue in verdict.queues.values())
    return missed and not verdict.confirmed and verdict.in_doubt == verdict.attempted


def _headline(result: TrialResult) -> tuple[str, list[str]]:
    """Return what to show large, the first reason if it fits, and the other reasons."""
    reasons = [safe(reason, _SENTENCE) for reason in result.verdict.reasons]
    if result.verdict.decision is not Decision.PASS and reasons and len(reasons[0]) <= _LARGE:
        return reasons[0], reasons[1:]
    return safe(words.headline(result), _SENTENCE), reasons


def command(result: TrialResult) -> str:
    """Return what to type to repeat it; a password that slipped in is masked."""
    return _PASSWORD.sub(r"\1:***@", safe(result.command, _COMMAND))


def done(result: TrialResult) -> list[str]:
    """Return in plain words what was done and what came of it: whole sentences."""
    verdict = result.verdict
    count = len(verdict.queues)
    queues = "one queue" if count == 1 else f"each of {count} queues" if count else "no queue"
    out = [
        f"{_messages(verdict.attempted)} sent, meant for {queues}. Each has a number and a "
        "checksum of its own, so that this report speaks of every single one of them and does "
        "not only count."
    ]
    whole = verdict.confirmed == verdict.attempted > 0
    parts = [f"RabbitMQ confirmed {'all' if whole else f'{verdict.confirmed:,}'} of them"]
    for number, what in (
        (verdict.nacked, "refused {}"),
        (verdict.returned, "returned {} because no queue wanted them"),
        (verdict.in_doubt, "left {} without an answer"),
    ):
        if number:
            parts.append(what.format(f"{number:,}"))
    out.append(
        "Nothing was to be confirmed, so nobody was told what arrived."
        if _unasked(result)
        else accounts.listed(parts) + "."
    )
    if result.faults:
        fired = [safe(fault.name, _NAME) for fault in result.faults if fault.fired]
        names = [
            name if (times := fired.count(name)) == 1 else f"{name} ({times} times)"
            for name in dict.fromkeys(fired)
        ][:_LINES]
        if names:
            out.append(f"Meanwhile this was broken on purpose: {accounts.listed(names)}.")
        if failed := len(result.faults) - len(fired):
            out.append(f"{failed:,} more {'was' if failed == 1 else 'were'} to be broken and held.")
    return out


def _expected(result: TrialResult) -> bool:
    """Say whether a scenario that loses by design ended as it was to end.

    Without an expectation (from ledgers alone there is none) that is a FAIL.
    """
    if result.safe or result.surprises:
        return False
    return bool(result.expected) or result.verdict.decision is Decision.FAIL


# --- figures ----------------------------------------------------------------------------------


def _key_figures(result: TrialResult) -> list[tuple[str, str, str]]:
    """Return name, figure and kind of what is shown large."""
    verdict = result.verdict
    lost = [(name, queue.lost) for name, queue in verdict.queues.items() if queue.lost]
    undecided = sum(queue.books.undecided for queue in verdict.queues.values())
    out = [("messages sent", f"{verdict.attempted:,}", "")]
    if not _unasked(result):
        out.append(("confirmed", f"{verdict.confirmed:,}", ""))
    # Of one message several queues can lose their copy: a sum would say more than were sent.
    out += [(f"lost in {safe(name, _SHORT)}", f"{count:,}", "bad") for name, count in lost[:3]]
    if len(lost) > 3:
        out.append(("more queues that lost some", f"{len(lost) - 3:,}", "bad"))
    if not lost:
        out.append(("lost", "0", "unsure" if undecided else "good"))
    if undecided:
        out.append(("nobody can tell", f"{undecided:,}", "unsure"))
    if result.publish_per_s:
        out.append(("published a second", f"{result.publish_per_s:,}", ""))
    if result.consume_per_s:
        out.append(("consumed a second", f"{result.consume_per_s:,}", ""))
    if result.without_service_s:
        out.append(("seconds without service", f"{result.without_service_s:,.1f}", ""))
    return out


def _charts(result: TrialResult) -> list[Chart]:
    """Return a chart for each unit, all with the same time axis."""
    end = max(
        [points[-1][0] for points in (series.points for series in result.series) if points]
        + [max(fault.at_s, fault.until_s or 0.0) for fault in result.faults if fault.fired],
        default=0.0,
    )
    marks = [
        Mark(number, fault.at_s, fault.until_s)
        for number, fault in enumerate(result.faults[:_FAULTS], 1)
        if fault.fired
    ]
    units: dict[str, list[Series]] = {}
    for series in result.series:
        units.setdefault(series.unit, []).append(series)
    out = []
    for unit, group in list(units.items())[:4]:
        shown = group[:_LINES]
        title = {"msg/s": "Messages a second", "messages": "Messages in the queues"}.get(
            unit, safe(unit, _NAME)
        )
        told = ", ".join(_summed_up(series) for series in shown)
        label = f"{title}, over {end:.3g} seconds: {told}."
        lines = [series.points for series in shown]
        if wide := over_time(label, lines, marks, end, WIDE):
            out.append(
                Chart(
                    title,
                    drawing(wide),
                    drawing(over_time(label, lines, marks, end, NARROW)),
                    tuple((n % COLOURS, safe(s.name, _NAME)) for n, s in enumerate(shown)),
                )
            )
    return out


def _summed_up(series: Series) -> str:
    high = max((value for _, value in series.points), default=0.0)
    return f"{safe(series.name, _NAME)} up to {high:,.0f}"


def _fault(fault: FaultRecord) -> tuple[str, ...]:
    """Return name, when, how long, in flight, whether it broke, and what shows it."""
    lasted = "–" if fault.until_s is None else f"{fault.until_s - fault.at_s:,.2f} s"
    return (
        safe(fault.name, _NAME),
        f"{fault.at_s:,.2f} s" if fault.fired else "–",
        lasted if fault.fired else "–",
        "?" if fault.in_flight is None else f"{fault.in_flight:,}",
        "yes" if fault.fired else "no",
        safe(fault.evidence, _SENTENCE),
    )


def _latencies(result: TrialResult) -> list[dict[str, Any]]:
    """Return each kind that was measured: its curve, its table, and what to know of it."""
    out = []
    kinds = [*_LATENCIES, *(kind for kind in result.curves if kind not in _LATENCIES)]
    for kind in kinds[:4]:
        found = result.latency.get(kind) or {}
        measured = {
            name: found[name]
            for name in (*_PERCENTILES, "max")
            if isinstance(found.get(name), int | float)
        }
        known = tuple((_PERCENTILES[name], ms) for name, ms in measured.items() if name != "max")
        points = result.curves.get(kind) or known
        if not points and not measured:
            continue
        name, about = _LATENCIES.get(kind, (safe(kind, _NAME), ""))
        table = [(key.replace("_", "."), f"{ms:,.4g}") for key, ms in measured.items()]
        label = f"{name}, milliseconds: {', '.join(f'{key} {ms}' for key, ms in table)}."
        out.append(
            {
                "name": name,
                "about": about,
                "chart": drawing(percentiles(label, points, HALF)),
                "table": table,
                "note": _latency_note(found),
            }
        )
    return out


def _latency_note(found: Mapping[str, Any]) -> str:
    parts = []
    if count := found.get("count"):
        parts.append(f"{count:,} messages measured, none left out but those of the warm-up")
    if not found.get("live", True):
        parts.append("the time before the consumer came is in it")
    if negative := found.get("negative"):
        parts.append(f"{negative:,} more came before they were sent: a clock was set")
    return "; ".join(parts)


def _real_name(name: str, queue: QueueVerdict) -> str:
    return "" if queue.name == name else safe(queue.name, _NAME)


# --- surroundings -----------------------------------------------------------------------------


def _environment(result: TrialResult) -> list[tuple[str, str]]:
    known = {key: value for key, value in result.environment.items() if key != "topology"}
    return [(name, _PASSWORD.sub(r"\1:***@", value)) for name, value in surroundings.told(known)]


def _wiring(result: TrialResult) -> list[tuple[str, str]]:
    topology = result.environment.get("topology")
    if not isinstance(topology, dict):
        return []
    flat = {key: value for key, value in topology.items() if key != "queues"}
    queues = topology.get("queues")
    queues = queues if isinstance(queues, dict) else {}
    return surroundings.told({**flat, **dict(list(queues.items())[:_QUEUES])})


def _some(items: list[str], most: int) -> list[str]:
    """Return the first, and a sentence on how many there are more."""
    if len(items) <= most:
        return items
    return [*items[:most], f"… and {len(items) - most:,} more; report.json has all of them."]


def _messages(count: int) -> str:
    return f"{count:,} message was" if count == 1 else f"{count:,} messages were"
