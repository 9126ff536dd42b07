from __future__ import annotations

import re
from math import inf, nan
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rabbitproof.view.curve import (
    COLOURS,
    HALF,
    MOST_POINTS,
    NARROW,
    WIDE,
    Mark,
    Points,
    over_time,
    percentiles,
    thin,
)

SVG = "{http://www.w3.org/2000/svg}"
LINE: Points = ((0.0, 10.0), (5.0, 40.0), (10.0, 20.0))


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314 - our own


def groups(svg: str, name: str) -> list[ElementTree.Element]:
    return [g for g in parsed(svg).iter(f"{SVG}g") if name in (g.get("class") or "").split()]


def path_of(group: ElementTree.Element) -> list[tuple[float, float]]:
    numbers = [float(one) for one in re.findall(r"-?[\d.]+", group[0].get("d") or "")]
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def words(svg: str) -> list[str]:
    return [(node.text or "").strip() for node in parsed(svg).iter(f"{SVG}text")]


# --- thinning ---------------------------------------------------------------------------------

VALUES = st.lists(st.tuples(st.floats(0, 1e6), st.floats(allow_nan=True)), max_size=60)


@given(VALUES.map(sorted), st.integers(4, 8))
def test_what_is_thinned_keeps_ends_and_extremes_in_order(
    values: list[tuple[float, float]], most: int
) -> None:
    """A peak of one moment is what one looks for."""
    points = tuple(values)
    known = [point for point in points if point[1] not in (inf, -inf) and point[1] == point[1]]
    out = thin(points, most)
    assert len(out) <= max(most, 0)
    rest = iter(known)
    assert all(any(point is other or point == other for other in rest) for point in out)
    if known:
        assert (out[0], out[-1]) == (known[0], known[-1])
        for extreme in (min, max):
            assert extreme(v for _, v in out) == extreme(v for _, v in known)


def test_one_moment_in_ten_thousand_stays() -> None:
    """A peak and a drop, wherever they are."""
    values = [50.0] * 10_000
    values[1234], values[8765] = 99.0, 0.0
    out = thin(tuple((float(i), value) for i, value in enumerate(values)))
    assert len(out) <= MOST_POINTS
    assert {(1234.0, 99.0), (8765.0, 0.0)} <= set(out)


def test_a_short_line_stays_whole() -> None:
    """Nothing is thinned out that has room."""
    assert thin(LINE) == LINE


# --- over time --------------------------------------------------------------------------------


def test_a_line_goes_through_its_points() -> None:
    """The middle is half-way to the right, and the higher the value the higher it is."""
    (line,) = groups(over_time("t", [LINE], [], 10.0), "c0")
    (x0, y0), (x1, y1), (x2, y2) = path_of(line)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y0 - y1) / (y0 - y2) == pytest.approx(3, rel=0.02)


def test_what_happened_stands_on_the_axis_of_time() -> None:
    """A line with its number where it began, a band for as long as it took."""
    svg = over_time("t", [LINE], [Mark(1, 5.0, 7.5), Mark(2, 9.0, None)], 10.0)
    (x0, _), (x1, _), (x2, _) = path_of(groups(svg, "c0")[0])
    first, second = groups(svg, "mark")
    assert path_of(first)[0][0] == pytest.approx(x1, abs=0.2)
    assert [g.findtext(f"{SVG}text") for g in (first, second)] == ["1", "2"]
    (band,) = groups(svg, "band")
    xs = [x for x, _ in path_of(band)]
    assert (min(xs), max(xs)) == (
        pytest.approx(x1, abs=0.2), pytest.approx((x1 + x2) / 2, abs=0.2),
    )  # fmt: skip
    assert path_of(second)[0][0] == pytest.approx(x0 + 0.9 * (x2 - x0), abs=0.2)


def test_numbers_of_what_happened_at_once_do_not_cover_each_other() -> None:
    """The second one stands lower."""
    svg = over_time("t", [LINE], [Mark(1, 5.0, None), Mark(2, 5.05, None)], 10.0)
    heights = [g.find(f"{SVG}text").get("y") for g in groups(svg, "mark")]  # type: ignore[union-attr]
    assert len(set(heights)) == 2


def test_all_charts_have_the_same_axis_of_time() -> None:
    """However long the figures beside it are, so that one can be read below the other."""
    small = over_time("t", [((0, 1), (10, 2))], [], 10.0)
    large = over_time("t", [((0, 1), (10, 2e6))], [], 10.0)
    places = [
        [
            float(re.findall(r"[\d.]+", plot.get("transform") or "")[0])
            for plot in groups(svg, "plot")
        ]
        for svg in (small, large)
    ]
    assert places[0] == places[1]


@pytest.mark.parametrize(
    ("end", "label"),
    [(0.4, "0.2 s"), (60, "30 s"), (60, "1 min"), (600, "5 min"), (9000, "1 h"), (86400, "4 h")],
)
def test_times_are_round(end: float, label: str) -> None:
    """Seconds, minutes or hours, as it suits."""
    assert label in words(over_time("t", [((0, 1), (end, 2))], [], end))


