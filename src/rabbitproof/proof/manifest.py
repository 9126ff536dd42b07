"""Who took part in a run: ``manifest.json`` beside its ledgers.

Without one nobody can tell whether a ledger is missing. ``prove`` writes it, with what it saw of
the queues itself; ``verify`` reads it.

::

    {"format": 1, "run": "0a1b2c3d4e5f", "scenario": "offline",
     "participants": [{"kind": "producer", "name": "prove", "file": "producer-….ledger",
                       "size": 1234, "crc": 305419896}, …],
     "queues": {"work.queue": {"name": "work.queue", "kind": "classic", "judged": true,
                               "left": 0, "drained": true, "dropped": {"expired": 3}}, …},
     "claims": [{"text": "…", "held": true, "found": "…"}, …],
     "faults": [{"name": "broker-kill", "at_s": 1.2, "fired": true, "evidence": "…"}, …],
     "permits": ["expired"]}

``size`` and ``crc`` are of the file after its writer was known to be gone: bytes up to the end of
the last whole frame, and that frame's checksum. Of what was dropped, ``dropped_names`` may say
which messages: reason -> producer -> list of [first, last]. A queue may also say ``second``,
``consumers``, ``unended``, ``passes`` and ``unordered``, which mean what they mean in
``QueueEvidence``; and the whole ``result``: figures that only whoever carried it out knows
(``title``, ``teaches``, ``publish_per_s`` …), by their names in ``TrialResult``.

Refuses to judge (``verdict``). What is read is untrusted and checked for its shape.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.errors import LedgerFailed
from rabbitproof.identity import MAX_NUMBER, Source
from rabbitproof.proof.entries import is_number
from rabbitproof.proof.evidence import Drop
from rabbitproof.proof.ledger import QueueReceipts
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from pyroaring import BitMap

FORMAT: Final = 1
NAME: Final = "manifest.json"
_LARGEST: Final = 64 << 20
"""Bytes. One has some kilobytes."""
_LONGEST_S: Final = 1e12
"""Seconds, and messages in flight: more than any run has."""
_KINDS: Final = ("classic", "quorum", "stream")
_RUN: Final = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Participant:
    """One that has to have a ledger."""

    kind: str
    """``producer`` or ``consumer``."""
    name: str
    file: str
    """The name of its ledger, without a folder; empty when it never came to write one."""
    size: int | None = None
    """Bytes up to the end of the last whole frame, once its writer was known to be gone; None
    where nobody says."""
    crc: int | None = None
    """The checksum of that frame."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What whoever carried out a run knows beyond the ledgers."""

    run: str
    scenario: str = ""
    participants: tuple[Participant, ...] = ()
    queues: dict[str, dict[str, Any]] = field(default_factory=dict, hash=False)
    """By logical name."""
    claims: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    faults: tuple[dict[str, Any], ...] = field(default=(), hash=False)
    permits: tuple[str, ...] = ()
    result: dict[str, Any] = field(default_factory=dict, hash=False)


def names(drops: Sequence[Drop], run: str) -> dict[str, dict[str, list[list[int]]]]:
    """Return which messages of a run were dropped, by reason and producer, as ranges."""
    out: dict[str, dict[str, list[list[int]]]] = {}
    for drop in drops:
        for source, got in (drop.receipts.by_source if drop.receipts else {}).items():
            if source.run == run:
                producers = out.setdefault(drop.reason, {})
                ranges = producers.setdefault(str(source.producer), [])
                for layer in got.fresh.layers:
                    ranges += _ranges(layer)
    return out


def drops(queue: dict[str, Any], run: str) -> tuple[Drop, ...]:
    """Return what was dropped from a queue as its manifest says it, by name and by number."""
    out = []
    for reason, total in (queue.get("dropped") or {}).items():
        receipts = QueueReceipts()
        known = (queue.get("dropped_names") or {}).get(reason) or {}
        for producer, ranges in known.items():
            got = receipts.of(Source(run, int(producer)))
            for first, last in ranges:
                if not 0 < first <= last <= MAX_NUMBER:
                    raise ValueError("no range of numbers")
                got.add(range(int(first), int(last) + 1), redelivered=False)
        named = sum(got.fresh.total for got in receipts.by_source.values())
        if named:
            out.append(Drop(str(reason), receipts=receipts))
        if int(total) > named:
            out.append(Drop(str(reason), int(total) - named))
    return tuple(out)


