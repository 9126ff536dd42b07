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
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rabbitproof.proof.entries import Header
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
    apart: tuple[Record, ...] = ()
    """Consumers' ledgers of which there is another one that goes on otherwise."""


def gather(folders: Sequence[Path]) -> Folder:
    """Read all ledgers and manifests of some folders; copies of one file count once."""
    found: dict[Header, list[Record]] = {}
    nameless: list[str] = []
    notes: list[str] = []
    apart: list[Record] = []
    folders = [each for folder in folders for each in _below(folder)]
    for path in records.files(folders):
        try:
            one = records.read(path)
        except LedgerEmpty:
            nameless.append(path.name)
            continue
        notes += _add(one, found.setdefault(one.first or one.header, []), apart)
    read = [manifests.read(folder) for folder in folders]
    return Folder(
        records=tuple(one for alike in found.values() for one in alike),
        nameless=tuple(nameless),
        manifests=tuple(one for one in read if one is not None),
        notes=tuple(notes),
        apart=tuple(apart),
    )


def _add(one: Record, alike: list[Record], apart: list[Record]) -> Iterator[str]:
    """Add a ledger to those that began like it, and say what became of them.

    Of copies the longest stays. Ledgers that went apart, as when a copy was resumed while its
    writer lived, all stay where each can hold what no other does: attempts. Receipts of the same
    deliveries would be counted twice, and a consumer goes on with no ledger; so there the longest
    stays, and is in ``apart``.
    """
    for at, known in enumerate(alike):
        longer, shorter = (known, one) if known.size >= one.size else (one, known)
        both = f"{safe(str(one.path))} and {safe(str(known.path))}"
        copied = records.begins_with(longer, shorter)
        if copied or one.outcomes is None:
            alike[at] = longer
            if not copied:
                apart.append(longer)
            yield (
                f"{both} are copies of one ledger; the longer one was taken."
                if copied
                else (f"{both} began as one ledger and went apart; the longer one was taken.")
            )
            return
        yield (
            f"{both} began as one ledger and went apart: both count, and what is in both counts as "
            "sent twice."
        )
    alike.append(one)


def _below(folder: Path) -> list[Path]:
    """Return the folders with ledgers that a folder stands for: itself, or a report's."""
    if not any(folder.glob(f"*{records.SUFFIX}")):
        deeper = [*folder.glob(f"*/*{records.SUFFIX}"), *folder.glob(f"*/*/*{records.SUFFIX}")]
        if deeper:
            return sorted({path.parent for path in deeper})
    return [folder]
