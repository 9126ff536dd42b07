"""A bar chart as static SVG, to stand inside a page; and what all charts have in common.

The colours are the page's, by class: ``bars`` (each bar ``rect``, ours ``ours``), ``ci`` for the
whiskers, ``axis``, ``guide``, ``major`` for the reference. So the chart follows the page into the
dark. Refuses to hold: scripts, styles, anything that loads from elsewhere, and lines
(``curve.py``).

pygal draws; what it adds for its own script and its own colours is taken out again.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from math import floor, log10
from typing import TYPE_CHECKING, Any

from rabbitproof.text import safe

if TYPE_CHECKING:
    from rabbitproof.model import Spread

_WIDTH = 560
_BAR, _AROUND = 36, 48
"""Height of one bar, and of what is around all of them; the units are those of the picture."""
_FONT = 13
"""What pygal reckons with. It takes each character to be 0.6 of it wide, as if all were of one
width; in the fonts of a page, and at the page's 15, that leaves room enough."""
_LABEL = 22
"""Characters of a name; more would leave the bars no room."""
_TICKS = 2
"""Between zero and the end; with more the numbers touch when all are long."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar."""

    name: str
    value: Spread
    ours: bool = False


def bars(title: str, unit: str, values: list[Bar], reference: tuple[str, float] | None) -> str:
    """Return bars from left to right, the first on top, with whiskers from low to high.

    ``title`` is for those who can't see it. ``reference`` is drawn as a line through all bars,
    named, at its value. All texts may be untrusted.
    """
    pygal = library()
    end = max([bar.value.high for bar in values] + ([reference[1]] if reference else []))
    labels: list[dict[str, Any]] = [
        {"value": tick, "label": f"{tick:,.0f}"} for tick in _ticks(end, reference)
    ]
    if reference:
        labels.append({"value": reference[1], "label": f"{safe(reference[0])} {reference[1]:,.0f}"})
    chart = pygal.HorizontalBar(
        width=_WIDTH,
        height=_AROUND + _BAR * len(values),
        margin=4,
        margin_right=64,  # half of the reference's label, which is centred below the end
        spacing=8,
        range=(0, end * 1.02),
        y_labels=labels,
        y_labels_major=[reference[1]] if reference else [end * 2],  # none
        show_legend=False,
        js=(),
        truncate_label=-1,
        style=pygal.style.Style(
            font_family="inherit", label_font_size=_FONT, major_label_font_size=_FONT,
            value_colors=("inherit",),
        ),
    )  # fmt: skip
    upwards = values[::-1]  # pygal's first bar is the lowest
    chart.x_labels = [f"{safe(bar.name, _LABEL)}  {bar.value.median:,.0f}" for bar in upwards]
    chart.add("", [_value(bar, unit) for bar in upwards])
    return static(chart.render_tree(), title)


def library() -> Any:
    """Import pygal, without the hook for plugins that it leaves in Python's import system.

    The hook knows only what Python 3.4 deprecated: every import that fails later would warn.
    """
    import pygal

    sys.meta_path[:] = [
        finder for finder in sys.meta_path if type(finder) is not pygal.PluginImportFixer
    ]
    return pygal


def _value(bar: Bar, unit: str) -> dict[str, Any]:
    spread = bar.value
    return {
        "value": spread.median,
        "ci": {"low": spread.low, "high": spread.high},
        "node": {"class": "rect ours" if bar.ours else "rect"},
        "tooltip": f"{safe(bar.name)}: {spread.median:,.0f} {unit}, "
        f"from {spread.low:,.0f} to {spread.high:,.0f}",
    }


def _ticks(end: float, reference: tuple[str, float] | None) -> list[float]:
    """Return round numbers up to ``end``, none of them so near the reference that texts touch."""
    if end <= 0:
        return [0.0]
    rough = end / _TICKS
    power = 10.0 ** floor(log10(rough))
    step = next(step for step in (10, 5, 2, 1) if step * power <= rough) * power
    ticks = [step * i for i in range(int(end / step) + 1)]
    if reference is None:
        return ticks
    return [tick for tick in ticks if abs(tick - reference[1]) > 0.28 * end]


def static(root: Any, title: str) -> str:
    """Return pygal's tree as text, without all that is there for a script or a style sheet."""
    from pygal.etree import etree

    for parent in list(root.iter()):
        for child in list(parent):
            if _superfluous(parent, child):
                parent.remove(child)
        for name in ("id", "style"):
            parent.attrib.pop(name, None)
    root.set("role", "img")
    root.set("aria-label", safe(title, 1000))
    return str(etree.tostring(root, encoding="unicode"))


def _superfluous(parent: Any, child: Any) -> bool:
    if not isinstance(child.tag, str):
        return True  # a comment
    name = child.tag.rpartition("}")[2]
    if name == "title":
        return bool(parent.get("class") != "bar")
    return name in {"defs", "desc", "script", "style"} or "tooltip" in child.get("class", "")
