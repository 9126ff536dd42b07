"""Numbers as a person reads them at a glance. Pure; refuses to know what they count."""

from __future__ import annotations

_STEPS = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "K"))


def number(value: float | None) -> str:
    """Return 0 to 999 as it is, then 5.2K, 10.0K, 1.5M, 2.0G; "?" for what nobody knows.

    Never 1000.0K: what rounds up to the next letter gets it.
    """
    if value is None:
        return "?"
    sign, size = ("-" if value < 0 else ""), abs(value)
    if round(size) < 1000:
        return f"{sign}{size:.0f}"
    for step, letter in _STEPS:
        if size >= step * 0.99995:
            return f"{sign}{size / step:.1f}{letter}"
    return f"{sign}1.0K"


def rate(value: float | None) -> str:
    """Return messages a second: 250.5/s, 12.3K/s; "?/s" for what nobody knows."""
    if value is None:
        return "?/s"
    if value < 999.95:
        return f"{value:.1f}/s"
    return f"{number(value)}/s"


def size(value: float | None) -> str:
    """Return bytes: 512 B, 1.5 KiB, 2.0 GiB."""
    if value is None:
        return "?"
    unit = "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1023.95 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def duration(seconds: float | None) -> str:
    """Return a length of time with its two largest units: 45 s, 2 min 5 s, 3 h 20 min, 4 d 2 h."""
    if seconds is None:
        return "?"
    whole = max(0, round(seconds))
    minutes, s = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    if minutes:
        return f"{minutes} min {s} s"
    return f"{s} s"
