"""Polygons: what lies inside, how much of a box does, and which cross themselves."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.steps.polygons import (
    Point,
    Polygon,
    area,
    contains,
    crossing,
    share_inside,
    zone_of,
)
from pipeline.transport.messages import Box

SQUARE: Polygon = ((0.2, 0.2), (0.6, 0.2), (0.6, 0.6), (0.2, 0.6))
NOTCHED: Polygon = ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.5, 0.3), (0.1, 0.9))
BOW: Polygon = ((0.0, 0.0), (1.0, 1.0), (1.0, 0.0), (0.0, 1.0))

unit = st.floats(0, 1)


@st.composite
def stars(draw: st.DrawFn) -> Polygon:
    """Polygons around a point, with notches, that never cross themselves."""
    count = draw(st.integers(3, 12))
    around = draw(st.lists(st.floats(0.05, 0.45), min_size=count, max_size=count))
    turned = draw(st.floats(0, 1))
    angles = [2 * math.pi * (n + turned) / count for n in range(count)]
    return tuple(
        (0.5 + r * math.cos(a), 0.5 + r * math.sin(a)) for r, a in zip(around, angles, strict=True)
    )


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    x0, x1 = sorted((draw(unit), draw(unit)))
    y0, y1 = sorted((draw(unit), draw(unit)))
    return x0, y0, x1, y1


def counted(box: Box, polygon: Sequence[Point], grid: int = 40) -> float:
    """The share of a grid's points within a box that lie inside."""
    x0, y0, x1, y1 = box
    xs = x0 + (np.arange(grid) + 0.5) * (x1 - x0) / grid
    ys = y0 + (np.arange(grid) + 0.5) * (y1 - y0) / grid
    return sum(contains(polygon, (float(x), float(y))) for x in xs for y in ys) / grid**2


@pytest.mark.parametrize(
    ("point", "inside"),
    [
        ((0.3, 0.3), True),
        ((0.2, 0.2), True),  # a corner
        ((0.6, 0.4), True),  # on a side
        ((0.61, 0.4), False),
        ((0.1, 0.2), False),  # level with a side
        ((0.7, 0.6), False),
    ],
)
def test_a_point_is_inside_or_on_a_side_or_outside(point: Point, inside: bool) -> None:
    assert contains(SQUARE, point) is inside
    assert contains(SQUARE[::-1], point) is inside


def test_a_notch_is_outside() -> None:
    assert not contains(NOTCHED, (0.5, 0.5))
    assert contains(NOTCHED, (0.5, 0.2))
    assert share_inside((0.45, 0.45, 0.55, 0.55), NOTCHED) == 0.0


@pytest.mark.parametrize(
    ("box", "share"),
    [
        ((0.3, 0.3, 0.4, 0.4), 1.0),
        ((0.0, 0.0, 1.0, 1.0), 0.16),
        ((0.5, 0.2, 0.7, 0.6), 0.5),
        ((0.6, 0.2, 0.8, 0.6), 0.0),
        ((0.3, 0.3, 0.3, 0.3), 1.0),  # no area: its place counts
        ((0.9, 0.3, 0.9, 0.3), 0.0),
    ],
)
def test_the_share_of_a_box(box: Box, share: float) -> None:
    assert share_inside(box, SQUARE) == pytest.approx(share)


@given(boxes(), stars())
@settings(max_examples=25, deadline=None)
def test_the_share_of_a_box_is_what_counting_says(box: Box, polygon: Polygon) -> None:
    assume(box[2] - box[0] > 0.05 and box[3] - box[1] > 0.05)
    share = share_inside(box, polygon)
    assert 0 <= share <= 1
    assert share == pytest.approx(counted(box, polygon), abs=0.08)
    assert share_inside(box, polygon[::-1]) == pytest.approx(share, abs=1e-9)


@given(stars())
def test_the_whole_picture_holds_the_whole_polygon(polygon: Polygon) -> None:
    assert share_inside((0, 0, 1, 1), polygon) == pytest.approx(area(polygon))
    assert crossing(polygon) is None


@given(stars(), st.integers(0, 11))
def test_any_point_may_be_the_first(polygon: Polygon, by: int) -> None:
    turned = polygon[by % len(polygon) :] + polygon[: by % len(polygon)]
    assert area(turned) == pytest.approx(area(polygon))
    assert crossing(turned) is None


@pytest.mark.parametrize(
    ("polygon", "sides"),
    [
        (BOW, (0, 2)),
        (((0, 0), (1, 0), (0.5, 0), (0.5, 1)), (0, 1)),  # back on itself
        (((0, 0), (1, 0), (1, 1), (0.5, 0), (0, 1)), (0, 2)),  # a corner on a side
        (((0, 0), (0.4, 0), (0.8, 0)), (0, 2)),  # a line
        (((0, 0), (1, 0), (0, 0.5), (1, 1), (0, 1), (0, 0.5)), (1, 4)),  # a corner twice
    ],
)
def test_sides_that_meet_are_found(polygon: Polygon, sides: tuple[int, int]) -> None:
    assert crossing(polygon) == sides


@pytest.mark.parametrize(
    "polygon",
    [SQUARE, SQUARE[::-1], NOTCHED, ((0, 0), (0.5, 0), (1, 0), (1, 1))],  # a point on a straight
)
def test_sound_polygons_have_none(polygon: Polygon) -> None:
    assert crossing(polygon) is None


def test_the_zone_of_a_box_is_the_one_that_holds_most_of_it() -> None:
    zones = {"left": ((0, 0), (0.5, 0), (0.5, 1), (0, 1)), "right": ((0.5, 0), (1, 0), (1, 1))}
    assert zone_of((0.4, 0.1, 0.55, 0.2), zones) == "left"
    assert zone_of((0.8, 0.1, 0.9, 0.2), zones) == "right"
    assert zone_of((0.5, 0.9, 0.55, 1.0), zones) is None
    assert zone_of((0.3, 0.1, 0.7, 0.2), zones, least=0.6) is None
    assert zone_of((0, 0, 1, 1), {}) is None
