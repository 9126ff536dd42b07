"""On which line of a TOML text a key stands, so that a mistake in a file can be pointed at.

``tomllib`` tells the line of a broken file only. Here the text is known to be valid, so looking
at tables, keys and the ends of long strings is enough. Pure. Refuses to know what a key means.
"""

from __future__ import annotations

import re
from typing import Final

Path = tuple[str | int, ...]
"""Keys from the outermost table inwards; the number of an entry in an array of tables from 0."""

_TABLE: Final = re.compile(r"^\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(?:#.*)?$")
_KEY: Final = re.compile(
    r"""^\s*((?:"[^"]*"|'[^']*'|[\w-]+)(?:\s*\.\s*(?:"[^"]*"|'[^']*'|[\w-]+))*)\s*="""
)
_PART: Final = re.compile(r""""([^"]*)"|'([^']*)'|([\w-]+)""")
_LONG: Final = ('"""', "'''")


def find_lines(text: str) -> dict[Path, int]:
    """Return the line (from 1) of every table and every key of a valid TOML text."""
    found: dict[Path, int] = {}
    entries: dict[Path, int] = {}
    table: Path = ()
    closing: str | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if closing is not None:
            closing = None if closing in line else closing
            continue
        if (head := _TABLE.match(line)) and not _KEY.match(line):
            table = _parts(head[2])
            if head[1] == "[[":
                at = entries[table] = entries.get(table, -1) + 1
                table = (*table, at)
            elif table[:1] in entries:  # a table inside the last entry of an array
                table = (table[0], entries[table[:1]], *table[1:])
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            found.setdefault((*table, *_parts(key[1])), number)
            rest = line[key.end() :]
            closing = next((mark for mark in _LONG if rest.count(mark) == 1), None)
    return found


def line_of(lines: dict[Path, int], path: Path) -> int | None:
    """Return the line of a key, else that of what it would stand in; None for the whole file."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None


def _parts(dotted: str) -> Path:
    return tuple(double or single or bare for double, single, bare in _PART.findall(dotted))
