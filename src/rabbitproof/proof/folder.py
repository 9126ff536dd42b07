"""The files of a run: ledgers and histories, found below folders and read.

Refuses to say which of them count (``run``) and how far each can be trusted (``whole``).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rabbitproof.errors import LedgerEmpty, LedgerFailed, UsageError
from rabbitproof.proof import history as histories
from rabbitproof.proof import record as records
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rabbitproof.proof.history import History
    from rabbitproof.proof.record import Record


@dataclass(frozen=True, slots=True)
class Folder:
    """What was found in the folders."""

    records: tuple[Record, ...]
    nameless: tuple[str, ...]
    """Files that do not even say who wrote them."""
    histories: dict[str, History]
    """By run."""
    notes: tuple[str, ...]
    """What else has to be known of the files. Whole sentences."""
    apart: tuple[Record | History, ...] = ()
    """Consumers' ledgers, and histories, of which there is another one that goes on otherwise."""


def gather(folders: Sequence[Path]) -> Folder:
    """Read all ledgers and histories below some folders; copies of one file count once.

    Raise UsageError for a folder that does not exist, LedgerFailed for a file that can't be read.
    """
    found: dict[bytes, list[Record]] = {}
    nameless: list[str] = []
    notes: list[str] = []
    apart: list[Record | History] = []
    told: dict[str, History] = {}
    for path in _below(folders):
        if path.suffix == histories.SUFFIX:
            one = histories.read(path)
            notes += _add_history(one, told, apart)
            continue
        try:
            record = records.read(path)
        except LedgerEmpty:
            nameless.append(path.name)
            continue
        notes += _add(
            record, found.setdefault((record.first or record.header).to_json(), []), apart
        )
    return Folder(
        records=tuple(one for alike in found.values() for one in alike),
        nameless=tuple(nameless),
        histories=told,
        notes=tuple(notes),
        apart=tuple(apart),
    )


def _add_history(
    one: History, told: dict[str, History], apart: list[Record | History]
) -> Iterator[str]:
    """Take the longer one of two histories of a run."""
    known = told.setdefault(one.plan.run, one)
    if known is one:
        return
    shorter, longer = sorted((known, one), key=lambda each: len(each.entries))
    told[one.plan.run] = longer
    copied = (shorter.plan, *shorter.entries) == (
        longer.plan,
        *longer.entries[: len(shorter.entries)],
    )
    if not copied:
        apart.append(longer)
    yield _both(one.path, known.path, "copies of one history" if copied else "", "history")


def _both(one: Path, other: Path, copies: str, what: str = "ledger") -> str:
    both = f"{safe(str(one))} and {safe(str(other))}"
    if copies:
        return f"{both} are {copies}; the longer one was taken."
    return f"{both} began as one {what} and went apart; the longer one was taken."


def _add(one: Record, alike: list[Record], apart: list[Record | History]) -> Iterator[str]:
    """Add a ledger to those that began like it, and say what became of them.

    Of copies the longest stays. Ledgers that went apart, as when a copy was resumed while its
    writer lived, all stay where each can hold what no other does: attempts. Receipts of the same
    deliveries would be counted twice, and a consumer goes on with no ledger; so there the longest
    stays, and is in ``apart``.
    """
    for at, known in enumerate(alike):
        longer, shorter = (known, one) if known.size >= one.size else (one, known)
        copied = records.begins_with(longer, shorter)
        if copied and shorter.damaged and one.outcomes is not None:
            apart.append(longer)  # a producer may have gone on with it behind the damage
        if copied or one.outcomes is None:
            alike[at] = longer
            if not copied:
                apart.append(longer)
            yield _both(one.path, known.path, "copies of one ledger" if copied else "")
            return
        yield (
            f"{safe(str(one.path))} and {safe(str(known.path))} began as one ledger and went "
            "apart: both count, and what is in both counts as sent twice."
        )
    alike.append(one)


def _below(folders: Sequence[Path]) -> Iterator[Path]:
    """Yield the ledgers and histories in some folders and in all that are in them, by name."""
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(
                f"There is no folder {safe(str(folder))}; name one that was given with --ledger "
                "or --report, or a copy of it."
            )
        for top, inside, names in os.walk(folder, onerror=_unreadable):
            inside.sort()
            for name in sorted(names):
                path = Path(top, name)
                if path.suffix not in (records.SUFFIX, histories.SUFFIX):
                    continue
                if not path.is_file():  # to open a pipe would wait for somebody who writes
                    raise LedgerFailed(f"{safe(str(path))} is no file; move it out of the folder.")
                yield path


def _unreadable(error: OSError) -> NoReturn:
    raise LedgerFailed(
        f"The folder {safe(str(error.filename))} can't be read ({error.strerror or error}); name "
        "the one that was given with --ledger."
    )
