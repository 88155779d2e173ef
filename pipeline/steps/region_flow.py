"""The regions of one camera's steps, and the flow inside each of them. ::

finder, flow = RegionFinder("person", inputs), RegionFlow(method, inputs)
for moment, frame, people in steps:
    flow.steps.advance(moment)
    whole = flow.whole(flow.steps.gray(frame))
    regions = finder.find(moment.segment, time_ns, aspect, whole, people)
    fields = flow.inside(whole, regions)
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from pipeline.arrays import FlowField, Gray, QuantisedFlow
from pipeline.flow.base import FlowMethod, quantise
from pipeline.model.pack import ViewName
from pipeline.people.camera_motion import CameraMotion, camera_motion, less_camera
from pipeline.people.cutting import field_in
from pipeline.people.geometry import Box
from pipeline.people.regions import VIEWS, Finder, Seen, create
from pipeline.people.tracks import Somebody, Subjects
from pipeline.steps.flow_fields import FlowSteps
from pipeline.steps.ignore_mask import still_cells
from pipeline.steps.polygons import Polygon
from pipeline.steps.preprocess import SpatialInputs, TemporalInputs

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

    It is cut out of the whole picture's, so a region's flow has no past of its own: a new subject
    has a field at its first step, and a region that moves makes no flow.
    """

    def __init__(
        self,
        method: FlowMethod,
        inputs: TemporalInputs,
        every: int = 1,
        ignore: Sequence[Polygon] = (),
    ) -> None:
        """``every`` and ``ignore`` are those of :class:`FlowSteps`."""
        self.steps = FlowSteps(method, inputs, every)
        self._inputs = inputs
        self._still = still_cells(ignore, inputs.temporal.flow_size)

    def whole(self, gray: Gray) -> WholeFlow:
        """The whole picture's motion; ``gray`` is the step's picture (:meth:`FlowSteps.gray`)."""
        previous, elapsed, span = self.steps.before(gray)
        if previous is None:
            return WholeFlow(None, None, span)
        flow = self.steps.method(previous, gray)
        if self._still is not None:
            flow[self._still] = 0.0
        flow = np.asarray(flow / np.float32(elapsed), np.float32)
        return WholeFlow(flow, camera_motion(flow), span)

    def inside(self, whole: WholeFlow, regions: Regions) -> dict[str, QuantisedFlow]:
        """Each subject's field (h, w, 2), as the network takes it; none where there is no flow.

        It is at the region's own scale, less the camera's motion.
        """
        if whole.field is None or whole.camera is None:
            return {}
        height, width = self._inputs.temporal.size
        fields = {}
        for name, region in regions.items():
            own = less_camera(field_in(whole.field, region), whole.camera, region)
            small = cv2.resize(own, (width, height), interpolation=cv2.INTER_AREA)
            fields[name] = quantise(np.asarray(small, np.float32), self._inputs.temporal.bound)
        return fields
