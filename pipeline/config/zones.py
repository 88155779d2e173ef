"""Polygons as a config has them: named zones, and parts of the picture to ignore."""

import math
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from pipeline.config.suggestion import did_you_mean
from pipeline.model.labels import normal, problem_of
from pipeline.steps.polygons import SMALLEST, Polygon, area, crossing

MOST_POINTS = 64
MOST_POLYGONS = 64
"""Of a camera, zones and ignored parts each."""
_HOW = "write a list of at least 3 points [x, y], as in [[0, 0], [0.5, 0], [0.5, 0.3]]"


def _number(value: object, axis: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where}: its {axis} is no number; {_HOW}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where}: its {axis} is no finite number ({value})")
    if not 0 <= value <= 1:
        shown = f"{value:g}" if abs(value) < 1e6 else "far outside"
        pixels = ""
        if value >= 2:
            pixels = "; for pixels, divide x by the picture's width and y by its height"
        raise ValueError(
            f"{where}: its {axis} is {shown}; x and y go from 0 to 1, from the upper left corner "
            f"of the picture{pixels}"
        )
    return float(value)


def _point(value: object, where: str) -> tuple[float, float]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where} is no point; {_HOW}")
    if len(value) != 2:
        raise ValueError(f"{where} has {len(value)} numbers; a point is [x, y]")
    return _number(value[0], "x", where), _number(value[1], "y", where)


def _polygon(value: object) -> Polygon:
    """Points count from 1 in messages."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"it is no polygon; {_HOW}")
    points = [_point(point, f"point {number}") for number, point in enumerate(value, 1)]
    if len(points) > 2 and points[-1] == points[0]:
        points.pop()  # GeoJSON and others say the first point again
    if len(points) < 3:
        count = f"{len(points)} point{'' if len(points) == 1 else 's'}"
        raise ValueError(f"it has {count}; a polygon has at least 3")
    if len(points) > MOST_POINTS:
        raise ValueError(f"it has {len(points)} points; at most {MOST_POINTS} are allowed")
    for number, (one, other) in enumerate(zip(points, points[1:] + points[:1], strict=True), 1):
        if one == other:
            last = number % len(points) + 1
            raise ValueError(f"points {number} and {last} are the same; leave one out")
    if met := crossing(points):
        one_side, other_side = (_side(number, len(points)) for number in met)
        raise ValueError(
            f"its side from {one_side} crosses or touches the one from {other_side}; "
            "give the points in their order around it"
        )
    if area(points) < SMALLEST:
        raise ValueError(
            f"it covers {100 * area(points):.2g} % of the picture; at least "
            f"{100 * SMALLEST:g} % is needed"
        )
    return tuple(points)


def _side(number: int, count: int) -> str:
    return f"point {number + 1} to point {(number + 1) % count + 1}"


def _zone_name(name: str) -> str:
    # The name isn't repeated: what stands in a camera's section may be a part of an address.
    name = normal(name)
    if problem := problem_of(name):
        raise ValueError(
            f"its name {problem}; a zone's name is letters, digits, spaces and _ . + -, at most "
            "64 characters"
        )
    return name


_SCHEMA = {
    "type": "array",
    "minItems": 3,
    "maxItems": MOST_POINTS + 1,
    "items": {
        "type": "array",
        "minItems": 2,
        "maxItems": 2,
        "items": {"type": "number", "minimum": 0, "maximum": 1},
    },
}
PolygonSetting = Annotated[Polygon, BeforeValidator(_polygon), WithJsonSchema(_SCHEMA)]
"""A polygon in a config."""
ZoneName = Annotated[str, AfterValidator(_zone_name)]


def _not_one(value: object) -> object:
    points = value if isinstance(value, list | tuple) else ()
    if points and all(_is_point(point) for point in points):
        raise ValueError(
            "it is a single polygon; put it into a list of polygons, as in "
            "[[[0, 0], [0.5, 0], [0.5, 0.3]]]"
        )
    return value


def _is_point(value: object) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(isinstance(number, int | float) for number in value)
    )


Zones = Annotated[dict[ZoneName, PolygonSetting], Field(max_length=MOST_POLYGONS)]
Ignored = Annotated[
    list[PolygonSetting], BeforeValidator(_not_one), Field(max_length=MOST_POLYGONS)
]


def unknown_zone(
    name: str, zones: Mapping[str, Polygon], who: str = "the camera has"
) -> str | None:
    """What is wrong with the name of a zone that a rule asks for; None if ``zones`` have it."""
    if name in zones:
        return None
    known = f"{who} {', '.join(zones)}" if zones else f"{who} none"
    return f"no such zone; {known}{did_you_mean(name, zones)}"
