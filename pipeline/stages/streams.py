"""What the two stream stages share: run a network over a batch of cameras, send the features."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.bus import Publisher
from pipeline.clock import Clock
from pipeline.messages import Feature, FlowRef, FrameRef, Stamp

Features = npt.NDArray[np.float32]
Stream = Literal["spatial", "temporal"]


def check_finite(features: Features) -> None:
    """Raises ValueError for (N, d) features that would poison every score of their windows."""
    if not np.isfinite(features).all():
        raise ValueError("the network's features are not finite")


class FeatureSender:
    """Sends one stream's features, or the word that a step has none."""

    def __init__(self, publisher: Publisher, stream: Stream, clock: Clock) -> None:
        self._publisher = publisher
        self._stream = stream
        self._clock = clock

    def send(
        self, refs: Sequence[FrameRef | FlowRef], features: Features | None, took_ns: int
    ) -> None:
        """``features`` is (N, d) for N refs, None where they have none."""
        let_go_ns = self._clock.monotonic_ns()
        said = [
            Feature(
                moment=ref.moment,
                stream=self._stream,
                vector=None if features is None else features[place].tobytes(),
                trail=(*ref.trail, Stamp(self._stream, took_ns, let_go_ns)),
            )
            for place, ref in enumerate(refs)
        ]
        self._publisher.send(refs[0].moment.camera, *said)
