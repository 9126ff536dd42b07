"""What is read from a file is the ledger that was written, up to the last whole frame."""

from __future__ import annotations

import errno
import os
import time
import tracemalloc
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import psutil
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import convert, structs
from pyroaring import BitMap

from files import read_all
from rabbitproof.errors import LedgerEmpty, LedgerFailed, UsageError
from rabbitproof.identity import Source
from rabbitproof.proof import frames
from rabbitproof.proof import record as records
from rabbitproof.proof.copies import Copies
from rabbitproof.proof.entries import End, Header, Kind
from rabbitproof.proof.frames import LINE, START, crc_of, frame
from rabbitproof.proof.journal import Journal
from rabbitproof.proof.ledger import Outcomes, QueueReceipts, Receipts
from rabbitproof.proof.record import read

if TYPE_CHECKING:
    from collections.abc import Callable

RUN = "0a1b2c3d4e5f"
SOURCES = [Source(RUN, 1), Source(RUN, 2), Source("ffffffffffff", 4095)]


def header(kind: str = "producer", **values: Any) -> Header:
    base: dict[str, Any] = {
        "kind": kind,
        "run": RUN if kind == "producer" else "",
        "producer": 1 if kind == "producer" else 0,
        "name": "somebody",
        "host": "here",
        "pid": 4711,
        "started_ns": 10**18,
        "queue": "" if kind == "producer" else "work.queue",
    }
    return convert(base | values, Header)


def plain(ledger: Any) -> Any:
    """A ledger as something that can be compared, whatever fields it has."""
    match ledger:
        case Copies():
            return [set(each) for each in ledger.layers], dict(ledger.beyond), len(ledger.more)
        case Outcomes():
            return {one.name: plain(getattr(ledger, one.name)) for one in fields(Outcomes)}
        case Receipts():
            return {one.name: plain(getattr(ledger, one.name)) for one in fields(Receipts)}
        case QueueReceipts():
            return {one.name: plain(getattr(ledger, one.name)) for one in fields(QueueReceipts)}
        case BitMap():
            return set(ledger)
        case dict():
            return {key: plain(value) for key, value in ledger.items()}
        case _:
            return ledger


NUMBERS = st.one_of(
    st.tuples(st.integers(1, 60), st.integers(0, 12)).map(lambda at: range(at[0], sum(at))),
    st.lists(st.integers(1, 70), max_size=8),
    st.lists(st.integers(1, 70), max_size=8).map(tuple),
    st.tuples(st.integers(1, 60), st.integers(1, 9)).map(lambda at: range(at[0], 70, at[1])),
)
PRODUCED = st.one_of(
    st.tuples(st.just("attempt"), NUMBERS, st.booleans()),
    st.tuples(st.sampled_from(["confirm", "nack", "give_back"]), NUMBERS),
)
CONSUMED = st.one_of(
    st.tuples(st.just("add"), st.sampled_from(SOURCES), NUMBERS, st.booleans(), st.booleans()),
    st.tuples(st.just("add"), st.sampled_from(SOURCES), NUMBERS, st.just(False), st.just(False)),
    st.tuples(st.just("reject"), st.sampled_from(SOURCES), NUMBERS),
    st.tuples(st.just("corrupt"), st.sampled_from(SOURCES), st.integers(1, 70)),
    st.tuples(st.sampled_from(["foreign", "nameless"])),
)


def produce(ledger: Outcomes, call: tuple[Any, ...]) -> None:
    if call[0] == "attempt":
        ledger.attempt(call[1], again=call[2])
    else:
        getattr(ledger, call[0])(call[1])


def consume(ledger: QueueReceipts, call: tuple[Any, ...]) -> None:
    match call:
        case (_, _, []) | (_, _, [], _, _):
            pass  # a consumer never asks for the ledger of somebody who sent nothing
        case ("add", source, numbers, redelivered, again):
            ledger.of(source).add(numbers, redelivered=redelivered, again=again)
        case ("reject", source, numbers):
            ledger.of(source).reject(numbers)
        case ("corrupt", source, n):
            ledger.of(source).add_corrupt(n)
        case ("foreign",):
            ledger.add_foreign()
        case _:
            ledger.add_nameless()


