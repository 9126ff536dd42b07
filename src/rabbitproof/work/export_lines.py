"""A message as a line of an export, and many that are alike as many lines at once.

``record_of`` says what a line is. Made one by one, a million lines cost more than the broker's
part of reading them. So of messages that came in a ``Batch``, one is taken apart, and what may
differ in the next one (message id, timestamp, checksum, time of sending, mark of a replay) becomes
a gap in its line. As long as all other bytes are the same, the lines are that one with the gaps
filled.

Pure: messages in, bytes out. Refuses to know files (``export``). Rule: whatever is not certain to
be the same goes through ``record_of``; the tests compare both ways.
"""

from __future__ import annotations

import base64
import json
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.amqp import content
from rabbitproof.amqp.content import FLAGS_AT
from rabbitproof.amqp.deliveries import Batch, Delivery, open_head
from rabbitproof.identity import CHECKSUM_HEADER, REPLAYED_HEADER, SENT_HEADER

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Record = dict[str, Any]

MARK_HEADER: Final = REPLAYED_HEADER
"""Says that a message was replayed and when, in nanoseconds since 1970. An integer of its own and
no table, because a stream does not keep tables."""
BARE_MARK_HEADER: Final = "rabbitproof_replayed_bare_ns"
"""The same, in a message that had no headers before: then the mark's going takes them away."""
_MARKS: Final = (MARK_HEADER, BARE_MARK_HEADER)
_OF_A_DELIVERY: Final = ("x-stream-offset", "x-delivery-count", "x-acquired-count")

_DIFFERING: Final = {"message_id", "timestamp", CHECKSUM_HEADER, SENT_HEADER, *_MARKS}
"""Properties and headers that become gaps; those of a delivery are left out anyway."""
_TEMPLATES_KEPT: Final = 64
"""In all, so that messages of which no two are alike can't fill the memory."""
_HARMLESS: Final = bytes(set(range(0x20, 0x7F)) - set(b'"\\'))
"""What stands in JSON as it is."""
_LONGEST_TEXT: Final = 64 << 20
"""Bytes of a body that is written as text. In JSON a control character takes six, so that a larger
one might be longer than a reader takes; base64 is a third more, whatever it holds."""
_SEPARATOR: Final = b"\0"
_SEPARATOR_IN_JSON: Final = b"\\u0000"
_FRAME: Final = 7
"""Bytes of a frame before its payload; one more follows it (AMQP 0-9-1, section 4.2.3)."""

dump: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def record_of(delivery: Delivery) -> Record:
    """Return a message as JSON."""
    properties = content.decode(delivery.header[FLAGS_AT:])
    mark = None
    table = properties.get("headers")
    if isinstance(table, dict):
        size = len(table)
        for name in _OF_A_DELIVERY:
            table.pop(name, None)
        bare = BARE_MARK_HEADER in table
        mark = table.pop(BARE_MARK_HEADER, None) or table.pop(MARK_HEADER, None)
        if not table and (bare or (size and mark is None)):
            del properties["headers"]  # there were none before the broker or a replay put some in
    elif table is not None:
        properties["headers"] = [
            pair for pair in table if pair[0] not in _OF_A_DELIVERY and pair[0] not in _MARKS
        ]
        mark = next((pair[1] for pair in table if pair[0] in _MARKS), None)
    record: Record = {
        "exchange": content.text_or_bytes(delivery.exchange),
        "routing_key": content.text_or_bytes(delivery.routing_key),
        "properties": properties,
    }
    text = None
    if len(delivery.body) <= _LONGEST_TEXT:
        with suppress(UnicodeDecodeError):
            text = delivery.body.decode()
    if text is None:
        record["body_base64"] = base64.b64encode(delivery.body).decode()
    else:
        record["body"] = text
    if mark is not None:
        record["replayed"] = mark
    return record


class Lines:
    """Makes lines and remembers what the messages looked like."""

    def __init__(self) -> None:
        self._templates: dict[int, _Template] = {}
        """By the size of the frames before the body."""

    def of(self, some: Iterable[Batch | Delivery]) -> Iterator[bytes]:
        """Yield the lines of these messages, each with its end."""
        for one in some:
            if isinstance(one, Delivery):
                yield _line(one)
            else:
                yield from self._batch(one)

    def _batch(self, batch: Batch) -> Iterator[bytes]:
        heads, bodies = batch.heads, batch.bodies
        at, end = 0, len(bodies)
        while at < end:
            size = len(heads[at])
            after = at + 1
            while after < end and len(heads[after]) == size:
                after += 1
            some, contents = heads[at:after], bodies[at:after]
            lines = self._alike(some, contents)
            if lines is None:
                # Several sorts are mixed, or a text needs care.
                lines = [_line(_delivery(*pair)) for pair in zip(some, contents, strict=True)]
            yield from lines
            at = after

    def _alike(self, heads: Sequence[bytes], bodies: Sequence[bytes]) -> Sequence[bytes] | None:
        """Return the lines of messages with heads of one size; None if that can't be done."""
        size = len(heads[0])
        template = self._templates.get(size)
        joined = b"".join(heads)
        if template is not None:
            lines = template.lines(joined, bodies)
            if lines is not None:
                return lines
        if len(heads) == 1:
            return None  # not worth one of its own
        template = _learn(heads[0])
        if template is None:
            return None
        if len(self._templates) >= _TEMPLATES_KEPT:
            self._templates.clear()
        self._templates[size] = template
        return template.lines(joined, bodies)


