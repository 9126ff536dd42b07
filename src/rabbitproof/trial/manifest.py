"""What a trial knows beyond its ledgers, written beside them so that ``verify`` can judge again.

Refuses to know the format (``proof.manifest``) and to judge.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.proof.manifest import Manifest, Participant, names, write
from rabbitproof.proof.record import mark

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rabbitproof.model import FaultRecord, Verdict
    from rabbitproof.proof.verdict import Claim, QueueEvidence

_TOLD: Final = (
    "publish_per_s", "consume_per_s", "environment", "latency", "without_service_s",
    "longest_gap_s", "title", "teaches", "safe", "started", "command",
)  # fmt: skip
"""Figures of the result that no ledger has."""


def write_manifest(folder: Path, known: dict[str, Any]) -> None:
    """Write ``manifest.json`` into the folder of the ledgers, once no participant writes any more.

    What it says of each file shows later whether a copy of it is whole, also where its writer was
    killed and could not say so.
    """
    verdict: Verdict = known["verdict"]
    evidence: dict[str, QueueEvidence] = known["evidence"]
    claims: Sequence[Claim] = known["claims"]
    faults: Sequence[FaultRecord] = known["faults"]
    participants = [
        Participant(kind, name, path.name, *_mark(path))
        for kind, files in (("producer", known["producers"]), ("consumer", known["consumers"]))
        for name, path in files
    ]
    participants += [
        Participant("producer" if name.startswith("producer") else "consumer", name, "")
        for name in known["missing"]
    ]
    write(
        folder,
        Manifest(
            run=known["run"],
            scenario=known["scenario"],
            participants=tuple(participants),
            queues={
                logical: {
                    "name": queue.name,
                    "kind": queue.kind,
                    "judged": queue.receipts is not None,
                    "left": queue.left,
                    "drained": queue.drained,
                    "second": queue.second,
                    "consumers": queue.consumers,
                    "unended": queue.unended,
                    "dropped": verdict.queues[logical].dropped,
                    "dropped_names": names(queue.drops, known["run"]),
                }
                for logical, queue in evidence.items()
            },
            claims=tuple(asdict(claim) for claim in claims),
            faults=tuple(asdict(fault) for fault in faults),
            permits=tuple(known["permits"]),
            result={name: getattr(known["result"], name) for name in _TOLD},
        ),
    )


def _mark(path: Path) -> tuple[int, int] | tuple[None, None]:
    try:
        return mark(path)
    except OSError:
        return None, None
