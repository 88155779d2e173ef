"""The step messages that wait before a stage, and how it waits for those of other cameras."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

from pipeline.clock import NS_PER_MS, NS_PER_S, Clock
from pipeline.transport.bus import Bus, Subscriber
from pipeline.transport.counters import key
from pipeline.transport.messages import EndOfStream, FlowRef, FrameRef
from pipeline.transport.topics import MAX_BACKLOG, Silence

Ref = TypeVar("Ref", bound=FrameRef | FlowRef)

WAKE_EARLY_NS = 2 * NS_PER_MS
"""A nap ends this long before the last camera's step came last time, so that steps don't drift."""


class StepQueue(Generic[Ref]):
    """Step messages of several cameras, in order.

    ``sources`` say which subscriber brings the steps of which cameras. Live, the oldest steps are
    dropped where more than :data:`MAX_BACKLOG` wait (``Drop.OLDEST_STEPS``).
    """

    def __init__(
        self,
        sources: Sequence[tuple[Subscriber, Iterable[str]]],
        silence: Silence,
        kinds: tuple[type[Ref], ...],
        lossless: bool,
        counters: "Counter[str]",
        period_ns: float,
    ) -> None:
        self._sources = [(subscriber, frozenset(cameras)) for subscriber, cameras in sources]
        self._silent_ns = silence.ns(period_ns)
        self._heard_ns: dict[str, int] = {}
        self._kinds = kinds
        self._lossless = lossless
        self._counters = counters
        self._waiting: dict[str, list[Ref]] = {
            camera: [] for _, cameras in sources for camera in cameras
        }
        self._open = set(self._waiting)
        self._ends: list[str] = []

    def receive(self, now_ns: int) -> None:
        """Take in what has arrived by ``now_ns``."""
        for subscriber, cameras in self._sources:
            for message in subscriber.drain():
                if isinstance(message, EndOfStream) and message.camera in cameras:
                    self._ends.append(message.camera)
                    self._open.discard(message.camera)
                # Where several cameras travel together, some come by another topic.
                elif isinstance(message, self._kinds) and message.moment.camera in cameras:
                    self._waiting[message.moment.camera].append(message)
                    self._open.add(message.moment.camera)
                    self._heard_ns[message.moment.camera] = now_ns
        if not self._lossless:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        for camera, waiting in self._waiting.items():
            surplus = len(waiting) - MAX_BACKLOG
            if surplus > 0:
                self._counters[key("steps_skipped", camera)] += surplus
                del waiting[:surplus]

    def next_batch(self) -> list[Ref]:
        """The oldest waiting step of each camera; lossless: of one camera only.

        Networks sum in another order when the batch has another size, which shows in the last
        bits. A batch of one keeps a file's results the same on any machine.
        """
        ready = [waiting for waiting in self._waiting.values() if waiting]
        return [waiting.pop(0) for waiting in (ready[:1] if self._lossless else ready)]

    def take_ends(self) -> list[str]:
        """Cameras that have ended and whose steps were all taken; each is returned once."""
        done = [camera for camera in self._ends if not self._waiting[camera]]
        self._ends = [camera for camera in self._ends if camera not in done]
        return done

    def incomplete(self, now_ns: int) -> bool:
        """Whether one step of some cameras waits, and a camera that is not silent has none."""
        counts = [len(waiting) for waiting in self._waiting.values()]
        return max(counts) == 1 and any(
            not waiting and now_ns - self._heard_ns.get(camera, 0) < self._silent_ns
            for camera, waiting in self._waiting.items()
        )

    @property
    def waiting(self) -> bool:
        """Whether a step can be taken."""
        return any(self._waiting.values())

    @property
    def empty(self) -> bool:
        """Whether every camera has ended and nothing waits."""
        return not self._open and not self._ends and not self.waiting


class Gathering:
    """How a stage waits for the steps that all cameras bring at about the same time.

    Cameras lie apart as they did the step before. The stage sleeps until the last of them is
    about to come, so that not each camera wakes the process by itself.
    """

    def __init__(self, queue: StepQueue[Any], bus: Bus, clock: Clock, longest_s: float) -> None:
        self._queue = queue
        self._bus = bus
        self._clock = clock
        self._longest_ns = int(longest_s * NS_PER_S)
        self._apart_ns = 0

    def gather(self) -> None:
        """Take in what has arrived; while steps of some cameras are missing, wait a little."""
        clock, queue = self._clock, self._queue
        began = now = clock.monotonic_ns()
        until = began + self._longest_ns
        queue.receive(now)
        if now >= until or not queue.incomplete(now):
            return
        nap_ns = min(self._apart_ns, self._longest_ns) - WAKE_EARLY_NS
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
