"""Frames are read up to the last whole one; numbers come back in their order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitproof.identity import MAX_NUMBER
from rabbitproof.proof.frames import (
    LINE,
    LONGEST_LIST,
    START,
    Reader,
    crc_of,
    frame,
    pack,
    unpack,
    version_of,
)

NUMBERS = st.integers(1, MAX_NUMBER)
PAYLOADS = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=40)), min_size=1, max_size=8)


def written(frames: list[tuple[int, bytes]]) -> tuple[bytes, list[int]]:
    """A file of these frames, and where each ends."""
    crc, data, ends = START, LINE, []
    for kind, payload in frames:
        one = frame(crc, kind, payload)
        crc = crc_of(one)
        data += one
        ends.append(len(data))
    return data, ends


@given(st.lists(NUMBERS, max_size=50))
def test_any_numbers_come_back_in_their_order(numbers: list[int]) -> None:
    assert list(unpack(pack(numbers))) == numbers


@given(NUMBERS, st.integers(0, 100_000))
def test_a_range_comes_back_as_one_and_takes_thirteen_bytes(start: int, count: int) -> None:
    numbers = range(start, min(start + count, MAX_NUMBER + 1))
    packed = pack(numbers)
    assert unpack(packed) == numbers
    assert len(packed) == 13


def test_every_second_number_costs_next_to_nothing() -> None:
    assert len(pack(tuple(range(1, 2001, 2)))) < 100


@given(PAYLOADS, st.data())
def test_a_file_cut_anywhere_is_read_to_its_last_whole_frame(
    frames: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    whole, ends = written(frames)
    cut = data.draw(st.integers(len(LINE), len(whole)))
    reader = Reader(whole[:cut])
    found = list(reader)
    expected = sum(end <= cut for end in ends)
    assert found == frames[:expected]
    assert reader.end == ([len(LINE), *ends])[expected]
    assert (reader.torn, reader.damaged) == (cut - reader.end, 0)


@given(PAYLOADS, st.data())
def test_a_changed_bit_is_noticed_and_nothing_behind_it_is_believed(
    frames: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    whole, ends = written(frames)
    at = data.draw(st.integers(len(LINE), len(whole) - 1))
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(whole)
    changed[at] ^= 1 << bit
    reader = Reader(bytes(changed))
    assert list(reader) == frames[: sum(end <= at for end in ends)]
    assert reader.torn or reader.damaged


@given(PAYLOADS, st.data())
def test_a_frame_that_was_taken_out_of_the_middle_is_noticed(
    frames: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    frames = [(1, b"first"), *frames, (2, b"last")]
    whole, ends = written(frames)
    gone = data.draw(st.integers(0, len(frames) - 2))
    start = ([len(LINE), *ends])[gone]
    reader = Reader(whole[:start] + whole[ends[gone] :])
    assert list(reader) == frames[:gone]
    assert reader.damaged


def test_zeros_behind_the_last_frame_are_an_end_that_the_power_took() -> None:
    whole, _ = written([(1, b"x")])
    reader = Reader(whole + bytes(4096))
    assert len(list(reader)) == 1
    assert (reader.torn, reader.damaged) == (4096, 0)


def test_a_writer_that_goes_on_makes_the_same_file() -> None:
    both, _ = written([(1, b"x"), (2, b"y")])
    first, _ = written([(1, b"x")])
    reader = Reader(first)
    list(reader)
    assert first + frame(reader.crc, 2, b"y") == both


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02",
        b"\0" * 12,
        b"\0" * 14,
        pack((3, 1, 2))[:-1],
        b"\x01" + (LONGEST_LIST + 1).to_bytes(4, "big") + pack((1,))[5:],
        b"\x01\0\0\0\x05" + pack((3, 1, 2))[5:],
        b"\0" + (0).to_bytes(8, "big") + (5).to_bytes(4, "big"),
        b"\0" + (2**32 - 2).to_bytes(8, "big") + (5).to_bytes(4, "big"),
        pack((1, -4, 7)),
    ],
)
def test_bytes_that_are_no_numbers_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"numbers|message number"):
        unpack(data)


def test_a_small_list_that_inflates_to_much_is_not_inflated() -> None:
    bomb = pack((1,) * LONGEST_LIST)
    with pytest.raises(ValueError, match="as long as it says"):
        unpack(b"\x01\0\0\0\x02" + bomb[5:])


@pytest.mark.parametrize(
    ("data", "version"),
    [
        (LINE, 1),
        (b"rabbitproof ledger 27\n\0\1", 27),
        (b"", None),
        (LINE[:-1], None),
        (b"%PDF-1.7\n", None),
        (b"rabbitproof ledger x\n", None),
    ],
)
def test_the_first_line_names_the_version(data: bytes, version: int | None) -> None:
    assert version_of(data) == version
