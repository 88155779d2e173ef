"""Where somebody is: zones of a camera's picture. Pure."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from pipeline.config.rules import LabelRule
from pipeline.steps.polygons import Point, Polygon, contains
from pipeline.transport.messages import Box


@dataclass(frozen=True, slots=True)
class Around:
    """What is known, at a step, of where things are."""

    subject: Box | None = None
    """The box of the subject; None where that is the whole picture."""
    people: tuple[Box, ...] | None = None
    """Where people are; None where nobody has looked."""
    is_person: bool = False
    """Whether the subject is a person."""


NOWHERE = Around()


class Zones:
    """The zones of one camera, named polygons in 0..1 of the picture."""

    def __init__(self, polygons: Mapping[str, Polygon]) -> None:
        self._polygons = polygons

    def of(self, place: Point, among: Collection[str] = ()) -> str | None:
        """The first zone that a point is in; ``among`` names those that count, by default all."""
        for name, polygon in self._polygons.items():
            if (not among or name in among) and contains(polygon, place):
                return name
        return None

    def of_subject(self, around: Around) -> str | None:
        """The zone of a step's subject; None where that is the whole picture."""
        return None if around.subject is None else self.of(_place(around))


def feet(box: Box) -> Point:
    """Where a person stands: the middle of the box's lower side."""
    return (box[0] + box[2]) / 2, box[3]


def _place(around: Around) -> Point:
    assert around.subject is not None
    x0, y0, x1, y1 = around.subject
    return feet(around.subject) if around.is_person else ((x0 + x1) / 2, (y0 + y1) / 2)


def missing(rule: LabelRule, around: Around, zones: Zones) -> str | None:
    """Which of its conditions about people and places a rule finds unmet; None if all are met.

    ``person``, ``size`` or ``zone``. Of the whole picture's action, some person must meet size and
    zone. Where nobody has looked for long, what asks for people is met: a detector that has failed
    must not silence an alarm.
    """
    if not rule.asks_for_people:
        return None
    if around.people is None and (around.subject is None or rule.needs_person):
        return None
    if rule.needs_person and not around.people and not around.is_person:
        return "person"
    boxes: list[tuple[Box, Point]]
    if around.subject is not None:
        boxes = [(around.subject, _place(around))]
    else:
        boxes = [(box, feet(box)) for box in around.people or ()]
    if not boxes:
        return "person"
    large = [place for box, place in boxes if _size(box) >= rule.min_size]
    if not large:
        return "size"
    return None if not rule.zones or _zone(large, rule, zones) is not None else "zone"


def zone_that_counts(rule: LabelRule, around: Around, zones: Zones) -> str | None:
    """The zone for which a rule lets the whole picture's action pass; None if it asks for none."""
    if around.subject is not None or not rule.zones:
        return None
    places = [feet(box) for box in around.people or () if _size(box) >= rule.min_size]
    return _zone(places, rule, zones)


def _zone(places: Iterable[Point], rule: LabelRule, zones: Zones) -> str | None:
    found = (zones.of(place, rule.zones) for place in places)
    return next((zone for zone in found if zone is not None), None)


def _size(box: Box) -> float:
    """The larger of its width and its height, in those of the picture."""
    return max(box[2] - box[0], box[3] - box[1])
