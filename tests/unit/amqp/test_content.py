"""Whatever bytes come in, the same come out again."""

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from pamqp import header as pamqp_header

from rabbitproof.amqp import content
from rabbitproof.amqp.copies import copy_frames


def short(data: bytes) -> bytes:
    return bytes([len(data)]) + data


def long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


KEYS = st.binary(max_size=12) | st.text(max_size=5).map(str.encode)
FIXED = {"b": 1, "B": 1, "s": 2, "u": 2, "I": 4, "i": 4, "l": 8, "L": 8, "T": 8, "f": 4, "d": 8,
         "D": 5, "t": 1, "V": 0}  # fmt: skip


@st.composite
def fixed(draw: Any) -> bytes:
    letter = draw(st.sampled_from(sorted(FIXED)))
    size = FIXED[letter]
    return letter.encode() + draw(st.binary(min_size=size, max_size=size))


TEXTS = (st.binary(max_size=20) | st.text(max_size=20).map(str.encode)).map(
    lambda data: b"S" + long(data)
)
LEAVES = fixed() | TEXTS | st.binary(max_size=20).map(lambda data: b"x" + long(data))


def tables(values: Any) -> Any:
    return st.lists(st.tuples(KEYS, values), max_size=5).map(
        lambda pairs: b"".join(short(key) + value for key, value in pairs)
    )


VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda some: b"A" + long(b"".join(some)))
        | tables(inner).map(lambda table: b"F" + long(table))
    ),
    max_leaves=12,
)


@st.composite
def properties(draw: Any) -> bytes:
    flags, parts = 0, [b""]
    for i, name in enumerate(content._NAMES):
        if not draw(st.booleans()):
            continue
        flags |= 1 << (15 - i)
        if name == "headers":
            parts.append(long(draw(tables(VALUES))))
        elif name in content._NUMBERS:
            size = struct.calcsize(content._NUMBERS[name])
            parts.append(draw(st.binary(min_size=size, max_size=size)))
        else:
            parts.append(short(draw(KEYS)))
    parts[0] = struct.pack(">H", flags)
    return b"".join(parts)


def through_json(data: bytes) -> bytes:
    return content.encode(json.loads(json.dumps(content.decode(data))))


@given(properties())
def test_every_field_type_comes_back_byte_for_byte(data: bytes) -> None:
    assert "raw" not in content.decode(data)
    assert through_json(data) == data


@given(st.binary(max_size=60))
def test_any_bytes_come_back_byte_for_byte(data: bytes) -> None:
    assert through_json(data) == data


@given(properties(), st.data())
def test_damaged_properties_come_back_byte_for_byte(data: bytes, draw: Any) -> None:
    cut = draw.draw(st.integers(0, len(data)))
    assert through_json(data[:cut]) == data[:cut]
    if data:
        other = bytearray(data)
        other[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
        assert through_json(bytes(other)) == bytes(other)


def test_the_json_is_for_people() -> None:
    headers = {"text": "ü", "yes": True, "n": 7, "deep": {"list": [1, "a"]}, "none": None}
    encoded = pamqp_header.ContentHeader(
        0, 3, commands.Basic.Properties(content_type="a/b", headers=headers, delivery_mode=2)
    ).marshal()
    found = content.decode(encoded[content.FLAGS_AT :])
    assert found["content_type"] == "a/b"
    assert found["delivery_mode"] == 2
    assert found["headers"]["text"] == "ü"
    assert found["headers"]["yes"] is True
    assert found["headers"]["none"] is None
    assert content.plain(found["headers"]["n"]) == 7
    assert content.plain(found["headers"]["deep"]) == {"list": [1, "a"]}


def test_tables_too_deep_for_any_use_stay_bytes() -> None:
    table = b""
    for _ in range(300):
        table = b"\x01kF" + long(table)
    data = struct.pack(">H", 1 << 13) + long(table)
    assert content.decode(data) == {"raw": base64.b64encode(data).decode()}
    assert through_json(data) == data


@pytest.mark.parametrize(
    "bad",
    [
        {"color": 1},
        {"priority": 256},
        {"priority": "high"},
        {"headers": {"k": {"q": 1}}},
        {"headers": {"k": {"l": 1 << 70}}},
        {"headers": {"k": {"D": [1]}}},
        {"headers": 5},
        {"message_id": 5},
        {"message_id": "x" * 256},
        {"raw": "?"},
    ],
)
def test_json_that_is_no_properties_is_a_value_error(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"propert|field|base64|argument"):
        content.encode(bad)


@given(properties(), st.binary(max_size=300), st.integers(9, 100) | st.just(0))
def test_a_copy_is_what_the_codec_reads(props: bytes, body: bytes, frame_max: int) -> None:
    """A copied publish has its body in frames that are no larger than agreed."""
    data = copy_frames(3, b"ex", b"key", props, body, frame_max)
    at, kinds, found = 0, [], b""
    while at < len(data):
        kind, channel, size = struct.unpack_from(">BHI", data, at)
        payload = data[at + 7 : at + 7 + size]
        assert channel == 3
        assert data[at + 7 + size] == 0xCE
        kinds.append(kind)
        if kind == 1:
            publish = commands.Basic.Publish()
            publish.unmarshal(payload[4:])
            assert (publish.exchange, publish.routing_key, publish.mandatory) == ("ex", "key", True)
        elif kind == 2:
            assert payload == struct.pack(">HHQ", 60, 0, len(body)) + props
        else:
            assert not frame_max or size + 8 <= frame_max
            found += payload
        at += size + 8
    assert kinds[:2] == [1, 2]
    assert found == body
