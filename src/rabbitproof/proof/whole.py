"""Whose ledger is missing, or is not all that its participant wrote.

Pure: no I/O, no clock. Each rule is a function of its own. Refuses to judge (``verdict``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rabbitproof.proof.evidence import Gaps
from rabbitproof.text import safe

if TYPE_CHECKING:
    from rabbitproof.proof.folder import Folder
    from rabbitproof.proof.record import Record
    from rabbitproof.proof.run import Run


def missing(found: Folder, run: Run) -> list[str]:
    """Name the participants of which nothing is known."""
    return [*(safe(name) for name in found.nameless), *_absent(found, run), *_strangers(run)]


def gaps(run: Run) -> Gaps:
    """Say what is not known because ledgers are cut, damaged, or nobody says that they are whole.

    Not of consumers of whom nobody says anything: they only lack receipts, which is said with
    the queue (``unheard``).
    """
    return Gaps(
        producers=tuple(
            sentence for one in run.producers if (sentence := _cut(one) or _endless(one))
        ),
        consumers=tuple(sentence for one in run.consumers if (sentence := _cut(one))),
    )


def _cut(one: Record) -> str | None:
    """Say why a ledger is provably not all that its participant wrote."""
    return one.damaged


def _endless(one: Record) -> str | None:
    """Say that nobody knows whether a producer's ledger is whole."""
    if one.ended:
        return None
    return (
        f"The ledger of {who(one)} has no end, and nobody says that it is whole: what was "
        "confirmed after that is not known. Go on with it with produce --resume; if its producer "
        "still runs, judge again at its end."
    )


def who(one: Record) -> str:
    """Return whose ledger that is, and in which file."""
    producer = f"producer {one.header.producer}"
    name = producer if one.outcomes is not None else safe(one.header.name, 60)
    return f"{name} ({safe(one.path.name, 100)})"


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
