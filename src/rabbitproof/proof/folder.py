"""The files of a run: ledgers and manifests, found in folders and read.

Refuses to say which of them count (``run``) and how far each can be trusted (``whole``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rabbitproof.errors import LedgerEmpty
from rabbitproof.proof import manifest as manifests
from rabbitproof.proof import record as records
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rabbitproof.proof.manifest import Manifest
    from rabbitproof.proof.record import Record


@dataclass(frozen=True, slots=True)
class Folder:
    """What was found in the folders."""

    records: tuple[Record, ...]
    nameless: tuple[str, ...]
    """Files that do not even say who wrote them."""
    manifests: tuple[Manifest, ...]
    notes: tuple[str, ...]
    """What else has to be known of the files. Whole sentences."""


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