def _ranges(numbers: BitMap) -> Iterator[list[int]]:
    """Yield [first, last] of each run of neighbours."""
    while numbers:
        first = numbers.min()
        after = first + 1
        while numbers.range_cardinality(first, after + 1) == after + 1 - first:
            after *= 2
        # Somewhere in [first, after] is the first gap.
        low, high = first, after
        while low < high:
            middle = (low + high) // 2
            if numbers.range_cardinality(first, middle + 1) == middle + 1 - first:
                low = middle + 1
            else:
                high = middle
        yield [first, low - 1]
        numbers = numbers[numbers.rank(low - 1) :]


def write(folder: Path, manifest: Manifest) -> Path:
    """Write it into a folder; whole or not at all."""
    path = folder / NAME
    text = json.dumps({"format": FORMAT} | asdict(manifest), indent=1, default=str)
    draft = path.with_suffix(".draft")
    try:
        draft.write_text(text + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise LedgerFailed(
            f"{safe(str(path))} can't be written ({error.strerror or error}); make room there or "
            "name another folder, then run this again."
        ) from None
    return path


def read(folder: Path) -> Manifest | None:
    """Return the manifest of a folder; None when it has none."""
    path = folder / NAME
    name = safe(str(path))
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise LedgerFailed(
            f"{name} can't be read ({error.strerror or error}); check who may read it."
        ) from None
    try:
        found = json.loads(raw)
        version = found["format"]
        if isinstance(version, int) and version > FORMAT:
            raise LedgerFailed(
                f"{name} has version {version} of the format, and this rabbitproof reads versions "
                f"up to {FORMAT}; install a newer rabbitproof."
            )
        return _manifest(found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
        raise LedgerFailed(
            f"{name} is no manifest of a run; copy it again, or move it away to judge without it."
        ) from None


def _manifest(found: dict[str, Any]) -> Manifest:
    if not _RUN.fullmatch(found["run"]):
        raise ValueError("no run")
    for queue in found["queues"].values():
        if queue["kind"] not in _KINDS or not isinstance(queue["name"], str):
            raise ValueError("no queue")
        for name, kind in (("drained", bool), ("dropped", dict), ("unordered", str)):
            if not isinstance(queue.get(name), kind | None):
                raise TypeError(name)
        for name in ("left", "second", "consumers", "unended", "passes"):
            if queue.get(name) is not None and not (is_number(queue[name]) and queue[name] >= 0):
                raise TypeError(name)
        drops(queue, found["run"])  # to see that it can be read
    for claim in found["claims"]:
        if not isinstance(claim["text"], str) or not isinstance(claim["held"], bool):
            raise TypeError("no claim")
    for fault in found["faults"]:
        if not isinstance(fault["name"], str) or not isinstance(fault["fired"], bool):
            raise TypeError("no fault")
        for name in ("at_s", "until_s", "in_flight"):
            if not -_LONGEST_S < (fault.get(name) or 0) < _LONGEST_S:
                raise ValueError(name)
    result = found.get("result")
    return Manifest(
        run=found["run"],
        scenario=str(found.get("scenario", "")),
        participants=tuple(
            Participant(
                str(one["kind"]),
                str(one["name"]),
                str(one["file"]),
                *(one[name] if type(one.get(name)) is int else None for name in ("size", "crc")),
            )
            for one in found["participants"]
        ),
        queues=found["queues"],
        claims=tuple(found["claims"]),
        faults=tuple(found["faults"]),
        permits=tuple(map(str, found.get("permits", ()))),
        result=result if isinstance(result, dict) else {},
    )
