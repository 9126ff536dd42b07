"""A verdict from files alone: the ledgers of a run, from one host or several, days later.

Without a manifest the ledgers have to say by themselves that a queue was empty at the end:
``_last_look`` says when they do.

Refuses to judge (``proof``), to show (``view``) and to ask a broker: there may be none any more.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.errors import LedgerEmpty, UsageError
from rabbitproof.model import FaultRecord, TrialResult
from rabbitproof.proof import manifest as manifests
from rabbitproof.proof import record as records
from rabbitproof.proof.ledger import QueueReceipts
from rabbitproof.proof.verdict import Claim, QueueEvidence, judge, proves_drained
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rabbitproof.model import QueueType
    from rabbitproof.proof.manifest import Manifest
    from rabbitproof.proof.record import Record

CLOCKS_NS: Final = 2 * 10**9
"""By how much one host's clock has to be ahead of another's before "later" is believed: what a
synchronised clock is never off by."""

LAST_WORDS_NS: Final = 2 * 10**9
"""For how long a producer without an end may have gone on after the last time in its ledger: it
writes a sample twice a second, and none while it waits, which is for a second at most."""

_KINDS: Final = ("classic", "quorum", "stream")


@dataclass(frozen=True, slots=True)
class Folder:
    """What was found in the folders."""

    records: tuple[Record, ...]
    nameless: tuple[str, ...]
    """Files that do not even say who wrote them."""
    manifests: tuple[Manifest, ...]
    notes: tuple[str, ...]
    """What else has to be known of the files. Whole sentences."""


def verify(folders: Sequence[Path], run: str | None = None) -> TrialResult:
    """Judge a run by its ledgers alone; ``run`` chooses where there are several.

    Raise UsageError where it can't be known which run is meant, and LedgerFailed for files that
    can't be read.
    """
    found = gather(folders)
    run = _choose(found, run)
    manifest = next((one for one in found.manifests if one.run == run), None)
    producers = [one for one in found.records if one.outcomes is not None and _of(one, run)]
    topology = _topology(producers, manifest)
    consumers = [
        one for one in found.records if one.receipts is not None and _takes_part(one, run, topology)
    ]
    outcomes = [one.outcomes for one in producers if one.outcomes is not None]
    evidence = {
        logical: _evidence(queue, producers, consumers, manifest, logical)
        for logical, queue in topology.items()
    }
    everybody = [*producers, *consumers]
    verdict = judge(
        outcomes,
        evidence,
        [
            Claim(str(one["text"]), one["held"], str(one.get("found", "")))
            for one in (manifest.claims if manifest else ())
        ],
        missing=_missing(found, manifest, producers, consumers),
        unfired=[one["name"] for one in (manifest.faults if manifest else ()) if not one["fired"]],
        permits=manifest.permits if manifest else (),
        others=manifest is None,
    )
    notes = (*verdict.notes, *(one.torn for one in everybody if one.torn), *found.notes)
    verdict = replace(verdict, notes=notes)
    return _result(run, verdict, manifest, producers, consumers)


# --- which files, which run -------------------------------------------------------------------


def gather(folders: Sequence[Path]) -> Folder:
    """Read all ledgers and manifests of some folders; copies of one file count once."""
    best: dict[object, Record] = {}
    nameless: list[str] = []
    notes: list[str] = []
    folders = [each for folder in folders for each in _below(folder)]
    for path in records.files(folders):
        try:
            one = records.read(path)
        except LedgerEmpty:
            nameless.append(path.name)
            continue
        known = best.get(_who(one))
        if known is not None:
            notes.append(
                f"{safe(str(path))} and {safe(str(known.path))} are copies of one ledger; the "
                "longer one was taken."
            )
        if known is None or known.size < one.size:
            best[_who(one)] = one
    read = [manifests.read(folder) for folder in folders]
    return Folder(
        records=tuple(best.values()),
        nameless=tuple(nameless),
        manifests=tuple(one for one in read if one is not None),
        notes=tuple(notes),
    )


def _below(folder: Path) -> list[Path]:
    """Return the folders with ledgers that a folder stands for: itself, or a report's."""
    if not any(folder.glob(f"*{records.SUFFIX}")):
        deeper = [*folder.glob(f"*/*{records.SUFFIX}"), *folder.glob(f"*/*/*{records.SUFFIX}")]
        if deeper:
            return sorted({path.parent for path in deeper})
    return [folder]


def _who(one: Record) -> object:
    """Return what copies of one file have in common."""
    first = one.first or one.header
    return (first.kind, first.run, first.producer, first.host, first.pid, first.started_ns)


def _of(one: Record, run: str) -> bool:
    return one.header.run == run


