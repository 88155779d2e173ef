"""Masks, zones and rules in words, for ``--check``."""

from collections.abc import Collection, Iterator, Sequence

from pipeline.config import Config
from pipeline.config.hours import DAYS
from pipeline.config.paths import plain_key
from pipeline.config.rules import LabelRule, rules_of
from pipeline.steps.polygons import Polygon

Row = tuple[str, str]
NEARLY_ALL = 0.99
"""Of the picture; a mask that hides more leaves nothing to see."""


def masks_and_zones(config: Config) -> Iterator[Row]:
    """A line for each camera that has them."""
    for name, camera in config.cameras.items():
        if camera.ignore:
            count = f"{len(camera.ignore)} polygon{'' if len(camera.ignore) == 1 else 's'}"
            yield f"ignore {name}", f"{count}: {percent(_covered(camera.ignore))} of the picture"
        if camera.zones:
            parts = [f"{zone} {percent(_covered([p]))}" for zone, p in camera.zones.items()]
            yield f"zones {name}", ", ".join(parts)


def rules(config: Config, labels: Sequence[str], wall_ns: int) -> Iterator[Row]:
    """A line for each rule, and one for what has none. ``labels`` are those that make events."""
    by_camera = {name: rules_of(config, name) for name in config.cameras}
    ruled = [label for label in labels if any(label in found for found in by_camera.values())]
    for label in ruled:
        same: dict[LabelRule, list[str]] = {}
        for name, found in by_camera.items():
            same.setdefault(found.get(label, LabelRule()), []).append(name)
        for rule, cameras in same.items():
            where = "" if len(same) == 1 else f"{', '.join(cameras)}: "
            yield f"rule {label}", where + words(rule, wall_ns)
    if ruled and len(ruled) < len(labels):
        yield "other labels", "at any time"


def words(rule: LabelRule, wall_ns: int) -> str:
    """``22:00-06:00 Europe/Berlin (off now, on from Mon 22:00 CET), at most one in 60 s``."""
    parts = ["at any time"]
    if rule.hours is not None:
        parts = [f"{rule.hours} ({_now(rule, wall_ns)})"]
    if rule.cooldown_s:
        parts.append(f"at most one in {rule.cooldown_s:g} s")
    if rule.needs_person:
        parts.append("only with a person in the picture")
    if rule.zones:
        parts.append(f"only in {' or '.join(rule.zones)}")
    if rule.min_size:
        parts.append(f"only of a size of {percent(rule.min_size)} of the picture or more")
    return ", ".join(parts)


def _now(rule: LabelRule, wall_ns: int) -> str:
    hours = rule.hours
    assert hours is not None
    on, change = hours.hold(wall_ns), hours.next_change(wall_ns)
    if change is None:
        return "always on" if on else "never on"
    # Not %a: its language is the machine's.
    at = f"{DAYS[change.weekday()]} {change:%H:%M} {change.tzname()}"
    return f"on now, until {at}" if on else f"off now, on from {at}"


def percent(share: float) -> str:
    """A share in words: ``23 %``, or ``0.4 %`` where that would be nothing."""
    return f"{100 * share:.0f} %" if share >= 0.01 else f"{100 * share:.2g} %"


def without_effect(config: Config, regional: Collection[str] = ()) -> Iterator[str]:
    """Warnings: what is set and does nothing, or leaves nothing to do.

    ``regional`` are the cameras at which a pack looks at regions, so that events have a place.
    """
    for name, camera in config.cameras.items():
        if camera.ignore and _covered(camera.ignore) > NEARLY_ALL:
            yield f"cameras.{name}.ignore: it covers the whole picture, so nothing can be seen"
        ruled = rules_of(config, name)
        if camera.zones and name not in regional and not any(r.zones for r in ruled.values()):
            yield (
                f"cameras.{name}.zones: without effect; no rule asks for a zone, and no pack looks "
                "at people or at what moves"
            )
        for label, rule in ruled.items():
            if rule.zones and not set(rule.zones) & set(camera.zones):
                yield (
                    f"events.rules.{plain_key(label)}.zones: camera {name} has none of these "
                    "zones, so no event of this label passes there"
                )
    rules = [rule for name in config.cameras for rule in rules_of(config, name).values()]
    if not any(rule.hours for rule in rules) and config.events.timezone is not None:
        yield "events.timezone: without effect without hours in a rule"
    if config.lossless and any(rule.hours for rule in rules):
        yield (
            "events.rules: hours go by the time of day at which a lossless run is made, "
            "so another run may give other events"
        )


def _covered(polygons: Sequence[Polygon]) -> float:
    # Only here: it imports OpenCV, which the supervisor's process can do without.
    from pipeline.steps.ignore_mask import covered

    return covered(polygons)
