"""How well tracks keep people apart: CLEAR MOT and the association part of HOTA.

Bernardin and Stiefelhagen, "Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics"
(EURASIP J. Image and Video Processing 2008); Luiten et al., "HOTA" (IJCV 2021).
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from pipeline.people.assignment import pair
from pipeline.transport.messages import Box

ALIKE = 0.5
"""Overlap (intersection over union) from which a track's box is a person's."""


@dataclass(frozen=True, kw_only=True)
class TrackFigures:
    """Figures of one piece of video, over its labelled frames."""

    people: int
    boxes: int
    """Labelled boxes."""
    missed: int
    """Labelled boxes without a track."""
    extra: int
    """Boxes of tracks without a person."""
    switches: int
    """A person's box gets another name than the person had last."""
    fragments: int
    """A person who had a track has none for a while, and has one again."""
    names: float
    """Mean number of names that a person gets; 1 is right."""
    accuracy: float
    """CLEAR MOT's accuracy (MOTA): 1 − (missed + extra + switches) / boxes."""
    association: float
    """HOTA's association accuracy (AssA) at :data:`ALIKE`: 1 if each person has one name, and each
    name one person, in every frame in which both are there."""


@dataclass
class TrackScore:
    """Takes frames in their order, and counts."""

    boxes: int = 0
    missed: int = 0
    extra: int = 0
    switches: int = 0
    fragments: int = 0
    _last: dict[str, str] = field(default_factory=dict)
    _now: dict[str, str] = field(default_factory=dict)
    _names: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    _of_person: Counter[str] = field(default_factory=Counter)
    _of_name: Counter[str] = field(default_factory=Counter)

    def frame(self, people: Mapping[str, Box], tracks: Mapping[str, Box]) -> dict[str, str]:
        """Count a frame: person → box as labelled, name → box as tracked, in one unit.

        Returns person → name, for those that were found.
        """
        found = self._matched(people, tracks)
        self.boxes += len(people)
        self.missed += len(people) - len(found)
        self.extra += len(tracks) - len(found)
        for person, name in found.items():
            last = self._last.get(person)
            self.switches += last is not None and last != name
            self.fragments += last is not None and person not in self._now
            self._names[person].add(name)
        self._of_person.update(people.keys())
        self._of_name.update(tracks.keys())
        self._pairs.update(found.items())
        self._last.update(found)
        self._now = found
        return found

    def _matched(self, people: Mapping[str, Box], tracks: Mapping[str, Box]) -> dict[str, str]:
        """Pairs of the frame before stay while they overlap; the others are paired anew."""
        found = {
            person: name
            for person, name in self._now.items()
            if person in people
            and name in tracks
            and overlap(people[person], tracks[name]) >= ALIKE
        }
        left = sorted(set(people) - set(found))
        free = sorted(set(tracks) - set(found.values()))
        shares = np.array([[overlap(people[p], tracks[t]) for t in free] for p in left])
        shares = shares.reshape(len(left), len(free))
        cost = np.where(shares >= ALIKE, 1 - shares, np.inf)
        found.update((left[row], free[column]) for row, column in pair(cost, 2.0))
        return found

    def figures(self) -> TrackFigures:
        right = sum(
            count**2 / (self._of_person[person] + self._of_name[name] - count)
            for (person, name), count in self._pairs.items()
        )
        wrong = self.missed + self.extra + self.switches
        return TrackFigures(
            people=len(self._of_person),
            boxes=self.boxes,
            missed=self.missed,
            extra=self.extra,
            switches=self.switches,
            fragments=self.fragments,
            names=float(np.mean([len(names) for names in self._names.values()] or [0])),
            accuracy=1 - wrong / max(1, self.boxes),
            association=right / max(1, sum(self._pairs.values())),
        )


def part_inside(box: Box, region: Box) -> float:
    """The share of a box that lies in a region."""
    wide = min(box[2], region[2]) - max(box[0], region[0])
    high = min(box[3], region[3]) - max(box[1], region[1])
    return max(0.0, wide) * max(0.0, high) / ((box[2] - box[0]) * (box[3] - box[1]))


def overlap(one: Box, other: Box) -> float:
    """Intersection over union of two boxes."""
    wide = min(one[2], other[2]) - max(one[0], other[0])
    high = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, wide) * max(0.0, high)
    both = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return shared / (both - shared) if both > shared else 0.0
