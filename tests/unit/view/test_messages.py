import base64
import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rabbitproof.received import Message, Row
from rabbitproof.view import messages

MESSAGE = Message(
    number=1234,
    arrived=1_700_000_000.25,
    state="unacked",
    redelivered=True,
    corrupt=False,
    foreign=True,
    exchange="",
    routing_key="work",
    properties={"message_id": "a\x1b[2J", "delivery_mode": 2},
    headers={"h\u202e": "v\u202e", "bytes": b"\x00\xff"},
    malformed=False,
    body=b'{"n":1}',
    size=7,
)
ROW = Row(
    1234, 1_700_000_000.25, "unacked", "id", "alice", "7", "Hello\nWorld", 2048, True, False
)  # fmt: skip


def shown(parts: list[tuple[str, str]]) -> str:
    return "".join(text for text, _ in parts)


def test_a_row_has_a_cell_for_each_column_and_nothing_in_it_commands() -> None:
    cells = messages.cells(replace(ROW, sender="a\x1b[31m", message_id="\u202e"))
    assert len(cells) == len(messages.COLUMNS)
    assert cells[0] == "1,234"
    assert cells[2:] == (
        "\\u202e", "a\\x1b[31m", "7", "Hello\\nWorld", "2.0 KiB", "yes", "● unacked",
    )  # fmt: skip


def test_a_long_id_is_shown_by_both_ends_and_a_damaged_message_says_so() -> None:
    cells = messages.cells(
        replace(ROW, message_id="0a1b2c3d-4e5f-8001-8000-0000000000ff", corrupt=True)
    )
    assert cells[2] == "0a1b2c3d…0000000000ff"
    assert cells[5].startswith("✕ damaged")


def test_the_detail_has_every_property_and_header_safe() -> None:
    text = shown(messages.detail(MESSAGE))
    for part in (
        "Message 1,234", "unacked, redelivered, not sent by", "(default)", "a\\x1b[2J",
        "delivery_mode  2", "Headers (2)", "h\\u202e  v\\u202e", "\\x00\\xff",
    ):  # fmt: skip
        assert part in text


def test_properties_that_can_not_be_read_are_said_to_be_so() -> None:
    text = shown(messages.detail(replace(MESSAGE, malformed=True, properties={}, headers={})))
    assert "could not be read" in text


def test_two_hundred_headers_are_all_there_and_a_thousand_are_cut() -> None:
    many = {f"h{i}": {"deep": [i, {"x": None}]} for i in range(1000)}
    two_hundred = dict(list(many.items())[:200])
    assert '{"deep": [199, {"x": null}]}' in shown(
        messages.detail(replace(MESSAGE, headers=two_hundred))
    )
    assert "600 more" in shown(messages.detail(replace(MESSAGE, headers=many)))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", "empty"),
        (b'{"a":[1,2],"b":{}}', '{\n  "a": [\n    1,\n    2\n  ],\n  "b": {}\n}'),
        (b"plain\ntext", "plain\ntext"),
        (b"\x1b[31mred", "\\x1b[31mred"),
        ("a\u202eb".encode(), "a\\u202eb"),
        (b"\x00\x01", "00000000  00 01"),
        (b"\xff\xfeab", "00000000  ff fe 61 62"),
    ],
)
def test_a_body_is_shown_as_what_it_is(body: bytes, expected: str) -> None:
    assert expected in shown(messages.body(replace(MESSAGE, body=body, size=len(body))))


@pytest.mark.parametrize("kind", [b"x", b"\xff", b"[", b'{"a":', "é".encode(), b"x\n", b"[]"])
def test_of_ten_megabytes_the_beginning_is_shown(kind: bytes) -> None:
    body = kind * (10_000_000 // len(kind))
    text = shown(messages.body(replace(MESSAGE, body=body, size=len(body))))
    assert len(text) < 40_000
    assert max(map(len, text.split("\n"))) <= 1000
    assert "more; save" in text


def test_a_body_that_was_dropped_says_so() -> None:
    text = shown(messages.body(replace(MESSAGE, body=None, size=5)))
    assert "5 B" in text
    assert "No longer kept" in text


def test_setting_json_apart_changes_nothing_but_space() -> None:
    text = '{"a":1, "a":2,"x":1e400,"big":12345678901234567890.10,"s":"\\u202e, [b]: {c}","l":[[]]}'
    apart = messages.set_apart(text)
    assert apart is not None
    assert "".join(apart.split()) == "".join(text.split())


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@settings(max_examples=40)
@given(st.dictionaries(st.text(), JSON) | st.lists(JSON), st.booleans())
def test_json_set_apart_means_the_same(value: object, ascii_only: bool) -> None:
    apart = messages.set_apart(json.dumps(value, ensure_ascii=ascii_only))
    assert apart is not None
    assert json.loads(apart) == value


@pytest.mark.parametrize("text", ["", "x", "12", '"a"', "{", "[" * 100_000, "{} {}"])
def test_what_is_no_json_object_or_list_is_left_alone(text: str) -> None:
    assert messages.set_apart(text) is None


@given(st.binary(max_size=200))
def test_a_hex_dump_holds_every_byte(data: bytes) -> None:
    rows = messages.hex_dump(data).splitlines()
    assert bytes.fromhex("".join(row[10:58] for row in rows)) == data


def test_a_line_of_json_loses_nothing() -> None:
    headers = {
        "t": datetime(2026, 1, 2, tzinfo=UTC), "d": Decimal("1.25"), "b": b"\x00", "n": None,
        "deep": {"l": [1, {"x": True}]}, "f": float("nan"),
    }  # fmt: skip
    line = messages.json_line(replace(MESSAGE, headers=headers, body=b"\xff\x00"))
    assert "\n" not in line
    value = json.loads(line)
    assert base64.b64decode(value["body_base64"]) == b"\xff\x00"
    assert value["headers"] == {
        "t": "2026-01-02T00:00:00+00:00", "d": {"decimal": "1.25"}, "b": {"base64": "AA=="},
        "n": None, "deep": {"l": [1, {"x": True}]}, "f": {"float": "nan"},
    }  # fmt: skip
    assert value["properties"]["message_id"] == "a\x1b[2J"
    assert json.loads(messages.json_line(MESSAGE))["body"] == '{"n":1}'
    assert json.loads(messages.json_line(replace(MESSAGE, body=None)))["body_kept"] is False
