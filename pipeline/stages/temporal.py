"""Temporal: the motion stream, f_temporal(u_{t-L+1..t}). One process for all cameras."""

import numpy as np

from pipeline.arrays import STILL, QuantisedFlow
from pipeline.model.pack import ModelPack
from pipeline.model.session import Network
from pipeline.stages.base import Context
from pipeline.stages.features import FeatureSender
from pipeline.stages.step_stage import StepStage
from pipeline.steps.flow_fields import FlowStack
from pipeline.steps.follow import check_finite, motion_features
from pipeline.transport import topics
from pipeline.transport.counters import key
from pipeline.transport.frame_ring import FrameOverwritten
from pipeline.transport.messages import FlowRef


class Temporal(StepStage[FlowRef, FlowStack]):
    """Keeps each camera's last L flow fields and runs the CNN over a batch of cameras."""

    def __init__(self, context: Context) -> None:
        runtime = context.config.runtime
        pack = ModelPack.load(context.config.model)
        self._contract = pack.contract.temporal
        self._network = Network(pack, "temporal", runtime.threads, runtime.providers)
        shape = (1, self._contract.stack, *self._contract.size, 2)
        self._network.run({"flow": np.full(shape, STILL, np.uint8)})
        self._stacks = {camera: FlowStack(self._contract.stack) for camera in context.spec.cameras}
        super().__init__(context, FlowRef, topics.FLOW, topics.TEMPORAL, pack.contract.step_hz)
        self._sender = FeatureSender(self._publisher, "temporal", context.clock)

    def take(self, ref: FlowRef, took_ns: int) -> FlowStack | None:
        moment = ref.moment
        stack = self._stacks[moment.camera]
        if stack.push(moment.segment, moment.step_id, self._field(ref), ref.span):
            return stack
        self._sender.send([ref], None, took_ns)
        return None

    def finish(self, batch: list[tuple[FlowRef, FlowStack]], took_ns: int) -> None:
        stacks = [stack for _, stack in batch]
        features = motion_features(self._network.run, stacks, self._contract)
        check_finite(features)
        for ref, _ in batch:
            self._context.counters[key("steps", ref.moment.camera)] += 1
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
            self._context.counters[key("fields_overwritten", ref.moment.camera)] += 1
            return None
        ring.done(ref.number)
        return field
