"""Temporal: the motion stream, f_temporal(u_{t-L+1..t}). One process for all cameras."""

import numpy as np

from pipeline import topics
from pipeline.arrays import QuantisedFlow
from pipeline.frame_ring import FrameOverwritten
from pipeline.messages import FlowRef
from pipeline.model_pack import ModelPack
from pipeline.onnx_session import Network
from pipeline.stages.base import Context
from pipeline.stages.inputs import StepStage
from pipeline.stages.streams import FeatureSender, check_finite
from pipeline.windows import FlowStack


class Temporal(StepStage[FlowRef, FlowStack]):
    """Keeps each camera's last L flow fields and runs the CNN over a batch of cameras."""

    def __init__(self, context: Context) -> None:
        super().__init__(context, FlowRef, topics.FLOW, topics.TEMPORAL)

    def open(self) -> None:
        runtime = self._context.config.runtime
        pack = ModelPack.load(self._context.config.model)
        temporal = pack.contract.temporal
        self._stack_shape = (temporal.stack, *temporal.size, 2)
        self._network = Network(pack, "temporal", runtime.threads, runtime.providers)
        self._network.run({"flow": np.full((1, *self._stack_shape), 128, np.uint8)})
        self._stacks = {camera: FlowStack(temporal.stack) for camera in self._context.spec.cameras}
        self.connect(pack.contract.step_hz)
        self._sender = FeatureSender(self._publisher, "temporal", self._context.clock)

    def take(self, ref: FlowRef, took_ns: int) -> FlowStack | None:
        moment = ref.moment
        stack = self._stacks[moment.camera]
        if stack.push(moment.segment, moment.step_id, self._field(ref), ref.span):
            return stack
        self._sender.send([ref], None, took_ns)
        return None

    def finish(self, batch: list[tuple[FlowRef, FlowStack]], took_ns: int) -> None:
        flow = np.empty((len(batch), *self._stack_shape), np.uint8)
        for place, (_, stack) in zip(flow, batch, strict=True):
            stack.write(place)
        features = self._network.run({"flow": flow})["features"]
        check_finite(features)
        self._context.counters["steps"] += len(batch)
        self._context.counters["batches"] += 1
        self._sender.send([ref for ref, _ in batch], features, took_ns)

    def pass_over(self, ref: FlowRef, took_ns: int) -> None:
        self._sender.send([ref], None, took_ns)

    def _field(self, ref: FlowRef) -> QuantisedFlow | None:
        """The step's field out of its ring; None when it has none or it was overwritten."""
        if ref.ring is None:
            return None
        try:
            ring = self._rings.get(ref.moment.camera, ref.ring)
            field = ring.read(ref.number)
        except FrameOverwritten:
            self._context.counters["fields_overwritten"] += 1
            return None
        ring.done(ref.number)
        return field