def check_every_cut(
    kind: str, calls: list[tuple[Any, ...]], apply: Callable[[Any, tuple[Any, ...]], None]
) -> None:
    """Write the calls down, cut the file at every byte, and compare with the ledger of then."""
    with TemporaryDirectory() as name:
        with Journal.create(Path(name), "x", header(kind)) as journal:
            kept = journal.outcomes() if kind == "producer" else journal.receipts()
            fresh = Outcomes(SOURCES[0]) if kind == "producer" else QueueReceipts()
            size = journal.path.stat().st_size
            ledgers = [(size, plain(fresh))]
            for call in calls:
                apply(kept, call)
                journal.flush()
                apply(fresh, call)
                assert plain(kept) == plain(fresh)
                if journal.path.stat().st_size != ledgers[-1][0]:
                    ledgers.append((journal.path.stat().st_size, plain(fresh)))
                else:
                    assert ledgers[-1][1] == plain(fresh)
        data = journal.path.read_bytes()
        cut_file = Path(name) / "cut"
        for cut in range(size, len(data) + 1):
            cut_file.write_bytes(data[:cut])
            record = read(cut_file)
            end, expected = max((at, i) for i, (at, _) in enumerate(ledgers) if at <= cut)
            found = record.outcomes if kind == "producer" else record.receipts
            assert plain(found) == ledgers[expected][1]
            assert record.size == end
            assert (record.torn is None) == (cut == end)
            assert record.damaged is None


@settings(max_examples=40, deadline=None)
@given(st.lists(PRODUCED, max_size=10))
def test_a_producers_ledger_cut_at_any_byte_is_that_of_its_last_whole_frame(
    calls: list[tuple[Any, ...]],
) -> None:
    check_every_cut("producer", calls, produce)


@settings(max_examples=40, deadline=None)
@given(st.lists(CONSUMED, max_size=10))
def test_a_consumers_ledger_cut_at_any_byte_is_that_of_its_last_whole_frame(
    calls: list[tuple[Any, ...]],
) -> None:
    check_every_cut("consumer", calls, consume)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(CONSUMED, st.booleans()), max_size=40),
    st.sampled_from([{"_MANY": 70}, {"_MANY": 3}, {"_MANY": 5, "_WAIT": 12}]),
)
@example(
    [(("add", SOURCES[0], some, False, False), True) for some in ([5], range(10, 20), [7])],
    {"_MANY": 3},
)
def test_calls_written_or_read_together_are_the_same_ledger(
    calls: list[tuple[tuple[Any, ...], bool]], read_with: dict[str, int]
) -> None:
    """Ranges that follow each other become one frame, and some frames one call: no difference."""
    fresh = QueueReceipts()
    with TemporaryDirectory() as name:
        with Journal.create(Path(name), "x", header("consumer")) as journal:
            kept = journal.receipts()
            for call, flush in calls:
                consume(kept, call)
                consume(fresh, call)
                if flush:
                    journal.flush()
        with patch.multiple(records, **read_with):
            assert plain(read(journal.path).receipts) == plain(fresh) == plain(kept)


def test_an_intent_is_on_disk_when_attempt_returns(tmp_path: Path) -> None:
    with Journal.create(tmp_path, "x", header()) as journal:
        journal.outcomes().attempt(range(1, 501))
        found = read(journal.path).outcomes
        assert found is not None
        assert set(found.attempted) == set(range(1, 501))


def test_a_million_messages_take_some_kilobytes(tmp_path: Path) -> None:
    with Journal.create(tmp_path, "x", header()) as journal:
        outcomes = journal.outcomes()
        for n in range(1, 1_000_001, 500):
            outcomes.attempt(range(n, n + 500))
            outcomes.confirm(range(n, n + 500))
        journal.flush()
    assert journal.path.stat().st_size < 100_000
    found = read(journal.path).outcomes
    assert found is not None
    assert len(found.confirmed) == 1_000_000


def test_samples_events_and_the_end_come_back(tmp_path: Path) -> None:
    with Journal.create(tmp_path, "x", header("consumer")) as journal:
        journal.event(5, "connected")
        journal.sample(6, {"received": 3})
        journal.event(7, "lost", {"why": "gone"})
        journal.end(convert({"t_ns": 8, "counts": {"work.queue": 0, "other": None}}, End))
    record = read(journal.path)
    assert record.header == header("consumer")
    assert [(one.t_ns, one.name, one.details) for one in record.events] == [
        (5, "connected", {}),
        (7, "lost", {"why": "gone"}),
    ]
    assert [(one.t_ns, one.values) for one in record.samples] == [(6, {"received": 3})]
    assert record.end is not None
    assert record.end.counts == {"work.queue": 0, "other": None}
    assert (record.ended, record.torn, record.damaged) == (True, None, None)


