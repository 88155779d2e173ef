"""Temporal: the motion stream, f_temporal(u_{t-L+1..t}). One process for all cameras."""

import numpy as np

from pipeline import topics
from pipeline.flow import QuantisedFlow
from pipeline.frame_ring import FrameOverwritten
from pipeline.messages import FlowRef
from pipeline.model_pack import ModelPack
from pipeline.onnx_session import Network
from pipeline.stage import Context
from pipeline.stages.inputs import StepStage
from pipeline.stages.streams import FeatureSender
from pipeline.windows import FlowStack


class Temporal(StepStage[FlowRef]):
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
        self.connect()
        self._sender = FeatureSender(self._publisher, "temporal", self._context.clock)

    def process(self, batch: list[FlowRef]) -> None:
        took_ns = self._context.clock.monotonic_ns()
        whole: list[FlowRef] = []
        partial: list[FlowRef] = []
        for ref in batch:
            moment = ref.moment
            stack = self._stacks[moment.camera]
            full = stack.push(moment.segment, moment.step_id, self._field(ref), ref.span)
            (whole if full else partial).append(ref)
        self._sender.send(partial, None, took_ns)
        if not whole:
            return
        flow = np.empty((len(whole), *self._stack_shape), np.uint8)
        for place, ref in zip(flow, whole, strict=True):
            self._stacks[ref.moment.camera].write(place)
        features = self._network.run({"flow": flow})["features"]
        self._context.counters["steps"] += len(whole)
        self._context.counters["batches"] += 1
        self._sender.send(whole, features, took_ns)

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
