"""Figures over time, and percentiles, as static SVG to stand inside a page.

The colours are the page's, by class: ``c0`` to ``c5`` for the lines, ``band`` and ``mark`` for what
happened at a time. Refuses to hold: bars (``chart.py``, which also takes out of pygal's drawing
what a page does not want), and tables. Pure; all texts may be untrusted.

A page has to stay small however long a run was, so lines are thinned out before they are drawn. A
peak or a drop of a single moment is what one looks for, so those are what stays.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, floor, isfinite, log10
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from rabbitproof.text import safe
from rabbitproof.view.chart import library, static

if TYPE_CHECKING:
    from collections.abc import Sequence

Points = tuple[tuple[float, float], ...]

COLOURS: Final = 6
"""Lines that can be told apart; further ones begin again."""
MOST_POINTS: Final = 400
"""Of one line in a drawing: two or three units of the picture for each."""
_FONT: Final = 13
"""As in ``chart.py``: what pygal reckons with, for the page's 15."""
_LABEL: Final = 9
"""Characters of a figure beside the axis, filled up, so that the time axes of all charts align."""
_SHORTEST_MS: Final = 0.001
"""What took less is drawn here; a logarithm has no zero."""
_RAREST: Final = 4.0
"""Where the maximum is drawn when nothing is rarer: at p99.99."""
_GAP: Final = 6.0
"""A line ends where the next sample is so many times later than is usual: nobody looked."""
_STEPS_S: Final = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600,
    900, 1800, 3600, 7200, 14400, 21600, 43200, 86400,
)  # fmt: skip
"""Lengths between two marks of the time axis, seconds."""
_LONG_NUMBER: Final = re.compile(r"-?\d+\.\d+")


@dataclass(frozen=True, slots=True)
class Canvas:
    """How large a drawing is, in units that are a pixel each where there is room for them."""

    width: int
    height: int
    x_marks: int
    """Marks of the horizontal axis, at most."""


