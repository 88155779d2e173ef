"""Tracks: what a detector finds a few times a second becomes persons that keep their names.

The scheme is ByteTrack's (Zhang et al., ECCV 2022): each track predicts its box by a filter of
constant velocity (as SORT, Bewley et al., ICIP 2016); sure detections are paired with all tracks,
then faint ones with the tracks that are left. A faint detection keeps a track alive and begins
none. Pairs are made by how likely the prediction makes the detection, not by overlap alone: at two
detections a second, the boxes of a person who walks past don't overlap.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from pipeline.clock import NS_PER_S
from pipeline.people.assignment import pair
from pipeline.people.geometry import checked, covered, inside
from pipeline.people.knock import common_shift
from pipeline.people.motion import Motion, surprises
from pipeline.transport.messages import Box

Detections = npt.NDArray[np.float32]
"""(n, 5) float32: x0, y0, x1, y1 in 0..1 of the picture, and a score in 0..1."""

_FARTHEST = 14.0
"""Squared distance in standard deviations beyond which a detection is no track's."""
_FARTHEST_FAINT = 2.0
"""The same for a faint detection, which is often a part of somebody or nothing at all."""
_ALONE = 25.0
"""What it costs to leave a track without a detection, on the scale of :func:`surprises`."""
_DUPLICATE = 0.3
"""A new box that another person's box covers by more than this begins no track."""
_LEFT = 0.3
"""A track that isn't seen has left when less than this of its box is in the picture."""
_BORDER, _PATIENCE_AT_BORDER = 0.01, 0.6
"""Within so much of the border, in picture heights, a track ends in this share of the time: whoever
isn't seen there has most likely left, and what is left of the box says little about the way."""
_CANDIDATES = 64
"""Detections and unannounced tracks beyond this number are noise; the surest stay."""


@dataclass(frozen=True, slots=True)
class TrackRules:
    """When a track begins, when it ends, and how many there may be."""

    sure: float = 0.5
    """Score from which a detection may begin a track."""
    faint: float = 0.4
    """Score from which a detection keeps a track alive."""
    hits: int = 3
    """Detections after which a track is announced ..."""
    within_s: float = 2.0
    """... when they lie within this time."""
    unseen_s: float = 2.0
    """Time without a detection after which a track ends."""
    most: int = 32
    """The largest number of announced tracks. Those that are announced stay, because an event must
    not lose its person to a newcomer; a place that becomes free goes to the largest that waits."""


class Somebody(Protocol):
    """A person by name, and the box around that person in 0..1 of the picture."""

    @property
    def name(self) -> str: ...
    @property
    def box(self) -> Box: ...


Whoever = TypeVar("Whoever", bound=Somebody)


@dataclass(frozen=True, slots=True)
class Track:
    """A person, as announced."""

    name: str
    """``p1``, ``p2``, ...; no name is used twice."""
    box: Box
    """Where the person is (x0, y0, x1, y1), 0..1 of the picture; predicted between detections."""
    score: float
    """The detector's score, smoothed, 0..1."""
    since_ns: int
    """Time of the first detection."""
    seen_ns: int
    """Time of the last detection."""


class _Person:
    """One track, announced (with a name) or not yet."""

    def __init__(self, box: npt.NDArray[np.float64], score: float, time_ns: int) -> None:
        self.motion = Motion(box)
        self.score = score
        self.since_ns = self.seen_ns = time_ns
        self.hits_ns = [time_ns]
        self.unseen_ns = 0
        self.name: str | None = None

    def see(self, box: npt.NDArray[np.float64], score: float, time_ns: int) -> None:
        self.motion.correct(box)
        self.score += 0.3 * (score - self.score)
        self.seen_ns, self.unseen_ns = time_ns, 0
        self.hits_ns.append(time_ns)

    def recent_hits(self, after_ns: int) -> int:
        self.hits_ns = [hit for hit in self.hits_ns if hit >= after_ns]
        return len(self.hits_ns)


