"""Flow: the motion between consecutive steps of a camera. A few processes, sharded by camera."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline import flow, topology
from pipeline.arrays import Frame, Gray, QuantisedFlow
from pipeline.flow.base import FlowMethod
from pipeline.model.pack import Size
from pipeline.model.watch import FlowKind, Watch
from pipeline.stages.base import Context
from pipeline.stages.step_stage import StepStage
from pipeline.steps.flow_fields import FlowSteps
from pipeline.steps.polygons import Polygon
from pipeline.transport import topics
from pipeline.transport.counters import key
from pipeline.transport.frame_ring import FrameOverwritten, RingWriter
from pipeline.transport.messages import FieldRef, FlowRef, FrameRef, Moment, Stamp

Fields = dict[str, tuple[QuantisedFlow | None, int]]
"""By the key of their kind: a step's field, None if it has none, and how many steps it spans."""


@dataclass(slots=True)
class _Kind:
    """What is kept of a camera for one kind of flow."""

    kind: FlowKind
    steps: FlowSteps
    ring: RingWriter | None = None

    def due(self, moment: Moment) -> bool:
        return moment.step_id % self.kind.every == 0


class Flow(StepStage[FrameRef, Fields]):
    """Makes each step's frame gray and small, and computes its flow from the step before.

    Packs that agree on how flow is computed share it (:class:`pipeline.model.watch.FlowKind`).
    """

    def __init__(self, context: Context) -> None:
        cameras = context.config.cameras
        watched = topology.watched(context.config, context.spec.cameras)
        self._methods: dict[str, FlowMethod] = {}
        self._fast_methods: dict[str, FlowMethod] = {}
        self._cameras = {
            camera: {watch.flow.key: self._kind(watch, cameras[camera].ignore) for watch in watches}
            for camera, watches in watched.items()
        }
        super().__init__(context, FrameRef, topics.FRAME, topics.FLOW, watched)

    def _kind(self, watch: Watch, ignore: Sequence[Polygon]) -> _Kind:
        kind = watch.flow
        if kind.method not in self._methods:
            self._methods[kind.method] = flow.create(kind.method)
        method = self._methods[kind.method]
        return _Kind(kind, FlowSteps(method, watch.pack.contract, kind.every, ignore))

    def close(self) -> None:
        super().close()
        for kinds in self._cameras.values():
            for kind in kinds.values():
                if kind.ring is not None:
                    kind.ring.close()

    def take(self, ref: FrameRef, took_ns: int) -> Fields | None:
        moment = ref.moment
        kinds = self._cameras[moment.camera]
        for kind in kinds.values():
            kind.steps.advance(moment)
        due = {name: kind for name, kind in kinds.items() if kind.due(moment)}
        try:
            ring = self._rings.get(moment.camera, ref.ring)
            with ring.view(ref.number) as frame:
                grays = _grays(frame, due.values())
        except FrameOverwritten:
            self._context.counters[key("frames_overwritten", moment.camera)] += 1
            return None
        ring.done(ref.number)
        fields = {name: self._field(kind, grays) for name, kind in due.items()}
        for field, _ in fields.values():
            if field is not None:
                self._context.counters[key("fields", moment.camera)] += 1
        return fields

    def _field(self, kind: _Kind, grays: dict[Size, Gray]) -> tuple[QuantisedFlow | None, int]:
        kind.steps.method = self._method_of_the_pace(kind.kind.method)
        return kind.steps.field(grays[kind.kind.flow_size])

    def _method_of_the_pace(self, name: str) -> FlowMethod:
        if not self._context.link.pace.fast_flow:
            return self._methods[name]
        if name not in self._fast_methods:
            self._fast_methods[name] = flow.create_fast(name)
        return self._fast_methods[name]

    def finish(self, batch: list[tuple[FrameRef, Fields]], took_ns: int) -> None:
        refs = [self._flow_ref(ref, fields, took_ns) for ref, fields in batch]
        self._publisher.send(batch[0][0].moment.camera, *refs)

    def pass_over(self, ref: FrameRef, took_ns: int) -> None:
        camera = ref.moment.camera
        kinds = self._cameras[camera]
        for kind in kinds.values():
            kind.steps.forget()
        nothing: Fields = {name: (None, 1) for name, kind in kinds.items() if kind.due(ref.moment)}
        self._publisher.send(camera, self._flow_ref(ref, nothing, took_ns))

    def _flow_ref(self, ref: FrameRef, fields: Fields, took_ns: int) -> FlowRef:
        refs = tuple(
            self._field_ref(ref.moment.camera, name, field, span)
            for name, (field, span) in fields.items()
        )
        stamp = Stamp("flow", took_ns, self._context.clock.monotonic_ns())
        return FlowRef(moment=ref.moment, fields=refs, trail=(*ref.trail, stamp))

    def _field_ref(
        self, camera: str, name: str, field: QuantisedFlow | None, span: int
    ) -> FieldRef:
        if field is None:
            return FieldRef(kind=name, ring=None, number=-1, span=span)
        ring = self._ring(camera, name)
        np.copyto(ring.reserve(), field)
        return FieldRef(kind=name, ring=ring.name, number=ring.commit(), span=span)

    def _ring(self, camera: str, name: str) -> RingWriter:
        kind = self._cameras[camera][name]
        if kind.ring is None:
            height, width = kind.kind.size
            context = self._context
            granted = context.request_ring(camera, "flow", (height, width, 2), name)
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
