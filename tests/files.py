"""Ledger files as participants leave them, made in a line, for those who judge them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import ValidationError, convert, structs

from rabbitproof.identity import Source
from rabbitproof.model import Claims
from rabbitproof.proof import frames
from rabbitproof.proof.entries import DeclaredQueue, End, Header, Wiring
from rabbitproof.proof.history import Began, Counted, Over, Plan, Writer, ended
from rabbitproof.proof.journal import Journal
from rabbitproof.proof.record import files, read

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rabbitproof.proof.history import Entry
    from rabbitproof.proof.record import Record

RUN, OTHER = "0a1b2c3d4e5f", "ffffffffffff"
SECOND = 10**9
START = 1_700_000_000 * SECOND
CLASSIC = {"type": "classic"}
QUEUE = {"name": "work.queue", "role": "work", "type": "classic", "effective": CLASSIC}


def header(kind: str, name: str, **values: Any) -> Header:
    base: dict[str, Any] = {
        "kind": kind,
        "run": RUN if kind == "producer" else "",
        "producer": 1 if kind == "producer" else 0,
        "name": name,
        "host": "a" if kind == "producer" else "b",
        "pid": 1,
        "started_ns": START,
        "queue": "" if kind == "producer" else "work.queue",
        "topology": {"exchange": "x", "routing_key": "k", "vhost": "/", "queues": [QUEUE]},
        "versions": {"rabbitmq": "3.10.8", "cluster": "c"},
    }
    try:
        return convert(base | values, Header)
    except ValidationError:
        return Header(**base | values)  # as a file may have it that somebody made up


def told(folder: Path, *entries: Entry, over: bool = True, **plan: Any) -> Path:
    """The history of a run with one queue, which is called ``logical`` there."""
    queue = DeclaredQueue(name="work.queue", role="work", type="classic")
    base: dict[str, Any] = {
        "run": RUN,
        "scenario": "offline",
        "topology": Wiring(queues=(queue,)),
        "names": {"work.queue": "logical"},
        "claims": Claims(empties=False),
    }
    with Writer(folder, Plan(**base | plan)) as writer:
        for entry in (*entries, *([Over()] if over else ())):
            writer.write(entry)
    return writer.path


def took_part(folder: Path, *, marked: bool = True) -> list[Entry]:
    """What a history says of all whose ledgers are in a folder: they began, and ended."""
    out: list[Entry] = []
    for path in sorted(folder.glob("*.ledger"), reverse=True):  # producers first
        kind: Any = path.name.partition("-")[0]
        queue = "work.queue" if kind == "consumer" else ""
        out.append(Began(name=path.stem, kind=kind, queue=queue))
        end = ended(path.stem, kind, "done", "", path)
        out.append(end if marked else structs.replace(end, size=None, crc=None))
    return out


def empty(messages: int = 0, consumers: int = 0) -> Counted:
    """A count of the work queue."""
    return Counted(queue="work.queue", by="declare", messages=messages, consumers=consumers)


def read_all(folder: Path) -> list[Record]:
    """All ledgers of a folder, by name."""
    return [read(path) for path in files([folder])]


def produced(
    folder: Path,
    name: str = "p",
    *,
    numbers: Any = range(1, 11),
    confirmed: Any = range(1, 11),
    end: int | None = 5,
    left: int = 10,
    consumers: int = 0,
    clock: int | None = None,
    before: int | None = None,
    **values: Any,
) -> Path:
    """A producer's ledger that ended so many seconds after its start, or died.

    ``clock``: when that was by the clock of its host. ``before``: what the queue held at its start.
    """
    if before is not None:
        values["topology"] = {"vhost": "/", "queues": [QUEUE | {"messages": before}]}
    with Journal.create(folder, f"producer-{name}", header("producer", name, **values)) as journal:
        outcomes = journal.outcomes()
        outcomes.attempt(numbers)
        outcomes.confirm(confirmed)
        clock_ns = None if clock is None else journal.header.started_ns + clock * SECOND
        journal.sample(journal.header.started_ns + SECOND, {}, clock_ns)
        if end is not None:
            journal.end(
                End(
                    t_ns=journal.header.started_ns + end * SECOND,
                    counts={"work.queue": left},
                    consumers={"work.queue": consumers},
                    seconds=2.0,
                )
            )
    return journal.path


def consumed(
    folder: Path,
    name: str = "c",
    *,
    numbers: Any = range(1, 11),
    source: Source = Source(RUN, 1),  # noqa: B008 - a frozen value
    end: int | None = 20,
    left: int | None = 0,
    consumers: int | None = 0,
    second: int | None = None,
    events: Sequence[str] = (),
    ending: dict[str, Any] | None = None,
    **values: Any,
) -> Path:
    """A consumer's ledger."""
    queue = values.get("queue", "work.queue")
    with Journal.create(folder, f"consumer-{name}", header("consumer", name, **values)) as journal:
        journal.event(journal.header.started_ns, "connected")
        journal.receipts().of(source).add(numbers, redelivered=False)
        for name in events:
            journal.event(journal.header.started_ns + SECOND, name)
        if end is not None:
            journal.end(
                End(
                    **{
                        "t_ns": journal.header.started_ns + end * SECOND,
                        "counts": {queue: left},
                        "consumers": {queue: consumers},
                        "second": {queue: second},
                    }
                    | (ending or {})
                )
            )
    return journal.path


def cut(path: Path, entries: int) -> None:
    """Leave so many frames of a ledger, as a copy that was made while it was written."""
    data = path.read_bytes()
    reader = frames.Reader(data)
    for _ in zip(range(entries), reader, strict=False):
        pass
    path.write_bytes(data[: reader.end])