class Tracker:
    """The tracks of one camera.

    ``aspect`` is the picture's width divided by its height. ``first`` is the number of the first
    name; a stage that is restarted goes on with a number that it has not used. ::

        tracker = Tracker(aspect=16 / 9)
        tracker.update(detections, time_ns)   # when the detector has looked
        tracker.predict(time_ns)              # in between; changes nothing
    """

    def __init__(
        self, rules: TrackRules | None = None, aspect: float = 16 / 9, first: int = 1
    ) -> None:
        self._rules = rules or TrackRules()
        self._within_ns = round(self._rules.within_s * NS_PER_S)
        self._unseen_ns = round(self._rules.unseen_s * NS_PER_S)
        self._aspect = aspect
        self._next = first
        self._people: list[_Person] = []
        self._time_ns: int | None = None

    @property
    def next_number(self) -> int:
        """The number that the next announced track gets."""
        return self._next

    def forget(self, aspect: float | None = None) -> None:
        """End all tracks, as a gap or another size of picture asks; names go on."""
        self._people, self._time_ns = [], None
        self._aspect = aspect or self._aspect

    def update(self, detections: Detections, time_ns: int) -> list[Track]:
        """Take in what the detector found in the frame of ``time_ns``; all announced tracks.

        ``detections`` is (n, 5) in any order; boxes that are empty or not finite are left out.
        Times must increase, in any intervals. A pause in which nobody looked ends no track: the
        detector rests while nothing moves, and then nobody has left.

        Raises ValueError for another shape and for a time that doesn't increase.
        """
        found = self._taken_in(detections)
        self._advance(time_ns)
        sure = found[:, 4] >= self._rules.sure
        self._follow_a_knock(found[sure, :4])
        left = self._follow(found[sure], self._people, time_ns, _FARTHEST)
        unseen = [person for person in self._people if person.seen_ns != time_ns]
        self._follow(found[~sure], unseen, time_ns, _FARTHEST_FAINT)
        self._end(time_ns)
        self._begin(left, time_ns)
        self._announce(time_ns)
        return self.predict(time_ns)

    def predict(self, time_ns: int) -> list[Track]:
        """The announced tracks with their boxes at ``time_ns``, in the order of their names.

        A box goes on at most as long as a track may be unseen.
        """
        if self._time_ns is None:
            return []
        ahead_s = (time_ns - self._time_ns) / NS_PER_S
        ahead_s = min(max(ahead_s, -self._rules.unseen_s), self._rules.unseen_s)
        return [
            Track(
                person.name,
                inside(person.motion.box(ahead_s, self._aspect)),
                person.score,
                person.since_ns,
                person.seen_ns,
            )
            for person in self._people
            if person.name is not None
        ]

    def _taken_in(self, detections: Detections) -> npt.NDArray[np.float64]:
        """The usable detections with x in picture heights, in one order whatever theirs was."""
        found = checked(detections)
        found = found[found[:, 4] >= self._rules.faint]
        order = np.lexsort((*found[:, :4].T, -found[:, 4]))
        found = found[order[:_CANDIDATES]]
        found[:, [0, 2]] *= self._aspect
        return found

    def _advance(self, time_ns: int) -> None:
        if self._time_ns is not None:
            passed_ns = time_ns - self._time_ns
            if passed_ns <= 0:
                raise ValueError(
                    f"times must increase, got {time_ns} ns after {self._time_ns} ns; "
                    "call forget() where time begins anew"
                )
            # One look that misses a person ends no track, however long ago the last look was.
            look_ns = min(passed_ns, self._unseen_ns // 2)
            paused = passed_ns > self._unseen_ns
            for person in self._people:
                person.motion.advance(look_ns / NS_PER_S, rested=paused)
                person.unseen_ns += look_ns
        self._time_ns = time_ns

    def _follow_a_knock(self, boxes: npt.NDArray[np.float64]) -> None:
        """If most people are gone from where they were, and one shift finds them: the camera."""
        seen = [one for one in self._people if one.name and one.unseen_ns <= self._unseen_ns // 2]
        fitting = np.isfinite(surprises([one.motion for one in seen], boxes, _FARTHEST)).any(axis=1)
        if len(seen) < 2 or fitting.sum() >= len(seen) / 2:
            return
        expected = np.array([one.motion.state()[:3] for one in seen])
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        found = np.column_stack([middles, boxes[:, 3] - boxes[:, 1]])
        shift = common_shift(expected, found)
        if shift is not None:
            for person in self._people:
                person.motion.shift(*shift)

    def _follow(
        self,
        found: npt.NDArray[np.float64],
        people: Sequence[_Person],
        time_ns: int,
        farthest: float,
    ) -> npt.NDArray[np.float64]:
        """Give detections to the people whose predictions they fit; those that fit nobody."""
        cost = surprises([person.motion for person in people], found[:, :4], farthest)
        taken = np.zeros(len(found), bool)
        for row, column in pair(cost, _ALONE):
            people[row].see(found[column, :4], float(found[column, 4]), time_ns)
            taken[column] = True
        return found[~taken]

    def _begin(self, found: npt.NDArray[np.float64], time_ns: int) -> None:
        """Begin tracks with detections that are nobody's, unless they are parts of somebody."""
        for detection in found:
            boxes = [person.motion.corners() for person in self._seen(time_ns)]
            if len(self._people) - self._announced() >= _CANDIDATES:
                return
            if not boxes or covered(detection[:4], np.array(boxes)) < _DUPLICATE:
                self._people.append(_Person(detection[:4], float(detection[4]), time_ns))

    def _end(self, time_ns: int) -> None:
        """Drop the announced who were long unseen or have left, and others without recent hits."""
        after_ns = time_ns - self._within_ns
        self._people = [
            person
            for person in self._people
            if (
                not self._gone(person)
                if person.name is not None
                else person.recent_hits(after_ns) > 0
            )
        ]

    def _gone(self, person: _Person) -> bool:
        if person.unseen_ns == 0:
            return False
        x0, y0, x1, y1 = person.motion.corners()
        picture = np.array([[0, 0, self._aspect, 1.0]])
        left = covered(np.array([x0, y0, x1, y1]), picture) < _LEFT
        at_border = min(x0, y0, self._aspect - x1, 1 - y1) < _BORDER
        patience = _PATIENCE_AT_BORDER if at_border else 1.0
        return left or person.unseen_ns >= patience * self._unseen_ns

    def _announce(self, time_ns: int) -> None:
        after_ns = time_ns - self._within_ns
        ready = [
            person
            for person in self._people
            if person.name is None and person.recent_hits(after_ns) >= self._rules.hits
        ]
        free = self._rules.most - self._announced()
        for person in sorted(ready, key=lambda one: -one.motion.area())[: max(0, free)]:
            person.name = f"p{self._next}"
            self._next += 1
        # Names tell the order: older ones first.
        self._people.sort(key=lambda one: int(one.name[1:]) if one.name else self._next)

    def _seen(self, time_ns: int) -> Iterable[_Person]:
        return (person for person in self._people if person.seen_ns == time_ns)

    def _announced(self) -> int:
        return sum(person.name is not None for person in self._people)


class Subjects:
    """Which of the tracks are looked at, when only some can be.

    Those that are chosen stay while they live, so that no window is begun for nothing. A free place
    goes to the largest track: nearest to the camera, it shows most.
    """

    def __init__(self) -> None:
        self._chosen: list[str] = []

    def choose(self, tracks: Sequence[Whoever], most: int) -> list[Whoever]:
        """At most ``most`` of ``tracks``. When ``most`` is lowered, the latest chosen go first."""
        alive = {track.name: track for track in tracks}
        self._chosen = [name for name in self._chosen if name in alive][: max(0, most)]
        waiting = sorted(
            (track for track in tracks if track.name not in self._chosen),
            key=lambda one: -(one.box[2] - one.box[0]) * (one.box[3] - one.box[1]),
        )
        for track in waiting[: max(0, most - len(self._chosen))]:
            self._chosen.append(track.name)
        return [alive[name] for name in self._chosen]
