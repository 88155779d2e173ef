"""Flow: the motion between consecutive steps of a camera, and the regions that move or are people.

A few processes, sharded by camera.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pipeline import flow, topology
from pipeline.arrays import Frame, Gray, QuantisedFlow, picture_size
from pipeline.flow.base import FlowMethod
from pipeline.model.pack import Size, ViewName
from pipeline.model.watch import WHOLE_PICTURE, FlowKind, Watch
from pipeline.stages.base import Context
from pipeline.stages.step_stage import StepStage
from pipeline.steps.flow_fields import FlowSteps
from pipeline.steps.polygons import Polygon
from pipeline.steps.region_flow import RegionFinder, RegionFlow, WholeFlow
from pipeline.transport import topics
from pipeline.transport.counters import key
from pipeline.transport.frame_ring import FrameOverwritten, RingWriter
from pipeline.transport.messages import FieldRef, FlowRef, FrameRef, Moment, Regions, Stamp

Fields = Mapping[str, QuantisedFlow]
"""By subject."""


@dataclass(slots=True)
class _Found:
    """What a step shows."""

    fields: dict[str, tuple[Fields, int]] = field(default_factory=dict)
    """By the key of their kind: a step's fields, and how many steps they span."""
    regions: Regions = field(default_factory=dict)


@dataclass(slots=True)
class _Kind:
    """What is kept of a camera for one kind of flow."""

    kind: FlowKind
    steps: FlowSteps
    regions: RegionFlow | None
    """None for the whole picture."""
    places: int
    """How many subjects' fields an image of the ring holds."""
    ring: RingWriter | None = None

    def due(self, moment: Moment) -> bool:
        return moment.step_id % self.kind.every == 0


