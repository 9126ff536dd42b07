"""Whose ledger is missing, or is not all that its participant wrote.

Pure: no I/O, no clock. Each rule is a function of its own. Refuses to judge (``verdict``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rabbitproof.proof.evidence import Gaps
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rabbitproof.proof.folder import Folder
    from rabbitproof.proof.manifest import Participant
    from rabbitproof.proof.record import Record
    from rabbitproof.proof.run import Run


def missing(found: Folder, run: Run) -> list[str]:
    """Name the participants of which nothing is known."""
    return [*(safe(name) for name in found.nameless), *_absent(found, run), *_strangers(run)]


def gaps(found: Folder, run: Run) -> Gaps:
    """Say what is not known because ledgers are cut, damaged, or nobody says that they are whole.

    Not of a consumer of whose ledger nobody says anything: that one only lacks receipts, which is
    said with its queue (``unsaid``).
    """
    told = _told(run)
    return Gaps(
        producers=tuple(
            sentence
            for one in run.producers
            if (sentence := _cut(one, told) or _endless(one, told))
        ),
        consumers=tuple(
            sentence
            for one in run.consumers
            if (sentence := _cut(one, told) or _apart(one, found) or _ended_by_manifest(one, run))
        ),
    )


def unsaid(run: Run, readers: Sequence[Record]) -> list[Record]:
    """Return those without an end of whose ledgers nobody says that they are whole."""
    told = _told(run)
    return [one for one in readers if not one.ended and _said(one, told) is None]


def _told(run: Run) -> dict[str, Participant]:
    """Return what the manifest says of each file."""
    return {one.file: one for one in (run.manifest.participants if run.manifest else ())}


def _said(one: Record, told: dict[str, Participant]) -> Participant | None:
    """Return what somebody wrote down of a file after its writer was gone."""
    said = told.get(one.path.name)
    return None if said is None or said.size is None or one.size > said.size else said


def _cut(one: Record, told: dict[str, Participant]) -> str | None:
    """Say why a ledger is provably not all that its participant wrote."""
    said = _said(one, told)
    if said is not None and said.size is not None and one.size < said.size:
        return (
            f"The ledger of {who(one)} is cut off: it has {one.size:,} of {said.size:,} bytes; "
            "copy it again from the host that wrote it."
        )
    if said is not None and said.crc != one.crc:
        return (
            f"The ledger of {who(one)} is not the one that the manifest of its run tells of; copy "
            "both again."
        )
    return one.damaged


def _apart(one: Record, found: Folder) -> str | None:
    """Say that there are two ledgers of one consumer, which never goes on with one."""
    if one not in found.apart:
        return None
    return (
        f"There is another ledger that begins as that of {who(one)} and goes on otherwise, so one "
        "of them was altered; copy it again from the host that wrote it."
    )


def _endless(one: Record, told: dict[str, Participant]) -> str | None:
    """Say that nobody knows whether a producer's ledger is whole."""
    if one.ended or _said(one, told) is not None:
        return None
    return (
        f"The ledger of {who(one)} has no end, and nobody says that it is whole: what was "
        "confirmed after that is not known. Go on with it with produce --resume; if its producer "
        "still runs, judge again at its end."
    )


def _ended_by_manifest(one: Record, run: Run) -> str | None:
    """Say that a consumer's ledger lacks the end that it had, by the manifest of its run.

    Where so many ended without a word, one without an end may be one of them.
    """
    if run.manifest is None:
        return None
    queue = next(
        (logical for logical, each in run.queues.items() if each.name == one.header.queue), ""
    )
    readers = run.readers(run.queues[queue]) if queue else []
    unended = run.manifest.queues[queue].get("unended") if queue else None
    open_ones = unsaid(run, readers)
    if one not in open_ones or not isinstance(unended, int) or len(open_ones) <= unended:
        return None
    others = "every consumer" if not unended else f"all consumers but {unended}"
    return (
        f"The ledger of {who(one)} is cut off: it has no end, and {others} of "
        f"{safe(one.header.queue, 60)} ended in good order; copy it again."
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