def _choose(found: Folder, run: str | None) -> str:
    producers = [one for one in found.records if one.outcomes is not None]
    sizes: dict[str, int] = {one.run: 0 for one in found.manifests}
    for one in producers:
        count = 0 if one.outcomes is None else len(one.outcomes.attempted)
        sizes[one.header.run] = sizes.get(one.header.run, 0) + count
    listed = ", ".join(f"{name} ({count:,} messages)" for name, count in sizes.items())
    if run is not None:
        if run not in sizes:
            there = f"; there are {listed}" if sizes else ""
            raise UsageError(f"No ledger here is of the run {safe(run, 40)}{there}.")
        return run
    if not sizes:
        raise UsageError(
            "There is no producer's ledger here, so nobody knows what was sent; copy it into one "
            "of the folders, or name its folder as well."
        )
    if len(sizes) > 1:
        raise UsageError(
            f"These are ledgers of {len(sizes)} runs: {listed}. Choose one with --run."
        )
    return next(iter(sizes))


# --- the topology -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Queue:
    name: str
    kind: QueueType
    clusters: frozenset[str]
    vhosts: frozenset[str]


def _topology(producers: Sequence[Record], manifest: Manifest | None) -> dict[str, _Queue]:
    """Return the queues to judge, by logical name: the manifest's, else those of the producers."""
    clusters = frozenset(str(one.header.versions.get("cluster", "")) for one in producers) - {""}
    vhosts = frozenset(str(one.header.topology.get("vhost", "")) for one in producers) - {""}
    if manifest is not None:
        return {
            logical: _Queue(queue["name"], queue["kind"], clusters, vhosts)
            for logical, queue in manifest.queues.items()
        }
    found: dict[str, _Queue] = {}
    for one in producers:
        for queue in _queues(one):
            name, kind = str(queue.get("name")), _kind(queue)
            if queue.get("role") in ("work", "audit"):
                found[name] = _Queue(name, kind, clusters, vhosts)
    return found


def _queues(one: Record) -> list[dict[str, Any]]:
    queues = one.header.topology.get("queues")
    return [queue for queue in queues if isinstance(queue, dict)] if queues else []


def _kind(queue: dict[str, Any]) -> QueueType:
    """Return a queue's type: what the broker said, else what was asked for."""
    effective = queue.get("effective")
    kind = effective.get("type") if isinstance(effective, dict) else None
    kind = kind or queue.get("type")
    # Whatever it is, a count of 0 alone proves little then.
    return kind if kind in _KINDS else "quorum"


def _takes_part(one: Record, run: str, topology: dict[str, _Queue]) -> bool:
    """Say whether a consumer read one of the run's queues."""
    header = one.header
    if header.run not in ("", run):
        return False
    cluster = str(header.versions.get("cluster", ""))
    vhost = str(header.topology.get("vhost", ""))
    return any(
        queue.name == header.queue
        and (not cluster or not queue.clusters or cluster in queue.clusters)
        and (not vhost or not queue.vhosts or vhost in queue.vhosts)
        for queue in topology.values()
    )


# --- who is missing ---------------------------------------------------------------------------


def _missing(
    found: Folder,
    manifest: Manifest | None,
    producers: Sequence[Record],
    consumers: Sequence[Record],
) -> list[str]:
    """Name the participants of which not all is known."""
    missing = [safe(name) for name in found.nameless]
    everybody = [*producers, *consumers]
    there = {one.path.name for one in everybody}
    if manifest is not None:
        missing += [
            f"the {safe(one.kind, 20)} {safe(one.name, 60)}"
            for one in manifest.participants
            if one.file not in there and one.file not in found.nameless
        ]
    missing += [
        f"{safe(one.path.name)} from byte {one.size} on (it is damaged there)"
        for one in everybody
        if one.damaged
    ]
    runs = {one.header.run for one in producers}
    known = {one.outcomes.source for one in producers if one.outcomes is not None}
    strangers = {
        source
        for one in consumers
        if one.receipts is not None
        for source, receipts in one.receipts.by_source.items()
        if source.run in runs and source not in known and receipts.seen
    }
    if manifest is None:
        missing += [f"producer {source.producer} of this run" for source in sorted(strangers)]
    return missing


# --- one queue --------------------------------------------------------------------------------


def _evidence(
    queue: _Queue,
    producers: Sequence[Record],
    consumers: Sequence[Record],
    manifest: Manifest | None,
    logical: str,
) -> QueueEvidence:
    readers = [one for one in consumers if one.header.queue == queue.name]
    receipts: QueueReceipts | None = None
    if readers:
        receipts = QueueReceipts()
        receipts.unite(one.receipts for one in readers if one.receipts is not None)
    common: dict[str, Any] = {
        "name": queue.name,
        "kind": queue.kind,
        "receipts": receipts,
        "consumers": _at_once(readers),
        "unended": sum(not one.ended for one in readers),
        "passes": max(1, sum(_connections(one) for one in readers)),
    }
    if manifest is not None:
        said = manifest.queues[logical]
        common |= {
            name: said[name]
            for name in ("consumers", "unended", "passes", "second", "unordered")
            if said.get(name) is not None
        }
        return QueueEvidence(
            left=said.get("left"),
            drained=bool(said.get("drained")),
            drops=manifests.drops(said, manifest.run),
            **common,
        )
    last = _last_look(queue, producers, readers)
    # A count from before the end of it all says nothing about what is left now.
    left, second = (None, None) if last is None else _counts(queue, last)
    return QueueEvidence(
        left=left,
        second=second,
        drained=bool(readers) and proves_drained(queue.kind, left, second),
        **common,
    )


