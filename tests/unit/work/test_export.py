"""An export is the messages, all of them, and says so when it is not."""

import io
import json
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rabbitproof.amqp import content
from rabbitproof.amqp.deliveries import Delivery
from rabbitproof.errors import ExportBroken, UsageError
from rabbitproof.work import export
from rabbitproof.work.export_lines import record_of

NAMES = ["plain.jsonl", "zipped.jsonl.gz", "packed.jsonl.zst"]


def delivery(
    properties: bytes = b"\0\0", body: bytes = b"", exchange: bytes = b"e", key: bytes = b"k"
) -> Delivery:
    header = struct.pack(">HHQ", 60, 0, len(body)) + properties
    return Delivery(1, b"t", 1, False, exchange, key, header, body)


def write(path: Path, messages: list[Delivery], *, replace: bool = False) -> bytes:
    with export.create(path, replace=replace) as writer:
        writer.write(messages)
    return path.read_bytes()


def copies(path: Path, at_ns: int = 7) -> list[Delivery]:
    found = []
    for record in export.records(path):
        copy = export.copy_of(record, at_ns, exchange=None, key=None)
        found.append(delivery(copy.properties, copy.body, copy.exchange, copy.routing_key))
    return found


def unmarked(data: bytes) -> list[Any]:
    lines = [json.loads(line) for line in data.splitlines()[1:-1]]
    assert all(line.pop("replayed") for line in lines)
    return lines


def test_only_its_owner_may_read_an_export(tmp_path: Path) -> None:
    """It has all bodies."""
    write(tmp_path / "x.jsonl", [delivery()])
    assert (tmp_path / "x.jsonl").stat().st_mode & 0o777 == 0o600


