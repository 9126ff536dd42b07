"""Which columns the table shows in the room that it has, and how wide. Pure.

All of them at their widths while there is room for that, and the text gets what is left. In a
narrower window first the columns that can be read in part are narrowed, then those are left out
whose value is also in the message below. Number, text and state always stay.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Column(NamedTuple):
    """A column of the table."""

    sample: str
    """A text that it has room for."""
    side: str
    """Where its texts stand: ``w`` or ``e``."""
    narrowest: float = 1.0
    """To which part of its width it may shrink."""


COLUMNS: Final[dict[str, Column]] = {
    "number": Column("9,999,999", "e"),
    "time": Column("00:00:00.000", "w"),
    "id": Column("00000000…000000000000", "w", 0.5),
    "from": Column("somebody 12", "w", 0.6),
    "n": Column("9999999", "e"),
    "text": Column("a short text", "w", 0.5),
    "size": Column("999.9 KiB", "e"),
    "redelivered": Column("Redelivered", "w"),
    "state": Column("● requeued", "w"),
}
_SHRINK: Final = ("id", "from")
"""In this order."""
_LEAVE_OUT: Final = ("redelivered", "size", "id", "from", "time", "n")
"""In this order. Of a redelivered message the row has a colour, too."""


def fit(wanted: dict[str, int], room: int) -> dict[str, int]:
    """Return the columns to show and their widths; ``wanted`` has the widths of all of them.

    Their sum is ``room``, unless the three that always stay, the text at its narrowest, need more.
    """
    widths = dict(wanted)
    for leave_out in (None, *_LEAVE_OUT):
        if leave_out is not None:
            if sum(widths.values()) <= room:
                break
            del widths[leave_out]
            widths |= {key: wanted[key] for key in _SHRINK if key in widths}
        for key in _SHRINK:
            if key in widths and (over := sum(widths.values()) - room) > 0:
                least = round(wanted[key] * COLUMNS[key].narrowest)
                widths[key] = max(least, widths[key] - over)
    rest = room - sum(widths.values())
    widths["text"] = max(round(wanted["text"] * COLUMNS["text"].narrowest), widths["text"] + rest)
    return widths