@pytest.mark.parametrize("end", [1e-3, 0.07, 3, 59, 1234, 7e5, 3e7])
@pytest.mark.parametrize("canvas", [WIDE, NARROW])
def test_times_do_not_touch(end: float, canvas: object) -> None:
    """There are few enough of them."""
    svg = over_time("t", [((0, 1), (end, 2))], [], end, canvas)  # type: ignore[arg-type]
    (axis,) = groups(svg, "x")
    assert 2 <= len(list(axis.iter(f"{SVG}text"))) <= canvas.x_marks + 1  # type: ignore[attr-defined]


def test_more_lines_than_colours_begin_again() -> None:
    """And each is drawn."""
    svg = over_time("t", [LINE] * (COLOURS + 1), [], 10.0)
    assert len(groups(svg, "line")) == COLOURS + 1
    assert len(groups(svg, "c0")) == 2


@pytest.mark.parametrize("lines", [[], [()], [((1.0, 5.0),)], [((0.0, nan), (1.0, inf))]], ids=str)
def test_without_two_points_there_is_nothing_to_draw(lines: list[Points]) -> None:
    """And no empty picture."""
    assert over_time("t", lines, [], 10.0) == ""


def test_a_line_of_nothing_is_drawn() -> None:
    """All zero is a finding."""
    assert groups(over_time("t", [((0, 0), (10, 0))], [], 10.0), "c0")


def test_a_line_is_broken_where_nobody_looked() -> None:
    """Drawn through, an outage would look like a slow decline."""
    looked: Points = tuple((i / 10, 5.0) for i in [*range(10), *range(60, 70), 95])
    parts = groups(over_time("t", [looked], [], 10.0), "c0")
    assert [len(path_of(part)) for part in parts] == [10, 10, 2]
    assert len(groups(over_time("t", [LINE], [], 10.0), "c0")) == 1


def test_what_happened_outside_is_left_out() -> None:
    """It would widen the axis."""
    assert not groups(over_time("t", [LINE], [Mark(1, 50.0, None)], 10.0), "mark")


def test_a_long_line_is_a_small_drawing() -> None:
    """A hundred thousand points cost what some hundred do."""
    long = tuple((float(i), float(i * 7919 % 1000)) for i in range(100_000))
    svg = over_time("t", [long], [], 100_000.0)
    assert len(svg) < 12_000
    assert len(path_of(groups(svg, "c0")[0])) <= MOST_POINTS


# --- percentiles ------------------------------------------------------------------------------

CURVE: Points = ((50.0, 1.0), (90.0, 2.0), (99.0, 10.0), (99.9, 100.0), (100.0, 5000.0))


def test_each_nine_is_as_wide_as_the_one_before() -> None:
    """And ten times as long is as high a step as the one before."""
    (line,) = groups(percentiles("t", CURVE), "c0")
    (_, _), (x1, _), (x2, y2), (x3, y3), (_, _) = path_of(line)
    assert x3 - x2 == pytest.approx(x2 - x1, abs=0.3)
    (line,) = groups(percentiles("t", ((90, 1.0), (99, 10.0), (99.9, 100.0))), "c0")
    heights = [y for _, y in path_of(line)]
    assert heights[0] - heights[1] == pytest.approx(heights[1] - heights[2], abs=0.3)
    assert y3 < y2


def test_the_maximum_is_the_end_of_the_curve() -> None:
    """At p99.99, when nothing else is as rare."""
    svg = percentiles("t", ((50.0, 1.0), (90.0, 2.0), (100.0, 100.0)))
    assert {"p50", "p90", "p99.99", "100 ms"} <= set(words(svg))
    (line,) = groups(svg, "c0")
    assert len(path_of(line)) == 3


def test_axes_of_percentiles_are_named() -> None:
    """With units."""
    assert {"p50", "p90", "p99", "p99.9", "1 ms", "10 ms", "100 ms"} <= set(
        words(percentiles("t", CURVE))
    )
    assert "1 s" in words(percentiles("t", ((50.0, 900.0), (99.0, 1100.0))))


@pytest.mark.parametrize("points", [(), ((50.0, 1.0),), ((50.0, 1.0), (50.0, 2.0))], ids=str)
def test_one_percentile_is_no_curve(points: Points) -> None:
    """And no empty picture."""
    assert percentiles("t", points) == ""


@given(
    st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1e8)), max_size=40).map(tuple),
    st.sampled_from([WIDE, HALF, NARROW]),
)
def test_any_curve_can_be_drawn(points: Points, canvas: object) -> None:
    """Zero milliseconds included."""
    svg = percentiles("t", points, canvas)  # type: ignore[arg-type]
    assert "nan" not in svg
    if svg:
        parsed(svg)


# --- safety -----------------------------------------------------------------------------------


DRAWINGS = (
    over_time('"><script>\x00', [LINE], [Mark(1, 5.0, 6.0)], 10.0), percentiles("<b>", CURVE),
)  # fmt: skip


@pytest.mark.parametrize("svg", DRAWINGS, ids=["over_time", "percentiles"])
def test_it_runs_and_loads_nothing(svg: str) -> None:
    """No script, no style, no id that two charts of a page would share; and it has a name."""
    root = parsed(svg)
    tags = {node.tag.removeprefix(SVG) for node in root.iter()}
    assert tags <= {"svg", "g", "path", "rect", "text"}
    names = {name for node in root.iter() for name in node.attrib}
    assert not {name for name in names if name in {"id", "style"} or name.startswith(("on", "{"))}
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert svg.isprintable()
