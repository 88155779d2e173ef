"""What the stages that read step messages share: draining, grouping, skipping, passing on."""

import logging
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable
from typing import Any, Generic, TypeVar

from pipeline import topics
from pipeline.bus import Bus, Publisher, Subscriber
from pipeline.clock import NS_PER_MS, NS_PER_S, Clock
from pipeline.frame_ring import RingReaders
from pipeline.messages import EndOfStream, FlowRef, FrameRef
from pipeline.stages.base import Context
from pipeline.stages.quarantine import Quarantine
from pipeline.topics import Topic
from pipeline.topology import writers

Ref = TypeVar("Ref", FrameRef, FlowRef)
Input = TypeVar("Input")

log = logging.getLogger(__name__)

MAX_BACKLOG = 2
"""Live: steps of one camera that may wait; a stage that is slower skips to the newest."""
TOGETHER_S = 0.003
"""Messages that were sent together have all arrived after so long."""
SHORT_OF_NS = 2 * NS_PER_MS
"""A nap ends so long before the last camera's step came last time, lest they drift."""
ABSENT_PERIODS = 3
"""A camera that has brought no step for so many step periods isn't waited for."""


class StepQueue(Generic[Ref]):
    """Step messages of several cameras, in order, newest wins when live."""

    def __init__(
        self,
        subscriber: Subscriber,
        cameras: Iterable[str],
        kind: type[Ref],
        lossless: bool,
        counters: "Counter[str]",
        period_ns: float,
    ) -> None:
        self._subscriber = subscriber
        self._absent_ns = ABSENT_PERIODS * period_ns
        self._heard_ns: dict[str, int] = {}
        self._kind: type[Ref] = kind
        self._lossless = lossless
        self._counters = counters
        self._waiting: dict[str, list[Ref]] = {camera: [] for camera in cameras}
        self._open = set(self._waiting)
        self._ends: list[str] = []

    def receive(self, now_ns: int) -> None:
        """Take in what has arrived by ``now_ns``."""
        for message in self._subscriber.drain():
            if isinstance(message, EndOfStream):
                self._ends.append(message.camera)
                self._open.discard(message.camera)
            elif isinstance(message, self._kind):
                self._waiting[message.moment.camera].append(message)
                self._open.add(message.moment.camera)
                self._heard_ns[message.moment.camera] = now_ns
        if not self._lossless:
            self._skip()

    def _skip(self) -> None:
        for waiting in self._waiting.values():
            surplus = len(waiting) - MAX_BACKLOG
            if surplus > 0:
                self._counters["steps_skipped"] += surplus
                del waiting[:surplus]

    def next_batch(self) -> list[Ref]:
        """The oldest waiting step of each camera; lossless: of one camera only.

        Networks add up in another order when the batch has another size, which shows in the last
        bits; a batch of one keeps a file's results the same on any machine.
        """
        ready = [waiting for waiting in self._waiting.values() if waiting]
        return [waiting.pop(0) for waiting in (ready[:1] if self._lossless else ready)]

    def take_ends(self) -> list[str]:
        """Cameras that have ended and whose steps were all taken; each is returned once."""
        done = [camera for camera in self._ends if not self._waiting[camera]]
        self._ends = [camera for camera in self._ends if camera not in done]
        return done

    def incomplete(self, now_ns: int) -> bool:
        """Whether steps wait, at most one of each camera, and a camera of late has none of them."""
        counts = [len(waiting) for waiting in self._waiting.values()]
        return max(counts) == 1 and any(
            not waiting and now_ns - self._heard_ns.get(camera, 0) < self._absent_ns
            for camera, waiting in self._waiting.items()
        )

    @property
    def waiting(self) -> bool:
        """Whether a step is to be taken."""
        return any(self._waiting.values())

    @property
    def empty(self) -> bool:
        """Whether every camera has ended and nothing waits."""
        return not self._open and not self._ends and not self.waiting


