"""Spatial: the appearance stream, f_spatial(v_t). One process for all cameras."""

import numpy as np

from pipeline import topics
from pipeline.frame_ring import FrameOverwritten, Image
from pipeline.messages import FrameRef
from pipeline.model_pack import ModelPack
from pipeline.onnx_session import Network
from pipeline.preprocess import spatial_input
from pipeline.stages.base import Context
from pipeline.stages.inputs import StepStage
from pipeline.stages.streams import FeatureSender, check_finite


class Spatial(StepStage[FrameRef, Image]):
    """Resizes frames straight out of their slots and runs the CNN over a batch of cameras."""

    def __init__(self, context: Context) -> None:
        super().__init__(context, FrameRef, topics.FRAME, topics.SPATIAL)

    def open(self) -> None:
        runtime = self._context.config.runtime
        pack = ModelPack.load(self._context.config.model)
        self._contract = pack.contract
        self._network = Network(pack, "spatial", runtime.threads, runtime.providers)
        # The first run plans memory and is slow: it is done before the stage says that it is ready.
        self._network.run({"frames": np.zeros((1, *self._contract.spatial.size, 3), np.uint8)})
        self.connect(self._contract.step_hz)
        self._turns = {camera: turn for turn, camera in enumerate(self._context.spec.cameras)}
        self._sender = FeatureSender(self._publisher, "spatial", self._context.clock)

    def take(self, ref: FrameRef, took_ns: int) -> Image | None:
        if not self._due(ref):
            self.pass_over(ref, took_ns)
            return None
        try:
            ring = self._rings.get(ref.moment.camera, ref.ring)
            with ring.view(ref.number) as frame:
                small = spatial_input(frame, self._contract)
        except FrameOverwritten:
            self._context.counters["frames_overwritten"] += 1
            return None
        ring.done(ref.number)
        return small

    def _due(self, ref: FrameRef) -> bool:
        """Whether this step is looked at; cameras take turns, so that all steps cost alike."""
        every, step = self._context.link.pace.spatial_every, ref.moment.step_id
        # Where only every so many steps are made, those that there are are counted.
        made = step // self._context.link.pace.step_every
        return (made + self._turns[ref.moment.camera]) % every == 0

    def finish(self, batch: list[tuple[FrameRef, Image]], took_ns: int) -> None:
        frames = np.stack([frame for _, frame in batch])
        features = self._network.run({"frames": frames})["features"]
        check_finite(features)
        self._context.counters["steps"] += len(batch)
        self._context.counters["batches"] += 1
        self._sender.send([ref for ref, _ in batch], features, took_ns)

    def pass_over(self, ref: FrameRef, took_ns: int) -> None:
        self._sender.send([ref], None, took_ns)
