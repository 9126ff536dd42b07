"""What is told with a verdict from files: figures, versions, latencies, faults.

Pure: no I/O, no clock. Refuses to judge (``verdict``) and to word it (``view``).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.model import FaultRecord, TrialResult
from rabbitproof.proof.ends import end_ns
from rabbitproof.proof.entries import is_number
from rabbitproof.proof.run import queues_of
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rabbitproof.model import Verdict
    from rabbitproof.proof.record import Record
    from rabbitproof.proof.run import Run


def result(run: Run, verdict: Verdict) -> TrialResult:
    """Return the verdict over a run with all that its files tell beside it."""
    manifest, producers, everybody = run.manifest, run.producers, run.everybody
    told = manifest.result if manifest is not None else {}
    started = min(((one.first or one.header).started_ns for one in everybody), default=0)
    main = [one for one in run.consumers if one.header.queue == _work_queue(producers)]
    own = TrialResult(
        verdict=verdict,
        scenario=manifest.scenario if manifest is not None else "",
        run=run.id,
        publish_per_s=_rate(producers, "published"),
        consume_per_s=_rate(main, "consumed"),
        claims=tuple(
            (str(one["text"] if one["held"] else one.get("found") or one["text"]), one["held"])
            for one in (manifest.claims if manifest is not None else ())
        ),
        environment=_environment(everybody),
        latency={"confirm": _latency(producers), "end_to_end": _latency(main)},
        started=_moment(started),
        command="",
        faults=tuple(_fault(one) for one in (manifest.faults if manifest is not None else ())),
    )
    if isinstance(told.get("latency"), dict):
        kinds = ("confirm", "end_to_end")
        told = told | {"latency": {kind: _shaped(told["latency"].get(kind)) for kind in kinds}}
    known = {
        name: told[name]
        for name, kind in _TOLD.items()
        if isinstance(told.get(name), kind) and not (kind is int and told[name] is True)
    }
    return replace(own, **known)


def _moment(t_ns: int) -> str:
    try:
        return datetime.fromtimestamp(t_ns / 1e9, tz=UTC).isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):  # a file may say anything
        return ""


_TICK_S: Final = 1e-6
"""Less is no time that a rate could be made of."""
_LONGEST_MS: Final = 1e15
_TOLD: Final[dict[str, type]] = {
    "publish_per_s": int,
    "consume_per_s": int,
    "environment": dict,
    "latency": dict,
    "without_service_s": float,
    "longest_gap_s": float,
    "title": str,
    "teaches": str,
    "safe": bool,
    "started": str,
    "command": str,
}
"""What a manifest may say of the result, and its types."""


def _fault(found: dict[str, Any]) -> FaultRecord:
    at = found.get("at_s")
    until = found.get("until_s")
    flying = found.get("in_flight")
    return FaultRecord(
        name=found["name"],
        at_s=float(at) if isinstance(at, (int, float)) else 0.0,
        fired=found["fired"],
        evidence=str(found.get("evidence", "")),
        until_s=float(until) if isinstance(until, (int, float)) else None,
        in_flight=flying if isinstance(flying, int) else None,
    )


def _work_queue(producers: Sequence[Record]) -> str:
    for one in producers:
        for queue in queues_of(one):
            if queue.get("role") == "work":
                return str(queue.get("name"))
    return ""


def _summary(one: Record) -> dict[str, Any]:
    found = one.end.get("summary")
    return found if isinstance(found, dict) else {}


def _rate(participants: Sequence[Record], what: str) -> int:
    """Return messages a second over all participants; 0 when none of them came to its end."""
    ended = [one for one in participants if is_number(_summary(one).get(what))]
    total = sum(_summary(one)[what] for one in ended)
    if len(ended) == 1:
        seconds = _summary(ended[0]).get("seconds")
        return round(total / seconds) if isinstance(seconds, float) and seconds > _TICK_S else 0
    if not ended:
        return 0
    span = max(end_ns(one) for one in ended) - min(one.header.started_ns for one in ended)
    return round(total / (span / 1e9)) if span > 0 else 0


def _latency(participants: Sequence[Record]) -> dict[str, Any] | None:
    """Return the latencies of the only participant; several can't be united from summaries."""
    found = [_summary(one).get("latency") for one in participants if one.ended]
    return _shaped(found[0]) if len(found) == 1 else None


def _shaped(found: object) -> dict[str, Any] | None:
    """Return latencies that have the shape of those that are written; None for others."""
    if not isinstance(found, dict):
        return None
    counts = (found.get(name) for name in ("count", "warm_up_left_out", "negative"))
    values = (found.get(name) for name in ("p50", "p90", "p99", "p99_9", "max"))
    if not all(map(is_number, counts)) or not isinstance(found.get("clocks", ""), str):
        return None
    if found["count"] and not all(
        isinstance(value, (int, float)) and abs(value) < _LONGEST_MS for value in values
    ):
        return None
    return found


def _environment(everybody: Sequence[Record]) -> dict[str, Any]:
    """Return versions and topology as the ledgers say them."""

    def all_of(name: str) -> str:
        said = [str(one.header.versions.get(name, "")) for one in everybody]
        return safe(", ".join(dict.fromkeys(filter(None, said))) or "?")

    producers = [one for one in everybody if one.outcomes is not None]
    wiring = producers[0].header.topology if producers else {}
    return {
        "rabbitmq": all_of("rabbitmq"),
        "erlang": all_of("erlang"),
        "python": all_of("python"),
        "platform": all_of("platform"),
        "hosts": sorted({safe(one.header.host) for one in everybody}),
        "topology": wiring,
    }
