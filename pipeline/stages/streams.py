"""What the two stream stages share: run a network over a batch of cameras, send the features."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.bus import Publisher
from pipeline.clock import Clock
from pipeline.messages import Feature, FlowRef, FrameRef, Stamp

Features = npt.NDArray[np.float32]


class FeatureSender:
    """Sends one stream's features, or the word that a step has none."""

    def __init__(self, publisher: Publisher, stream: str, clock: Clock) -> None:
        self._publisher = publisher
        self._stream = stream
        self._clock = clock

    def send(
        self, refs: Sequence[FrameRef | FlowRef], features: Features | None, took_ns: int
    ) -> None:
        """``features`` is (N, d) for N refs, None where they have none."""
        let_go_ns = self._clock.monotonic_ns()
        for place, ref in enumerate(refs):
            vector = None if features is None else features[place]
            usable = vector is not None and bool(np.isfinite(vector).all())
            self._publisher.send(
                ref.moment.camera,
                Feature(
                    moment=ref.moment,
                    stream="spatial" if self._stream == "spatial" else "temporal",
                    vector=vector.tobytes() if vector is not None and usable else None,
                    trail=(*ref.trail, Stamp(self._stream, took_ns, let_go_ns)),
                ),
            )
