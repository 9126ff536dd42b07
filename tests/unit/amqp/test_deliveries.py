from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pamqp import commands
from pamqp.heartbeat import Heartbeat

from rabbitproof.amqp import deliveries
from rabbitproof.amqp.confirms import Confirms
from rabbitproof.amqp.deliveries import LARGEST_HEADER, Batch, Delivery, DeliveryReader
from rabbitproof.amqp.publishes import Envelope, Publishes
from rabbitproof.amqp.session import decode_header
from rabbitproof.errors import RemoteProtocolError
from rabbitproof.identity import Source, checksum, id_prefix, message_id
from wire import Seen, content, delivery, feed, frame, messages_of, opened_session, raw_frame

RUN = "0a1b2c3d4e5f"
SMALL = 4096
"""The smallest frame_max there may be: bodies over many frames stay small."""

Row = tuple[int, bytes, int, bool, bytes, bytes, bytes]
"""channel, consumer tag, delivery tag, redelivered, message id, checksum, body"""


# --- writing ------------------------------------------------------------------------------------


def short(text: bytes) -> bytes:
    return bytes([len(text)]) + text


def long_string(text: bytes) -> bytes:
    return struct.pack(">I", len(text)) + text


def field(key: bytes, kind: bytes, value: bytes) -> bytes:
    return short(key) + kind + value


SIZES = {
    b"t": 1, b"b": 1, b"B": 1, b"s": 2, b"u": 2, b"I": 4, b"i": 4, b"l": 8, b"L": 8, b"f": 4,
    b"d": 8, b"D": 5, b"V": 0,
}  # fmt: skip
KEYS = st.sampled_from([b"a", b"x-stream-offset", b"x-death", b"host", b"100%", b""])
SCALARS = (
    st.sampled_from(sorted(SIZES)).flatmap(
        lambda kind: st.binary(min_size=SIZES[kind], max_size=SIZES[kind]).map(
            lambda value: (kind, value)
        )
    )
    | st.integers(0, 2**32 - 1).map(lambda at: (b"T", struct.pack(">Q", at)))
    | st.text(max_size=9).map(lambda text: (b"S", long_string(text.encode())))
    | st.binary(max_size=9).map(lambda data: (b"x", long_string(data)))
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3).map(
            lambda items: (b"A", long_string(b"".join(kind + value for kind, value in items)))
        )
        | st.lists(st.tuples(KEYS, inner), max_size=3).map(
            lambda items: (b"F", long_string(b"".join(field(k, *value) for k, value in items)))
        )
    ),
    max_leaves=5,
)
EXTRA = st.lists(st.tuples(KEYS, VALUES).map(lambda pair: field(pair[0], *pair[1])), max_size=3)
PROPERTIES = [
    ("content_type", 15), ("content_encoding", 14), ("delivery_mode", 12), ("priority", 11),
    ("correlation_id", 10), ("reply_to", 9), ("expiration", 8), ("timestamp", 6), ("type", 5),
    ("user_id", 4), ("app_id", 3), ("cluster_id", 2),
]  # fmt: skip


@st.composite
def own_properties(draw: st.DrawFn) -> dict[int, bytes]:
    """Return random properties but headers and message id, by flag bit."""
    chosen = draw(st.lists(st.sampled_from(PROPERTIES), unique=True, max_size=4))
    texts = st.text(max_size=9).map(lambda text: short(text.encode()))
    out = {}
    for name, bit in chosen:
        if name in ("delivery_mode", "priority"):
            out[bit] = draw(st.binary(min_size=1, max_size=1))
        elif name == "timestamp":
            out[bit] = struct.pack(">Q", draw(st.integers(0, 2**32 - 1)))
        else:
            out[bit] = draw(texts)
    return out


def header(properties: dict[int, bytes], body_size: int) -> bytes:
    flags = sum(1 << bit for bit in properties)
    parts = b"".join(properties[bit] for bit in sorted(properties, reverse=True))
    return struct.pack(">HHQH", 60, 0, body_size, flags) + parts


