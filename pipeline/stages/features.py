"""How the two stream stages send features."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pipeline.arrays import Vector
from pipeline.clock import Clock
from pipeline.model.watch import Watch
from pipeline.transport.bus import Publisher
from pipeline.transport.messages import Feature, FlowRef, FrameRef, Moment, Stamp

Stream = Literal["spatial", "temporal"]


class Uses:
    """Which networks of one stream a camera's packs use, and at which steps."""

    def __init__(self, stream: Stream, watches: Iterable[Watch]) -> None:
        every: dict[str, set[int]] = {}
        for watch in watches:
            every.setdefault(getattr(watch, stream), set()).add(watch.every)
        self._every = every

    def due(self, moment: Moment) -> list[str]:
        """The networks of which some pack takes the step."""
        step = moment.step_id
        return [key for key, every in self._every.items() if any(step % n == 0 for n in every)]

    def every(self, network: str) -> int:
        """How many of the camera's steps lie between two of the network's, at least."""
        return min(self._every[network])


class FeatureSender:
    """Sends one stream's features, or that a step has none."""

    def __init__(
        self, publisher: Publisher, stream: Stream, clock: Clock, uses: Mapping[str, Uses]
    ) -> None:
        """``uses`` are those of each camera."""
        self._publisher = publisher
        self._stream: Stream = stream
        self._clock = clock
        self._uses = uses

    def send(
        self,
        refs: Sequence[FrameRef | FlowRef],
        features: Sequence[Mapping[str, Vector]],
        took_ns: int,
    ) -> None:
        """``features`` of each ref by network, (d,) each; what is missing of them is masked."""
        let_go_ns = self._clock.monotonic_ns()
        messages = [
            Feature(
                moment=ref.moment,
                stream=self._stream,
                vectors={
                    key: found[key].tobytes() if key in found else None
                    for key in self._uses[ref.moment.camera].due(ref.moment)
                },
                trail=(*ref.trail, Stamp(self._stream, took_ns, let_go_ns)),
            )
            for ref, found in zip(refs, features, strict=True)
        ]
        self._publisher.send(refs[0].moment.camera, *messages)

    def send_nothing(self, ref: FrameRef | FlowRef, took_ns: int) -> None:
        """Send that a step has no feature."""
        self.send([ref], [{}], took_ns)