TYPED = st.recursive(
    st.one_of(
        st.text(max_size=8),
        st.booleans(),
        st.none(),
        st.integers(-(2**63), 2**63 - 1).map(lambda n: {"l": n}),
        st.integers(-128, 127).map(lambda n: {"b": n}),
        st.integers(0, 2**32 - 1).map(lambda n: {"i": n}),
        st.integers(0, 2**64 - 1).map(lambda n: {"T": n}),
        st.floats(allow_nan=False, allow_infinity=False).map(lambda x: {"d": x}),
        st.just({"D": [2, 314]}),
        st.just({"x": "/w=="}),
        st.just({"d": "7ff8000000000001"}),
    ),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda some: {"A": some})
        | st.dictionaries(st.text(max_size=4), inner, max_size=3).map(lambda some: {"F": some})
    ),
    max_leaves=6,
)
HEADERS = st.dictionaries(st.text(max_size=6), TYPED, max_size=4)
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        "headers": HEADERS,
        "timestamp": st.integers(0, 2**64 - 1),
        "message_id": st.text(max_size=10),
        "priority": st.integers(0, 255),
    },
)
MESSAGES = st.lists(
    st.builds(
        delivery,
        PROPERTIES.map(content.encode),
        st.binary(max_size=40) | st.text(max_size=20).map(str.encode),
        st.text(max_size=6).map(str.encode) | st.just(b"\xff"),
        st.text(max_size=6).map(str.encode),
    ),
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(MESSAGES)
def test_exported_replayed_and_exported_again_only_the_mark_differs(
    tmp_path: Path, messages: list[Delivery]
) -> None:
    """And a second replay replaces the mark of the first."""
    first = write(tmp_path / "1.jsonl", messages, replace=True)
    once = copies(tmp_path / "1.jsonl")
    second = write(tmp_path / "2.jsonl", once, replace=True)
    assert unmarked(second) == [json.loads(line) for line in first.splitlines()[1:-1]]
    twice = copies(tmp_path / "2.jsonl", 7)
    assert write(tmp_path / "3.jsonl", twice, replace=True) == second
    for line, message in zip(export.records(tmp_path / "1.jsonl"), messages, strict=True):
        assert export.body_of(line) == message.body
        assert content.encode(line["properties"]) == message.header[12:]


@pytest.mark.parametrize("name", NAMES)
def test_the_name_decides_how_it_is_packed_and_the_bytes_are_the_same_again(
    tmp_path: Path, name: str
) -> None:
    messages = [delivery(body=b"x" * n) for n in range(300)]
    data = write(tmp_path / name, messages)
    assert export.check(tmp_path / name) == 300
    assert write(tmp_path / f"again.{name}", messages) == data
    assert [export.body_of(one) for one in export.records(tmp_path / name)] == [
        one.body for one in messages
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_was_cut_anywhere_is_recognised(tmp_path: Path, name: str) -> None:
    whole = write(tmp_path / name, [delivery(body=b"body %d" % n) for n in range(8)])
    for size in range(len(whole)):
        if whole[size:] == b"\n":
            continue  # the last line is all there
        (tmp_path / name).write_bytes(whole[:size])
        with pytest.raises(ExportBroken):
            export.check(tmp_path / name)
        taken = list(export.records(tmp_path / name, cut=True))
        assert [export.body_of(one) for one in taken] == [b"body %d" % n for n in range(len(taken))]


def test_a_file_that_was_changed_is_recognised(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    whole = write(path, [delivery(body=b"one"), delivery(body=b"two")])
    lines = whole.splitlines(keepends=True)
    for changed in (
        whole.replace(b"one", b"eno"),
        lines[0] + lines[2] + lines[1] + lines[3],
        lines[0] + lines[1] + lines[3],
        whole + b"{}\n",
        b"".join(lines[1:]),
        b"\x1b[2J",
        b"",
    ):
        path.write_bytes(changed)
        with pytest.raises(ExportBroken) as caught:
            export.check(path)
        assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    ["[]", "{}", '{"exchange":1,"routing_key":"","properties":{},"body":""}',
     '{"exchange":"","routing_key":"","properties":{"priority":"x"},"body":""}',
     '{"exchange":"","routing_key":"","properties":{},"body_base64":"?"}',
     '{"exchange":"","routing_key":"","properties":{"headers":5},"body":""}', "[" * 100_000],
)  # fmt: skip
def test_a_line_that_is_no_message_is_said_to_be_none(tmp_path: Path, line: str) -> None:
    path = tmp_path / "e.jsonl"
    path.write_bytes(export.HEAD + line.encode() + b"\n")
    with pytest.raises(ExportBroken):
        for record in export.records(path):
            export.checked_copy(record, 0, None, None)


@pytest.mark.parametrize("name", NAMES)
def test_a_line_longer_than_any_message_makes_ends_the_reading(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it does not end; and one as long as a message makes at most is read."""
    monkeypatch.setattr(export, "_LONGEST_LINE", 1 << 20)
    path = tmp_path / name
    write(path, [delivery(body=b"x" * (1 << 20))])
    with pytest.raises(ExportBroken, match="line of more than 1 MiB"):
        export.check(path)
    with pytest.raises(ExportBroken, match="line of more than 1 MiB"):
        list(export.records(path))
    write(path, [delivery(body=b"x" * ((1 << 20) - 200))], replace=True)
    assert export.check(path) == 1


class Pieces(io.RawIOBase):
    """A file that counts the bytes which its reader puts before each piece again."""

    def __init__(self, size: int) -> None:
        self.left = size
        self.copied = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = min(len(buffer), self.left)
        buffer[:size] = b"x" * size
        self.left -= size
        return size

    def read(self, size: int = -1) -> bytes:
        file = self

        class Piece(bytes):
            def __radd__(self, before: bytes) -> bytes:
                file.copied += len(before)
                return before + bytes(self)

        return Piece(super().read(size) or b"")


def test_a_long_line_costs_what_it_is_long(tmp_path: Path) -> None:
    """Put together once, not again with every piece."""
    file = Pieces(40 << 20)
    assert sum(map(len, export._lines(file, tmp_path))) == 40 << 20
    assert file.copied <= 40 << 20


def test_a_first_line_without_an_end_is_no_export(tmp_path: Path) -> None:
    """Said after its first bytes, however long it is."""
    file = Pieces(1 << 40)
    assert len(next(export._lines(file, tmp_path))) == len(export.HEAD)
    assert file.left > (1 << 40) - (4 << 20)


def test_what_belongs_to_one_delivery_is_left_out() -> None:
    plain = {"headers": {"k": "v"}}
    more = {"headers": {"x-stream-offset": {"l": 5}, "k": "v", "x-delivery-count": {"l": 1}}}
    records = [record_of(delivery(content.encode(one))) for one in (plain, more)]
    assert records[0] == records[1]
    alone = record_of(delivery(content.encode({"headers": {"x-stream-offset": {"l": 5}}})))
    assert alone["properties"] == {}


def test_a_file_is_not_written_over_and_a_failure_leaves_a_cut_one(tmp_path: Path) -> None:
    path = tmp_path / "e.jsonl"
    write(path, [])
    with pytest.raises(UsageError, match="--replace"):
        write(path, [])
    with pytest.raises(KeyboardInterrupt), export.create(path, replace=True) as writer:
        writer.write([delivery()])
        raise KeyboardInterrupt
    with pytest.raises(ExportBroken):
        export.check(path)
    with pytest.raises(UsageError, match="can't be"):
        export.check(tmp_path / "none.gz")


def test_when_it_was_sent_is_said_by_the_header_or_the_timestamp() -> None:
    assert export.sent_at({"properties": {"headers": {"sent_ns": {"l": 1_500_000_000}}}}) == 1.5
    assert export.sent_at({"properties": {"timestamp": 7, "headers": {"sent_ns": "x"}}}) == 7
    assert export.sent_at({"properties": {"headers": [["sent_ns", {"l": 1}]]}}) is None


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_a_stamp_is_read_in_the_unit_in_which_it_is_a_date(unit: int) -> None:
    assert export.sent_at({"properties": {"timestamp": 1_700_000_000 * unit}}) == 1_700_000_000
    assert export.sent_at({"properties": {"timestamp": 4_102_444_800 * unit}}) == 4_102_444_800


@pytest.mark.parametrize("stamp", [0, 2**64 - 14_256_000, -5, "soon", None])
def test_and_what_is_none_says_nothing(stamp: object) -> None:
    assert export.sent_at({"properties": {"timestamp": stamp}}) is None
