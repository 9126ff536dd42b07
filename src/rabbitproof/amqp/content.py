"""A message's properties and headers as JSON, and exactly the same bytes from that again.

The codec that everything else uses forgets what it does not need: which of the eight integer
types a number had, byte arrays from texts, the order of a table. Here nothing is forgotten:
``encode(decode(x)) == x`` for every byte string. What is malformed stays as it is, in base64.

The JSON form (``docs/audit.md`` has the table):

- properties: an object in the order of the wire; texts are strings, numbers numbers
- a header's value: a string (type ``S``, UTF-8), ``true`` or ``false`` (``t``), ``null`` (``V``),
  else an object with the type's letter as its only key: ``{"l": 5}``, ``{"F": {…}}``,
  ``{"A": […]}``
- bytes that are not UTF-8: ``{"x": base64}``, or ``{"S": base64}`` for a header of type ``S``
- a table whose keys are not UTF-8 or not unique: a list of pairs instead of an object
- a floating point number that is not finite: its bytes in hexadecimal

Pure. Types as RabbitMQ reads them: its errata to AMQP 0-9-1, section 4.2.5.5.
"""

from __future__ import annotations

import base64
import binascii
import math
import struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FLAGS_AT: Final = 12
"""Where the property flags begin in a content header's payload (section 4.2.6.1)."""

_NAMES: Final = (
    "content_type", "content_encoding", "headers", "delivery_mode", "priority", "correlation_id",
    "reply_to", "expiration", "message_id", "timestamp", "type", "user_id", "app_id",
    "cluster_id",
)  # fmt: skip
"""In the order of their flags: bit 15 is the first (section 4.2.6.1)."""
_BITS: Final = {name: 1 << (15 - i) for i, name in enumerate(_NAMES)}
_UNKNOWN_FLAGS: Final = 0b11
"""The two lowest bits belong to no property."""
_NUMBERS: Final = {"delivery_mode": ">B", "priority": ">B", "timestamp": ">Q"}

_INTEGERS: Final = {
    "b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "L": ">Q",
    "T": ">Q",
}  # fmt: skip
_STRUCTS: Final = {ord(letter): struct.Struct(form) for letter, form in _INTEGERS.items()}
_LETTERS: Final = {ord(letter): letter for letter in _INTEGERS}
_FLOATS: Final = {"f": struct.Struct(">f"), "d": struct.Struct(">d")}
_DECIMAL: Final = struct.Struct(">BI")
_LENGTH: Final = struct.Struct(">I")

_DEEPEST: Final = 64
"""Tables in tables beyond which a header stays bytes."""


class _Odd(Exception):
    """The bytes are not as the protocol says."""


def decode(properties: bytes) -> dict[str, Any]:
    """Return the properties, from their flags on, as JSON."""
    try:
        return _decode(properties)
    except (_Odd, IndexError, struct.error):
        return {"raw": _text(properties)}


def encode(properties: dict[str, Any]) -> bytes:
    """Return the bytes that ``decode`` made this of. Raise ValueError for what is no such JSON."""
    try:
        return _encode(properties)
    except (struct.error, KeyError, TypeError, AttributeError, binascii.Error) as error:
        msg = f"these are no properties of a message: {error}"
        raise ValueError(msg) from error


def spans(properties: bytes) -> list[tuple[str, int, int, str]] | None:
    """Return where simple values lie in properties, in order: name of the property or header,
    first byte, the one behind the last, and a letter: ``s`` text, ``q`` and ``Q`` numbers of 8
    bytes with and without a sign. None for what can't be read.

    Texts, the timestamp, and headers of the types S and l; headers in headers are left out.
    """
    try:
        return _spans(properties)
    except (_Odd, IndexError, struct.error):
        return None