HEADERS, MESSAGE_ID = 13, 7


def table(fields: list[bytes]) -> bytes:
    return long_string(b"".join(fields))


def ours(
    n: int, body: bytes, *, producer: int = 1, extra: tuple[bytes, ...] = (), sent: int | None = 7
) -> bytes:
    """Return the content header of a message like ours; ``extra`` fields around the checksum."""
    name = message_id(Source(RUN, producer), n).encode()
    fields = [field(b"producer_id", b"S", long_string(b"alice-%d" % producer)), *extra[:1]]
    fields += [field(b"checksum", b"S", long_string(checksum(name, body))), *extra[1:]]
    if sent is not None:
        fields.append(field(b"sent_ns", b"l", struct.pack(">q", sent)))
    properties = {15: short(b"application/json"), HEADERS: table(fields), MESSAGE_ID: short(name)}
    return header(properties | {12: b"\x02", 6: struct.pack(">Q", n)}, len(body))


@st.composite
def foreign(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """Return content header and body of anybody's message."""
    body = draw(st.binary(max_size=20) | st.binary(min_size=SMALL, max_size=3 * SMALL))
    properties = draw(own_properties())
    fields = draw(EXTRA)
    if draw(st.booleans()):
        texts = st.sampled_from([b"", b"1234567", b"12345678", b"123456789"])
        kind = draw(st.sampled_from([b"S", b"x"]))
        fields += [field(b"checksum", kind, long_string(draw(texts)))] * draw(st.integers(1, 2))
    if fields or draw(st.booleans()):
        properties[HEADERS] = table(fields)
    if draw(st.booleans()):
        names = st.sampled_from([b"", b"1", b"x" * 35, b"y" * 36, "ä".encode() * 18])
        properties[MESSAGE_ID] = short(draw(names))
    return header(properties, len(body)), body


@st.composite
def run_of_ours(draw: st.DrawFn) -> list[tuple[bytes, bytes]]:
    """Return messages of ours that follow each other: all alike, or of varying size and kind."""
    start = draw(st.sampled_from([1, 8, 98, 70_000, 4_294_967_200]))
    count = draw(st.integers(1, 12))
    producers = draw(st.sampled_from([[1], [1, 2], [1, 2, 3]]))
    pads = draw(st.sampled_from([[5], [5], [0, 5], [1, 2, 3], [1, 9000]]))
    per_message = draw(st.booleans())
    extra = tuple(draw(EXTRA))
    out = []
    for n in range(start, start + count):
        if per_message:
            extra = (field(b"x-delivery-count", b"l", struct.pack(">q", n % 3)),)
        body = b'{"n":%d}' % n + b"x" * pads[n % len(pads)]
        out.append((ours(n, body, producer=producers[n % len(producers)], extra=extra), body))
    return out


@st.composite
def streams(draw: st.DrawFn, *, frame_max: int = SMALL) -> bytes:
    """Return what a broker may send on channels 0, 1 and 2, frames interleaved."""
    queues: dict[int, list[list[bytes]]] = {0: [], 1: [], 2: []}
    for channel in (1, 2):
        tag = draw(st.sampled_from([1, 200, 2**40]))
        parts = draw(st.lists(run_of_ours() | st.lists(foreign(), max_size=3), max_size=4))
        consumer = draw(st.sampled_from([b"worker", "Ä".encode(), b""]))
        exchange = draw(st.sampled_from([b"direct.exchange", b"", "€".encode()]))
        changes = draw(st.sampled_from([(), (3,), (1, 2)]))
        redelivered = draw(st.booleans())
        for payload, body in [message for part in parts for message in part]:
            if tag % 5 in changes:
                redelivered = not redelivered
            # Not by the codec: it refuses names that RabbitMQ allows.
            method = b"\0\x3c\0\x3c" + short(consumer) + struct.pack(">QB", tag, redelivered)
            method += short(exchange) + short("wörk".encode())
            frames = [raw_frame(1, channel, method), *content(payload, body, channel, frame_max)]
            queues[channel].append(frames)
            tag += 2 if tag % 11 == 7 else 1
        for at in draw(st.lists(st.integers(0, 20), max_size=4)):
            queues[channel].insert(at, [frame(commands.Basic.Ack(at + 1, at % 2 == 0), channel)])
    queues[0] = [[Heartbeat.marshal()]] * draw(st.integers(0, 3))
    random = draw(st.randoms(use_true_random=False))
    torn = draw(st.booleans())
    out = []
    while any(queues.values()):
        queue = queues[random.choice([c for c in queues if queues[c]])]
        for _ in range(1 if torn else random.choice([1, 5, 50])):
            if not queue:
                break
            if torn and len(queue[0]) > 1:
                out.append(queue[0].pop(0))
            else:
                out += queue.pop(0)
    return b"".join(out)


CUTS = st.lists(st.integers(0, 200_000), max_size=8)


# --- reading ------------------------------------------------------------------------------------


def text(value: object) -> bytes:
    if value is None:
        return b""
    return value.encode() if isinstance(value, str) else bytes(value)  # type: ignore[call-overload, no-any-return]


def rows(events: list[Any]) -> list[Row]:
    out: list[Row] = []
    for event in events:
        if isinstance(event, Batch):
            columns = zip(event.message_ids, event.checksums, event.bodies, strict=True)
            assert len(event.sent_ns) == len(event.message_ids) > 0
            for tag, (name, stated, body) in enumerate(columns, event.first_tag):
                kind = (event.channel, event.consumer_tag)
                out.append((*kind, tag, event.redelivered, name, stated, body))
            assert out[-1][2] == event.last_tag
        elif isinstance(event, Delivery):
            properties = decode_header(event.header)
            assert properties is not None
            stated = (properties.headers or {}).get("checksum")
            name = text(properties.message_id)
            kind = (event.channel, event.consumer_tag)
            values = (name, text(stated), event.body)
            out.append((*kind, event.delivery_tag, event.redelivered, *values))
    return out


def wanted(seen: Seen) -> Row:
    stated = text((seen.properties.headers or {}).get("checksum"))
    name = text(seen.properties.message_id)
    consumer_tag = seen.consumer_tag.encode()
    tag = seen.tag % 2**64  # the codec reads this unsigned number as a signed one
    return (seen.channel, consumer_tag, tag, seen.redelivered, name, stated, seen.body)


@given(streams(), CUTS)
def test_a_session_reads_what_pamqp_reads_in_any_pieces(data: bytes, cuts: list[int]) -> None:
    """Every delivery, known or foreign, in the order in which they are complete."""
    events = feed(opened_session(channels=2, frame_max=SMALL), data, cuts)
    seen = [message for _, message in messages_of(data)]
    assert rows(events) == [wanted(message) for message in seen]
    by_tag = {(message.channel, message.tag): message for message in seen}
    for event in events:
        if isinstance(event, Delivery):
            message = by_tag[event.channel, event.delivery_tag]
            assert event.header == message.header
            assert event.exchange.decode() == message.exchange
            assert event.routing_key.decode() == message.routing_key


@given(streams(), st.integers(0, 200_000), st.sampled_from([0, SMALL]))
def test_what_follows_does_not_change_what_was_read(data: bytes, cut: int, frame_max: int) -> None:
    """The deliveries read from a beginning of the buffer are the first of all of it."""
    whole, end, _ = DeliveryReader(frame_max).read(data, 0)
    cut %= len(data) + 1
    part, position, _ = DeliveryReader(frame_max).read(data[:cut], 0)
    found = rows(part)
    assert found == rows(whole)[: len(found)]
    assert position <= min(cut, end)
    if cut >= end:
        assert position == end
    again, end_again, _ = DeliveryReader(frame_max).read(b"abc" + data, 3)
    assert (rows(again), end_again - 3) == (rows(whole), end)


def uniform(count: int, *, first: int = 1, redelivered: bool = False) -> list[bytes]:
    """Return deliveries as they come from our own producer, one string each."""
    envelope = Envelope(
        1, "x", "work", id_prefix(Source(RUN, 1)), b'{"n":', lambda _: b"}", {"host": "h"}, 131_072
    )
    publishes, out = Publishes(envelope), []
    for n in range(first, first + count):
        data = publishes.encode([n], sent_ns=n)
        _, (header_frame, body_frame) = split(data)
        method = commands.Basic.Deliver("worker", n, redelivered, "x", "work")
        out.append(frame(method, 1) + header_frame + body_frame)
    return out


def split(data: bytes) -> tuple[bytes, list[bytes]]:
    frames = []
    while data:
        end = int.from_bytes(data[3:7], "big") + 8
        frames.append(data[:end])
        data = data[end:]
    return frames[0], frames[1:]


def test_a_uniform_run_is_one_batch_for_each_try() -> None:
    """Many alike are unpacked together, with their times of sending."""
    data = b"".join(uniform(500, first=100))
    (batch_list, position, wait) = DeliveryReader(131_072).read(data, 0)
    assert position == len(data)
    assert not wait
    assert [len(b.message_ids) for b in batch_list if isinstance(b, Batch)] == [
        8, 16, 32, 64, 128, 252,
    ]  # fmt: skip
    assert [s for b in batch_list for s in b.sent_ns] == list(range(100, 600))  # type: ignore[union-attr]


def test_a_missing_time_of_sending_reads_as_zero() -> None:
    """Both the uniform and the general way say 0."""
    for count in (1, 20):
        data = b""
        for n in range(1, count + 1):
            method = commands.Basic.Deliver("worker", n, False, "x", "work")
            data += frame(method, 1) + b"".join(content(ours(n, b"{}", sent=None), b"{}"))
        found, _, _ = DeliveryReader(131_072).read(data, 0)
        assert [s for batch in found for s in batch.sent_ns] == [0] * count  # type: ignore[union-attr]


@given(
    st.integers(1, 40), st.integers(0, 100_000), st.integers(1, 255), st.sampled_from([0, 131_072])
)
@settings(max_examples=300)
@example(20, 12, 1, 0)
def test_a_flipped_bit_in_a_uniform_run_is_never_read_past(
    count: int, at: int, flip: int, frame_max: int
) -> None:
    """With one byte altered there is an error, or every row is what pamqp sees in those bytes."""
    data = bytearray(b"".join(uniform(count, first=90)))
    at %= len(data)
    data[at] ^= flip
    reader = DeliveryReader(frame_max)
    try:
        found, end, _ = reader.read(bytes(data), 0)
    except RemoteProtocolError:
        return
    assert end <= len(data)
    try:
        seen = [wanted(message) for _, message in messages_of(bytes(data[:end]))]
    except Exception:  # noqa: BLE001  the codec is stricter in what carries no value here
        return
    assert rows(found) == seen


@given(streams(), st.integers(0, 200_000), st.integers(1, 255), CUTS)
@settings(max_examples=300)
def test_a_damaged_stream_ends_in_an_error_or_a_result(
    data: bytes, at: int, flip: int, cuts: list[int]
) -> None:
    """Never another exception, never a hang."""
    damaged = bytearray(data)
    if damaged:
        damaged[at % len(damaged)] ^= flip
    session = opened_session(channels=2, frame_max=SMALL)
    try:
        feed(session, bytes(damaged), cuts)
    except RemoteProtocolError:
        assert session.error is not None


@given(st.binary(max_size=300), st.sampled_from([0, SMALL]))
def test_random_bytes_behind_a_delivery_never_fail_otherwise(tail: bytes, frame_max: int) -> None:
    """Only RemoteProtocolError, and what came before is there."""
    first = delivery(commands.Basic.Properties(message_id="1"), b"body")
    prefix = b"".join(first) + first[0]
    found, position, _ = DeliveryReader(frame_max).read(prefix + tail, 0)
    assert rows(found)[0][-1] == b"body"
    assert position >= len(prefix) - len(first[0])


# --- what contradicts itself ----------------------------------------------------------------------

METHOD = frame(commands.Basic.Deliver("worker", 1, False, "x", "work"), 1)
HEADER = raw_frame(2, 1, header({}, 4))
BODY = raw_frame(3, 1, b"body")

BROKEN = {
    "no header": METHOD + BODY,
    "a method in the middle": METHOD + METHOD,
    "method without end": METHOD[:-1] + b"\0" + HEADER + BODY,
    "header without end": METHOD + HEADER[:-1] + b"\0" + BODY,
    "body without end": METHOD + HEADER + BODY[:-1] + b"\0",
    "short header": METHOD + raw_frame(2, 1, b"\0\x3c\0\0") + BODY + bytes(20),
    "body too long": METHOD + HEADER + raw_frame(3, 1, b"too long"),
    "body frame empty": METHOD + HEADER + raw_frame(3, 1, b"") + BODY,
    "header twice": METHOD + HEADER + HEADER,
    "tag beyond the method": raw_frame(1, 1, METHOD[7:11] + b"\xff" + bytes(12)) + HEADER + BODY,
    "keys beyond the method": raw_frame(1, 1, METHOD[7:28] + b"\x09x\x01y") + HEADER + BODY,
    "nothing after the tag": raw_frame(1, 1, METHOD[7:11] + b"\0" + bytes(9)) + HEADER + BODY,
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_contradiction_is_an_error_and_what_came_before_is_kept(how: str) -> None:
    """First the deliveries before it, then the error, however the stream is cut."""
    before = b"".join(uniform(3))
    reader = DeliveryReader(131_072)
    found, position, wait = reader.read(before + BROKEN[how], 0)
    assert (len(rows(found)), position, wait) == (3, len(before), False)
    with pytest.raises(RemoteProtocolError):
        reader.read(before + BROKEN[how], position)
    for cut in range(len(BROKEN[how])):
        session = opened_session()
        events = session.receive(before + BROKEN[how][:cut])
        assert len(rows(events)) == 3
        with pytest.raises(RemoteProtocolError):
            session.receive(BROKEN[how][cut:])


def test_frames_beyond_the_agreed_size_are_refused_before_they_are_there() -> None:
    """Each of the three kinds, by its first seven bytes."""
    method = b"\x01\0\x01" + struct.pack(">I", SMALL - 7) + b"\0\x3c\0\x3c"
    large = raw_frame(2, 1, header({}, 50_000))
    for start in (
        method,
        METHOD + b"\x02\0\x01" + struct.pack(">I", LARGEST_HEADER + 1),
        METHOD + large + b"\x03\0\x01" + struct.pack(">I", SMALL - 7),
    ):
        session = opened_session(frame_max=SMALL)
        with pytest.raises(RemoteProtocolError, match=r"larger than|at most"):
            session.receive(start)


def test_properties_may_be_larger_than_a_frame() -> None:
    """RabbitMQ never splits them, and each dead-lettering adds to what a publisher could send."""
    field = b"\5large" + b"S" + struct.pack(">I", 200_000) + b"x" * 200_000
    properties = header({HEADERS: struct.pack(">I", len(field)) + field}, 4)
    message = METHOD + raw_frame(2, 1, properties) + raw_frame(3, 1, b"body")
    for cut in (1, len(METHOD) + 9, 100_000, len(message) - 2):
        session = opened_session(frame_max=SMALL)
        events = [*session.receive(message[:cut]), *session.receive(message[cut:])]
        assert [event.body for event in events] == [b"body"]


def test_a_frame_of_another_channel_does_not_wait_for_a_message_in_pieces() -> None:
    """A large body that never comes holds nothing up."""
    start = METHOD + raw_frame(2, 1, header({}, 50_000))
    confirm = frame(commands.Basic.Ack(3), 2)
    for after in (start, start + raw_frame(3, 1, b"x" * 1000)):
        session = opened_session(channels=2)
        assert session.receive(after + confirm) == [Confirms(2, False, 0, [3])]


NAME = message_id(Source(RUN, 1), 1).encode()
STATED = field(b"checksum", b"S", long_string(b"12345678"))
SENT = field(b"sent_ns", b"l", bytes(8))


def sent_from(host: bytes | None, tag: int) -> bytes:
    """Return a delivery of a message that was sent from there."""
    extra = () if host is None else (field(b"host", b"S", long_string(host)),)
    method = commands.Basic.Deliver("worker", tag, False, "x", "work")
    return frame(method, 1) + b"".join(content(ours(tag, b"{}", extra=extra), b"{}"))


HOSTS = st.sampled_from([b"here", b"over", b"elsewhere", b"\xff\x00", b"", None])


@given(st.lists(st.tuples(HOSTS, st.integers(1, 12)), min_size=1, max_size=9))
def test_a_batch_is_of_one_host_and_says_which(runs: list[tuple[bytes | None, int]]) -> None:
    """Also where the names have one length, on the uniform and on the general way."""
    hosts = [host for host, count in runs for _ in range(count)]
    data = b"".join(sent_from(host, tag) for tag, host in enumerate(hosts, 1))
    found, position, _ = DeliveryReader(131_072).read(data, 0)
    assert position == len(data)
    assert all(isinstance(batch, Batch) for batch in found)
    named = [batch.host for batch in found for _ in batch.message_ids]  # type: ignore[union-attr]
    assert named == [host or b"" for host in hosts]


def test_a_part_of_a_batch_keeps_its_host() -> None:
    found, _, _ = DeliveryReader(131_072).read(sent_from(b"a", 1) + sent_from(b"a", 2), 0)
    (batch,) = found
    assert isinstance(batch, Batch)
    assert batch.part(1, 2).host == b"a"


@pytest.mark.parametrize(("kind", "value"), [(b"l", bytes(8)), (b"x", long_string(b"here"))])
def test_a_host_that_is_no_text_is_none(kind: bytes, value: bytes) -> None:
    """A header of that name with another type says nothing."""
    payload = ours(1, b"{}", extra=(field(b"host", kind, value),))
    method = frame(commands.Basic.Deliver("worker", 1, False, "x", "work"), 1)
    found, _, _ = DeliveryReader(131_072).read(method + b"".join(content(payload, b"{}")), 0)
    (batch,) = found
    assert isinstance(batch, Batch)
    assert batch.host == b""


@pytest.mark.parametrize(
    ("name", "fields", "known"),
    [
        (NAME, [STATED], True),
        (NAME, [STATED, SENT], True),
        (b"y" * 36, [STATED], True),
        (NAME, [], False),
        (NAME, [STATED, STATED], False),
        (NAME, [STATED, SENT, SENT], False),
        (NAME, [field(b"checksum", b"x", long_string(b"12345678"))], False),
        (NAME, [field(b"checksum", b"S", long_string(b"1234567"))], False),
        (NAME, [field(b"a", b"F", long_string(STATED))], False),
        (NAME[1:], [STATED], False),
        (b"", [STATED], False),
        (NAME, [STATED, field(b"a", b"?", b"")], False),
    ],
)
def test_known_is_what_has_one_id_and_one_checksum(
    name: bytes, fields: list[bytes], known: bool
) -> None:
    """Anything else is handed on as it is."""
    payload = header({HEADERS: table(fields), MESSAGE_ID: short(name)}, 4)
    found, position, _ = DeliveryReader(0).read(METHOD + raw_frame(2, 1, payload) + BODY, 0)
    assert position > 0
    assert [type(event) for event in found] == [Batch if known else Delivery]


def test_layouts_and_strides_of_hostile_traffic_are_forgotten() -> None:
    """Messages that are all different do not fill the memory."""
    reader = DeliveryReader(131_072)
    limit = deliveries._STRIDES_KEPT
    for i in range(3 * limit):
        key = b"k" * (i % 200) if i < 2 * limit else b"same"
        extra = (field(key, b"S", long_string(b"%03d" % i)),)
        pair = b"".join(
            frame(commands.Basic.Deliver("worker", n, False, "x", "work"), 1)
            + b"".join(content(ours(n, b"{}", extra=extra), b"{}"))
            for n in (1, 2)
        )
        found, position, _ = reader.read(pair, 0)
        assert position == len(pair)
        assert len(rows(found)) == 2
    assert len(reader._strides) <= limit
    assert len(reader._layouts) <= limit
    assert all(len(kept) <= deliveries._LAYOUTS_KEPT for kept in reader._layouts.values())


@given(run_of_ours(), st.data())
def test_a_part_of_a_batch_is_a_batch(run: list[tuple[bytes, bytes]], data: st.DataObject) -> None:
    """Tags and columns are cut alike."""
    stream = b"".join(
        frame(commands.Basic.Deliver("worker", tag, False, "x", "work"), 1)
        + b"".join(content(payload, body))
        for tag, (payload, body) in enumerate(run, 5)
    )
    found, _, _ = DeliveryReader(131_072).read(stream, 0)
    for batch in found:
        assert isinstance(batch, Batch)
        size = len(batch.message_ids)
        cut = data.draw(st.integers(1, size))
        parts = [batch.part(0, cut)] + ([batch.part(cut, size)] if cut < size else [])
        assert rows(parts) == rows([batch])


def test_producers_that_take_turns_share_a_layout() -> None:
    """Their messages are read together, although a header tells them apart."""
    stream = b"".join(
        frame(commands.Basic.Deliver("worker", n, False, "x", "work"), 1)
        + b"".join(content(ours(n, b"{}", producer=n % 8 + 1), b"{}"))
        for n in range(1, 1001)
    )
    reader = DeliveryReader(131_072)

    found, position, _ = reader.read(stream, 0)

    assert position == len(stream)
    assert len(rows(found)) == 1000
    assert len(found) < 20
    assert sum(len(kept) for kept in reader._layouts.values()) == 1


@pytest.mark.parametrize("sizes", [[5] * 40, [5, 6, 5, 6, 7] * 8, [1]])
def test_heads_are_kept_for_who_asks_and_say_what_the_frames_say(sizes: list[int]) -> None:
    data = b"".join(
        part
        for tag, size in enumerate(sizes, 1)
        for part in delivery(
            commands.Basic.Properties(
                message_id=f"0a1b2c3d-4e5f-8001-8000-{tag:012x}",
                headers={"checksum": "0" * 8, "producer_id": "alice"},
            ),
            b"x" * size,
            tag=tag,
            exchange="e" * (size % 3),
            routing_key=f"key{size}",
        )
    )
    for wanted in (True, False):
        session = opened_session()
        if wanted:
            session.keep_heads()
        batches = [event for event in session.receive(data) if isinstance(event, Batch)]
        heads = [head for batch in batches for head in batch.heads]
        if not wanted:
            assert heads == []
            continue
        seen = [row for _, row in messages_of(data)]
        assert [deliveries.open_head(head) for head in heads] == [
            (row.exchange.encode(), row.routing_key.encode(), row.header) for row in seen
        ]
        first = batches[0]
        assert list(first.part(0, 1).heads) == heads[:1]
