"""Polygons of a picture: whether one is sound, what lies inside, and how much of a box does. Pure.

Points are (x, y) in 0..1 of the upright picture, from its upper left corner to the right and down.
Either direction around a polygon will do.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from pipeline.transport.messages import Box

Point = tuple[float, float]
Polygon = tuple[Point, ...]

SMALLEST = 1e-4
"""Of the picture's area. A smaller polygon is a slip of the mouse: 30 pixels of 640×480."""
_TOUCHING = 1e-9
"""Twice the area of a triangle that counts as a line."""


def edges(polygon: Sequence[Point]) -> Iterator[tuple[Point, Point]]:
    """The sides, the last of which leads back to the first point."""
    return zip(polygon, (*polygon[1:], polygon[0]), strict=True)


def area(polygon: Sequence[Point]) -> float:
    """0..1 of the picture (the shoelace formula)."""
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in edges(polygon))) / 2


def crossing(polygon: Sequence[Point]) -> tuple[int, int] | None:
    """Two sides that cross, touch or lie on one another; numbered from 0, None if none do.

    Side n goes from point n to the next.
    """
    sides = list(edges(polygon))
    for (one, first), (other, second) in combinations(enumerate(sides), 2):
        if other == one + 1:
            meet = _folds(first[0], first[1], second[1])
        elif one == 0 and other == len(sides) - 1:
            meet = _folds(second[0], second[1], first[1])
        else:
            meet = _meet(first, second)
        if meet:
            return one, other
    return None


def contains(polygon: Sequence[Point], point: Point) -> bool:
    """Whether a point is inside or on a side."""
    x, y = point
    inside = False
    for start, end in edges(polygon):
        (x0, y0), (x1, y1) = start, end
        if abs(_turn(start, end, point)) <= 1e-12 and _between(start, end, point):
            return True
        # Sides that a line from the point to the right crosses; an odd number of them is inside.
        if (y0 > y) != (y1 > y) and x < x0 + (y - y0) * (x1 - x0) / (y1 - y0):
            inside = not inside
    return inside


def share_inside(box: Box, polygon: Sequence[Point]) -> float:
    """How much of a box's area lies inside a polygon, 0..1.

    A box without area is a line or a point: 1 if its middle is inside.
    """
    x0, y0, x1, y1 = box
    whole = (x1 - x0) * (y1 - y0)
    if whole <= 0:
        return float(contains(polygon, ((x0 + x1) / 2, (y0 + y1) / 2)))
    # Sutherland and Hodgman: cut off what is past each side of the box. What that leaves of a
    # polygon with notches hangs together by lines, which have no area.
    cut = list(polygon)
    for axis, limit, sign in ((0, x0, 1), (0, x1, -1), (1, y0, 1), (1, y1, -1)):
        cut = _cut(cut, axis, limit, sign)
        if not cut:
            return 0.0
    return min(1.0, area(cut) / whole)


def zone_of(box: Box, zones: Mapping[str, Polygon], least: float = 0.0) -> str | None:
    """The zone that holds the most of a box, and more than ``least`` of it; None if none does.

    Of zones that hold the same, the one named first.
    """
    shares = {name: share_inside(box, polygon) for name, polygon in zones.items()}
    best = max(shares, key=lambda name: shares[name], default=None)
    return best if best is not None and shares[best] > least else None


def _cut(polygon: list[Point], axis: int, limit: float, sign: int) -> list[Point]:
    """The part of a polygon where ``sign * (coordinate - limit)`` is positive."""
    kept: list[Point] = []
    if not polygon:
        return kept
    for start, end in edges(polygon):
        ahead, behind = sign * (end[axis] - limit), sign * (start[axis] - limit)
        if (ahead > 0) != (behind > 0):
            part = behind / (behind - ahead)
            kept.append(
                (start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1]))
            )
        if ahead > 0:
            kept.append(end)
    return kept


def _turn(a: Point, b: Point, c: Point) -> float:
    """Positive where a, b, c turn one way, negative the other way, 0 on a line."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def _side(a: Point, b: Point, c: Point) -> int:
    turn = _turn(a, b, c)
    return 0 if abs(turn) <= _TOUCHING else 1 if turn > 0 else -1


def _between(a: Point, b: Point, point: Point) -> bool:
    """Whether a point on the line through a and b lies from a to b."""
    return all(min(p, q) <= r <= max(p, q) for p, q, r in zip(a, b, point, strict=True))


def _folds(a: Point, b: Point, c: Point) -> bool:
    """Whether the way from a over b to c goes back on itself."""
    back = (b[0] - a[0]) * (c[0] - b[0]) + (b[1] - a[1]) * (c[1] - b[1]) < 0
    return back and _side(a, b, c) == 0


def _meet(first: tuple[Point, Point], second: tuple[Point, Point]) -> bool:
    (a, b), (c, d) = first, second
    of_first, of_second = (_side(a, b, c), _side(a, b, d)), (_side(c, d, a), _side(c, d, b))
    if of_first[0] * of_first[1] < 0 and of_second[0] * of_second[1] < 0:
        return True
    touches = ((a, b, c, of_first[0]), (a, b, d, of_first[1]),
               (c, d, a, of_second[0]), (c, d, b, of_second[1]))  # fmt: skip
    return any(side == 0 and _between(p, q, r) for p, q, r, side in touches)