def test_a_file_is_gone_on_with_after_its_torn_end_is_cut_off(tmp_path: Path) -> None:
    with Journal.create(tmp_path, "x", header()) as journal:
        journal.outcomes().attempt(range(1, 11))
    with journal.path.open("ab") as file:
        file.write(b"\0\0\0\x20torn")
    record = read(journal.path)
    assert record.torn is not None
    assert "middle of a frame" in record.torn
    with Journal.resume(record, structs.replace(header(), pid=4712)) as again:
        assert record.outcomes is not None
        outcomes = again.outcomes(record.outcomes)
        outcomes.attempt(range(1, 11), again=True)
        outcomes.confirm(range(1, 11))
        again.end(convert({"t_ns": 9, "counts": {}}, End))
    after = read(journal.path)
    assert after.outcomes is not None
    assert set(after.outcomes.confirmed) == set(after.outcomes.resent) == set(range(1, 11))
    assert (after.header.pid, after.ended, after.torn) == (4712, True, None)
    assert after.first == header()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no advisory locks")
def test_a_file_that_is_being_written_is_not_gone_on_with(tmp_path: Path) -> None:
    with (
        Journal.create(tmp_path, "x", header()) as journal,
        pytest.raises(UsageError, match="still being written"),
    ):
        Journal.resume(read(journal.path), header())


