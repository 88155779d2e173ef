"""Looking for people in one camera's pictures: seldom, and only while something moves."""

from collections.abc import Callable

from pipeline.arrays import Frame, picture_size
from pipeline.clock import NS_PER_S
from pipeline.people.gate import MotionGate
from pipeline.people.tracks import Detections, Track, Tracker, TrackRules

Detector = Callable[[Frame], Detections]
""":class:`pipeline.people.detector.PersonDetector`, or another function of a frame."""


class CameraPeople:
    """The people of one camera, step by step.

    The detector looks at most ``hz`` times a second, while something moves. Tracks are predicted
    in between. Cameras may share a detector. ``first`` is the number of the first name. ::

        people = CameraPeople(PersonDetector(score=TrackRules().faint), hz=5.0)
        for step in steps:
            tracks = people.look(step.frame, step.time_ns, step.segment)
    """

    def __init__(
        self,
        detector: Detector,
        hz: float,
        rules: TrackRules | None = None,
        first: int = 1,
        phase: float = 0.0,
    ) -> None:
        """``phase``: the part of a period by which the first look is late."""
        self.hz = hz
        """May be changed at any time."""
        self.looks = 0
        """How often the detector has looked."""
        self._detector = detector
        self._gate = MotionGate()
        self._tracker = Tracker(rules, first=first)
        self._segment: int | None = None
        self._shape: tuple[int, ...] | None = None
        self._due_ns = 0
        self._phase = phase
        self._looked_ns: int | None = None

    @property
    def next_number(self) -> int:
        """The number that the next person gets."""
        return self._tracker.next_number

    def look(self, frame: Frame, time_ns: int, segment: int = 0) -> list[Track]:
        """The people at a step, whose frame has either form.

        Times increase within a segment. A new segment, or another size of picture, ends all tracks.
        """
        if segment != self._segment or frame.shape != self._shape:
            self._begin(segment, frame.shape, time_ns)
        if not self._gate.open(frame, time_ns) or not self._due(time_ns):
            return self._tracker.predict(time_ns)
        self._gate.looked()
        self._looked_ns = time_ns
        self.looks += 1
        return self._tracker.update(self._detector(frame), time_ns)

    def _due(self, time_ns: int) -> bool:
        """Whether the detector may look again; in the mean no oftener than ``hz``."""
        if time_ns < self._due_ns or (self._looked_ns is not None and time_ns <= self._looked_ns):
            return False
        period_ns = round(NS_PER_S / self.hz)
        rested = time_ns - self._due_ns >= period_ns
        self._due_ns = (time_ns if rested else self._due_ns) + period_ns
        return True

    def _begin(self, segment: int, shape: tuple[int, ...], time_ns: int) -> None:
        height, width = picture_size(shape)
        self._tracker.forget(width / height)
        self._gate.forget()
        self._segment, self._shape = segment, shape
        self._due_ns = time_ns + round(self._phase * NS_PER_S / self.hz)
        self._looked_ns = None
