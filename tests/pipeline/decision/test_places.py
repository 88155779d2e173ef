"""Places: which conditions of a rule about people, zones and sizes are met."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.rules import LabelRule
from pipeline.decision.places import Around, Zones, feet, missing, zone_that_counts
from pipeline.transport.messages import Box

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
RIGHT = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))
FLOOR = ((0.0, 0.8), (1.0, 0.8), (1.0, 1.0), (0.0, 1.0))
ZONES = Zones({"left": LEFT, "right": RIGHT, "floor": FLOOR})

TALL: Box = (0.1, 0.2, 0.3, 0.9)
"""Stands on the left, feet on the floor."""
SMALL: Box = (0.7, 0.5, 0.72, 0.55)
"""Far away on the right."""

sides = st.floats(0, 1, allow_nan=False)
boxes = st.builds(
    lambda x0, y0, x1, y1: (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)),
    sides, sides, sides, sides,
)  # fmt: skip


@pytest.mark.parametrize(
    ("rule", "people", "reason"),
    [
        (LabelRule(needs_person=True), (), "person"),
        (LabelRule(needs_person=True), (SMALL,), None),
        (LabelRule(zones=("left",)), (SMALL,), "zone"),
        (LabelRule(zones=("left",)), (SMALL, TALL), None),
        (LabelRule(zones=("left", "right")), (SMALL,), None),
        (LabelRule(zones=("left",)), (), "person"),
        (LabelRule(min_size=0.5), (SMALL,), "size"),
        (LabelRule(min_size=0.5), (SMALL, TALL), None),
        # One person must meet both.
        (LabelRule(min_size=0.5, zones=("right",)), (SMALL, TALL), "zone"),
        (LabelRule(cooldown_s=3.0), (), None),
    ],
)
def test_what_happens_in_the_whole_picture_is_judged_by_the_people(
    rule: LabelRule, people: tuple[Box, ...], reason: str | None
) -> None:
    assert missing(rule, Around(None, people), ZONES) == reason


@pytest.mark.parametrize(
    ("rule", "box", "reason"),
    [
        (LabelRule(needs_person=True), TALL, None),
        (LabelRule(zones=("floor",)), TALL, None),
        (LabelRule(zones=("floor",)), SMALL, "zone"),
        (LabelRule(min_size=0.5), SMALL, "size"),
        (LabelRule(min_size=0.7), TALL, None),
    ],
)
def test_a_persons_action_is_judged_by_that_person(
    rule: LabelRule, box: Box, reason: str | None
) -> None:
    around = Around(box, (TALL, SMALL), is_person=True)
    assert missing(rule, around, ZONES) == reason


def test_what_moves_may_be_no_person() -> None:
    """Its place is its middle, and whoever is in the picture makes it an action of people."""
    rule = LabelRule(needs_person=True, zones=("left",))
    cat: Box = (0.2, 0.7, 0.4, 0.9)
    assert missing(rule, Around(cat, ()), ZONES) == "person"
    assert missing(rule, Around(cat, (SMALL,)), ZONES) is None
    assert missing(LabelRule(zones=("floor",)), Around(cat, (SMALL,)), ZONES) is None
    assert missing(LabelRule(zones=("floor",)), Around((0.2, 0.5, 0.4, 0.9), ()), ZONES) == "zone"


@given(
    st.builds(
        LabelRule,
        needs_person=st.booleans(),
        zones=st.lists(st.sampled_from(["left", "right", "floor"])).map(tuple),
        min_size=sides,
    )
)
def test_nothing_is_held_back_where_nobody_has_looked(rule: LabelRule) -> None:
    assert missing(rule, Around(None, None), ZONES) is None


@given(boxes, st.lists(boxes, max_size=4).map(tuple))
def test_more_people_meet_no_fewer_rules(one: Box, others: tuple[Box, ...]) -> None:
    rule = LabelRule(needs_person=True, zones=("left",), min_size=0.2)
    if missing(rule, Around(None, others), ZONES) is None:
        assert missing(rule, Around(None, (one, *others)), ZONES) is None


def test_the_first_zone_of_the_config_counts() -> None:
    assert ZONES.of(feet(TALL)) == "left"
    assert ZONES.of(feet(TALL), ("floor",)) == "floor"
    assert ZONES.of((2.0, 0.5)) is None
    assert Zones({}).of((0.5, 0.5)) is None


def test_an_action_of_the_whole_picture_gets_the_zone_that_let_it_pass() -> None:
    rule = LabelRule(zones=("right",), min_size=0.01)
    assert zone_that_counts(rule, Around(None, (TALL, SMALL)), ZONES) == "right"
    assert zone_that_counts(rule, Around(TALL, (TALL,), is_person=True), ZONES) is None
    assert zone_that_counts(LabelRule(needs_person=True), Around(None, (TALL,)), ZONES) is None
