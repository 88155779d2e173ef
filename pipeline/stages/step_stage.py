"""What the stages between two step topics share: flow, spatial and temporal."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Generic, TypeVar

from pipeline import topology
from pipeline.clock import NS_PER_S
from pipeline.stages.base import Context
from pipeline.stages.quarantine import Quarantine
from pipeline.stages.step_queue import Gathering, Ref, StepQueue
from pipeline.topology import Inlet, Watched
from pipeline.transport import topics
from pipeline.transport.bus import Publisher, Subscriber
from pipeline.transport.frame_ring import RingReaders
from pipeline.transport.messages import EndOfStream
from pipeline.transport.topics import Topic

TOGETHER_S = 0.003
"""Messages that were sent together have all arrived after this long."""

Input = TypeVar("Input")

log = logging.getLogger(__name__)


class StepStage(ABC, Generic[Ref, Input]):
    """Reads one step topic and writes another.

    A subclass defines what it takes from each step, what it does with a batch, and how it sends a
    step without a result. Waiting for readers, draining, skipping, passing on the ends of
    streams, and skipping a camera whose data it fails on are the same for all.

    Live, stages gather: the steps of all cameras come within a frame's time
    (:class:`pipeline.steps.sampling.Steps`), so a stage that has some of them waits a moment for
    the others. The results of a batch are sent together, so that downstream the moment is short
    (:data:`TOGETHER_S`).
    """

    def __init__(
        self,
        context: Context,
        kinds: tuple[type[Ref], ...],
        writes: Topic,
        watched: Watched,
    ) -> None:
        """Connect to the stages that the cameras' steps come from, and bind ``writes``.

        ``watched`` are each camera's packs. Call it last: from now on steps arrive.
        """
        self._context = context
        kind, cameras = context.spec.kind, context.spec.cameras
        place = topics.FRAME.readers.index(kind) if kind in topics.FRAME.readers else 0
        self._rings = RingReaders(context.run, place)
        self._quarantine = Quarantine.of(context)
        routes = topology.routes(context.config, watched)
        inlets = topology.inlets(kind, routes, cameras)
        self._queue: StepQueue[Ref] = StepQueue(
            [(self._subscriber(inlet), inlet.cameras) for inlet in inlets],
            inlets[0].topic.silence,
            kinds,
            context.lossless,
            context.counters,
            NS_PER_S / min(topology.step_hz(watched[camera]) for camera in cameras),
        )
        wait_s = 0.0 if context.lossless else self.gather_s(inlets)
        self._gathering = Gathering(self._queue, context.bus, context.clock, wait_s)
        self._publisher: Publisher = context.publisher(writes, routes)

    def _subscriber(self, inlet: Inlet) -> Subscriber:
        context, topic = self._context, inlet.topic
        instances = [
            name
            for kind in topic.writers
            for name in topology.writers(kind, context.config, inlet.cameras)
        ]
        subscriber = context.bus.subscriber(topic, instances, inlet.cameras)
        context.bus.watch(subscriber)
        return subscriber

    def gather_s(self, inlets: Sequence[Inlet]) -> float:
        """How long the steps of some cameras may wait for those of the others, live."""
        from_cameras = any(inlet.topic is topics.FRAME for inlet in inlets)
        return self._context.config.runtime.gather_ms / 1000 if from_cameras else TOGETHER_S

    @abstractmethod
    def take(self, ref: Ref, took_ns: int) -> Input | None:
        """What :meth:`finish` needs of a step; None when there is nothing to finish."""

    @abstractmethod
    def finish(self, batch: list[tuple[Ref, Input]], took_ns: int) -> None:
        """Process one step of each of some cameras together, and send the results."""

    @abstractmethod
    def pass_over(self, ref: Ref, took_ns: int) -> None:
        """Send a step without a result: its camera is in quarantine, or has just failed."""

    def process(self, refs: list[Ref]) -> None:
        """Process one step of each of some cameras. A failure stays with its camera.

        A guarded block ends in ``continue``, so the lines after it run only if it failed.
        """
        took_ns = self._context.clock.monotonic_ns()
        batch: list[tuple[Ref, Input]] = []
        for ref in refs:
            if self._quarantine.holds(ref.moment.camera):
                self.pass_over(ref, took_ns)
                continue
            with self._quarantine.guard(ref.moment.camera):
                taken = self.take(ref, took_ns)
                if taken is not None:
                    batch.append((ref, taken))
                continue
            self.pass_over(ref, took_ns)
        if len(batch) > 1:
            try:
                self.finish(batch, took_ns)
                return
            except Exception:
                if self._context.lossless:
                    raise
                log.warning("a batch of %d cameras failed; trying them one by one", len(batch))
        for one in batch:
            ref = one[0]
            with self._quarantine.guard(ref.moment.camera):
                self.finish([one], took_ns)
                continue
            self.pass_over(ref, took_ns)

    def work(self) -> float | None:
        if not self._publisher.ready():
            return None
        self._gathering.gather()
        batch = self._queue.next_batch()
        if batch:
            self.process(batch)
        for camera in self._queue.take_ends():
            self._publisher.send(camera, EndOfStream(camera=camera))
        return 0.0 if self._queue.waiting else None

    def drained(self) -> bool:
        return self._queue.empty

    def close(self) -> None:
        self._rings.close()
