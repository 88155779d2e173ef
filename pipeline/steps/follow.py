"""From one camera's frames to what the networks take, and from there to features.

The one place where this is written. The stages call its parts in processes of their own; the
offline recogniser, training and the bare loop of the benchmarks call it as a whole.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipeline.arrays import Frame, Gray, QuantisedFlow, Vector, picture_size
from pipeline.flow.base import FlowMethod
from pipeline.model.pack import SpatialContract, TemporalContract, ViewName
from pipeline.people.cutting import cut
from pipeline.people.tracks import Somebody
from pipeline.sources.base import Grab
from pipeline.steps.flow_fields import FlowStack, FlowSteps
from pipeline.steps.ignore_mask import IgnoreMask
from pipeline.steps.polygons import Polygon
from pipeline.steps.preprocess import spatial_input
from pipeline.steps.region_flow import RegionFinder, RegionFlow
from pipeline.steps.sampling import Due, Steps
from pipeline.steps.window import Run
from pipeline.transport.messages import Box, Moment


class StepInputs(Protocol):
    """What says how steps are made: a pack's contract, or a training recipe."""

    @property
    def step_hz(self) -> float: ...
    @property
    def spatial(self) -> SpatialContract: ...
    @property
    def temporal(self) -> TemporalContract: ...


@dataclass(frozen=True, slots=True)
class TimedFrame:
    """A frame that can be had: ``retrieve`` gives (H, W, 3) uint8 BGR, and is called at most once.

    ``pts_ns`` is media time in nanoseconds, strictly increasing. ``discontinuity`` marks the first
    frame after a jump in the medium.
    """

    pts_ns: int
    retrieve: Callable[[], Frame]
    discontinuity: bool = False


@dataclass(frozen=True, slots=True)
class FollowedStep:
    """A step as the networks take it."""

    moment: Moment
    gray: Gray
    """The picture between two of which flow is computed, (fh, fw)."""
    picture: Frame
    """For the spatial network, (h, w, 3) (:func:`pipeline.steps.preprocess.spatial_input`)."""
    field: QuantisedFlow | None
    """The flow that ends at this step; None for the first of a segment and after a long pause."""
    span: int
    """Steps that the field stands for."""


class CameraFollower:
    """Samples a camera's frames to steps, numbers them, and makes the networks' inputs.

    A frame of another size begins a new segment, as when capture changes its ring. ``ignore`` are
    parts of the picture that nothing looks at.
    """

    def __init__(
        self,
        steps: Steps,
        inputs: StepInputs,
        method: FlowMethod,
        ignore: Sequence[Polygon] = (),
    ) -> None:
        self._steps = steps
        self._inputs = inputs
        self._flow = FlowSteps(method, inputs, ignore=ignore)
        self._mask = IgnoreMask(ignore)
        self._shape: tuple[int, ...] | None = None

    def due(self, grab: Grab, time_ns: int) -> Due | None:
        """Whether a frame stands for a step; if so, :meth:`number` comes next."""
        return self._steps.due(grab, time_ns)

    def seen(self, frame: Frame) -> Frame:
        """A frame without what the camera ignores; all that comes next takes it so."""
        return self._mask.painted(frame)

    def number(self, due: Due, frame: Frame) -> Moment:
        fresh = self._shape is not None and frame.shape != self._shape
        self._shape = frame.shape
        return self._steps.moment(due, fresh=fresh)

    def skip(self, moment: Moment) -> None:
        """Move on over a step whose motion is not needed; it counts into the next field's span."""
        self._flow.advance(moment)

    def motion(self, moment: Moment, frame: Frame) -> tuple[Gray, QuantisedFlow | None, int]:
        """The step's gray picture, the field that ends at it, and the steps it stands for."""
        self._flow.advance(moment)
        gray = self._flow.gray(frame)
        return gray, *self._flow.field(gray)

    def appearance(self, frame: Frame) -> Frame:
        return spatial_input(frame, self._inputs)

    def follow(self, frames: Iterable[TimedFrame]) -> Iterator[FollowedStep]:
        """Every step of ``frames``."""
        for timed in frames:
            due = self.due(Grab(timed.pts_ns, timed.pts_ns, timed.discontinuity), timed.pts_ns)
            if due is None:
                continue
            frame = self.seen(timed.retrieve())
            moment = self.number(due, frame)
            gray, field, span = self.motion(moment, frame)
            yield FollowedStep(moment, gray, self.appearance(frame), field, span)


