"""What is told with a verdict: figures, versions, latencies, faults, all of it from the files.

Pure: no I/O, no clock. Refuses to judge (``verdict``) and to word it (``view``).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rabbitproof.model import FaultRecord, Series, TrialResult
from rabbitproof.proof import expect
from rabbitproof.proof.history import Broke, Measured, Sampled, Witnessed
from rabbitproof.proof.latency import RunLatency
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rabbitproof.model import QueueType, Verdict
    from rabbitproof.proof.history import History, Plan
    from rabbitproof.proof.record import Record
    from rabbitproof.proof.run import Run
    from rabbitproof.proof.verdict import Claim

_TICK_S = 1e-6
"""Less is no time that a rate could be made of."""


def result(run: Run, verdict: Verdict, claims: Sequence[Claim]) -> TrialResult:
    """Return the verdict over a run with all that its files tell beside it."""
    history, producers, everybody = run.history, run.producers, run.everybody
    plan = history.plan if history is not None else None
    started = min(((one.first or one.header).started_ns for one in everybody), default=0)
    work = run.of_role("work")
    main = [] if work is None else run.readers(run.queues[work])
    latencies = {"confirm": _latency(producers), "end_to_end": _latency(main)}
    common: dict[str, Any] = {
        "verdict": verdict,
        "run": run.id,
        "publish_per_s": _rate(
            (one, len(one.outcomes.wanted)) for one in producers if one.outcomes is not None
        ),
        "consume_per_s": _rate(
            (one, one.receipts.consumed) for one in main if one.receipts is not None
        ),
        "claims": tuple((one.text if one.held else one.found, one.held) for one in claims),
        "latency": {name: one.summary for name, one in latencies.items() if one is not None},
        "curves": {name: one.curve for name, one in latencies.items() if one and one.curve},
    }
    if history is None or plan is None:
        return TrialResult(
            scenario="", environment=_surroundings(everybody), started=_moment(started), **common
        )
    witnessed = {one.name: one.count for one in history.of(Witnessed)}
    wanted, measured = plan.expects, history.of(Measured)
    return TrialResult(
        scenario=plan.scenario,
        environment={name: one for each in measured for name, one in each.values.items()}
        | _environment(plan),
        title=plan.title,
        teaches=plan.teaches,
        safe=plan.safe,
        started=plan.started,
        command=plan.command,
        faults=_faults(history),
        series=_series(history),
        without_service_s=next((one.without_service_s for one in measured), None),
        longest_gap_s=next((one.longest_gap_s for one in measured), None),
        not_tested=_not_tested(plan, {one.kind for one in run.queues.values()}),
        expected="" if wanted is None else " ".join(wanted.why.split()),
        surprises=()
        if wanted is None
        else tuple(
            expect.surprises(
                wanted,
                verdict,
                verdict.queues.get(work or ""),
                verdict.queues.get(run.of_role("audit") or ""),
                witnessed,
            )
        ),
        planted=tuple(expect.planted(wanted, witnessed)),
        **common,
    )


def _faults(history: History) -> tuple[FaultRecord, ...]:
    """Return what happened, and what was to happen and did not."""
    found = [one.record for one in history.of(Broke)]
    names = [one.name for one in found]
    out = list(found)
    for name in history.plan.faults:
        if name in names:
            names.remove(name)
        else:
            out.append(FaultRecord(name, 0.0, fired=False, evidence="Its moment never came."))
    return tuple(out)


def _moment(t_ns: int) -> str:
    try:
        return datetime.fromtimestamp(t_ns / 1e9, tz=UTC).isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):  # a file may say anything
        return ""


def _rate(participants: Iterable[tuple[Record, int]]) -> int:
    """Return messages a second, from the first publish or subscription to the last answer of all.

    0 when none of those that did something came to its end.
    """
    total, begins, ends = 0, [], []
    for one, count in participants:
        if count and one.end is not None:
            total += count
            begins.append((one.first or one.header).started_ns)
            ends.append(one.header.started_ns + round(one.end.seconds * 1e9))
    span = (max(ends) - min(begins)) / 1e9 if ends else 0.0
    return round(total / span) if span > _TICK_S else 0


class _Latencies:
    """The latencies of some participants together."""

    def __init__(self, found: RunLatency, more: dict[str, Any]) -> None:
        self.summary = found.summary() | more
        self.curve = found.curve()


def _latency(participants: Sequence[Record]) -> _Latencies | None:
    """Return the latencies of all who came to their end; None where nobody measured any."""
    united, more = RunLatency(None), dict[str, Any]()
    found = [one.end.latency for one in participants if one.end is not None and one.end.latency]
    for one in found:
        united.add(one)
    counted = [one for one in found if one.one_host is not None and one.anything]
    if counted:
        more = {
            "clocks": "one host"
            if all(one.one_host for one in counted)
            else "different hosts: their clocks' difference is in it",
            "live": all(one.live for one in counted),
        }
    return _Latencies(united, more) if found else None


def _series(history: History) -> tuple[Series, ...]:
    """Return rates and depths over time."""
    totals: dict[str, list[tuple[float, int]]] = {}
    depths: dict[str, list[tuple[float, float]]] = {}
    for one in history.of(Sampled):
        for name, total in one.totals.items():
            totals.setdefault(name, []).append((one.at_s, total))
        for name, depth in one.depths.items():
            depths.setdefault(name, []).append((round(one.at_s, 3), float(depth)))
    out = []
    for name, points in totals.items():
        before, low = (0.0, 0) if name == "confirmed" else (points[0][0], 0)
        rates = []
        for after, high in points:
            if after > before:
                rate = round(max(0.0, high - low) / (after - before))
                rates.append((round(after, 3), float(rate)))
            before, low = after, high
        out.append(Series(name, "msg/s", tuple(rates)))
    out += [Series(f"{name} ready", "messages", tuple(points)) for name, points in depths.items()]
    return tuple(one for one in out if one.points)


def _environment(plan: Plan) -> dict[str, Any]:
    """Return versions, topology and workload of a run that was planned, ready for JSON."""
    return {
        **{name: safe(value) for name, value in plan.versions.items()},
        "broker": safe(plan.where),
        "topology": {
            "exchange": plan.topology.exchange,
            "routing_key": plan.topology.routing_key,
            "queues": {
                plan.names[queue.name]: {
                    "type": queue.type,
                    "durable": queue.durable,
                    "lazy": queue.lazy,
                    "bound": queue.bound,
                    "arguments": queue.extra,
                }
                for queue in plan.topology.queues
                if queue.name in plan.names
            },
        },
        "workload": plan.workload,
        **({} if plan.seed is None else {"seed": plan.seed}),
    }


def _surroundings(everybody: Sequence[Record]) -> dict[str, Any]:
    """Return versions and topology as the ledgers say them."""

    def all_of(name: str) -> str:
        said = [one.header.versions.get(name, "") for one in everybody]
        return safe(", ".join(dict.fromkeys(filter(None, said))) or "?")

    from msgspec import to_builtins

    producers = [one for one in everybody if one.outcomes is not None]
    return {
        **{name: all_of(name) for name in ("rabbitmq", "erlang", "python", "platform")},
        "hosts": sorted({safe(one.header.host) for one in everybody}),
        "topology": to_builtins(producers[0].header.topology) if producers else {},
    }


def _not_tested(plan: Plan, kinds: set[QueueType]) -> tuple[str, ...]:
    """Return what a run says nothing about, in whole sentences."""
    out = []
    names = set(plan.faults)
    if names & {"broker-kill", "leader-kill", "node-kill"}:
        out.append(
            "A killed process is no power loss: what the kernel held was still written to the disk."
        )
    else:
        out.append("The broker was not killed, and the machine did not lose its power.")
    if kinds & {"classic", "stream"}:
        out.append(
            "A confirm of a classic queue or a stream does not wait for the disk (fsync); only a "
            "power loss would show the difference."
        )
    if plan.proxied:
        out.append("The network was broken by a proxy on one machine; a real one has more ways.")
    elif plan.private and "partition" not in names:
        out.append("One machine is no network: nothing was delayed, cut off or partitioned.")
    elif not plan.private:
        out.append("The network of this broker was not disturbed.")
    if plan.private and plan.nodes == 1:
        out.append("One node is no cluster: no leader changed and no replica was lost.")
    elif plan.private:
        out.append("All nodes had one machine and one disk; real ones fail apart.")
    else:
        out.append("The nodes of this broker were not disturbed.")
    out.append("What was not seen in a run of this length may still happen in a longer one.")
    return tuple(out)
