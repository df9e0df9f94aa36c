"""Areas, lines and anchors of a picture."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.decide.geometry import Anchor, Line, Point, Polygon, anchors_of, polygon_mistakes, segments_meet

SQUARE: tuple[Point, ...] = ((0.2, 0.2), (0.8, 0.2), (0.8, 0.8), (0.2, 0.8))
ELL: tuple[Point, ...] = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.3), (0.3, 0.3), (0.3, 0.9), (0.1, 0.9))
WHOLE: tuple[Point, ...] = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))


@pytest.mark.parametrize(
    ("polygon", "point", "inside"),
    [
        pytest.param(SQUARE, (0.5, 0.5), True, id="middle"),
        pytest.param(SQUARE, (0.1, 0.5), False, id="left of it"),
        pytest.param(SQUARE, (0.9, 0.5), False, id="right of it"),
        pytest.param(SQUARE, (0.5, 0.9), False, id="below"),
        pytest.param(SQUARE, (0.2, 0.5), True, id="on the left edge"),
        pytest.param(SQUARE, (0.8, 0.5), False, id="on the right edge"),
        pytest.param(SQUARE[::-1], (0.5, 0.5), True, id="corners the other way round"),
        pytest.param(ELL, (0.2, 0.8), True, id="in the leg of an L"),
        pytest.param(ELL, (0.6, 0.6), False, id="in the notch of an L"),
        pytest.param(ELL, (0.2, 0.3), True, id="level with a corner"),
    ],
)
def test_point_in_polygon(polygon: tuple[Point, ...], point: Point, inside: bool) -> None:
    assert Polygon(polygon).contains(np.array([point])).tolist() == [inside]


shares = st.floats(0, 1).map(lambda value: round(value, 3))


@given(st.lists(st.tuples(shares, shares), min_size=3, max_size=3, unique=True), st.tuples(shares, shares))
def test_a_point_is_in_a_triangle_when_it_is_on_the_same_side_of_all_edges(corners: list[Point], p: Point) -> None:
    def turn(a: Point, b: Point) -> float:
        return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])

    turns = [turn(corners[i], corners[(i + 1) % 3]) for i in range(3)]
    if min(abs(t) for t in turns) > 1e-9:  # not on an edge
        same = all(t > 0 for t in turns) or all(t < 0 for t in turns)
        assert Polygon(corners).contains(np.array([p])).tolist() == [same]


@pytest.mark.parametrize("box", [(0, 0, 100, 100), (-50, 20, 30, 120), (90, 90, 100, 100), (80, 50, 140, 90)])
@pytest.mark.parametrize("anchor", list(Anchor))
def test_every_anchor_is_inside_the_whole_picture(box: tuple[float, ...], anchor: Anchor) -> None:
    points = anchors_of(np.array([box], np.float32), 100, 100, anchor)
    assert Polygon(WHOLE).contains(points).all()


def test_anchors_are_shares_of_the_picture() -> None:
    box = np.array([(100, 50, 140, 100)], np.float32)
    assert anchors_of(box, 400, 200, Anchor.BOTTOM_CENTRE)[0] == pytest.approx((0.3, 0.5))
    assert anchors_of(box, 400, 200, Anchor.CENTRE)[0] == pytest.approx((0.3, 0.375))


@pytest.mark.parametrize(
    ("a", "b", "c", "d", "meet"),
    [
        pytest.param((0, 0), (1, 1), (0, 1), (1, 0), True, id="cross"),
        pytest.param((0, 0), (1, 0), (0, 1), (1, 1), False, id="parallel"),
        pytest.param((0, 0), (1, 0), (0.5, 0), (0.5, 1), True, id="an end touches"),
        pytest.param((0, 0), (0.4, 0), (0.6, 0), (1, 0), False, id="on one line, apart"),
        pytest.param((0, 0), (0.6, 0), (0.4, 0), (1, 0), True, id="on one line, overlapping"),
        pytest.param((0, 0), (1, 0), (1.1, -1), (1.1, 1), False, id="past the end"),
    ],
)
def test_segments_meet(a: Point, b: Point, c: Point, d: Point, meet: bool) -> None:
    assert segments_meet(a, b, c, d) is meet
    assert segments_meet(d, c, b, a) is meet


@pytest.mark.parametrize(
    ("start", "end", "right"),
    [
        pytest.param((0.5, 1.0), (0.5, 0.0), (0.7, 0.5), id="looking up, right is right"),
        pytest.param((0.5, 0.0), (0.5, 1.0), (0.3, 0.5), id="looking down, right is left"),
        pytest.param((0.0, 0.5), (1.0, 0.5), (0.5, 0.7), id="looking right, right is below"),
    ],
)
def test_the_right_of_a_line_is_as_drawn(start: Point, end: Point, right: Point) -> None:
    line = Line(start, end)
    assert line.distance(right) == pytest.approx(0.2)
    assert Line(end, start).distance(right) == pytest.approx(-0.2)


@pytest.mark.parametrize(
    ("corners", "complaint"),
    [
        pytest.param(SQUARE, None, id="square"),
        pytest.param(ELL, None, id="concave"),
        pytest.param(((0.1, 0.1), (0.5, 0.1), (0.9, 0.1), (0.5, 0.9)), None, id="a corner on a straight edge"),
        pytest.param(((0.1, 0.1), (0.2, 0.2)), "at least 3", id="two points"),
        pytest.param(((0.1, 0.1), (1.2, 0.1), (0.5, 0.9)), r"point 2 \(1.2, 0.1\) lies outside", id="outside"),
        pytest.param(((0.1, 0.1), (float("nan"), 0.1), (0.5, 0.9)), "point 2", id="not a number"),
        pytest.param(((0.1, 0.1), (0.9, 0.9), (0.9, 0.1), (0.1, 0.9)), "runs into", id="bow tie"),
        pytest.param(((0.1, 0.1), (0.1, 0.1), (0.9, 0.1), (0.1, 0.9)), "are the same", id="a point twice"),
        pytest.param(((0.1, 0.1), (0.9, 0.1), (0.5, 0.1)), "runs into", id="no area"),
        pytest.param(((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.9, 0.4), (0.1, 0.9)), "runs into", id="a spike"),
    ],
)
def test_polygon_mistakes(corners: tuple[Point, ...], complaint: str | None) -> None:
    mistakes = "; ".join(polygon_mistakes(corners))
    assert mistakes == "" if complaint is None else re.search(complaint, mistakes)
