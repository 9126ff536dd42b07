"""What a world's participants leave behind: written by the real writers, then spoilt.

The log of a world says what was written when; the clocks in it are the world's.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from msgspec import convert

from fuzz.world import RUN, Process, Queue, World
from rabbitproof.identity import Identity, Source
from rabbitproof.model import Claims, FaultRecord
from rabbitproof.proof import frames, history
from rabbitproof.proof.entries import DeclaredQueue, Effective, End, Header, Wiring
from rabbitproof.proof.journal import Journal
from rabbitproof.proof.record import read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NOW = SimpleNamespace(ns=0)


@contextmanager
def clocks() -> Iterator[None]:
    """Have histories written by a world's clock, and nothing wait for the disk."""
    told = SimpleNamespace(time_ns=lambda: _NOW.ns)
    with (
        patch.object(history, "time", told),
        patch.object(history, "since_boot_ns", lambda: _NOW.ns),
        patch.object(os, "fsync", lambda _: None),
    ):
        yield


class _Killed(Journal):
    """A journal whose process may be killed, with what it had not written."""

    __slots__ = ()

    def kill(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def described(queue: Queue, *, messages: int | None = None) -> DeclaredQueue:
    """Return a queue as the files tell it."""
    setup = queue.setup
    limit = {setup.limit: 8 if setup.limit == "x-max-length" else 60_000} if setup.limit else {}
    arguments = dict(limit) if setup.limit_told == "argument" else {}
    typed: dict[str, Any] = {}
    if setup.told == "declared" and setup.kind != "classic":
        typed = {"x-queue-type": setup.kind}
    effective = None
    if setup.told == "api":
        policy = {}
        if setup.limit_told == "policy":
            policy = {name.removeprefix("x-"): value for name, value in limit.items()}
        effective = Effective(
            type=setup.kind, durable=True, arguments=arguments | typed,
            policy="p" if policy else None, policy_definition=policy or None,
        )  # fmt: skip
    # Nobody can ask for a classic queue; what is transient can be nothing else.
    transient = setup.told == "declared" and setup.kind == "classic"
    return DeclaredQueue(
        name=queue.name,
        role=queue.role,
        type="classic" if setup.told == "silent" else setup.kind,  # type: ignore[arg-type]
        durable=not transient,
        arguments=typed | arguments,
        effective=effective,
        messages=messages,
    )


class _Folder:
    """The files of one world, while they are written."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.open: dict[str, _Killed] = {}
        self.books: dict[str, Any] = {}
        self.paths: dict[str, Path] = {}
        self.copies: dict[str, bytes] = {}
        self.history: history.Writer | None = None
        self.ledgers = 0

    # --- one entry of the log each ---

    def create(self, who: Process, header: dict[str, Any]) -> None:
        before = header.pop("before", {})
        setup = self.world.setup
        options: dict[str, Any]
        if who.kind == "producer":
            declare = all(one.told != "silent" for one in setup.queues)
            options = {"confirms": setup.confirms, "declare": declare}
            queues = [described(one, messages=before.get(one.name)) for one in self.world.queues]
        else:
            assert who.queue is not None
            options = {"answer": who.answer}
            if who.offset:
                options["stream_offset"] = who.offset
            told = described(who.queue).effective
            queues = [DeclaredQueue(name=who.queue.name, effective=told)]
        header |= {
            "kind": who.kind,
            "run": RUN if who.kind == "producer" or setup.run_told else "",
            "producer": who.number,
            "name": who.name,
            "pid": 1,
            "queue": "" if who.queue is None else who.queue.name,
            "topology": Wiring(vhost="/", exchange="x", routing_key="k", queues=tuple(queues)),
            "options": options,
            "versions": {"cluster": "c"},
        }
        found = convert(header, Header)
        self._take(who, _Killed.create(self.folder, who.file, found), None)

    def _take(self, who: Process, journal: _Killed, known: Any) -> None:
        self.open[who.name] = journal
        self.paths[who.name] = journal.path
        self.books[who.name] = (
            journal.outcomes(known) if who.kind == "producer" else journal.receipts()
        )

    def resume(self, who: Process, header: dict[str, Any]) -> None:
        record = read(self.paths[who.name])
        changed = convert({**_fields(record.header), **header}, Header)
        self._take(who, _Killed.resume(record, changed), record.outcomes)

    def fork(self, who: Process, name: str, header: dict[str, Any]) -> None:
        other = self.folder / "elsewhere"
        other.mkdir(exist_ok=True)
        path = other / self.paths[name].name
        path.write_bytes(self.paths[name].read_bytes())
        self.paths[who.name] = path
        self.resume(who, header)

    def attempt(self, who: Process, numbers: list[int], again: bool) -> None:
        self.books[who.name].attempt(_numbers(numbers), again=again)

    def confirm(self, who: Process, numbers: list[int]) -> None:
        self.books[who.name].confirm(_numbers(numbers))

    def nack(self, who: Process, numbers: list[int]) -> None:
        self.books[who.name].nack(_numbers(numbers))

    def give_back(self, who: Process, numbers: list[int]) -> None:
        self.books[who.name].give_back(_numbers(numbers))

    def seen(
        self, who: Process, run: str, producer: int, flagged: bool, again: bool, numbers: list[int]
    ) -> None:
        receipts = self.books[who.name].of(Source(run, producer))
        receipts.add(_numbers(numbers), redelivered=flagged, again=again)

    def note(
        self, who: Process, key: Any, intact: bool, flagged: bool, again: bool, ours: bool
    ) -> None:
        named = None if key is None else Identity(Source(key[0], key[1]), key[2])
        self.books[who.name].note(named, intact=intact, redelivered=flagged, again=again, ours=ours)

    def foreign(self, who: Process, *_: Any) -> None:
        self.books[who.name].add_foreign()

    def reject(self, who: Process, run: str, producer: int, numbers: list[int]) -> None:
        self.books[who.name].of(Source(run, producer)).reject(_numbers(numbers))

    def sample(self, who: Process, t_ns: int, clock_ns: int) -> None:
        self.open[who.name].sample(t_ns, {}, clock_ns)

    def event(self, who: Process, t_ns: int, name: str) -> None:
        self.open[who.name].event(t_ns, name)

    def flush(self, who: Process) -> None:
        self.open[who.name].flush()

    def end(
        self, who: Process, t_ns: int, clock_ns: int, counts: Any, consumers: Any, second: Any,
        returned: int,
    ) -> None:  # fmt: skip
        journal = self.open.pop(who.name)
        journal.end(
            End(t_ns=t_ns, clock_ns=clock_ns, counts=counts, consumers=consumers, second=second,
                seconds=1.0, returned=returned)
        )  # fmt: skip
        journal.close()

    def kill(self, who: Process, torn: int) -> None:
        self.open.pop(who.name).kill()
        if torn:
            more = frames.frame(0, 0x02, b"\0" * 12)
            with self.paths[who.name].open("ab") as file:
                file.write(more[: torn % len(more)])

    def snapshot(self, who: Process) -> None:
        self.copies[who.name] = self.paths[who.name].read_bytes()

    # --- the history ---

    def plan(self) -> None:
        setup = self.world.setup
        names = {one.name: one.name for one in self.world.queues}
        plan = history.Plan(
            run=RUN,
            scenario="fuzz",
            topology=Wiring(queues=tuple(described(one) for one in self.world.queues)),
            names=names,
            confirms=setup.confirms,
            consumed=setup.consumed,
            claims=Claims(empties=False, permits=setup.permits),
            faults=setup.faults,
        )
        self.history = history.Writer(self.folder, plan)

    def entry(self, what: str, *values: Any) -> history.Entry:
        match what:
            case "found":
                (queue,) = (one for one in self.world.queues if one.name == values[0])
                found = described(queue).effective
                assert found is not None
                return history.Found(queue=values[0], is_now=found)
            case "began":
                return history.Began(name=values[0], kind=values[1], queue=values[2])
            case "ended":
                name, kind, how = values
                return history.ended(name, kind, how, "", self.paths.get(name))
            case "counted":
                queue, by, messages, consumers = values
                return history.Counted(queue=queue, by=by, messages=messages, consumers=consumers)
            case "dropped":
                queue, reason, named, foreign, *count = values
                names: dict[int, list[tuple[int, int]]] = {}
                for _, producer, n in named:
                    names.setdefault(producer, []).append((n, n))
                return history.Dropped(
                    queue=queue, reason=reason, foreign=foreign, copies=sum(count),
                    names={producer: tuple(all_) for producer, all_ in names.items()},
                )  # fmt: skip
            case "fault":
                return history.Broke(
                    record=FaultRecord(values[0], 0.0, fired=values[1], evidence="")
                )
        return history.Over()


def _fields(header: Header) -> dict[str, Any]:
    return {name: getattr(header, name) for name in header.__struct_fields__}


def _numbers(numbers: list[int]) -> Any:
    straight = range(numbers[0], numbers[0] + len(numbers))
    return straight if list(straight) == numbers else numbers


def write(world: World, folder: Path) -> _Folder:
    """Write all that the world's participants wrote. The clocks have to be the world's."""
    files = _Folder(world, folder)
    try:
        for what, who, *values in world.log:
            if what == "history":
                _NOW.ns, (kind, *more) = who, values
                if kind == "plan":
                    files.plan()
                elif files.history is not None:
                    files.history.write(files.entry(kind, *more))
            else:
                getattr(files, what)(world.processes[who], *values)
    finally:
        if files.history is not None:
            files.history.__exit__()
        for journal in files.open.values():
            journal.kill()
    return files


def spoil(files: _Folder, what: str, name: str, share: int) -> str | None:
    """Do something to a file, and say what; ``share`` of 1,000 says where. None: not done."""
    path = files.paths.get(name)
    if name == "history":
        path = None if files.history is None else files.history.path
    if path is None or not path.exists():
        return None
    data = path.read_bytes()
    if what == "early":
        if name not in files.copies or files.copies[name] == data:
            return None
        path.write_bytes(files.copies[name])
    elif what == "both":
        if name not in files.copies:
            return None
        (files.folder / "copy").mkdir(exist_ok=True)
        (files.folder / "copy" / path.name).write_bytes(files.copies[name])
    elif what == "cut":
        if name == "history":
            first = _first_frame(data, frames.HISTORY)
            at = first + (len(data) - first) * share // 1000
        else:
            at = len(data) * share // 1000
        path.write_bytes(data[:at])
    elif what == "damage":
        first = _first_frame(data, frames.HISTORY if name == "history" else frames.LINE)
        at = first + (len(data) - first) * share // 1000
        if at >= len(data):
            return None
        path.write_bytes(data[:at] + bytes([data[at] ^ 1 << share % 8]) + data[at + 1 :])
    elif what == "zeros":
        path.write_bytes(data[: len(data) * (500 + share // 2) // 1000] + bytes(share % 50 + 1))
    elif what == "remove":
        path.unlink()
    return what


def _first_frame(data: bytes, line: bytes) -> int:
    reader = frames.Reader(data, line)
    next(iter(reader), None)
    return reader.end