def _line(delivery: Delivery) -> bytes:
    return dump(record_of(delivery)).encode() + b"\n"


def _delivery(head: bytes, body: bytes) -> Delivery:
    exchange, routing_key, header = open_head(head)
    return Delivery(
        channel=0,
        consumer_tag=b"",
        delivery_tag=0,
        redelivered=False,
        exchange=exchange,
        routing_key=routing_key,
        header=header,
        body=body,
    )


class _Template:
    """What heads of one sort have in common, and the line that they make."""

    __slots__ = ("_constants", "_gaps", "_line", "_texts", "_unpack")

    def __init__(
        self, code: struct.Struct, head: bytes, names: list[str], line: bytes, order: list[int]
    ) -> None:
        """``names``: what each piece that ``code`` takes out is. ``line``: with a ``%`` for each
        gap. ``order``: which piece fills which gap, the body left out, which is the last but the
        mark.
        """
        self._unpack = code.iter_unpack
        row = code.unpack(head)
        self._constants = [(i, row[i]) for i, name in enumerate(names) if name == "same"]
        self._texts = [i for i in order if i >= 0 and isinstance(row[i], bytes)]
        self._gaps = order
        self._line = line

    def lines(self, joined: bytes, bodies: Sequence[bytes]) -> list[bytes] | None:
        """Return the lines of these heads; None unless all are of this sort."""
        count = len(bodies)
        columns: list[Sequence[Any]] = list(zip(*self._unpack(joined), strict=True))
        for i, constant in self._constants:
            if columns[i].count(constant) != count:
                return None
        for i in self._texts:
            if b"".join(columns[i]).translate(None, _HARMLESS):
                return None
        texts = _escaped(bodies)
        if texts is None:
            return None
        filled = [texts if i < 0 else columns[i] for i in self._gaps]
        return [self._line % row for row in zip(*filled, strict=True)]


def _escaped(bodies: Sequence[bytes]) -> list[bytes] | None:
    """Return bodies as they stand between quotes in JSON; None unless all are plain texts."""
    joined = _SEPARATOR.join(bodies)
    if len(joined) > _LONGEST_TEXT:  # one of them may be
        return None
    try:
        texts = joined.decode()
    except UnicodeDecodeError:
        return None
    pieces = dump(texts).encode()[1:-1].split(_SEPARATOR_IN_JSON)
    # More pieces: there is a zero in a body, or a backslash before "u0000".
    return pieces if len(pieces) == len(bodies) else None


_BODY: Final = "<<body>>"


def _learn(head: bytes) -> _Template | None:
    """Make a template of one message; None when it can't be done for its like."""
    payload = open_head(head)[2]
    pieces = _pieces(head, payload)
    if pieces is None:
        return None
    # A line of its own with something unmistakable in each gap shows where the gaps are.
    sample, codes, at = bytearray(head), ">", 0
    names: list[str] = []
    marks: list[tuple[bytes, int, bytes]] = []
    for name, size, kind in pieces:
        if name == "skip":
            codes += f"{size}x"
        else:
            if name != "same":
                i = len(names)
                if kind == "s":
                    mark = f"<{i}>".ljust(size, "~")
                    sample[at : at + size] = mark.encode()
                else:
                    mark = str((1 << 62) + i)
                    sample[at : at + size] = int(mark).to_bytes(8, "big")
                marks.append((mark.encode(), i, b"%b" if kind == "s" else b"%d"))
            codes += f"{size}s" if kind == "s" else kind
            names.append(name)
        at += size
    marks.append((_BODY.encode(), -1, b"%b"))
    line = _line(_delivery(bytes(sample), _BODY.encode()))
    places = []
    for text, i, form in marks:
        if line.count(text) != 1:
            return None
        places.append((line.index(text), text, i, form))
    places.sort()
    parts, begin = [], 0
    for place, text, _, form in places:
        parts += [line[begin:place].replace(b"%", b"%%"), form]
        begin = place + len(text)
    parts.append(line[begin:].replace(b"%", b"%%"))
    return _Template(
        struct.Struct(codes), head, names, b"".join(parts), [i for _, _, i, _ in places]
    )


def _pieces(head: bytes, payload: bytes) -> list[tuple[str, int, str]] | None:
    """Cut a head into neighbouring pieces: what it is ("same", "skip" or a name), its size in
    bytes, and how struct takes it out.
    """
    spans = content.spans(payload[FLAGS_AT:])
    if spans is None:
        return None
    (method_size,) = struct.unpack_from(">I", head, 3)
    header = method_size + _FRAME + 1  # where the second frame begins
    tag = 12 + head[11]
    gaps = [(1, 3, "skip", "x"), (tag, tag + 9, "skip", "x"), (header + 1, header + 3, "skip", "x")]
    first = header + _FRAME
    gaps.append((first + 4, first + 12, "skip", "x"))  # the body's size
    first += FLAGS_AT
    for name, start, end, kind in spans:
        if name in _OF_A_DELIVERY:
            gaps.append((first + start, first + end, "skip", "x"))
        elif name in _DIFFERING and (kind != "s" or end - start >= _SHORTEST):
            gaps.append((first + start, first + end, name, kind))
    out: list[tuple[str, int, str]] = []
    at = 0
    for start, end, name, kind in gaps:
        if start > at:
            out.append(("same", start - at, "s"))
        out.append((name, end - start, kind))
        at = end
    out.append(("same", len(head) - at, "s"))
    return out


_SHORTEST: Final = 8
"""Bytes of a text that becomes a gap: enough for something unmistakable."""
