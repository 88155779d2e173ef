"""The regions of one camera's steps, and the flow inside each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
from pipeline.steps.preprocess import Inputs
from pipeline.transport.messages import Moment


@dataclass(frozen=True, slots=True)
class Regions:
    """What a view shows of a step."""

    regions: Mapping[str, Box] | None
    """Subject → region, 0..1 of the picture; None where nobody can tell."""
    fields: Mapping[str, QuantisedFlow] = field(default_factory=dict)
    """Subject → the flow inside its region, (h, w, 2); empty where there is none."""
    span: int = 1
    """Steps that the fields stand for."""


class RegionSteps:
    """The regions that one view finds in one camera's steps, and their flow.

    The flow of a region has no past of its own: it is cut out of the whole picture's. So a new
    subject has a field at its first step, and a region that moves makes no flow.
    """

    def __init__(
        self,
        method: FlowMethod,
        inputs: Inputs,
        view: ViewName,
        every: int = 1,
        ignore: Sequence[Polygon] = (),
    ) -> None:
        """``every`` and ``ignore`` are those of :class:`FlowSteps`."""
        self.steps = FlowSteps(method, inputs, every)
        self._inputs = inputs
        self._view = view
        self._still = still_cells(ignore, inputs.temporal.flow_size)
        self._subjects = Subjects()
        self._finder: Finder | None = None
        self._aspect = 0.0
        self._segment = -1

    def advance(self, moment: Moment) -> None:
        """Move on to a step, whether or not its frame can be read."""
        if moment.segment != self._segment:
            self._finder, self._segment = None, moment.segment
        self.steps.advance(moment)

    def find(
        self,
        gray: Gray,
        aspect: float,
        time_ns: int,
        people: Sequence[Somebody] | None = None,
        most: int = 1,
    ) -> Regions:
        """The present step's regions; ``gray`` is its picture (:meth:`FlowSteps.gray`).

        ``aspect`` is the frame's width divided by its height. ``people`` are those who are there,
        None where nobody has looked, and ``most`` says how many are looked at.
        """
        previous, elapsed, span = self.steps.before(gray)
        if VIEWS[self._view].needs_people and people is None:
            return Regions(None, span=span)
        flow = None if previous is None else self._flow(previous, gray, elapsed)
        camera = None if flow is None else camera_motion(flow)
        seen = Seen(time_ns, flow, self._subjects.choose(people or (), most), camera)
        regions = self._finder_for(aspect).find(seen)
        if flow is None or camera is None:
            return Regions(regions, span=span)
        fields = {name: self._inside(flow, box, camera) for name, box in regions.items()}
        return Regions(regions, fields, span)

    def _flow(self, previous: Gray, gray: Gray, elapsed: float) -> FlowField:
        """The whole picture's flow in pixels a step."""
        flow = self.steps.method(previous, gray)
        if self._still is not None:
            flow[self._still] = 0.0
        return np.asarray(flow / np.float32(elapsed), np.float32)

    def _finder_for(self, aspect: float) -> Finder:
        if self._finder is None or aspect != self._aspect:
            height, width = self._inputs.spatial.size
            self._finder, self._aspect = create(self._view, aspect, width / height), aspect
        return self._finder

    def _inside(self, flow: FlowField, region: Box, camera: CameraMotion) -> QuantisedFlow:
        """A region's flow at its own scale, less the camera's, as the network takes it."""
        temporal = self._inputs.temporal
        height, width = temporal.size
        own = less_camera(field_in(flow, region), camera, region)
        small = cv2.resize(own, (width, height), interpolation=cv2.INTER_AREA)
        return quantise(np.asarray(small, np.float32), temporal.bound)
