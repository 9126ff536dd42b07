"""Whose ledger is missing, or is not all that its participant wrote.

Pure: no I/O, no clock. Each rule is a function of its own. Refuses to judge (``verdict``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rabbitproof.text import safe

if TYPE_CHECKING:
    from rabbitproof.proof.folder import Folder
    from rabbitproof.proof.run import Run


def missing(found: Folder, run: Run) -> list[str]:
    """Name the participants of which not all is known."""
    return [
        *(safe(name) for name in found.nameless),
        *_absent(found, run),
        *_damaged(run),
        *_strangers(run),
    ]


def _absent(found: Folder, run: Run) -> list[str]:
    """Name those that the manifest knows and whose ledger is not here."""
    if run.manifest is None:
        return []
    there = {one.path.name for one in run.everybody}
    return [
        f"the {safe(one.kind, 20)} {safe(one.name, 60)}"
        for one in run.manifest.participants
        if one.file not in there and one.file not in found.nameless
    ]


def _damaged(run: Run) -> list[str]:
    """Name the parts of ledgers that can't be read."""
    return [
        f"{safe(one.path.name)} from byte {one.size} on (it is damaged there)"
        for one in run.everybody
        if one.damaged
    ]


def _strangers(run: Run) -> list[str]:
    """Name producers of this run whose messages came, and whose ledger did not."""
    if run.manifest is not None:
        return []
    known = {one.outcomes.source for one in run.producers if one.outcomes is not None}
    strangers = {
        source
        for one in run.consumers
        if one.receipts is not None
        for source, receipts in one.receipts.by_source.items()
        if source.run == run.id and source not in known and receipts.seen
    }
    return [f"producer {source.producer} of this run" for source in sorted(strangers)]
