"""JSON of a file becomes a value of its type, and a value JSON: one codec for all that is written.

What is read is untrusted. A key that nobody knows, a number out of its range and a value of another
type are refused, and the error says where it stands. Pure.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Final

import msgspec

LONGEST: Final = 1 << 20
"""Bytes of JSON in one frame. What is written has some kilobytes."""

Time = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""Nanoseconds: since 1970, or of a clock that nobody sets."""
Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Value(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that is written as a JSON object."""


def encode(value: object) -> bytes:
    """Return a value as compact JSON. Raise ValueError when that is longer than a frame may be."""
    try:
        written = msgspec.json.encode(value, enc_hook=str)
    except UnicodeEncodeError:  # a name out of a file system may be no Unicode
        written = msgspec.json.encode(_unicode(msgspec.to_builtins(value, enc_hook=str)))
    if len(written) > LONGEST:
        raise ValueError(f"{len(written)} bytes of JSON in one frame are above the format's limit")
    return written


def decode(payload: bytes, kind: Any) -> Any:
    """Return the value that JSON is. Raise ValueError when it is none of that type."""
    if len(payload) > LONGEST:
        raise ValueError("an entry is longer than the format allows")
    try:
        return _decoder(kind).decode(payload)
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    except msgspec.MsgspecError as error:
        raise ValueError(str(error)) from None


@cache
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)


def _unicode(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {_unicode(key): _unicode(one) for key, one in value.items()}
    return [_unicode(one) for one in value] if isinstance(value, (list, tuple)) else value
