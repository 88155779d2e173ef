"""How the two stream stages send features."""

from collections.abc import Sequence
from typing import Literal

from pipeline.arrays import Vector
from pipeline.clock import Clock
from pipeline.transport.bus import Publisher
from pipeline.transport.messages import Feature, FlowRef, FrameRef, Stamp

Stream = Literal["spatial", "temporal"]


class FeatureSender:
    """Sends one stream's features, or that a step has none."""

    def __init__(self, publisher: Publisher, stream: Stream, clock: Clock) -> None:
        self._publisher = publisher
        self._stream: Stream = stream
        self._clock = clock

    def send(
        self, refs: Sequence[FrameRef | FlowRef], features: Vector | None, took_ns: int
    ) -> None:
        """``features`` is (N, d) for N refs, None where they have none."""
        let_go_ns = self._clock.monotonic_ns()
        messages = [
            Feature(
                moment=ref.moment,
                stream=self._stream,
                vector=None if features is None else features[place].tobytes(),
                trail=(*ref.trail, Stamp(self._stream, took_ns, let_go_ns)),
            )
            for place, ref in enumerate(refs)
        ]
        self._publisher.send(refs[0].moment.camera, *messages)
