"""Untrusted text made safe to show.

Holds: the one function through which everything that comes from a message, a queue name, a
client or a server passes before a person sees it. Refuses to hold: colours, columns, HTML
(that is ``view``). Pure.

Why: a terminal obeys what it is shown. An escape sequence in a queue name can rewrite the
screen or the window title (CWE-150), a bidirectional control can make a line read as its
opposite (CVE-2021-42574), a newline can forge a line of our own output (CWE-117).

Rules: harmless text comes back unchanged, backslashes included; what is dangerous comes back
as a visible escape; the result is never longer than the limit.
"""

from __future__ import annotations

import re

DEFAULT_LIMIT = 200
"""Characters of one value that are shown when nothing else is asked for: two wide lines."""

_DANGEROUS = (
    "\x00-\x1f\x7f-\x9f"  # C0, DEL, C1: an ESC or a CSI begins a terminal's command
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e"  # invisible: soft hyphen, joiner, fillers
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # bidirectional controls
    "\u200b-\u200d\u2060-\u2065\ufeff"  # of no width
    "\u2028\u2029"  # line and paragraph separator
    "\u206a-\u206f\ufff9-\ufffb"  # deprecated format controls, interlinear annotation
    "\ud800-\udfff"  # lone surrogates: no encoder takes them
    "\U000e0000-\U000e0fff"  # tags and further selectors: text nobody sees
)
_ANY_DANGER = re.compile(f"[{_DANGEROUS}]")
_DANGER_BUT_NEWLINE = re.compile(f"(?!\n)[{_DANGEROUS}]")

_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}
_CUT = "…"


def fitting(value: str, octets: int) -> str:
    """Return as much of the beginning of a text as fits in so many bytes of UTF-8.

    What no bytes of UTF-8 can say becomes a question mark: a name from a command line may hold it.
    """
    return value.encode(errors="replace")[:octets].decode(errors="ignore")


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def safe(value: str | bytes, limit: int = DEFAULT_LIMIT, *, newlines: bool = False) -> str:
    r"""Return ``value`` so that showing it does nothing but show it.

    Control, ANSI, bidirectional, invisible and separator characters become visible escapes
    (``\x1b``, ``\u202e``, ``\n``), as do lone surrogates and bytes that are not UTF-8. At most
    ``limit`` characters come back (at least one); what was cut ends in ``…``. With
    ``newlines`` a line feed stays: for texts of our own that have several lines.

    ``safe(safe(x)) == safe(x)`` for the same limit.
    """
    limit = max(limit, 1)
    if isinstance(value, bytes):
        # A character has at most four bytes: what is beyond can't be shown anyway, and an
        # untrusted value may be large.
        value = value[: 4 * (limit + 1)].decode("utf-8", "backslashreplace")
    if len(value) <= limit and value.isascii() and value.isprintable():
        return value
    danger = _DANGER_BUT_NEWLINE if newlines else _ANY_DANGER
    shown = danger.sub(_escape, value[: limit + 1])
    if len(shown) <= limit:
        return shown
    return _cut(value[: limit + 1], danger, limit - len(_CUT)) + _CUT


def _cut(value: str, danger: re.Pattern[str], room: int) -> str:
    """Escape as much of ``value`` as fits into ``room`` characters; no half escapes."""
    shown: list[str] = []
    for character in value:
        piece = danger.sub(_escape, character)
        room -= len(piece)
        if room < 0:
            break
        shown.append(piece)
    return "".join(shown)