def test_a_file_of_some_bytes_costs_some_bytes(tmp_path: Path) -> None:
    """Whatever it says came: 16 million messages over and over, a million foreign ones."""
    everything = range(1, frames.LONGEST_RANGE + 1)
    with Journal.create(tmp_path, "x", header("consumer")) as journal:
        for _ in range(40):
            journal.seen(SOURCES[0], everything, redelivered=False)
            journal.foreign(frames.LONGEST_LIST)
            journal.flush()
    assert journal.path.stat().st_size < 4_000
    tracemalloc.start()
    began = time.process_time()
    try:
        found = read(journal.path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.receipts is not None
    assert found.receipts.foreign == 40 * frames.LONGEST_LIST
    assert found.receipts.of(SOURCES[0]).fresh.total == 40 * len(everything)
    assert found.receipts.of(SOURCES[0]).inversions == 39 * (len(everything) - 1)
    assert peak < 2 << 20
    assert time.process_time() - began < 2.0


def test_what_comes_over_and_over_is_counted_as_sets(tmp_path: Path) -> None:
    """Also when some frames are read together: a small file could say it of each number."""
    ways = range(1, 101), tuple(range(1, 101)), range(100, 0, -1), range(100, 0, -1)
    with Journal.create(tmp_path, "x", header("consumer")) as journal:
        for some in ways * 20:
            journal.seen(SOURCES[0], some, redelivered=False)
    with patch.object(Copies, "_add_one") as one_by_one:
        found = read(journal.path).receipts
    assert found is not None
    assert found.of(SOURCES[0]).fresh.total == 80 * 100
    assert not one_by_one.called


def test_a_longer_range_is_written_in_parts_and_not_read_at_once(tmp_path: Path) -> None:
    numbers = range(1, frames.LONGEST_RANGE + 3)
    with Journal.create(tmp_path, "x", header()) as journal:
        journal.outcomes().attempt(numbers)
    found = read(journal.path)
    assert found.outcomes is not None
    assert len(found.outcomes.attempted) == len(numbers)
    with pytest.raises(ValueError, match="longer than the format allows"):
        frames.unpack(frames.pack(numbers))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_only_its_owner_may_read_a_ledger(tmp_path: Path) -> None:
    """Who sent how much to whom is nobody else's business."""
    with Journal.create(tmp_path, "x", header()) as journal:
        assert journal.path.stat().st_mode & 0o777 == 0o600


def test_a_file_that_exists_is_never_written_over(tmp_path: Path) -> None:
    Journal.create(tmp_path, "x", header()).close()
    with pytest.raises(UsageError, match="exists already"):
        Journal.create(tmp_path, "x", header())


def test_a_full_disk_is_a_sentence_and_nothing_is_written_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first write takes a part of the frame, the second finds no room."""
    with Journal.create(tmp_path, "x", header()) as journal:
        outcomes = journal.outcomes()
        outcomes.attempt(range(1, 11))
        real = os.write
        room = [3]

        def write(fd: int, data: bytes) -> int:
            if not room:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(fd, data[: room.pop()])

        monkeypatch.setattr("rabbitproof.proof.journal.os.write", write)
        with pytest.raises(LedgerFailed, match="No space left on device"):
            outcomes.attempt(range(11, 21))
        monkeypatch.undo()
        assert journal.failed
        assert set(outcomes.attempted) == set(range(1, 11))  # it did not get there
        with pytest.raises(LedgerFailed):
            outcomes.attempt(range(11, 21))
    record = read(journal.path)
    assert record.torn is not None
    assert record.outcomes is not None
    assert set(record.outcomes.attempted) == set(range(1, 11))


@pytest.mark.parametrize("moment", ["before", "within", "after"])
def test_ctrl_c_while_it_writes_leaves_a_file_that_is_whole_and_counts_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    with Journal.create(tmp_path, "x", header("consumer")) as journal:
        receipts = journal.receipts()
        receipts.of(SOURCES[0]).add([5, 3], redelivered=False)
        receipts.of(SOURCES[1]).add(range(1, 9), redelivered=True)
        real = os.write

        def interrupted(fd: int, data: bytes) -> int:
            if moment != "before":
                real(fd, data[: len(data) // 2 + 5] if moment == "within" else data)
            raise KeyboardInterrupt

        monkeypatch.setattr("rabbitproof.proof.journal.os.write", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.flush()
        monkeypatch.undo()
        journal.settle()
        receipts.of(SOURCES[0]).add([9], redelivered=False)
        journal.end(convert({"t_ns": 1}, End))
    record = read(journal.path)
    assert plain(record.receipts) == plain(receipts)
    assert (record.ended, record.torn, record.damaged) == (True, None, None)


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (b"", LedgerEmpty, "is empty"),
        (LINE[:7], LedgerEmpty, "is empty"),
        (LINE, LedgerEmpty, "before it says who wrote it"),
        (b"PK\3\4", LedgerFailed, "is no ledger of rabbitproof"),
        (b"rabbitproof ledger 2\nwhatever", LedgerFailed, "has version 2 of the format"),
        (LINE + frame(START, Kind.HEADER, b"{}"), LedgerFailed, "damaged at byte 21"),
        (LINE + frame(START, Kind.HEADER, b"[" * 9999), LedgerFailed, "damaged at byte 21"),
        (LINE + frame(START, Kind.FOREIGN, b"\0\0\0\1"), LedgerFailed, "no header"),
    ],
)
def test_what_is_no_ledger_is_told_in_a_sentence(
    tmp_path: Path, data: bytes, error: type[Exception], says: str
) -> None:
    path = tmp_path / "x.ledger"
    path.write_bytes(data)
    with pytest.raises(error, match=says):
        read(path)


def framed(*frames: tuple[int, bytes]) -> bytes:
    data, crc = LINE, START
    for kind, payload in frames:
        one = frame(crc, kind, payload)
        data, crc = data + one, crc_of(one)
    return data


@pytest.mark.parametrize(
    "bad",
    [
        (0x7F, b""),
        (Kind.ATTEMPT, b"\0"),
        (Kind.SEEN, b"\0"),
        (Kind.CONFIRM, b"\2"),
        (Kind.END, b"[]"),
        (Kind.SAMPLE, b"{}"),
        (Kind.HEADER, header("consumer").to_json()),
    ],
)
def test_a_frame_that_makes_no_sense_ends_what_is_believed(
    tmp_path: Path, bad: tuple[int, bytes]
) -> None:
    path = tmp_path / "x.ledger"
    path.write_bytes(framed((Kind.HEADER, header().to_json()), bad, (Kind.END, b'{"t_ns":1}')))
    record = read(path)
    assert record.damaged is not None
    assert "damaged at byte" in record.damaged
    assert not record.ended


def test_an_optional_frame_of_a_later_release_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "x.ledger"
    end = (Kind.END, b'{"t_ns":8}')
    path.write_bytes(framed((Kind.HEADER, header().to_json()), (0xF0, b"?"), end))
    record = read(path)
    assert (record.ended, record.damaged) == (True, None)


def test_a_read_only_folder_can_be_read(tmp_path: Path) -> None:
    with Journal.create(tmp_path, "x", header()) as journal:
        journal.outcomes().attempt([5])
    journal.path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        (record,) = read_all(tmp_path)
    finally:
        tmp_path.chmod(0o755)
    assert record.header == header()


def test_only_files_that_are_named_ledger_are_read(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "manifest.json").write_text("{}")
    assert read_all(tmp_path) == []
    with pytest.raises(LedgerFailed, match="can't be read"):
        read_all(tmp_path / "none")


def test_what_was_read_is_given_back_to_the_system(tmp_path: Path) -> None:
    """A resumed producer reads its ledger twice, and would keep the second copy to its end."""
    path = tmp_path / "long.ledger"
    path.write_bytes(
        framed((Kind.HEADER, header().to_json()), *[(0x90, bytes(2**20)) for _ in range(20)])
    )
    before = psutil.Process().memory_info().rss
    for _ in range(3):
        assert read(path).size > 20 * 2**20
    assert psutil.Process().memory_info().rss - before < 10 * 2**20
