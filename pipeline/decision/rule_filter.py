"""What rules hold back: events outside of their hours, too soon after another, of nobody. Pure.

Whether an event passes is decided by its start. One that passes has all its updates and its end,
even after the hours are over. One that is held back and still goes on when nothing holds it any
more starts then.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from pipeline.clock import NS_PER_S
from pipeline.config.rules import LabelRule
from pipeline.decision.places import NOWHERE, Around, Zones, missing, zone_that_counts
from pipeline.decision.rules import StepTime
from pipeline.steps.polygons import Polygon
from pipeline.transport.messages import Change

REASONS = ("hours", "cooldown", "person", "size", "zone")
"""Why an event was held back."""
_JUMP_NS = NS_PER_S

Note = Callable[[str, str, str], None]
"""Called with camera, label and reason once for each event that is held back."""


class WallTime:
    """The time of day of monotonic times, by a clock that may be set meanwhile."""

    def __init__(self, wall_minus_monotonic_ns: int = 0) -> None:
        self.offset_ns = wall_minus_monotonic_ns

    def follow(self, wall_minus_monotonic_ns: int) -> bool:
        """Take over a new offset that is a second off or more; returns whether it was.

        A recording has each of these, so that a recheck decides by the same times.
        """
        if abs(wall_minus_monotonic_ns - self.offset_ns) < _JUMP_NS:
            return False
        self.offset_ns = wall_minus_monotonic_ns
        return True

    def of(self, monotonic_ns: int) -> int:
        """Nanoseconds since 1970."""
        return monotonic_ns + self.offset_ns


class RuleFilter:
    """Holds back what the rules of one camera's labels don't let pass.

    ``media_timed``: cool-downs are measured in media time, as the durations of events are. Hours
    go by the time of day even then: it is the ``start_time`` of the public event.
    """

    def __init__(
        self,
        rules: Mapping[str, LabelRule],
        wall: WallTime,
        media_timed: bool,
        note: Callable[[str, str], None] = lambda _label, _reason: None,
        zones: Zones | None = None,
    ) -> None:
        self._zones = zones or Zones({})
        self._rules = rules
        self._wall = wall
        self._media_timed = media_timed
        self._note = note
        self._held: set[int] = set()
        """Numbers of the events that are held back."""
        self._late: dict[int, StepTime] = {}
        """When an event began to pass, where that is after its start; by its number."""
        self._ended_ns: dict[str, int] = {}

    def passed(
        self, changes: Sequence[Change], at: StepTime, around: Around = NOWHERE
    ) -> list[Change]:
        """What passes of the changes at a step."""
        kept = (self._passed(change, at, around) if change.label in self._rules else change
                for change in changes)  # fmt: skip
        return [change for change in kept if change is not None]

    def _passed(self, change: Change, at: StepTime, around: Around) -> Change | None:
        label, number = change.label, change.number
        if change.type == "start":
            start = StepTime(change.start_ns, change.start_pts_ns, self._media(change))
            if reason := self._reason(label, start, around):
                self._held.add(number)
                self._note(label, reason)
                return None
        elif number in self._held:
            if change.type == "end":
                self._held.discard(number)
                return None
            if self._reason(label, at, around):
                return None
            self._held.discard(number)
            self._late[number] = at
            change = msgspec.structs.replace(change, type="start")
        late = self._late.get(number)
        if change.type == "end":
            self._late.pop(number, None)
            ended_ns = change.end_pts_ns if self._media_timed else change.end_ns
            self._ended_ns[label] = at.media_ns if ended_ns is None else ended_ns
        if zone := zone_that_counts(self._rules[label], around, self._zones):
            change = msgspec.structs.replace(change, zone=zone)
        if late is None:
            return change
        return msgspec.structs.replace(change, start_ns=late.captured_ns, start_pts_ns=late.pts_ns)

    def _reason(self, label: str, start: StepTime, around: Around) -> str | None:
        """Why an event that starts now is held back; None if it passes."""
        rule, ended_ns = self._rules[label], self._ended_ns.get(label)
        if rule.hours is not None and not rule.hours.hold(self._wall.of(start.captured_ns)):
            return "hours"
        if ended_ns is not None and start.media_ns - ended_ns < rule.cooldown_s * NS_PER_S:
            return "cooldown"
        return missing(rule, around, self._zones)

    def _media(self, change: Change) -> int:
        pts_ns = change.start_pts_ns if self._media_timed else None
        return change.start_ns if pts_ns is None else pts_ns


class RuleFilters:
    """Makes the filters of all cameras, which share one time of day."""

    def __init__(
        self,
        rules: Mapping[str, Mapping[str, LabelRule]],
        wall_minus_monotonic_ns: int,
        media_timed: bool,
        note: Note = lambda _camera, _label, _reason: None,
        zones: Mapping[str, Mapping[str, Polygon]] | None = None,
    ) -> None:
        """``rules`` are those of each camera, by label, and ``zones`` by their name."""
        self._zones = {camera: Zones(polygons) for camera, polygons in (zones or {}).items()}
        self._wall = WallTime(wall_minus_monotonic_ns)
        self._rules = rules
        self._media_timed = media_timed
        self._note = note
        self.timed = _any_hours(labels.values() for labels in rules.values())
        """Whether the time of day matters."""

    def new(self, camera: str) -> RuleFilter | None:
        """A filter for one pack at a camera; None where nothing can be held back."""
        rules = self._rules.get(camera)
        if not rules:
            return None
        note = _of_camera(self._note, camera)
        return RuleFilter(rules, self._wall, self._media_timed, note, self.zones(camera))

    def zones(self, camera: str) -> Zones:
        """The zones of a camera."""
        return self._zones.get(camera) or Zones({})

    def follow(self, wall_minus_monotonic_ns: int) -> bool:
        """Follow a clock that may have been set; returns whether that changed anything."""
        return self.timed and self._wall.follow(wall_minus_monotonic_ns)

    def go_by(self, wall_minus_monotonic_ns: int) -> None:
        """Take over exactly what a recorded run went by."""
        self._wall.offset_ns = wall_minus_monotonic_ns


def _of_camera(note: Note, camera: str) -> Callable[[str, str], None]:
    return lambda label, reason: note(camera, label, reason)


def _any_hours(cameras: Iterable[Iterable[LabelRule]]) -> bool:
    return any(rule.hours is not None for rules in cameras for rule in rules)