class Gathering:
    """How a stage waits for the steps that all cameras bring at about the same time.

    Cameras lie apart as they did the step before. So that each doesn't wake the process by itself,
    it sleeps until the last of them is about to come.
    """

    def __init__(self, queue: StepQueue[Any], bus: Bus, clock: Clock, longest_s: float) -> None:
        self._queue = queue
        self._bus = bus
        self._clock = clock
        self._longest_ns = int(longest_s * NS_PER_S)
        self._apart_ns = 0

    def gather(self) -> None:
        """Take in what has arrived; where some cameras' steps lack, wait a little for them."""
        clock, queue = self._clock, self._queue
        began = now = clock.monotonic_ns()
        until = began + self._longest_ns
        queue.receive(now)
        if now >= until or not queue.incomplete(now):
            return
        nap_ns = min(self._apart_ns, self._longest_ns) - SHORT_OF_NS
        if nap_ns > 0:
            clock.sleep(nap_ns / NS_PER_S)
            now = clock.monotonic_ns()
            queue.receive(now)
        while now < until and queue.incomplete(now):
            self._bus.poll((until - now) / NS_PER_S)
            now = clock.monotonic_ns()
            queue.receive(now)
        if now < until:
            self._apart_ns = now - began


class StepStage(ABC, Generic[Ref, Input]):
    """A stage between two step topics: flow, spatial and temporal.

    A subclass says what it takes from each step, what it does with a batch of that, and how it says
    that a step has nothing. Waiting for readers, draining, skipping, passing on the ends of streams
    and leaving alone a camera whose data it fails on are the same for all.

    Live, stages gather: the steps of all cameras come within a frame's time
    (:class:`~pipeline.windows.Steps`), and whoever has some of them waits a moment for the others.
    What comes of a batch is sent together, so that downstream the moment is a short one
    (:data:`TOGETHER_S`).
    """

    def __init__(self, context: Context, kind: type[Ref], reads: Topic, writes: Topic) -> None:
        self._context = context
        self._kind: type[Ref] = kind
        self._reads = reads
        self._writes = writes
        self._rings = RingReaders(context.run, reads.readers.index(context.spec.kind))
        self._quarantine = Quarantine(context)

    def connect(self, step_hz: float) -> None:
        """Connect to all that write what this stage reads, and bind what it writes."""
        context, bus = self._context, self._context.bus
        from_cameras = self._reads is topics.FRAME
        gather_s = context.config.runtime.gather_ms / 1000 if from_cameras else TOGETHER_S
        cameras = context.spec.cameras
        instances = writers(self._reads.writer, context.config, cameras)
        subscriber = bus.subscriber(self._reads, instances, cameras)
        self._queue: StepQueue[Ref] = StepQueue(
            subscriber, cameras, self._kind, context.lossless, context.counters, NS_PER_S / step_hz
        )
        self._gathering = Gathering(
            self._queue, bus, context.clock, 0.0 if context.lossless else gather_s
        )
        bus.watch(subscriber, lambda: None)
        readers = len(self._writes.readers) if context.lossless else 0
        self._publisher: Publisher = bus.publisher(
            self._writes, context.spec.instance, cameras, readers
        )
        if context.lossless:
            bus.watch(self._publisher, lambda: None)

    @abstractmethod
    def take(self, ref: Ref, took_ns: int) -> Input | None:
        """What :meth:`finish` wants of a step; None when all is done that can be."""

    @abstractmethod
    def finish(self, batch: list[tuple[Ref, Input]], took_ns: int) -> None:
        """Work off one step of each of some cameras together, and send what comes of it."""

    @abstractmethod
    def pass_over(self, ref: Ref, took_ns: int) -> None:
        """Say that a step has nothing: its camera is in quarantine, or failed just now."""

    def process(self, refs: list[Ref]) -> None:
        """Work off one step of each of some cameras; what fails stays with its camera.

        What stands after a guarded block that ends in ``continue`` is done when it has failed.
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
                log.warning("a batch of %d cameras failed; one by one now", len(batch))
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
