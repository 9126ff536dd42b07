from __future__ import annotations

import sys
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from rabbitproof.model import Spread
from rabbitproof.view.chart import Bar, bars

SVG = "{http://www.w3.org/2000/svg}"
OURS = Bar("rabbitproof", Spread(30_000, 36_000, 38_000), ours=True)
PIKA = Bar("pika", Spread(1700, 1800, 1900))


def drawn(*values: Bar, reference: tuple[str, float] | None = None) -> ElementTree.Element:
    return ElementTree.fromstring(bars("what it shows", "msg/s", list(values), reference))  # noqa: S314


def texts(root: ElementTree.Element) -> list[str]:
    return [node.text or "" for node in root.iter(f"{SVG}text")]


def rects(root: ElementTree.Element) -> list[ElementTree.Element]:
    found = [node for node in root.iter(f"{SVG}rect") if "background" not in node.attrib["class"]]
    return sorted(found, key=lambda node: float(node.attrib["y"]))


def test_bars_are_as_long_as_their_values() -> None:
    """36,000 is twenty times 1,800; the first is on top and ours has a class of its own."""
    top, below = rects(drawn(OURS, PIKA))
    assert float(top.attrib["width"]) == pytest.approx(20 * float(below.attrib["width"]))
    assert (top.attrib["class"], below.attrib["class"]) == ("rect ours", "rect")


def test_a_bar_says_its_name_and_value() -> None:
    """Beside it, and with the spread where a pointer rests on it."""
    root = drawn(OURS, PIKA)
    assert "rabbitproof  36,000" in texts(root)
    assert "pika  1,800" in texts(root)
    assert "rabbitproof: 36,000 msg/s, from 30,000 to 38,000" in [
        node.text for node in root.iter(f"{SVG}title")
    ]


def test_whiskers_reach_from_low_to_high() -> None:
    """On the scale of the bars: 8,000 where 36,000 is the length of the bar."""
    root = drawn(OURS)
    (bar,) = rects(root)
    (ci,) = [node for node in root.iter(f"{SVG}g") if node.get("class") == "ci"]
    points = [part.split()[0] for part in ci[0].attrib["d"].replace("M", "L").split("L")[1:]]
    length = max(map(float, points)) - min(map(float, points))
    assert length / float(bar.attrib["width"]) == pytest.approx(8 / 36, rel=1e-3)


def test_the_reference_is_a_line_with_its_name() -> None:
    """At its value: twice as far from zero as the end of a bar of half of it."""
    root = drawn(Bar("half", Spread(20_000, 20_000, 20_000)), reference=("ceiling", 40_000.0))
    assert "ceiling 40,000" in texts(root)
    (line,) = [n for n in root.iter(f"{SVG}path") if "major" in n.get("class", "")]
    (bar,) = rects(root)
    at = float(line.attrib["d"].split()[0].removeprefix("M"))
    zero = float(bar.attrib["x"])
    assert (at - zero) / float(bar.attrib["width"]) == pytest.approx(2.0, rel=1e-3)


def test_without_a_reference_no_line_is_special() -> None:
    """And the scale has round numbers."""
    root = drawn(OURS)
    assert not [n for n in root.iter(f"{SVG}path") if "major" in n.get("class", "")]
    assert {"0", "10,000", "20,000", "30,000"} <= set(texts(root))


@pytest.mark.parametrize("ceiling", [1.0, 50.0, 1801.0, 36_000.0, 41_000.0, 9e6])
def test_numbers_of_the_scale_do_not_touch(ceiling: float) -> None:
    """There is room for six digits and more around each."""
    root = drawn(OURS, PIKA, reference=("ceiling", ceiling))
    (axis,) = [n for n in root.iter(f"{SVG}g") if (n.get("class") or "").startswith("axis x")]
    at = sorted(float(node.attrib["x"]) for node in axis.iter(f"{SVG}text"))
    assert all(b - a > 60 for a, b in pairwise(at))


def test_it_runs_and_loads_nothing() -> None:
    """No script, no style, no link, no id that two charts of a page would share."""
    root = drawn(OURS, PIKA, reference=("ceiling", 40_000.0))
    assert {node.tag.removeprefix(SVG) for node in root.iter()} == {
        "svg", "g", "path", "rect", "text", "title",
    }  # fmt: skip
    names = {name for node in root.iter() for name in node.attrib}
    assert not {name for name in names if name in {"id", "style"} or name.startswith(("on", "{"))}
    assert "<!--" not in bars("x", "y", [OURS], None)


def test_it_has_a_name_for_those_who_cannot_see_it() -> None:
    """A picture, and what it shows."""
    root = drawn(OURS)
    assert (root.get("role"), root.get("aria-label")) == ("img", "what it shows")


def test_hostile_names_are_text() -> None:
    """No element, no escape sequence, no endless label."""
    evil = Bar("<script>alert(1)</script>\x1b[2J\u202e\x00" + "x" * 5000, Spread(1, 2, 3))
    svg = bars('"><script>\x00', "<b>", [evil], ("<i>\x07", 3.0))
    assert "<script" not in svg
    assert svg.isprintable()
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own
    assert all(len(text) < 40 for text in texts(root))
    assert r"<i>\x07 3" in texts(root)


def test_one_bar_of_nothing_is_drawn() -> None:
    """Instead of a division by zero."""
    assert "nothing  0" in texts(drawn(Bar("nothing", Spread(0, 0, 0))))


def test_drawing_leaves_no_hook_in_the_import_system() -> None:
    """The one that comes with pygal would make every later import that fails warn."""
    bars("x", "y", [OURS], None)
    assert not [finder for finder in sys.meta_path if type(finder).__module__ == "pygal"]