def text_or_bytes(value: bytes) -> Any:
    """Return a text as a string, and what is none as ``{"x": base64}``."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"x": _text(value)}


def bytes_of(value: Any) -> bytes:
    """Return the bytes that ``text_or_bytes`` made this of."""
    if isinstance(value, str):
        return value.encode()
    return _bytes(value["x"])


def plain(value: Any) -> Any:
    """Return a header's value as a Python value, for comparing and showing."""
    if not isinstance(value, dict):
        return value
    ((letter, inner),) = value.items()
    if letter == "A":
        return [plain(one) for one in inner]
    if letter == "F":
        pairs = inner.items() if isinstance(inner, dict) else inner
        return {str(key): plain(one) for key, one in pairs}
    return inner


# --- from bytes ---


def _properties(data: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield each property that is there: its name, where its value begins, and where it ends.

    The length before a text or a table is not part of it.
    """
    flags = data[0] << 8 | data[1]
    if flags & _UNKNOWN_FLAGS:
        raise _Odd
    at = 2
    for name in _NAMES:
        if not flags & _BITS[name]:
            continue
        if name == "headers":
            (size,) = _LENGTH.unpack_from(data, at)
            at += 4
        elif name in _NUMBERS:
            size = struct.calcsize(_NUMBERS[name])
        else:
            size = data[at]
            at += 1
        yield name, at, at + size
        at += size
    if at != len(data):
        raise _Odd


def _decode(data: bytes) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, at, end in _properties(data):
        if name == "headers":
            out[name] = _table(data, at, end, 0)
        elif name in _NUMBERS:
            (out[name],) = struct.unpack_from(_NUMBERS[name], data, at)
        else:
            out[name] = text_or_bytes(data[at:end])
    return out


_SIMPLE: Final = {0x53: ("s", 5), 0x6C: ("q", 1)}
"""Types of headers -> the letter of ``spans``, and bytes before the value, its type's included."""


def _spans(data: bytes) -> list[tuple[str, int, int, str]]:
    out: list[tuple[str, int, int, str]] = []
    for name, at, end in _properties(data):
        if name == "headers":
            for key, begin, _, after in _entries(data, at, end, 0):
                if (simple := _SIMPLE.get(data[begin])) is not None:
                    letter, before = simple
                    out.append((key.decode("utf-8", "replace"), begin + before, after, letter))
        elif name not in _NUMBERS:
            out.append((name, at, end, "s"))
        elif end - at == 8:
            out.append((name, at, end, "Q"))
    return out


def _entries(data: bytes, at: int, end: int, depth: int) -> Iterator[tuple[bytes, int, Any, int]]:
    """Yield a table's entries: key, where the value's type stands, the value, where it ends."""
    if end > len(data) or depth > _DEEPEST:
        raise _Odd
    while at < end:
        begin = at + 1 + data[at]
        value, after = _value(data, begin, end, depth)
        yield data[at + 1 : begin], begin, value, after
        at = after
    if at != end:
        raise _Odd


def _table(data: bytes, at: int, end: int, depth: int) -> Any:
    """Return a table: an object, or pairs where an object could not say the same."""
    pairs = [(text_or_bytes(key), value) for key, _, value, _ in _entries(data, at, end, depth)]
    if all(isinstance(key, str) for key, _ in pairs):
        table = dict(pairs)
        if len(table) == len(pairs):
            return table
    return [list(pair) for pair in pairs]


def _value(data: bytes, at: int, end: int, depth: int) -> tuple[Any, int]:
    """Return the value at ``at``, where its type's letter stands, and where the next begins."""
    kind = data[at]
    at += 1
    if kind == 0x53:  # S: by far the most
        (size,) = _LENGTH.unpack_from(data, at)
        after = at + 4 + size
        _inside(after, end)
        piece = data[at + 4 : after]
        try:
            return piece.decode(), after
        except UnicodeDecodeError:
            return {"S": _text(piece)}, after
    number = _STRUCTS.get(kind)
    if number is not None:
        return {_LETTERS[kind]: number.unpack_from(data, at)[0]}, _inside(at + number.size, end)
    letter = chr(kind)
    if letter == "t":
        flag = data[at]
        return (flag == 1 if flag < 2 else {"t": flag}), _inside(at + 1, end)
    if letter == "V":
        return None, at
    if letter in _FLOATS:
        after = _inside(at + _FLOATS[letter].size, end)
        return {letter: _float(letter, data[at:after])}, after
    if letter == "D":
        return {"D": list(_DECIMAL.unpack_from(data, at))}, _inside(at + 5, end)
    if letter not in "xFA":
        raise _Odd
    (size,) = _LENGTH.unpack_from(data, at)
    at += 4
    after = _inside(at + size, end)
    if letter == "x":
        return {"x": _text(data[at:after])}, after
    if letter == "F":
        return {"F": _table(data, at, after, depth + 1)}, after
    return {"A": _array(data, at, after, depth + 1)}, after


def _array(data: bytes, at: int, end: int, depth: int) -> list[Any]:
    if depth > _DEEPEST:
        raise _Odd
    out = []
    while at < end:
        value, at = _value(data, at, end, depth)
        out.append(value)
    return out


def _inside(after: int, end: int) -> int:
    if after > end:
        raise _Odd
    return after


def _float(letter: str, piece: bytes) -> float | str:
    value: float = _FLOATS[letter].unpack(piece)[0]
    return value if math.isfinite(value) else piece.hex()


# --- to bytes ---


def _encode(properties: dict[str, Any]) -> bytes:
    if "raw" in properties:
        return _bytes(properties["raw"])
    flags, parts = 0, [b""]
    for name in properties.keys() - _BITS.keys():
        msg = f"there is no property {name!r}"
        raise ValueError(msg)
    for name, bit in _BITS.items():
        if name not in properties:
            continue
        flags |= bit
        value = properties[name]
        if name == "headers":
            table = _encode_table(value)
            parts.append(_LENGTH.pack(len(table)) + table)
        elif name in _NUMBERS:
            parts.append(struct.pack(_NUMBERS[name], value))
        else:
            parts.append(_short(bytes_of(value)))
    parts[0] = struct.pack(">H", flags)
    return b"".join(parts)


def _encode_table(table: Any) -> bytes:
    pairs = table.items() if isinstance(table, dict) else table
    return b"".join(_short(bytes_of(key)) + _encode_value(value) for key, value in pairs)


def _encode_value(value: Any) -> bytes:
    if isinstance(value, str):
        return b"S" + _long(value.encode())
    if value is None:
        return b"V"
    if value is True or value is False:
        return b"t\x01" if value else b"t\x00"
    ((letter, inner),) = value.items()
    encoder = _ENCODERS.get(letter)
    if encoder is None:
        msg = f"there is no field type {letter!r}"
        raise ValueError(msg)
    kind: bytes = letter.encode()
    return kind + encoder(inner)


def _encode_float(letter: str) -> Callable[[Any], bytes]:
    def encoder(value: Any) -> bytes:
        if isinstance(value, str):
            return bytes.fromhex(value)
        packed: bytes = _FLOATS[letter].pack(value)
        return packed

    return encoder


_ENCODERS: Final[dict[str, Callable[[Any], bytes]]] = {
    **{letter: struct.Struct(form).pack for letter, form in _INTEGERS.items()},
    "f": _encode_float("f"),
    "d": _encode_float("d"),
    "t": struct.Struct(">B").pack,
    "D": lambda pair: _DECIMAL.pack(*pair),
    "S": lambda value: _long(_bytes(value)),
    "x": lambda value: _long(_bytes(value)),
    "F": lambda table: _long(_encode_table(table)),
    "A": lambda array: _long(b"".join(map(_encode_value, array))),
}


def _short(data: bytes) -> bytes:
    return struct.pack(">B", len(data)) + data


def _long(data: bytes) -> bytes:
    return _LENGTH.pack(len(data)) + data


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)
