"""Flow: the motion between consecutive steps of a camera. A few processes, sharded by camera."""

import numpy as np

from pipeline import flow
from pipeline.arrays import QuantisedFlow
from pipeline.flow.base import FlowMethod
from pipeline.model.pack import ModelPack
from pipeline.stages.base import Context
from pipeline.stages.step_stage import StepStage
from pipeline.steps.flow_fields import FlowSteps
from pipeline.transport import topics
from pipeline.transport.counters import key
from pipeline.transport.frame_ring import FrameOverwritten, RingWriter
from pipeline.transport.messages import FlowRef, FrameRef, Stamp


class _Camera:
    """What is kept of a camera between steps."""

    def __init__(self, steps: FlowSteps) -> None:
        self.steps = steps
        self.ring: RingWriter | None = None


class Flow(StepStage[FrameRef, tuple[QuantisedFlow | None, int]]):
    """Makes each step's frame gray and small, and computes its flow from the step before."""

    def __init__(self, context: Context) -> None:
        config = context.config
        contract = ModelPack.load(config.model).contract
        self._size = contract.temporal.size
        self._name = config.flow.method or contract.temporal.method
        self._method = flow.create(self._name)
        self._fast_method: FlowMethod | None = None
        self._cameras = {
            camera: _Camera(FlowSteps(self._method, contract, config.cameras[camera].ignore))
            for camera in context.spec.cameras
        }
        super().__init__(context, FrameRef, topics.FRAME, topics.FLOW, contract.step_hz)

    def close(self) -> None:
        super().close()
        for camera in self._cameras.values():
            if camera.ring is not None:
                camera.ring.close()

    def take(self, ref: FrameRef, took_ns: int) -> tuple[QuantisedFlow | None, int] | None:
        moment = ref.moment
        camera = self._cameras[moment.camera]
        camera.steps.advance(moment)
        try:
            ring = self._rings.get(moment.camera, ref.ring)
            with ring.view(ref.number) as frame:
                gray = camera.steps.gray(frame)
        except FrameOverwritten:
            self._context.counters[key("frames_overwritten", moment.camera)] += 1
            return None
        ring.done(ref.number)
        camera.steps.method = self._method_of_the_pace()
        field, span = camera.steps.field(gray)
        if field is not None:
            self._context.counters[key("fields", moment.camera)] += 1
        return field, span

    def _method_of_the_pace(self) -> FlowMethod:
        if not self._context.link.pace.fast_flow:
            return self._method
        if self._fast_method is None:
            self._fast_method = flow.create_fast(self._name)
        return self._fast_method

    def finish(
        self, batch: list[tuple[FrameRef, tuple[QuantisedFlow | None, int]]], took_ns: int
    ) -> None:
        refs = [self._flow_ref(ref, field, span, took_ns) for ref, (field, span) in batch]
        self._publisher.send(batch[0][0].moment.camera, *refs)

    def pass_over(self, ref: FrameRef, took_ns: int) -> None:
        camera = ref.moment.camera
        self._cameras[camera].steps.forget()
        self._publisher.send(camera, self._flow_ref(ref, None, 1, took_ns))

    def _flow_ref(
        self, ref: FrameRef, field: QuantisedFlow | None, span: int, took_ns: int
    ) -> FlowRef:
        name, number = None, -1
        if field is not None:
            ring = self._ring(ref.moment.camera)
            np.copyto(ring.reserve(), field)
            name, number = ring.name, ring.commit()
        stamp = Stamp("flow", took_ns, self._context.clock.monotonic_ns())
        return FlowRef(
            moment=ref.moment, ring=name, number=number, span=span, trail=(*ref.trail, stamp)
        )

    def _ring(self, name: str) -> RingWriter:
        camera = self._cameras[name]
        if camera.ring is None:
            height, width = self._size
            context = self._context
            granted = context.request_ring(name, "flow", (height, width, 2))
            wait = (lambda: context.idle(0.001)) if context.lossless else None
            camera.ring = RingWriter(granted, context.run, wait)
        return camera.ring
