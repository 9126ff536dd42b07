"""The hot path in: one buffer becomes many deliveries.

A delivery is a method frame, a content header frame and body frames (AMQP 0-9-1, section
4.2.6). The first one of its kind is taken apart property by property, once, and what was learnt
is kept as a **layout**: where the message id, the checksum and the time of sending lie, and the
bytes around them that have to be the same in the next one. There are three speeds:

1. **uniform**: as long as the next deliveries have the same sizes, ``struct.iter_unpack`` takes
   many of them apart in C. All bytes that should be constant are compared; at the first
   difference the general parser goes on.
2. **general**: one delivery at a time, its content header by a layout that is already known.
3. **foreign**: a header without our message id and checksum. It is handed on as it is.

Pure: bytes in, columns out. Refuses to know whether a message is a duplicate or intact
(``proof``), and what a frame other than a delivery means (``session``). Oracle in the tests:
pamqp. A message counts as "known" here when it has a message id of 36 bytes and a checksum
header of 8; whether they are right is decided elsewhere.
"""

from __future__ import annotations

import struct
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from rabbitproof.amqp.publishes import FRAME_BODY, FRAME_HEADER, FRAME_METHOD, FRAME_OVERHEAD
from rabbitproof.errors import RemoteProtocolError
from rabbitproof.identity import (
    AGAIN_HEADERS,
    APP_ID,
    CHECKSUM_HEADER,
    CHECKSUM_LENGTH,
    HOST_HEADER,
    ID_LENGTH,
    SENT_HEADER,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

_DELIVER: Final = b"\x00\x3c\x00\x3c"  # basic.deliver: class 60, method 60
_FRAME = struct.Struct(">BHI")
_TAG_AND_FLAG = struct.Struct(">QB")
_BODY_SIZE = struct.Struct(">Q")
_FRAME_END: Final = 0xCE
_BODY_SIZE_AT, _FLAGS_AT = 4, 12  # in a content header's payload, section 4.2.6.1

_CHECKSUM_KEY: Final = bytes([len(CHECKSUM_HEADER)]) + CHECKSUM_HEADER.encode()

_FIRST_TRY, _LONGEST_TRY = 8, 4096
"""Deliveries unpacked at once on the uniform path: few after a difference, then doubling."""

_WORTH_A_TRY: Final = 4
"""Deliveries alike in a row before the uniform path is tried on traffic that had been mixed:
for fewer than that it costs more than it saves."""

_WORTH_WAITING: Final = 64 * 1024
"""Bytes. A delivery of up to this size is kept until it is complete, so that it is read in bulk;
a larger one is taken frame by frame, so that no byte is looked at twice."""

LARGEST_HEADER: Final = 2 << 20
"""Bytes of a content header's payload. It may be larger than a frame: RabbitMQ never splits one,
and what a publisher could just send grows with each dead-lettering."""

_LAYOUTS_KEPT, _STRIDES_KEPT = 8, 64
"""Layouts remembered for one header size, and strides in all: hostile traffic, where no two
messages are alike, can't fill the memory."""

_FIXED_SIZES: Final = {
    b"t": 1, b"b": 1, b"B": 1, b"s": 2, b"u": 2, b"I": 4, b"i": 4, b"l": 8, b"L": 8, b"f": 4,
    b"d": 8, b"D": 5, b"T": 8, b"V": 0,
}  # fmt: skip
"""Field types of a table and the bytes of their values, as RabbitMQ reads them (its errata to
section 4.2.1). The others (S, x, F, A) carry their length, 4 bytes."""


class Delivery(NamedTuple):
    """One delivery that is not known: somebody else's message."""

    channel: int
    consumer_tag: bytes
    delivery_tag: int
    redelivered: bool
    exchange: bytes
    routing_key: bytes
    header: bytes
    """The content header's payload, still encoded."""
    body: bytes


class Batch(NamedTuple):
    """Known deliveries that came one after another on one channel to one consumer.

    The columns have one entry a delivery; delivery tags are consecutive.
    """

    channel: int
    consumer_tag: bytes
    first_tag: int
    redelivered: bool
    """The broker's flag, the same for all of the batch."""
    message_ids: Sequence[bytes]
    """36 bytes each."""
    checksums: Sequence[bytes]
    """8 bytes each: hexadecimal digits, unless somebody altered them."""
    sent_ns: Sequence[int]
    """Nanoseconds since 1970 by the producer's clock; 0 where the header is missing."""
    bodies: Sequence[bytes]
    host: bytes = b""
    """The header of that name, the same in all of them; empty where it is missing."""
    heads: Sequence[bytes] = ()
    """The method frame and the content header frame of each, as they came; empty unless the
    reader was asked to keep them."""
    again: bool = False
    """They carry the mark of somebody who sent them again; see ``AGAIN_HEADERS``."""
    ours: bool = True
    """They have more of our shape than a message id of that length and a checksum of that one:
    our app id, or the headers that say from where and when they were sent."""

    def part(self, start: int, end: int) -> Batch:
        """Return deliveries ``start`` up to but not including ``end`` as a batch."""
        return self._replace(
            first_tag=self.first_tag + start,
            message_ids=self.message_ids[start:end],
            checksums=self.checksums[start:end],
            sent_ns=self.sent_ns[start:end],
            bodies=self.bodies[start:end],
            heads=self.heads[start:end],
        )

    @property
    def last_tag(self) -> int:
        """The delivery tag of the last one."""
        return self.first_tag + len(self.message_ids) - 1


def open_head(head: bytes) -> tuple[bytes, bytes, bytes]:
    """Return exchange, routing key and the content header's payload of one of ``Batch.heads``."""
    at = 12 + head[11] + 9  # frame header, class and method, consumer tag; then tag and flag
    exchange = head[at + 1 : at + 1 + head[at]]
    at += 1 + len(exchange)
    routing_key = head[at + 1 : at + 1 + head[at]]
    (method_size,) = struct.unpack_from(">I", head, 3)
    return exchange, routing_key, head[method_size + FRAME_OVERHEAD + 7 : -1]


class DeliveryReader:
    """Reads deliveries and remembers the layouts that it met."""

    __slots__ = ("_alike", "_layouts", "_strides", "frame_max", "keep_heads", "whole")

    def __init__(self, frame_max: int) -> None:
        self.frame_max = frame_max
        """Bytes a frame may have, as negotiated; 0 means no limit."""
        self.whole = False
        """Hand on every message as a Delivery with all that it has, also the known ones."""
        self.keep_heads = False
        """Whether batches get their ``heads``: for who shows all properties of a message."""
        self._alike = _WORTH_A_TRY
        """How many deliveries in a row looked like the one after them."""
        self._layouts: dict[int, list[_Layout]] = {}
        self._strides: dict[tuple[bytes, bytes, int], _Stride] = {}

    def read(self, data: bytes, start: int) -> tuple[list[Batch | Delivery], int, bool]:
        """Read whole deliveries from ``data`` at ``start``, where a frame begins.

        Return them, the position of the first byte that was not used, and whether a delivery
        begins there whose rest is worth waiting for. If not, it is a frame that is none, a
        large delivery, or one with another channel's frames in between: take it frame by
        frame. Raises RemoteProtocolError when the bytes at ``start`` contradict themselves;
        what comes before such bytes is returned first.
        """
        found: list[Batch | Delivery] = []
        columns = _Columns(found, keep_heads=self.keep_heads)
        position, end = start, len(data)
        view = memoryview(data)
        wait = False
        try:
            while True:
                place = self._place(data, position, end)
                if isinstance(place, bool):
                    wait = place
                    break
                layout = self._layout(data, place.header, place.header_size)
                if layout is None:
                    columns.flush()
                    found.append(_foreign(data, position, place))
                else:
                    if place.alone and _looks_alike(data, position, place, end):
                        self._alike += 1
                        if self._alike >= _WORTH_A_TRY:
                            stride = self._stride(data, position, place, layout)
                            columns.flush()
                            head = place.body - position if self.keep_heads else 0
                            after = stride.read(view, position, found, head)
                            # What went well is tried at once the next time.
                            went_well = after - position >= _WORTH_A_TRY * stride.size
                            self._alike = _WORTH_A_TRY if went_well else 0
                            if after > position:
                                position = after
                                continue
                    elif position + (place.after - position) * 2 <= end:
                        self._alike = 0
                    columns.add(data, position, place, layout)
                position = place.after
        except RemoteProtocolError:
            if position == start:
                raise
        columns.flush()
        return found, position, wait

    def _place(self, data: bytes, start: int, end: int) -> _Place | bool:
        """Find the parts of the delivery at ``start``.

        False when there is none to be read in bulk, True when it is worth waiting for its rest.
        """
        if end - start < 11 or data[start] != FRAME_METHOD:
            return False
        if data[start + 7 : start + 11] != _DELIVER:
            return False
        channel: int
        size: int
        _, channel, size = _FRAME.unpack_from(data, start)
        header = start + size + FRAME_OVERHEAD + 7
        if end < header:
            return self._worth_waiting(size)
        header_size: int
        kind, header_channel, header_size = _FRAME.unpack_from(data, header - 7)
        if header_channel != channel:
            return False
        if kind != FRAME_HEADER:
            raise _broken("a delivery without its content header")
        body = header + header_size + 1
        if self.frame_max and size + FRAME_OVERHEAD > self.frame_max:
            raise _broken(f"a frame larger than the {self.frame_max} bytes that were agreed")
        if header_size > LARGEST_HEADER:
            raise _broken(f"properties larger than {LARGEST_HEADER} bytes")
        if end < body:
            return self._worth_waiting(header_size)
        if data[header - 8] != _FRAME_END or data[body - 1] != _FRAME_END:
            raise _broken("a frame without its end mark")
        if header_size < _FLAGS_AT + 2:
            raise _broken("a content header that is too short")
        body_size: int = _BODY_SIZE.unpack_from(data, header + _BODY_SIZE_AT)[0]
        if end < body + body_size:
            return body_size <= _WORTH_WAITING and (
                self._join(data, body, end, channel, body_size) is True
            )
        # One body frame is the usual case, and told without a loop.
        after = body + body_size + FRAME_OVERHEAD
        if (
            body_size
            and after <= end
            and _FRAME.unpack_from(data, body) == (FRAME_BODY, channel, body_size)
            and data[after - 1] == _FRAME_END
            and (not self.frame_max or body_size + FRAME_OVERHEAD <= self.frame_max)
        ):
            content, alone = data[body + 7 : after - 1], True
        else:
            joined = self._join(data, body, end, channel, body_size)
            if isinstance(joined, bool):
                return joined and body_size <= _WORTH_WAITING
            (content, after), alone = joined, False
        tag = start + 12 + data[start + 11]
        if tag + 9 > header - 8:
            raise _broken("a delivery whose lengths do not add up")
        return _Place(channel, tag, header, header_size, body, body_size, content, after, alone)

    def _worth_waiting(self, size: int) -> bool:
        """Say whether a frame with so many bytes of payload may come, and is short."""
        return size <= _WORTH_WAITING and (
            not self.frame_max or size + FRAME_OVERHEAD <= self.frame_max
        )

    def _join(
        self, data: bytes, start: int, end: int, channel: int, size: int
    ) -> tuple[bytes, int] | bool:
        """Join the body frames at ``start``.

        True when they are not all there, False when another channel's frame comes between.
        """
        parts: list[bytes] = []
        position, missing = start, size
        while missing > 0:
            if end < position + 7:
                return True
            kind, body_channel, part = _FRAME.unpack_from(data, position)
            if body_channel != channel:
                return False
            if kind != FRAME_BODY or not 0 < part <= missing:
                raise _broken("a body that does not fit its content header")
            if self.frame_max and part + FRAME_OVERHEAD > self.frame_max:
                raise _broken(f"a frame larger than the {self.frame_max} bytes that were agreed")
            after = position + part + FRAME_OVERHEAD
            if end < after:
                return True
            if data[after - 1] != _FRAME_END:
                raise _broken("a frame without its end mark")
            parts.append(data[position + 7 : after - 1])
            missing -= part
            position = after
        return b"".join(parts), position

    def _layout(self, data: bytes, start: int, size: int) -> _Layout | None:
        """Return the layout of the content header at ``start``; None when it is foreign."""
        if self.whole:
            return None
        known = self._layouts.get(size)
        if known is not None:
            for layout in known:
                if layout.fits(data, start):
                    return layout
        if data.find(_CHECKSUM_KEY, start, start + size) < 0:
            return None  # somebody else's, without a walk
        payload = data[start : start + size]
        pieces = _walk(payload)
        if pieces is None:
            return None
        layout = _Layout(payload, pieces)
        if known is None:
            if len(self._layouts) >= _STRIDES_KEPT:
                self._layouts.clear()
            known = self._layouts[size] = []
        known.insert(0, layout)
        del known[_LAYOUTS_KEPT:]
        return layout

    def _stride(self, data: bytes, start: int, place: _Place, layout: _Layout) -> _Stride:
        method = data[start : place.tag] + data[place.tag + 8 : place.header]
        key = (method, layout.signature, place.after - start)
        stride = self._strides.get(key)
        if stride is None:
            if len(self._strides) >= _STRIDES_KEPT:
                self._strides.clear()
            stride = self._strides[key] = _Stride(data, start, place, layout)
        return stride


class _Place(NamedTuple):
    """Where the parts of one delivery lie. Positions count from the buffer's start."""

    channel: int
    tag: int
    """Position of the delivery tag."""
    header: int
    """Position of the content header's payload."""
    header_size: int
    body: int
    """Position of the first body frame."""
    body_size: int
    content: bytes
    after: int
    """Position of the first byte behind the delivery."""
    alone: bool
    """True when the body is one frame."""


def _broken(what: str) -> RemoteProtocolError:
    return RemoteProtocolError(
        f"The broker sent {what}; if this happens again, look for a proxy in between."
    )


def _foreign(data: bytes, start: int, place: _Place) -> Delivery:
    delivery_tag, flag = _TAG_AND_FLAG.unpack_from(data, place.tag)
    end = place.header - 8  # the method frame's end mark
    exchange = place.tag + 10
    exchange_end = exchange + data[exchange - 1]
    if exchange_end >= end or exchange_end + 1 + data[exchange_end] != end:
        raise _broken("a delivery whose lengths do not add up")
    return Delivery(
        place.channel,
        data[start + 12 : place.tag],
        delivery_tag,
        bool(flag & 1),
        data[exchange:exchange_end],
        data[exchange_end + 1 : end],
        data[place.header : place.header + place.header_size],
        place.content,
    )


def _looks_alike(data: bytes, start: int, place: _Place, end: int) -> bool:
    """Say whether the next delivery seems to have the same frame sizes as the one at ``start``.

    A cheap look before the uniform path is tried: traffic of mixed sizes would pay for it at
    every message otherwise.
    """
    after, header, body = place.after, place.header, place.body
    size = after - start
    if end < after + size:
        return False
    return (
        data[after : after + 11] == data[start : start + 11]
        and data[header + size - 7 : header + size] == data[header - 7 : header]
        and data[body + size : body + size + 7] == data[body : body + 7]
    )


class _Columns:
    """Collects the general parser's deliveries into batches."""

    __slots__ = ("_found", "_heads", "_keep_heads", "_kind", "_rows", "_start", "_tag")

    def __init__(self, found: list[Batch | Delivery], *, keep_heads: bool) -> None:
        self._found = found
        self._keep_heads = keep_heads
        self._heads: list[bytes] = []
        self._rows: list[tuple[bytes, bytes, int, bytes]] = []
        self._kind: tuple[int, bytes, int, _Told] | None = None  # channel, consumer, flag
        self._start = self._tag = 0

    def add(self, data: bytes, start: int, place: _Place, layout: _Layout) -> None:
        tag, flag = _TAG_AND_FLAG.unpack_from(data, place.tag)
        kind = (place.channel, data[start + 12 : place.tag], flag & 1, layout.told)
        if kind != self._kind or tag != self._tag + 1:
            self.flush()
            self._kind, self._start = kind, tag
        self._tag = tag
        self._rows.append((*layout.fields(data, place.header), place.content))
        if self._keep_heads:
            self._heads.append(data[start : place.body])

    def flush(self) -> None:
        if self._kind is not None and self._rows:
            channel, consumer_tag, flag, told = self._kind
            ids, checksums, sent, bodies = zip(*self._rows, strict=True)
            self._found.append(
                Batch(
                    channel, consumer_tag, self._start, bool(flag),
                    ids, checksums, sent, bodies, told.host, self._heads, told.again, told.ours,
                )
            )  # fmt: skip
            self._rows, self._heads = [], []
        self._kind = None


_CODES: Final = {
    "same": "{}s",  # equal in every message of the layout
    "skip": "{}x",  # any value
    "size": "{}x",  # the body size
    "id": "{}s",
    "checksum": "{}s",
    "sent": "q",
}
"""What a piece of a content header means -> how struct takes it out."""

Pieces = list[tuple[str, int]]
"""(meaning, length in bytes) of neighbouring parts; they cover something from end to end."""


class _Told(NamedTuple):
    """What all messages of a layout say alike."""

    host: bytes
    again: bool
    ours: bool


class _Layout:
    """Where things lie in content headers of one size and kind."""

    __slots__ = ("_constants", "_fields", "_same", "_unpack", "pieces", "signature", "told")

    def __init__(self, payload: bytes, pieces: Pieces) -> None:
        host, meanings = _part(payload, pieces, "host"), {what for what, _ in pieces}
        self.told = _Told(
            host, "mark" in meanings, "app" in meanings or {"sent", "host"} <= meanings
        )
        self.pieces = pieces = _merged(pieces)
        code = struct.Struct(">" + "".join(_CODES[what].format(n) for what, n in pieces))
        self._unpack = code.unpack_from
        names = [what for what, _ in pieces if _CODES[what] != "{}x"]
        # At least class and weight, the flags and the checksum's key are constant, so that
        # itemgetter gets several indexes and returns a tuple.
        self._same = itemgetter(*[i for i, what in enumerate(names) if what == "same"])
        self._constants = self._same(code.unpack(payload))
        self.signature = b"".join(self._constants)
        at = {what: i for i, what in enumerate(names)}
        self._fields = (at["id"], at["checksum"], at.get("sent"))

    def fits(self, data: bytes, start: int) -> bool:
        """Say whether the payload at ``start`` has this layout."""
        return bool(self._same(self._unpack(data, start)) == self._constants)

    def fields(self, data: bytes, start: int) -> tuple[bytes, bytes, int]:
        """Return message id, checksum and time of sending of the payload at ``start``."""
        row = self._unpack(data, start)
        id_at, checksum_at, sent_at = self._fields
        return row[id_at], row[checksum_at], 0 if sent_at is None else row[sent_at]


class _Stride:
    """Deliveries that all have the same sizes and constants, unpacked many at once."""

    __slots__ = ("_columns", "_constants", "_kind", "_told", "_try", "_unpack", "size")

    def __init__(self, data: bytes, start: int, place: _Place, layout: _Layout) -> None:
        self.size = place.after - start
        pieces: Pieces = [
            ("same", place.tag - start),
            ("tag", 8),
            ("same", place.header - place.tag - 8),
            *[("same", n) if what == "size" else (what, n) for what, n in layout.pieces],
            ("same", FRAME_OVERHEAD),  # the header frame's end mark, the body frame's start
            ("body", place.body_size),
            ("same", 1),
        ]
        pieces = _merged(pieces)
        codes = _CODES | {"tag": "Q", "body": "{}s"}
        code = struct.Struct(">" + "".join(codes[what].format(n) for what, n in pieces))
        self._unpack = code.iter_unpack
        names = [what for what, _ in pieces if what != "skip"]
        row = code.unpack_from(data, start)
        self._constants = [(i, row[i]) for i, what in enumerate(names) if what == "same"]
        at = {what: i for i, what in enumerate(names)}
        self._columns = (at["tag"], at["id"], at["checksum"], at.get("sent"), at["body"])
        flag = data[place.tag + 8]
        self._kind = (place.channel, data[start + 12 : place.tag], bool(flag & 1))
        self._told = layout.told
        self._try = _FIRST_TRY

    def read(
        self, view: memoryview, start: int, found: list[Batch | Delivery], head: int = 0
    ) -> int:
        """Read as many as there are; return the position behind the last one.

        ``head``: how many bytes of each, from its first one, are kept as they came.
        """
        tag_at, id_at, checksum_at, sent_at, body_at = self._columns
        position, end, size = start, len(view), self.size
        while True:
            count = min(self._try, (end - position) // size)
            if count == 0:
                return position
            rows = list(zip(*self._unpack(view[position : position + count * size]), strict=True))
            good = self._alike(rows, count)
            if good:
                if good < count:
                    rows = [column[:good] for column in rows]
                sent = (0,) * good if sent_at is None else rows[sent_at]
                found.append(
                    Batch(
                        self._kind[0],
                        self._kind[1],
                        rows[tag_at][0],
                        self._kind[2],
                        rows[id_at],
                        rows[checksum_at],
                        sent,
                        rows[body_at],
                        self._told.host,
                        [
                            bytes(view[at : at + head])
                            for at in range(position, position + good * size, size)
                        ]
                        if head
                        else (),
                        self._told.again,
                        self._told.ours,
                    )
                )
                position += good * size
            if good < count:
                self._try = _FIRST_TRY
                return position
            self._try = min(self._try * 2, _LONGEST_TRY)

    def _alike(self, rows: list[tuple[Any, ...]], count: int) -> int:
        """Return how many rows, from the first on, have the right constants and tags."""
        good = count
        for i, constant in self._constants:
            column = rows[i]
            if column.count(constant) != count:
                good = min(good, next(k for k, part in enumerate(column) if part != constant))
        tags = rows[self._columns[0]]
        straight = range(tags[0], tags[0] + count)
        if tags != tuple(straight):
            good = min(good, next(k for k, tag in enumerate(tags) if tag != straight[k]))
        return good


def _merged(pieces: Pieces) -> Pieces:
    """Join neighbouring constants: each piece costs time in every message."""
    out: Pieces = []
    for meaning, n in pieces:
        what = "same" if meaning in ("host", "mark", "app") else meaning
        if out and what == "same" and out[-1][0] == "same":
            out[-1] = ("same", out[-1][1] + n)
        else:
            out.append((what, n))
    return out


def _part(payload: bytes, pieces: Pieces, what: str) -> bytes:
    """Return the bytes of the only piece that means ``what``; none when it is missing."""
    at = 0
    for meaning, n in pieces:
        if meaning == what:
            return payload[at : at + n]
        at += n
    return b""


def _walk(payload: bytes) -> Pieces | None:
    """Walk a content header; None when it has no message id and checksum of ours.

    The properties come in the order of their flags (section 4.2.6.1); bit 15 is the first.
    """
    (flags,) = struct.unpack_from(">H", payload, _FLAGS_AT)
    if flags & 1:  # more flags follow: none of the properties of class basic
        return None
    pieces: Pieces = [("same", _BODY_SIZE_AT), ("size", 8), ("same", 2)]
    at = _FLAGS_AT + 2
    try:
        for bit in range(15, 1, -1):
            if not flags & (1 << bit):
                continue
            name = _PROPERTIES[15 - bit]
            if name == "headers":
                (size,) = struct.unpack_from(">I", payload, at)
                pieces.append(("same", 4))
                table = _walk_table(payload, at + 4, at + 4 + size)
                if table is None:
                    return None
                pieces += table
                at += 4 + size
            elif name in _OCTETS:
                pieces.append(("same", 1))
                at += 1
            elif name == "timestamp":
                pieces.append(("skip", 8))
                at += 8
            else:
                size = payload[at]
                if name == "message_id" and size == ID_LENGTH:
                    pieces += [("same", 1), ("id", size)]
                elif name in _VARYING:
                    pieces += [("same", 1), ("skip", size)]
                else:
                    is_app = name == "app_id" and payload[at + 1 : at + 1 + size] == _APP_ID
                    pieces.append(("app" if is_app else "same", 1 + size))
                at += 1 + size
    except (IndexError, struct.error):
        return None
    meanings = [what for what, _ in pieces]
    if at != len(payload) or meanings.count("id") != 1 or meanings.count("checksum") != 1:
        return None
    return pieces if meanings.count("sent") < 2 else None


_PROPERTIES: Final = (
    "content_type", "content_encoding", "headers", "delivery_mode", "priority",
    "correlation_id", "reply_to", "expiration", "message_id", "timestamp", "type", "user_id",
    "app_id", "cluster_id",
)  # fmt: skip
_APP_ID: Final = APP_ID.encode()
_AGAIN: Final = frozenset(name.encode() for name in AGAIN_HEADERS)
_OCTETS: Final = ("delivery_mode", "priority")
_VARYING: Final = ("correlation_id", "reply_to", "expiration")


def _walk_table(payload: bytes, start: int, end: int) -> Pieces | None:
    """Walk a field table (section 4.2.5.5). Values of numbers may differ, texts may not."""
    pieces: Pieces = []
    at = start
    while at < end:
        key = payload[at + 1 : at + 1 + payload[at]]
        at += 1 + len(key)
        kind = payload[at : at + 1]
        at += 1
        pieces.append(("mark" if key in _AGAIN else "same", 2 + len(key)))
        fixed = _FIXED_SIZES.get(kind)
        if fixed is not None:
            is_sent = key == SENT_HEADER.encode() and kind == b"l"
            pieces.append(("sent" if is_sent else "skip", fixed))
            at += fixed
            continue
        if kind not in (b"S", b"x", b"F", b"A"):
            return None
        (size,) = struct.unpack_from(">I", payload, at)
        pieces.append(("same", 4))
        is_checksum = key == CHECKSUM_HEADER.encode() and kind == b"S" and size == CHECKSUM_LENGTH
        if is_checksum:
            pieces.append(("checksum", size))
        elif key == HOST_HEADER.encode() and kind == b"S":
            pieces.append(("host", size))
        else:
            # Who sent it may change from message to message, without a change of the layout.
            pieces.append(("skip" if kind in (b"S", b"x") else "same", size))
        at += 4 + size
    return pieces if at == end else None