class People(Protocol):
    """Who is in one camera's pictures, such as :class:`pipeline.people.looking.CameraPeople`."""

    def look(self, frame: Frame, time_ns: int, segment: int = 0) -> Sequence[Somebody]: ...


@dataclass(frozen=True, slots=True)
class FollowedSubject:
    """A subject of a step as the networks take it."""

    region: Box
    picture: Frame
    """For the spatial network, (h, w, 3): the region at full resolution, made small."""
    field: QuantisedFlow | None
    """The flow inside the region that ends at this step; None where there is none."""


@dataclass(frozen=True, slots=True)
class SubjectsStep:
    """A step of a view that has subjects, by their names; there may be none."""

    moment: Moment
    gray: Gray
    """The whole picture, as in :class:`FollowedStep`."""
    subjects: Mapping[str, FollowedSubject]
    span: int
    """Steps that the fields stand for."""


class SubjectFollower:
    """Like :class:`CameraFollower`, for a view of regions: inputs for each subject of a step.

    ``people`` is needed where the view needs people. At most ``most`` of them are looked at.
    """

    def __init__(
        self,
        steps: Steps,
        inputs: StepInputs,
        view: ViewName,
        method: FlowMethod,
        people: People | None = None,
        most: int = 1,
        ignore: Sequence[Polygon] = (),
    ) -> None:
        # It samples, paints and numbers; the flow of the whole picture isn't asked for.
        self._frames = CameraFollower(steps, inputs, method, ignore)
        self._flow = RegionFlow(method, inputs, ignore=ignore)
        self._finder = RegionFinder(view, inputs)
        self._inputs = inputs
        self._people = people
        self._most = most

    def follow(self, frames: Iterable[TimedFrame]) -> Iterator[SubjectsStep]:
        """Every step of ``frames``."""
        for timed in frames:
            grab = Grab(timed.pts_ns, timed.pts_ns, timed.discontinuity)
            due = self._frames.due(grab, timed.pts_ns)
            if due is None:
                continue
            frame = self._frames.seen(timed.retrieve())
            yield self._step(self._frames.number(due, frame), frame)

    def _step(self, moment: Moment, frame: Frame) -> SubjectsStep:
        time_ns = moment.time_ns(media=True)
        people = None
        if self._people is not None:
            people = self._people.look(frame, time_ns, moment.segment)
        self._flow.steps.advance(moment)
        gray = self._flow.steps.gray(frame)
        whole = self._flow.whole(gray, self._flow.picture(frame))
        height, width = picture_size(frame.shape)
        regions = self._finder.find(
            moment.segment, time_ns, width / height, whole, people, self._most
        )
        fields = self._flow.inside(whole, regions or {})
        subjects = {
            name: FollowedSubject(
                region, spatial_input(cut(frame, region), self._inputs), fields.get(name)
            )
            for name, region in (regions or {}).items()
        }
        return SubjectsStep(moment, gray, subjects, whole.span)


def appearance_features(run: Run, pictures: Sequence[Frame]) -> Vector:
    """Features (N, d) of N cameras' pictures by the spatial network."""
    return run({"frames": np.stack(pictures)})["features"]


def motion_features(run: Run, stacks: Sequence[FlowStack], temporal: TemporalContract) -> Vector:
    """Features (N, d) of N cameras' whole stacks by the temporal network."""
    flow = np.empty((len(stacks), temporal.stack, *temporal.size, 2), np.uint8)
    for place, stack in zip(flow, stacks, strict=True):
        stack.write(place)
    return run({"flow": flow})["features"]


def check_finite(features: Vector) -> None:
    """Raise ValueError for (N, d) features that would poison every score of their windows."""
    if not np.isfinite(features).all():
        raise ValueError("the network's features are not finite")
