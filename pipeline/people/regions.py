"""Views: named ways of finding the regions of a picture that a pack looks at.

A pack's contract names its view. :data:`VIEWS` is the list of views, and is open: a new one is a
class with a method ``find`` and a row in the table. ::

    finder = create("person", aspect=16 / 9)
    for step in steps:
        for subject, region in finder.find(Seen(step.time_ns, step.field, tracks)).items():
            picture = cut(step.frame, region)
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from pipeline.arrays import FlowField
from pipeline.clock import NS_PER_S
from pipeline.people.camera_motion import CameraMotion
from pipeline.people.following import Follower, FollowRules
from pipeline.people.geometry import WHOLE
from pipeline.people.moving import moving_box
from pipeline.people.tracks import Somebody
from pipeline.transport.messages import Box


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of a step when its regions are found."""

    time_ns: int
    field: FlowField | None = None
    """Flow of the whole picture (H, W, 2) in pixels a step, if the view needs motion."""
    tracks: Sequence[Somebody] = ()
    """The tracks at this time, predicted, if the view needs people."""
    camera: CameraMotion | None = None
    """The camera's motion, if it is known; otherwise it is estimated from the field."""


class Finder(Protocol):
    """Finds the regions of one camera's steps, in their order."""

    def find(self, seen: Seen) -> Mapping[str, Box]:
        """Subject → its region (x0, y0, x1, y1), 0..1 and inside the picture."""
        ...


class FrameFinder:
    """The whole picture, always."""

    def find(self, seen: Seen) -> Mapping[str, Box]:
        return {"frame": WHOLE}


class PersonFinder:
    """A region for each track, under the track's name."""

    def __init__(self, aspect: float, shape: float) -> None:
        self._aspect, self._shape = aspect, shape
        self._followers: dict[str, Follower] = {}

    def find(self, seen: Seen) -> Mapping[str, Box]:
        kept = {track.name: self._followers.get(track.name) for track in seen.tracks}
        self._followers = {
            name: follower or Follower(self._aspect, self._shape) for name, follower in kept.items()
        }
        return {
            track.name: self._followers[track.name].follow(track.box, seen.time_ns)
            for track in seen.tracks
        }


MOVING_RULES = FollowRules(
    pad=1.25, slack=0.1, size_slack=0.25, glide_s=0.25, shrink_s=1.5, least=0.2
)
"""What moves changes its extent with each gesture, more than a person's box does."""
MOVING_HOLD_S = 2.0
"""How long the region stays after the motion has ended."""


class MovingFinder:
    """One region around what moves; none while nothing has moved for some time."""

    def __init__(self, aspect: float, shape: float) -> None:
        self._aspect, self._shape = aspect, shape
        self._follower: Follower | None = None
        self._region = WHOLE
        self._moved_ns = 0

    def find(self, seen: Seen) -> Mapping[str, Box]:
        box = None if seen.field is None else moving_box(seen.field, seen.camera)
        if box is not None:
            if self._follower is None:
                self._follower = Follower(self._aspect, self._shape, MOVING_RULES)
            self._region = self._follower.follow(box, seen.time_ns)
            self._moved_ns = seen.time_ns
        elif seen.time_ns - self._moved_ns > MOVING_HOLD_S * NS_PER_S:
            self._follower = None
        return {} if self._follower is None else {"moving": self._region}


@dataclass(frozen=True, slots=True)
class View:
    """A row of the table of views."""

    make: Callable[[float, float], Finder]
    """From the picture's aspect and the region's shape (:class:`Follower`) to a finder."""
    needs_motion: bool = False
    """Whether :attr:`Seen.field` must be given."""
    needs_people: bool = False
    """Whether :attr:`Seen.tracks` must be given: the detector has to run."""


VIEWS = {
    "frame": View(lambda aspect, shape: FrameFinder()),
    "moving": View(MovingFinder, needs_motion=True),
    "person": View(PersonFinder, needs_people=True),
}
"""Name → view."""


def create(view: str, aspect: float, shape: float = 1.0) -> Finder:
    """A finder for one camera, whose pictures have ``aspect`` (width divided by height).

    ``shape`` is the width of the network's input divided by its height. Raises ValueError for a
    view that isn't in the table.
    """
    if view not in VIEWS:
        raise ValueError(f"unknown view {view!r}; there are: {', '.join(VIEWS)}")
    return VIEWS[view].make(aspect, shape)
