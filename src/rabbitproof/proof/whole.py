"""Whose ledger is missing, or is not all that its participant wrote.

Pure: no I/O, no clock. Each rule is a function of its own. Refuses to judge (``verdict``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rabbitproof.proof.evidence import Gaps
from rabbitproof.proof.history import Began, Ended
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rabbitproof.proof.folder import Folder
    from rabbitproof.proof.history import History
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
    history = _history(found, run)
    senders = [
        sentence
        for one in run.producers
        if (sentence := _cut(one, told) or _apart(one, found) or _endless(one, run))
    ]
    return Gaps(
        producers=(*history, *senders),
        resent=bool(senders or found.nameless),
        consumers=(
            *history,
            *(
                sentence
                for one in run.consumers
                if (sentence := _cut(one, told) or _apart(one, found))
            ),
            *_elsewhere(run),
        ),
    )


def _history(found: Folder, run: Run) -> list[str]:
    """Say why the history may not be all that was written of the run."""
    history = run.history
    if history is None:
        return []
    if history in found.apart:
        return [
            "There are two histories of this run that went apart, so one of them was altered; copy "
            "it again from the host that wrote it."
        ]
    return [] if history.cut is None else [history.cut]


def unsaid(run: Run, readers: Sequence[Record]) -> list[Record]:
    """Return those without an end of whose ledgers nobody says that they are whole."""
    return [one for one in readers if not one.ended and not _vouched(one, run)]


def all_told(records: Sequence[Record], history: History) -> bool:
    """Say whether a history knows of all that is in these ledgers: it can't tell when anybody else
    was gone.
    """
    told = {one.file: one.size for one in history.of(Ended)}
    names = [one.path.name for one in records]
    return len(set(names)) == len(names) and all(
        one.path.name in told and one.size <= (told[one.path.name] or one.size) for one in records
    )


def _told(run: Run) -> dict[str, Ended]:
    """Return what the history says of each file last."""
    return {one.file: one for one in (run.history.of(Ended) if run.history else ()) if one.file}


def _said(one: Record, told: dict[str, Ended]) -> Ended | None:
    """Return what somebody wrote down of a file after its writer was gone."""
    said = told.get(one.path.name)
    return None if said is None or said.size is None or one.size > said.size else said


def _vouched(one: Record, run: Run) -> bool:
    """Say whether somebody wrote down that a file is whole. What is cut may lack the last word."""
    whole = run.history is not None and run.history.cut is None
    return whole and _said(one, _told(run)) is not None


def _cut(one: Record, told: dict[str, Ended]) -> str | None:
    """Say why a ledger is provably not all that its participant wrote."""
    said = _said(one, told)
    if said is not None and said.size is not None and one.size < said.size:
        return (
            f"The ledger of {who(one)} is cut off: it has {one.size:,} of {said.size:,} bytes; "
            "copy it again from the host that wrote it."
        )
    if said is not None and said.crc != one.crc:
        return (
            f"The ledger of {who(one)} is not the one that the history of its run tells of; copy "
            "both again."
        )
    return one.damaged


def _apart(one: Record, found: Folder) -> str | None:
    """Say that there is another ledger that went on otherwise, and does not count: a consumer
    never goes on with one, and a producer's is damaged where it did.
    """
    if one not in found.apart:
        return None
    return (
        f"There is another ledger that begins as that of {who(one)} and goes on otherwise, so one "
        "of them was altered; copy it again from the host that wrote it."
    )


def _elsewhere(run: Run) -> Iterator[str]:
    """Yield whose ledger is all that there is of a queue, and may be of another broker's."""
    read = {one.header.queue for one in run.consumers}
    for one in run.unsure:
        if one.header.queue not in read:
            yield (
                f"Nobody knows whether {who(one)} read {safe(one.header.queue, 60)} or a queue of "
                "that name elsewhere: it got nothing of this run, and its broker has another name. "
                "Give the cluster one (rabbitmqctl set_cluster_name) and run it once more, or move "
                "that ledger away."
            )


def _endless(one: Record, run: Run) -> str | None:
    """Say that nobody knows whether a producer's ledger is whole."""
    if one.ended or _vouched(one, run):
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
    """Name those that the history knows and whose ledger is not here."""
    if run.history is None:
        return []
    # Of one whose end is not told, nobody knows the file: a history that is cut may have told it.
    begun = run.history.of(Began) if run.history.cut is None else ()
    files = {one.name: "" for one in begun}
    kinds = {one.name: one.kind for one in run.history.of(Began)}
    for one in run.history.of(Ended):
        files[one.name] = one.file or files.get(one.name, "")
        kinds[one.name] = one.kind
    there = {one.path.name for one in run.everybody} | set(found.nameless)
    return [
        f"the {kinds[name]} {safe(name, 60)}" for name, file in files.items() if file not in there
    ]


def _strangers(run: Run) -> list[str]:
    """Name producers of this run whose messages came, and whose ledger did not."""
    if run.history is not None:
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