def _counts(queue: _Queue, one: Record) -> tuple[int | None, int | None]:
    """Return what was left in a queue when a participant ended, and what a second source said."""
    left = one.counts.get(queue.name)
    found = one.end.get("second")
    second = found.get(queue.name) if isinstance(found, dict) else None
    second = second if isinstance(second, int) else None
    if queue.kind == "stream" and one.receipts is not None:  # reading takes nothing from it
        read = _deliveries(one.receipts)
        left = None if left is None else max(0, left - read)
        second = None if second is None else max(0, second - read)
    return left, second


def _last_look(
    queue: _Queue, producers: Sequence[Record], readers: Sequence[Record]
) -> Record | None:
    """Return the ledger whose end says what the queue held when everything was over.

    Its participant ended in good order, after every producer had done all that it ever did, and
    nobody else consumed the queue then, who might have held some. When a consumer was killed,
    what it had not acknowledged went back to the queue before: as long as it held messages, it
    counted as a consumer. None when no end says that.
    """
    for one in sorted(readers or producers, key=_end_ns, reverse=True):
        consumers = one.end.get("consumers")
        others = consumers.get(queue.name) if isinstance(consumers, dict) else None
        if (
            one.ended
            and (others == 0 or (readers and queue.kind == "stream"))
            and all(_later(one, other) for other in producers if other is not one)
        ):
            return one
    return None


def _end_ns(one: Record) -> int:
    end = one.end.get("t_ns")
    return end if isinstance(end, int) else one.last_ns


def _later(one: Record, other: Record) -> bool:
    """Say whether the end of ``one`` was surely after the last that ``other`` wrote down."""
    mine, theirs = one.header, other.header
    last = other.last_ns + (0 if other.ended else LAST_WORDS_NS)
    if mine.boot and mine.boot == theirs.boot:
        # One machine, not restarted between: its monotonic clock, which nobody sets.
        return (
            _end_ns(one) - mine.started_ns + mine.monotonic_ns
            > last - theirs.started_ns + theirs.monotonic_ns
        )
    return _end_ns(one) > last + (0 if mine.host == theirs.host else CLOCKS_NS)


def _at_once(readers: Sequence[Record]) -> int:
    """Return how many of these consumed at the same time."""
    spans = sorted(((one.first or one.header).started_ns, one.last_ns) for one in readers)
    edges = sorted([(start, 1) for start, _ in spans] + [(end, -1) for _, end in spans])
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


def _connections(one: Record) -> int:
    return sum(event.name == "connected" for event in one.events)


def _deliveries(receipts: QueueReceipts) -> int:
    """Return how many messages one pass over a stream saw."""
    named = sum(
        one.fresh.total + one.redelivered.total + one.corrupt_copies
        for one in receipts.by_source.values()
    )
    return named + receipts.foreign + receipts.corrupt_nameless


# --- what is told with the verdict ------------------------------------------------------------


def _result(
    run: str,
    verdict: Any,
    manifest: Manifest | None,
    producers: Sequence[Record],
    consumers: Sequence[Record],
) -> TrialResult:
    told = manifest.result if manifest is not None else {}
    everybody = [*producers, *consumers]
    started = min(((one.first or one.header).started_ns for one in everybody), default=0)
    main = [one for one in consumers if one.header.queue == _work_queue(producers)]
    result = TrialResult(
        verdict=verdict,
        scenario=manifest.scenario if manifest is not None else "",
        run=run,
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
    known = {
        name: told[name]
        for name, kind in _TOLD.items()
        if isinstance(told.get(name), kind) and not (kind is int and told[name] is True)
    }
    return replace(result, **known)


def _moment(t_ns: int) -> str:
    try:
        return datetime.fromtimestamp(t_ns / 1e9, tz=UTC).isoformat(timespec="seconds")
    except (OverflowError, OSError, ValueError):  # a file may say anything
        return ""


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
        for queue in _queues(one):
            if queue.get("role") == "work":
                return str(queue.get("name"))
    return ""


def _summary(one: Record) -> dict[str, Any]:
    found = one.end.get("summary")
    return found if isinstance(found, dict) else {}


def _rate(participants: Sequence[Record], what: str) -> int:
    """Return messages a second over all participants; 0 when none of them came to its end."""
    ended = [one for one in participants if isinstance(_summary(one).get(what), int)]
    total = sum(_summary(one)[what] for one in ended)
    if len(ended) == 1:
        seconds = _summary(ended[0]).get("seconds")
        return round(total / seconds) if isinstance(seconds, float) and seconds > 0 else 0
    if not ended:
        return 0
    span = max(_end_ns(one) for one in ended) - min(one.header.started_ns for one in ended)
    return round(total / (span / 1e9)) if span > 0 else 0


def _latency(participants: Sequence[Record]) -> dict[str, Any] | None:
    """Return the latencies of the only participant; several can't be united from summaries."""
    found = [_summary(one).get("latency") for one in participants if one.ended]
    return found[0] if len(found) == 1 and isinstance(found[0], dict) else None


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
