"""What somebody looks for among messages, as a test over their bytes.

A query is words; all of them have to match. A word stands anywhere in a message's properties,
headers or body. ``id:``, ``from:``, ``n:`` and ``text:`` look in one place, ``is:`` at what a
message is (``is:unacked``, ``is:redelivered``), ``-`` in front turns a word round, and quotes keep
words together. Capitals of A to Z make no difference.

Most messages are never decoded for it: bytes are compared, so that fifty thousand messages a
second can be looked at. Pure; refuses to know where messages are kept (``inbox``).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rabbitproof.errors import UsageError
from rabbitproof.text import safe

if TYPE_CHECKING:
    from collections.abc import Callable

    from rabbitproof.received import Row

KINDS: Final = (
    "unacked", "acked", "requeued", "rejected", "returned", "redelivered", "corrupt", "foreign",
)  # fmt: skip
"""What ``is:`` knows."""
PLACES: Final = ("id", "from", "n", "text")

_WORD = re.compile(r'(-?)(?:([a-z]+):)?(?:"([^"]*)"?|(\S+))')
_LONGEST: Final = 500
"""Characters of a query."""


@dataclass(frozen=True, slots=True)
class _Term:
    place: str
    needles: tuple[bytes, ...]
    text: str
    wanted: bool


class Query:
    """One query, ready to be asked of many messages."""

    __slots__ = ("_terms",)

    def __init__(self, text: str) -> None:
        """Raise UsageError, a sentence, for what makes no sense."""
        self._terms = tuple(_terms(text))

    def __bool__(self) -> bool:
        return bool(self._terms)

    def matches(
        self,
        head: bytes,
        body: bytes,
        kinds: Callable[[], frozenset[str]],
        row: Callable[[], Row],
    ) -> bool:
        """Say whether a message matches.

        ``head``: its encoded properties. ``kinds`` and ``row`` are asked only when a term is about
        what they know, and only after the bytes allow a match.
        """
        lowered = b""
        for term in self._terms:
            if term.place == "is":
                found = term.text in kinds()
            elif term.place == "n":
                found = row().n == term.text
            else:
                if not lowered:
                    # The mark in between keeps a word from matching across the two.
                    lowered = head.lower() + b"\xff" + body.lower()
                found = any(needle in lowered for needle in term.needles)
                if found and term.place:
                    shown = row()
                    where = {"id": shown.message_id, "from": shown.sender, "text": shown.text}
                    found = term.text in where[term.place].lower()
            if found is not term.wanted:
                return False
        return True


def _terms(text: str) -> list[_Term]:
    found = []
    for minus, place, quoted, plain in _WORD.findall(text[:_LONGEST]):
        word = quoted or plain
        if place and place not in (*PLACES, "is"):  # a word with a colon in it, such as a URL
            place, word = "", f"{place}:{word}"
        if place == "is" and word not in KINDS:
            raise UsageError(
                f"There is no is:{safe(word, 40)}; there are {', '.join(f'is:{k}' for k in KINDS)}."
            )
        if word:
            found.append(_Term(place, _needles(word), word.lower(), not minus))
    return found


def _needles(word: str) -> tuple[bytes, ...]:
    """Return the ways in which bytes may say a word: as it is, and with JSON's escapes."""
    plain = word.encode("utf-8", "surrogatepass").lower()
    ascii_json = json.dumps(word)[1:-1].encode().lower()
    json_text = json.dumps(word, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass").lower()
    return tuple(dict.fromkeys((plain, ascii_json, json_text)))