WIDE: Final = Canvas(920, 240, 10)
HALF: Final = Canvas(450, 240, 6)
NARROW: Final = Canvas(360, 220, 5)


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened, and its number in the list beside the chart."""

    number: int
    at_s: float
    until_s: float | None


def thin(points: Points, most: int = MOST_POINTS) -> Points:
    """Return at most ``most`` of the points (4 or more), in their order.

    The first, the last, and the lowest and highest of each stretch stay. What is no number goes.
    """
    known = tuple(point for point in points if isfinite(point[0]) and isfinite(point[1]))
    if len(known) <= most:
        return known
    inner = known[1:-1]
    stretches = (most - 2) // 2
    out = [known[0]]
    for i in range(stretches):
        part = inner[i * len(inner) // stretches : (i + 1) * len(inner) // stretches]
        indices = range(len(part))
        low = min(indices, key=lambda k: part[k][1])
        high = max(indices, key=lambda k: part[k][1])
        out += [part[k] for k in sorted({low, high})]
    return (*out, known[-1])


def over_time(
    title: str,
    lines: Sequence[Points],
    marks: Sequence[Mark],
    end_s: float,
    canvas: Canvas = WIDE,
) -> str:
    """Return the lines from 0 to ``end_s``, with what happened; nothing without two points."""
    drawn = [thin(points) for points in lines]
    if not any(len(points) > 1 for points in drawn) or end_s <= 0:
        return ""
    start = min([0.0, *(points[0][0] for points in drawn if points)])
    top = max([value for points in drawn for _, value in points] + [1.0]) * 1.08
    chart = _chart(canvas, (start, end_s), (0.0, top))
    chart.x_labels = [{"value": at, "label": _time(at)} for at in _times(end_s, canvas.x_marks)]
    chart.y_labels = [
        {"value": at, "label": _count(at).rjust(_LABEL)} for at in _round_numbers(top, 4)
    ]
    inside = [mark for mark in marks if start <= mark.at_s <= end_s]
    classes = []
    for mark in inside:
        if mark.until_s is not None:
            until = min(mark.until_s, end_s)
            corners = [(mark.at_s, 0), (mark.at_s, top), (until, top), (until, 0)]
            chart.add("", corners, fill=True)
            classes.append("band")
    for number, points in enumerate(drawn):
        for part in _parts(points, end_s):
            chart.add("", list(part))
            classes.append(f"line c{number % COLOURS}")
    for mark in inside:
        chart.add("", [(mark.at_s, 0), (mark.at_s, top)])
        classes.append("mark")
    root = chart.render_tree()
    _dress(root, classes, [str(mark.number) for mark in inside])
    return static(root, title)


def _parts(points: Points, end_s: float) -> list[Points]:
    """Return the stretches of a line without a gap; each has two points at least."""
    if len(points) < 2:
        return []
    usual = median(b[0] - a[0] for a, b in pairwise(points))
    longest = max(_GAP * usual, end_s / 50)
    out = [[points[0]]]
    for before, point in pairwise(points):
        if point[0] - before[0] > longest:
            out.append([])
        out[-1].append(point)
    return [tuple(part) if len(part) > 1 else (part[0], part[0]) for part in out]


def percentiles(title: str, points: Points, canvas: Canvas = HALF) -> str:
    """Return milliseconds over percentiles, both on axes where each step is ten times the last.

    The further to the right, the rarer: 90, 99, 99.9 percent. Nothing without two points.
    """
    known = sorted(
        (_rarity(p), log10(max(ms, _SHORTEST_MS)))
        for p, ms in points
        if 0 <= p < 100 and isfinite(ms)
    )
    if known and (top := max((ms for p, ms in points if p >= 100 and isfinite(ms)), default=0.0)):
        known.append((max(_RAREST, known[-1][0]), log10(max(top, _SHORTEST_MS))))
    if len({x for x, _ in known}) < 2:
        return ""
    start, end = known[0][0], known[-1][0]
    low, high = known[0][1], max(y for _, y in known)
    chart = _chart(canvas, (start, end), (_below(low), _above(high)))
    shown = [p for p in (50, 90, 99, 99.9, 99.99, 99.999) if start <= _rarity(p) <= end + 1e-9]
    chart.x_labels = [{"value": _rarity(p), "label": f"p{p:g}"} for p in shown]
    chart.y_labels = [
        {"value": log10(ms), "label": _duration(ms)} for ms in _decades(_below(low), _above(high))
    ]
    chart.add("", list(thin(tuple(known))))
    root = chart.render_tree()
    _dress(root, ["line c0"], [])
    return static(root, title)


def _chart(canvas: Canvas, x: tuple[float, float], y: tuple[float, float]) -> Any:
    pygal = library()
    return pygal.XY(
        width=canvas.width,
        height=canvas.height,
        margin=4,
        margin_top=16,  # the numbers of the marks
        margin_right=24,  # half of the last label
        xrange=x,
        range=y,
        show_legend=False,
        show_dots=False,
        show_x_guides=False,
        js=(),
        truncate_label=-1,
        style=pygal.style.Style(
            font_family="inherit", label_font_size=_FONT, value_colors=("inherit",)
        ),
    )


def _dress(root: Any, classes: list[str], numbers: list[str]) -> None:
    """Give each line the class that the page colours, marks their numbers; shorten the rest."""
    from pygal.etree import etree

    numbers = numbers[::-1]
    marked = float("-inf")
    for parent in list(root.iter()):
        for child in list(parent):
            kind = child.get("class") or ""
            if "overlay" in kind or kind == "titles":
                parent.remove(child)
        found = re.match(r"series serie-(\d+)", parent.get("class") or "")
        if found is None or not len(parent):
            continue
        name = classes[int(found[1])]
        parent.set("class", name)
        for path in list(parent):
            path.attrib.pop("class", None)
            path.set("d", _LONG_NUMBER.sub(lambda m: f"{float(m[0]):.1f}", path.get("d", "")))
            if name == "mark":
                at = float(path.get("d").split()[0].removeprefix("M"))
                # Two that are near each other stand in two lines.
                high, marked = (-3, at) if at - marked > 12 else (10, marked)
                text = etree.SubElement(parent, "text", x=f"{at:.1f}", y=str(high))
                text.text = safe(numbers.pop())


# --- axes -------------------------------------------------------------------------------------


def _times(end_s: float, most: int) -> list[float]:
    step = next((s for s in _STEPS_S if end_s / s <= most), end_s / most)
    return [step * i for i in range(int(end_s / step + 1e-9) + 1)]


def _time(at: float) -> str:
    for unit, seconds in (("h", 3600), ("min", 60)):
        if at >= 2 * seconds or (at >= seconds and at % seconds == 0):
            return f"{at / seconds:,.4g} {unit}"
    return f"{at:.3g} s"


def _round_numbers(top: float, most: int) -> list[float]:
    rough = top / most
    power = 10.0 ** floor(log10(rough))
    step = next(step for step in (1, 2, 5, 10) if step * power >= rough) * power
    return [step * i for i in range(int(top / step) + 1)]


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def _rarity(percentile: float) -> float:
    """Return how many tens one in so many messages is: 1 for p90, 2 for p99, 3 for p99.9."""
    return -log10(1 - percentile / 100)


def _below(exponent: float) -> float:
    return floor(exponent * 2 - 0.1) / 2


def _above(exponent: float) -> float:
    return ceil(exponent * 2 + 0.1) / 2


def _decades(low: float, high: float) -> list[float]:
    factors = (1, 2, 5) if high - low <= 1.5 else (1,)
    return [
        factor * 10.0**power
        for power in range(floor(low), ceil(high) + 1)
        for factor in factors
        if low <= log10(factor * 10.0**power) <= high
    ]


def _duration(ms: float) -> str:
    return f"{ms / 1000:,.3g} s" if ms >= 1000 else f"{ms:.3g} ms"
