"""A message for people to read, and as a line of JSON for programs. Pure.

Holds: the cells of a table row, the text of the detail pane, JSON set apart over lines, bytes as
hex, and one message as one line of JSON. Everything for people goes through ``text.safe`` and has a
length: a body of 10 MB is shown by its beginning. A line of JSON is whole, and loses nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.text import safe
from rabbitproof.view.humanize import size as human_size

if TYPE_CHECKING:
    from rabbitproof.received import Message, Row, State

COLUMNS: Final = (
    ("number", "#"), ("time", "Time"), ("id", "Message id"), ("from", "From"), ("n", "n"),
    ("text", "Text"), ("size", "Size"), ("redelivered", "Redelivered"), ("state", "State"),
)  # fmt: skip
"""Key and heading of each column of the table."""

SHOWN_BODY: Final = 16 * 1024
"""Characters of a body that the detail pane shows: more takes a text widget too long."""
_SHOWN_HEX: Final = 4 * 1024
"""Bytes of a body that are shown as hex, in 256 lines."""
_WHOLE: Final = 1 << 20
"""Bytes of a body that is parsed, to be set apart: 20 ms at worst."""
_SHOWN_HEADERS: Final = 400
_LINE: Final = 1_000
"""Characters of one line: a text widget takes long over longer ones."""
_DEEPEST: Final = 24
"""Levels of indentation; what is deeper stays at this one."""

SIGNS: Final[dict[State, str]] = {
    "unacked": "● unacked",
    "acked": "acked",
    "requeued": "↺ requeued",
    "rejected": "✕ rejected",
    "returned": "↺ returned",
}
"""What became of a delivery, in a cell."""


def clock(seconds: float) -> str:
    """Return the time of day, in this machine's zone, with milliseconds."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%H:%M:%S.%f")[:-3]


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as the table shows it, a text for each of ``COLUMNS``."""
    return (
        f"{row.number:,}",
        clock(row.arrived),
        _short(safe(row.message_id, 100)) or "-",
        safe(row.sender, 40) or "-",
        safe(row.n, 24) or "-",
        ("✕ damaged: " if row.corrupt else "") + safe(row.text, 200),
        human_size(row.size),
        "yes" if row.redelivered else "",
        SIGNS[row.state],
    )


def _short(message_id: str) -> str:
    """Return both ends of a long id: of ours, the run and the number."""
    return message_id if len(message_id) <= 22 else f"{message_id[:8]}…{message_id[-12:]}"


def detail(message: Message) -> list[tuple[str, str]]:
    """Return what a message is, as (text, kind); kinds: title, name, value, note, body."""
    out: list[tuple[str, str]] = []

    def line(name: str, value: str, kind: str = "value") -> None:
        out.extend(((f"{name}  ", "name"), (f"{value}\n", kind)))

    out.append((f"Message {message.number:,}\n", "title"))
    if message.corrupt:
        out.append(("Its checksum is wrong: it was altered on the way.\n", "note"))
    line("state", _states(message))
    line(
        "arrived",
        datetime.fromtimestamp(message.arrived).astimezone().isoformat(" ", "milliseconds"),
    )
    line("exchange", safe(message.exchange, 255) or "(default)")
    line("routing key", safe(message.routing_key, 255) or "(empty)")
    out.append(("\nProperties\n", "title"))
    if message.malformed:
        out.append(("They could not be read: their bytes are no properties.\n", "note"))
    elif not message.properties:
        out.append(("none\n", "note"))
    for name, value in message.properties.items():
        line(name, _value(value))
    out.append((f"\nHeaders ({len(message.headers)})\n", "title"))
    if not message.headers:
        out.append(("none\n", "note"))
    for i, (name, value) in enumerate(message.headers.items()):
        if i == _SHOWN_HEADERS:
            out.append(
                (f"… and {len(message.headers) - i} more; save the message for all\n", "note")
            )
            break
        line(safe(str(name), 128), _value(value))
    return out


def body(message: Message) -> list[tuple[str, str]]:
    """Return the text of the pane beside it, in the same form: what the message says."""
    return [(f"Body ({human_size(message.size)})\n", "title"), *_body(message)]


def _states(message: Message) -> str:
    words = [SIGNS[message.state]]
    if message.redelivered:
        words.append("redelivered")
    if message.foreign:
        words.append("not sent by rabbitproof")
    return ", ".join(words)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return safe(value, _LINE)
    if isinstance(value, (bytes, bytearray)):
        return safe(bytes(value), _LINE)
    if isinstance(value, datetime):
        return safe(value.isoformat(" "), 60)
    return safe(json.dumps(_plain(value), ensure_ascii=False), _LINE)


def _body(message: Message) -> list[tuple[str, str]]:
    body = message.body
    if body is None:
        return [("No longer kept: newer messages needed the room.\n", "note")]
    if not body:
        return [("empty\n", "note")]
    text = as_text(
        body[: _WHOLE if len(body) <= _WHOLE else SHOWN_BODY * 4], whole=len(body) <= _WHOLE
    )
    if text is None:
        out: list[tuple[str, str]] = [(hex_dump(body[:_SHOWN_HEX]), "body")]
        if len(body) > _SHOWN_HEX:
            out.append((_more(human_size(len(body) - _SHOWN_HEX)), "note"))
        return out
    apart = set_apart(text) if len(body) <= _WHOLE else None
    shown = text if apart is None else apart
    out = [(lines(shown), "body"), ("\n", "body")]
    if len(shown) > SHOWN_BODY or len(body) > _WHOLE:
        out.append((_more(human_size(max(len(body) - SHOWN_BODY, 1))), "note"))
    return out


def _more(left: str) -> str:
    return f"\n… about {left} more; save the message for all of it\n"


def lines(text: str) -> str:
    """Return the beginning of a text of many lines, safe, none of its lines too long."""
    out: list[str] = []
    room = SHOWN_BODY
    for line in text[:SHOWN_BODY].splitlines() or [""]:
        shown = safe(line, max(1, room))
        room -= len(shown) + 1
        out.extend(shown[i : i + _LINE] for i in range(0, max(len(shown), 1), _LINE))
        if room <= 0:
            break
    return "\n".join(out)


def as_text(body: bytes, *, whole: bool = True) -> str | None:
    """Return bytes as text; None when they are no UTF-8, or hold what no text has.

    ``whole``: False when the bytes may end within a character.
    """
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        if whole or error.start < len(body) - 3:
            return None
        text = body[: error.start].decode()
    odd = len(_CONTROLS.findall(text, 0, 4096))
    return None if odd * 10 > min(len(text), 4096) else text


_CONTROLS = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")
"""An escape is none of them: text with colours is text."""

_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def set_apart(text: str) -> str | None:
    """Return JSON with a line for each value, everything else as it came; None if it is no JSON.

    Numbers, double keys and escapes stay as they are, which printing what was parsed would lose.
    """
    if text[:1] not in "{[" and text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return None
    out: list[str] = []
    depth = 0
    size = 0
    before = ""
    for match in _PIECE.finditer(text):
        piece = match.group()
        if piece in ("}", "]"):
            depth -= 1
            if before not in ("{", "["):
                out.append(_fresh(depth))
        elif before in ("{", "[", ","):
            out.append(_fresh(depth))
        out.append(": " if piece == ":" else piece)
        if piece in ("{", "["):
            depth += 1
        before = piece
        size += len(piece) + depth
        if size > 4 * SHOWN_BODY:
            break
    return "".join(out)


def _fresh(depth: int) -> str:
    return "\n" + "  " * min(max(depth, 0), _DEEPEST)


def hex_dump(data: bytes, width: int = 16) -> str:
    """Return bytes as lines of offset, hex and what of it is printable ASCII."""
    out = []
    for start in range(0, len(data), width):
        row = data[start : start + width]
        digits = binascii.hexlify(row, " ").decode()
        plain = "".join(chr(c) if 0x20 <= c < 0x7F else "." for c in row)
        out.append(f"{start:08x}  {digits:<{width * 3}} {plain}\n")
    return "".join(out)


def json_line(message: Message) -> str:
    """Return one message as one line of JSON, without the end of the line.

    A body that is UTF-8 stands under ``body``, any other under ``body_base64``; one that is no
    longer kept under neither, with ``body_kept`` false.
    """
    out: dict[str, Any] = {
        "number": message.number,
        "arrived": datetime.fromtimestamp(message.arrived, UTC).isoformat(),
        "state": message.state,
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "redelivered": message.redelivered,
        "properties": _plain(message.properties),
        "headers": _plain(message.headers),
    }
    body = message.body
    if body is None:
        out["body_kept"] = False
    else:
        try:
            out["body"] = body.decode()
        except UnicodeDecodeError:
            out["body_base64"] = base64.b64encode(body).decode()
    return json.dumps(out)


def _plain(value: Any, depth: int = 0) -> Any:
    """Return a value of a field table as JSON has it; what JSON lacks is named in an object."""
    if depth > 100:
        return {"too deep": True}
    if isinstance(value, dict):
        return {str(name): _plain(each, depth + 1) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each, depth + 1) for each in value]
    if isinstance(value, (bytes, bytearray)):
        return {"base64": base64.b64encode(bytes(value)).decode()}
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return {"float": str(value)}
    return value if value is None or isinstance(value, (str, int, float, bool)) else str(value)
