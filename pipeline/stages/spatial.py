"""Spatial: the appearance stream, f_spatial(v_t). One process for all cameras."""

import numpy as np

from pipeline import topics
from pipeline.frame_ring import FrameOverwritten
from pipeline.messages import FrameRef
from pipeline.model_pack import ModelPack
from pipeline.onnx_session import Network
from pipeline.preprocess import spatial_input
from pipeline.stage import Context
from pipeline.stages.inputs import StepStage
from pipeline.stages.streams import FeatureSender


class Spatial(StepStage[FrameRef]):
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
        self.connect()
        self._sender = FeatureSender(self._publisher, "spatial", self._context.clock)

    def process(self, batch: list[FrameRef]) -> None:
        took_ns = self._context.clock.monotonic_ns()
        counters = self._context.counters
        refs, frames = [], []
        for ref in batch:
            try:
                ring = self._rings.get(ref.moment.camera, ref.ring)
                with ring.view(ref.number) as frame:
                    small = spatial_input(frame, self._contract)
            except FrameOverwritten:
                counters["frames_overwritten"] += 1
                continue
            ring.done(ref.number)
            refs.append(ref)
            frames.append(small)
        if refs:
            features = self._network.run({"frames": np.stack(frames)})["features"]
            counters["steps"] += len(refs)
            counters["batches"] += 1
            self._sender.send(refs, features, took_ns)
