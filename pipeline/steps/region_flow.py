"""The regions of one camera's steps, and the flow inside each of them. ::

finder, flow = RegionFinder("person", inputs), RegionFlow(method, inputs)
for moment, frame, people in steps:
    flow.steps.advance(moment)
    whole = flow.whole(flow.steps.gray(frame), flow.picture(frame))
    regions = finder.find(moment.segment, time_ns, aspect, whole, people)
    fields = flow.inside(whole, regions)
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.arrays import FlowField, Frame, Gray, QuantisedFlow
from pipeline.flow.base import FlowMethod, quantise
from pipeline.model.pack import ViewName
from pipeline.people.camera_motion import CameraMotion, camera_motion, less_camera
from pipeline.people.cutting import field_in, flow_of_cuts, pixel_rect
from pipeline.people.regions import VIEWS, Finder, Seen, create
from pipeline.people.tracks import Somebody, Subjects
from pipeline.steps.flow_fields import FlowSteps
from pipeline.steps.ignore_mask import still_cells
from pipeline.steps.polygons import Polygon
from pipeline.steps.preprocess import SpatialInputs, TemporalInputs, gray_of_width
from pipeline.transport.messages import Box

COMPUTED_ON_CUTS = True
"""Whether a region's flow is computed on its cuts of two pictures, or cut out of the whole
picture's (docs/regions.md has the comparison). A pack is trained with the one or the other."""
CUT_WIDTH = 640
"""Columns of the pictures of which cuts are made, at most: more would cost time for each step."""

Regions = Mapping[str, Box]
"""Subject → its region, 0..1 of the picture."""


class WholeFlow(NamedTuple):
    """The motion of the whole picture at a step."""

    field: FlowField | None
    """(fh, fw, 2) in pixels a step; None where there is no flow."""
    camera: CameraMotion | None
    """What of it is the camera's own."""
    span: int
    """Steps that it stands for."""
    elapsed: float = 1.0
    """Steps between its two pictures."""
    pictures: tuple[Gray, Gray] | None = None
    """The pictures before and now, to compute the flow of their cuts; None to cut ``field``."""


class RegionFinder:
    """Finds the regions of one view in one camera's steps."""

    def __init__(self, view: ViewName, inputs: SpatialInputs) -> None:
        self._view = view
        self._shape = inputs.spatial.size[1] / inputs.spatial.size[0]
        self._subjects = Subjects()
        self._finder: Finder | None = None
        self._began: tuple[int, float] | None = None

    def find(
        self,
        segment: int,
        time_ns: int,
        aspect: float,
        whole: WholeFlow,
        people: Sequence[Somebody] | None = None,
        most: int = 1,
    ) -> Regions | None:
        """A step's regions; None where nobody can tell them.

        ``aspect`` is the frame's width divided by its height. ``people`` are those who are there,
        None where nobody has looked; ``most`` of them are looked at.
        """
        if VIEWS[self._view].needs_people and people is None:
            return None
        if self._finder is None or self._began != (segment, aspect):
            self._finder, self._began = create(self._view, aspect, self._shape), (segment, aspect)
        chosen = self._subjects.choose(people or (), most)
        return self._finder.find(Seen(time_ns, whole.field, chosen, whole.camera))


class RegionFlow:
    """The flow between one camera's steps, inside regions.

    A region's flow has no past of its own: it is cut out of the whole picture's, or computed on the
    same cut of both pictures. So a new subject has a field at its first step, and a region that
    moves makes no flow.
    """

    def __init__(
        self,
        method: FlowMethod,
        inputs: TemporalInputs,
        every: int = 1,
        ignore: Sequence[Polygon] = (),
        on_cuts: bool | None = None,
    ) -> None:
        """``every`` and ``ignore`` are those of :class:`FlowSteps`. ``on_cuts`` is
        :data:`COMPUTED_ON_CUTS` by default."""
        self.steps = FlowSteps(method, inputs, every)
        self._inputs = inputs
        self._still = still_cells(ignore, inputs.temporal.flow_size)
        self._on_cuts = COMPUTED_ON_CUTS if on_cuts is None else on_cuts
        self._picture: Gray | None = None

    def picture(self, frame: Frame) -> Gray | None:
        """The picture of which cuts are made, (H, W); None where none are."""
        return gray_of_width(frame, CUT_WIDTH) if self._on_cuts else None

    def whole(self, gray: Gray, picture: Gray | None = None) -> WholeFlow:
        """The whole picture's motion.

        ``gray`` is the step's picture (:meth:`FlowSteps.gray`), ``picture`` that of the cuts.
        """
        previous, elapsed, span = self.steps.before(gray)
        before, self._picture = self._picture, picture
        if previous is None:
            return WholeFlow(None, None, span)
        flow = self.steps.method(previous, gray)
        if self._still is not None:
            flow[self._still] = 0.0
        flow = np.asarray(flow / np.float32(elapsed), np.float32)
        both = None
        if before is not None and picture is not None and before.shape == picture.shape:
            both = before, picture
        return WholeFlow(flow, camera_motion(flow), span, elapsed, both)

    def inside(self, whole: WholeFlow, regions: Regions) -> dict[str, QuantisedFlow]:
        """Each subject's field (h, w, 2), as the network takes it; none where there is no flow.

        It is at the region's own scale, less the camera's motion.
        """
        if whole.field is None or whole.camera is None:
            return {}
        height, width = self._inputs.temporal.size
        fields = {}
        for name, region in regions.items():
            own = less_camera(self._of_region(whole, whole.field, region), whole.camera, region)
            if self._still is not None and whole.pictures is not None:
                own[_inside(self._still, region)] = 0.0
            small = cv2.resize(own, (width, height), interpolation=cv2.INTER_AREA)
            fields[name] = quantise(np.asarray(small, np.float32), self._inputs.temporal.bound)
        return fields

    def _of_region(self, whole: WholeFlow, field: FlowField, region: Box) -> FlowField:
        if whole.pictures is None:
            return field_in(field, region)
        size = self._inputs.temporal.flow_size
        flow = flow_of_cuts(*whole.pictures, region, size, self.steps.method)
        return np.asarray(flow / np.float32(whole.elapsed), np.float32)


def _inside(still: npt.NDArray[np.bool_], region: Box) -> npt.NDArray[np.bool_]:
    """The region's part of a mask (fh, fw), at the mask's size."""
    height, width = still.shape
    x, y, wide, high = pixel_rect(region, width, height)
    part = still[y : y + high, x : x + wide].astype(np.uint8)
    return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_NEAREST) > 0)
