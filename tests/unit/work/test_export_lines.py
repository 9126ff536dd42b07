"""Lines of many messages at once are the lines of each."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from hypothesis import example, given
from hypothesis import strategies as st
from pamqp import commands

from rabbitproof.amqp import content
from rabbitproof.amqp.deliveries import Batch, Delivery
from rabbitproof.work import export_lines
from rabbitproof.work.export_lines import BARE_MARK_HEADER, MARK_HEADER, Lines
from wire import content as content_frames
from wire import frame, opened_session

if TYPE_CHECKING:
    import pytest

ID = "0f1ed9eb-9c83-8001-8000-{:012x}"

SORTS: list[dict[str, Any]] = [
    {},
    {MARK_HEADER: {"l": 0}},
    {BARE_MARK_HEADER: {"l": 5}, "100%": {"F": {"x": {"l": 1}}}},
    {"x-stream-offset": {"l": 0}, "producer_id": "%d <0> ü", MARK_HEADER: {"T": 5}},
    {"x-delivery-count": {"l": 0}, "extra": {"A": [None, {"x": "/w=="}]}, "odd": {"S": "/w=="}},
    {"sent_again": {"l": 3}, "timestamp": {"l": 3}, "message_id": "another id"},
    {"producer_id": "alice"},
    {"producer_id": "carol"},
]
IDS = st.integers(0, 2**40).map(ID.format) | st.sampled_from(
    ["x" * 35 + '"', "\\" * 36, "\n" + "y" * 35, "ü" * 18, "<3>".ljust(36, "~")]
)
BODIES = st.sampled_from(
    [b"", b'{"n": 1, "text": "Hello"}', b'{"n": 2, "text": "Hallo"}', b"\\u0000", b"\0", b"\xff",
     "Grüße 🐰\n%b\u2028".encode(), b"\x1b[2J\x7f", b"<<body>>"]
) | st.binary(max_size=12)  # fmt: skip


def known(sort: int, message_id: str, n: int, stamp: int | None) -> dict[str, Any]:
    headers = {"checksum": f"{n:08x}", "sent_ns": {"l": n}, "host": "here", **SORTS[sort]}
    if "x-stream-offset" in headers:
        headers = {"x-stream-offset": {"l": n}, **headers}
    for mark in (MARK_HEADER, BARE_MARK_HEADER):
        if "l" in headers.get(mark, {}):
            headers[mark] = {"l": n}
    found = {"content_type": "application/json", "headers": headers, "message_id": message_id}
    return found if stamp is None else {**found, "timestamp": stamp}


MESSAGES = st.lists(
    st.tuples(
        st.integers(0, len(SORTS) - 1),
        IDS,
        st.integers(0, 2**32 - 1),
        st.none() | st.integers(0, 2**64 - 1),
        BODIES,
        st.integers(1, 4),
    ),
    max_size=12,
)


def on_the_wire(messages: list[tuple[dict[str, Any], bytes]], key: str = "work") -> bytes:
    out = []
    for tag, (properties, body) in enumerate(messages, 1):
        header = struct.pack(">HHQ", 60, 0, len(body)) + content.encode(properties)
        method = commands.Basic.Deliver("t", tag, tag % 3 == 0, "direct.exchange", key)
        out += [frame(method, 1), *content_frames(header, body)]
    return b"".join(out)


def received(data: bytes, *, whole: bool) -> list[Batch | Delivery]:
    session = opened_session()
    if whole:
        session.deliver_whole()
    else:
        session.keep_heads()
    return [one for one in session.receive(data) if isinstance(one, Batch | Delivery)]


def one_by_one(data: bytes) -> bytes:
    lines = []
    for one in received(data, whole=True):
        assert isinstance(one, Delivery)
        lines.append(export_lines.dump(export_lines.record_of(one)).encode() + b"\n")
    return b"".join(lines)


@given(MESSAGES)
@example([(3, ID.format(1), 5, 6, b"\\u0000", 4), (3, ID.format(2), 5, 6, b"a", 4)])
@example([(0, "<3>".ljust(36, "~"), 5, 6, b"<<body>>", 4)])
def test_batches_make_the_lines_of_single_messages(
    drawn: list[tuple[int, str, int, int | None, bytes, int]],
) -> None:
    """Also for texts that need escapes, bodies that are none, and sorts that are mixed."""
    messages = [
        (known(sort, message_id, n + i, stamp), body)
        for sort, message_id, n, stamp, body, times in drawn
        for i in range(times)
    ]
    data = on_the_wire(messages)
    lines = Lines()
    events = received(data, whole=False)
    assert b"".join(lines.of(events)) == one_by_one(data)
    assert b"".join(lines.of(events)) == one_by_one(data)  # with all that was learnt


def test_messages_that_are_alike_are_taken_apart_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many they are, and in how many batches they come."""
    data = on_the_wire(
        [
            (known(1, ID.format(n), n, 1_700_000_000 + n), b'{"n": %d, "text": "x"}' % n)
            for n in range(1, 5_000)
        ]
    )
    expected = one_by_one(data)
    calls, real = [], export_lines.record_of

    def counted(one: Delivery) -> export_lines.Record:
        calls.append(one)
        return real(one)

    monkeypatch.setattr(export_lines, "record_of", counted)
    lines = Lines()
    events = received(data, whole=False)
    assert len(events) > 100  # every third message is redelivered
    assert b"".join(lines.of(events)) == expected
    assert (
        len(calls) < 3 + sum(len(one.bodies) == 1 for one in events if isinstance(one, Batch)) // 2
    )


def test_what_is_remembered_is_bounded() -> None:
    """A thousand sorts of messages fill no memory."""
    lines = Lines()
    for size in range(1_000):
        sort = {
            **known(0, ID.format(1), 1, 1),
            "app_id": "a" * (size % 250),
            "type": "b" * (size // 250),
        }
        data = on_the_wire([(sort, b"x"), (sort, b"y")])
        assert b"".join(lines.of(received(data, whole=False))) == one_by_one(data)
    assert len(lines._templates) <= export_lines._TEMPLATES_KEPT


def test_a_line_is_no_longer_than_base64_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a large text would be, of control characters, six times as long as its body."""
    monkeypatch.setattr(export_lines, "_LONGEST_TEXT", 3_000)
    bodies = [b"x" * 3_000, b"\x01" * 3_001, "ü".encode() * 1_501, "ü".encode() * 1_500]
    data = on_the_wire([(known(0, ID.format(1), 1, 1), body) for body in bodies])
    lines = b"".join(Lines().of(received(data, whole=False)))
    assert lines == one_by_one(data)
    assert [b'"body":' in line for line in lines.splitlines()] == [True, False, False, True]
    assert all(len(line) < 3_001 * 4 / 3 + 1_000 for line in lines.splitlines())