class Flow(StepStage[FrameRef, _Found]):
    """Makes each step's frame gray and small, and computes its flow from the step before.

    Packs that agree on how flow is computed share it (:class:`pipeline.model.watch.FlowKind`).
    Packs of one view share its regions.
    """

    def __init__(self, context: Context) -> None:
        self._most = context.config.people.subjects
        cameras = context.config.cameras
        watched = topology.watched(context.config, context.spec.cameras)
        self._methods: dict[str, FlowMethod] = {}
        self._fast_methods: dict[str, FlowMethod] = {}
        self._cameras = {
            camera: {watch.flow.key: self._kind(watch, cameras[camera].ignore) for watch in watches}
            for camera, watches in watched.items()
        }
        self._finders: dict[str, dict[ViewName, RegionFinder]] = {
            camera: {
                watch.view: RegionFinder(watch.view, watch.pack.contract)
                for watch in watches
                if watch.view != WHOLE_PICTURE
            }
            for camera, watches in watched.items()
        }
        super().__init__(context, (FrameRef,), topics.FLOW, watched)

    def _kind(self, watch: Watch, ignore: Sequence[Polygon]) -> _Kind:
        kind, contract = watch.flow, watch.pack.contract
        if kind.method not in self._methods:
            self._methods[kind.method] = flow.create(kind.method)
        method = self._methods[kind.method]
        if kind.view == WHOLE_PICTURE:
            return _Kind(kind, FlowSteps(method, contract, kind.every, ignore), None, 1)
        regions = RegionFlow(method, contract, kind.every, ignore)
        return _Kind(kind, regions.steps, regions, self._most if kind.view == "person" else 1)

    def close(self) -> None:
        super().close()
        for kinds in self._cameras.values():
            for kind in kinds.values():
                if kind.ring is not None:
                    kind.ring.close()

    def take(self, ref: FrameRef, took_ns: int) -> _Found | None:
        moment = ref.moment
        kinds = self._cameras[moment.camera]
        for kind in kinds.values():
            kind.steps.advance(moment)
        due = {name: kind for name, kind in kinds.items() if kind.due(moment)}
        try:
            ring = self._rings.get(moment.camera, ref.ring)
            with ring.view(ref.number) as frame:
                grays = _grays(frame, due.values())
                picture = _picture(frame, due.values())
        except FrameOverwritten:
            self._context.counters[key("frames_overwritten", moment.camera)] += 1
            return None
        ring.done(ref.number)
        found = _Found()
        for name, kind in due.items():
            kind.steps.method = self._method_of_the_pace(kind.kind.method)
            gray = grays[kind.kind.flow_size]
            if kind.regions is None:
                whole, span = kind.steps.field(gray)
                found.fields[name] = ({} if whole is None else {WHOLE_PICTURE: whole}), span
            else:
                whole_flow = kind.regions.whole(gray, picture)
                self._look_at_regions(ref, name, kind.regions, whole_flow, ring.shape, found)
            self._context.counters[key("fields", moment.camera)] += len(found.fields[name][0])
        return found

    def _look_at_regions(
        self,
        ref: FrameRef,
        name: str,
        regions: RegionFlow,
        whole: WholeFlow,
        shape: tuple[int, ...],
        found: _Found,
    ) -> None:
        """Find the regions of a kind's view, unless a kind before it has, and cut their flow."""
        moment, view = ref.moment, self._cameras[ref.moment.camera][name].kind.view
        if view not in found.regions:
            height, width = picture_size(shape)
            boxes = self._finders[moment.camera][view].find(
                moment.segment,
                moment.time_ns(self._context.lossless),
                width / height,
                whole,
                ref.people,
                min(self._most, self._context.link.pace.subjects or self._most),
            )
            if boxes is None:
                found.fields[name] = {}, whole.span
                return
            found.regions[view] = dict(boxes)
        found.fields[name] = regions.inside(whole, found.regions[view]), whole.span

    def _method_of_the_pace(self, name: str) -> FlowMethod:
        if not self._context.link.pace.fast_flow:
            return self._methods[name]
        if name not in self._fast_methods:
            self._fast_methods[name] = flow.create_fast(name)
        return self._fast_methods[name]

    def finish(self, batch: list[tuple[FrameRef, _Found]], took_ns: int) -> None:
        refs = [self._flow_ref(ref, found, took_ns) for ref, found in batch]
        self._publisher.send(batch[0][0].moment.camera, *refs)

    def pass_over(self, ref: FrameRef, took_ns: int) -> None:
        camera = ref.moment.camera
        kinds = self._cameras[camera]
        for kind in kinds.values():
            kind.steps.forget()
        nothing = _Found({name: ({}, 1) for name, kind in kinds.items() if kind.due(ref.moment)})
        self._publisher.send(camera, self._flow_ref(ref, nothing, took_ns))

    def _flow_ref(self, ref: FrameRef, found: _Found, took_ns: int) -> FlowRef:
        refs = tuple(
            self._field_ref(ref.moment.camera, name, fields, span)
            for name, (fields, span) in found.fields.items()
        )
        stamp = Stamp("flow", took_ns, self._context.clock.monotonic_ns())
        return FlowRef(
            moment=ref.moment,
            fields=refs,
            ring=ref.ring,
            number=ref.number,
            regions=found.regions,
            trail=(*ref.trail, stamp),
        )

    def _field_ref(self, camera: str, name: str, fields: Fields, span: int) -> FieldRef:
        if not fields:
            return FieldRef(kind=name, ring=None, number=-1, span=span)
        kind = self._cameras[camera][name]
        ring = self._ring(camera, name, kind)
        image, height = ring.reserve(), kind.kind.size[0]
        for place, one in enumerate(fields.values()):
            np.copyto(image[place * height : (place + 1) * height], one)
        return FieldRef(
            kind=name,
            ring=ring.name,
            number=ring.commit(),
            span=span,
            subjects=tuple(fields),
            places=kind.places,
        )

    def _ring(self, camera: str, name: str, kind: _Kind) -> RingWriter:
        if kind.ring is None:
            height, width = kind.kind.size
            context = self._context
            shape = (kind.places * height, width, 2)
            granted = context.request_ring(camera, "flow", shape, name)
            wait = (lambda: context.idle(0.001)) if context.lossless else None
            kind.ring = RingWriter(granted, context.run, wait)
        return kind.ring


def _grays(frame: Frame, kinds: Iterable[_Kind]) -> dict[Size, Gray]:
    """The gray picture of a frame in each size that some kind of flow takes."""
    by_size: dict[Size, Gray] = {}
    for kind in kinds:
        if kind.kind.flow_size not in by_size:
            by_size[kind.kind.flow_size] = kind.steps.gray(frame)
    return by_size


def _picture(frame: Frame, kinds: Iterable[_Kind]) -> Gray | None:
    """The picture of which regions are cut, if some kind of flow asks for it."""
    for kind in kinds:
        if kind.regions is not None:
            return kind.regions.picture(frame)
    return None
