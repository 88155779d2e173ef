"""Spatial: the appearance stream, f_spatial(v_t). One process for all cameras."""

import numpy as np

from pipeline.arrays import Frame
from pipeline.model.pack import ModelPack
from pipeline.model.session import Network
from pipeline.stages.base import Context
from pipeline.stages.features import FeatureSender
from pipeline.stages.step_stage import StepStage
from pipeline.steps.follow import appearance_features, check_finite
from pipeline.steps.preprocess import spatial_input
from pipeline.transport import topics
from pipeline.transport.counters import key
from pipeline.transport.frame_ring import FrameOverwritten
from pipeline.transport.messages import FrameRef


class Spatial(StepStage[FrameRef, Frame]):
    """Resizes frames straight out of their slots and runs the CNN over a batch of cameras."""

    def __init__(self, context: Context) -> None:
        runtime = context.config.runtime
        pack = ModelPack.load(context.config.model)
        self._contract = pack.contract
        self._network = Network(pack, "spatial", runtime.threads, runtime.providers)
        # The first run plans memory and is slow: do it before the stage is ready.
        self._network.run({"frames": np.zeros((1, *self._contract.spatial.size, 3), np.uint8)})
        self._turns = {camera: turn for turn, camera in enumerate(context.spec.cameras)}
        super().__init__(context, FrameRef, topics.FRAME, topics.SPATIAL, pack.contract.step_hz)
        self._sender = FeatureSender(self._publisher, "spatial", context.clock)

    def take(self, ref: FrameRef, took_ns: int) -> Frame | None:
        if not self._due(ref):
            self.pass_over(ref, took_ns)
            return None
        try:
            ring = self._rings.get(ref.moment.camera, ref.ring)
            with ring.view(ref.number) as frame:
                picture = spatial_input(frame, self._contract)
        except FrameOverwritten:
            self._context.counters[key("frames_overwritten", ref.moment.camera)] += 1
            return None
        ring.done(ref.number)
        return picture

    def _due(self, ref: FrameRef) -> bool:
        """Whether appearance is computed in this step. Cameras take turns: all steps cost alike."""
        pace = self._context.link.pace
        # When the governor drops steps, take turns over the steps that remain.
        made = ref.moment.step_id // pace.step_every
        return (made + self._turns[ref.moment.camera]) % pace.spatial_every == 0

    def finish(self, batch: list[tuple[FrameRef, Frame]], took_ns: int) -> None:
        features = appearance_features(self._network.run, [picture for _, picture in batch])
        check_finite(features)
        for ref, _ in batch:
            self._context.counters[key("steps", ref.moment.camera)] += 1
        self._context.counters["batches"] += 1
        self._sender.send([ref for ref, _ in batch], features, took_ns)

    def pass_over(self, ref: FrameRef, took_ns: int) -> None:
        self._sender.send([ref], None, took_ns)
