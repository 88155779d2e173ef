"""The pipeline's work without the pipeline: one thread reads some cameras in turn.

There is no queue, no other process and no message. The functions and networks are the pipeline's
own, called on the steps of all cameras together. The calls alternate as they do in the pipeline,
so that code and data are as cold in the caches as they are there.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

import cv2

from pipeline import flow
from pipeline.arrays import Frame, Vector
from pipeline.clock import SYSTEM_CLOCK
from pipeline.config import CameraConfig
from pipeline.decision.decisions import CameraDecisions, decide_batch, thresholds
from pipeline.model.pack import ModelPack
from pipeline.model.session import Network
from pipeline.model.watch import Watch
from pipeline.sources import Source, SourceOptions, create
from pipeline.steps.flow_fields import FlowStack
from pipeline.steps.follow import CameraFollower, appearance_features, motion_features
from pipeline.steps.join import DecidedStep, decided_step
from pipeline.steps.sampling import Due, Steps
from pipeline.transport.messages import Moment


class BareLoop:
    """Does the work of every stage in the calling thread and adds up its CPU time by stage."""

    def __init__(self, pack: ModelPack, urls: Sequence[str]) -> None:
        contract = self._contract = pack.contract
        self._watch = Watch(pack)
        self._urls = urls
        self._networks = {
            name: Network(pack, name, providers=["CPUExecutionProvider"])
            for name in ("spatial", "temporal", "fusion")
        }
        self._method = flow.create(contract.temporal.method)
        self._stacks = [FlowStack(contract.temporal.stack) for _ in urls]
        self._decisions = [
            CameraDecisions(url, self._watch, thresholds(contract), 1.0, False) for url in urls
        ]
        self._segments = 0
        self._ms: Counter[str] = Counter()

    def run(self, settle_s: float, seconds: float) -> dict[str, float]:
        """Work for ``settle_s`` and then measure for ``seconds``.

        Returns the CPU milliseconds for a camera-second by stage.
        """
        cv2.setNumThreads(1)
        with ExitStack() as stack:
            options = SourceOptions()
            sources = []
            for url in self._urls:
                source = create(url, camera="bare", clock=SYSTEM_CLOCK, options=options)
                sources.append(stack.enter_context(closing(source)))
                source.open()
            self._read(sources, settle_s)
            self._ms.clear()
            began, cpu_s = time.monotonic(), time.process_time()
            self._read(sources, seconds)
            elapsed_s, cpu_s = time.monotonic() - began, time.process_time() - cpu_s
        # Frames are read between the timed parts, so capture is what those leave of the thread.
        reading = 1000 * cpu_s - self._ms.total()
        camera_s = elapsed_s * len(self._urls)
        return {stage: ms / camera_s for stage, ms in {"capture": reading, **self._ms}.items()}

    def _read(self, sources: Sequence[Source], seconds: float) -> None:
        """Read all sources and work on their steps until ``seconds`` have passed."""
        until = time.monotonic() + seconds
        # A segment of its own, so that no stack spans the pause since the last call.
        followers = [self._follower(self._segments) for _ in sources]
        self._segments += 1
        slots: list[Frame | None] = [None] * len(sources)
        waiting: dict[int, tuple[Due, Frame]] = {}
        while time.monotonic() < until:
            for camera, source in enumerate(sources):
                grab = source.grab()
                if grab is None:
                    continue
                due = followers[camera].due(grab, grab.scene_ns)
                if due is None:
                    continue
                if camera in waiting:  # its next step is due while another camera is late
                    self._work(followers, waiting)
                slots[camera] = frame = source.retrieve(slots[camera])
                waiting[camera] = due, frame
            if len(waiting) == len(sources):
                self._work(followers, waiting)

    def _follower(self, segment: int) -> CameraFollower:
        contract, origin_ns = self._contract, SYSTEM_CLOCK.monotonic_ns()
        steps = Steps(
            "bare", contract.step_hz, CameraConfig().gap_s,
            first_segment=segment, origin_ns=origin_ns, on_grid=True,
        )  # fmt: skip
        return CameraFollower(steps, contract, self._method)

    def _work(
        self, followers: Sequence[CameraFollower], waiting: dict[int, tuple[Due, Frame]]
    ) -> None:
        """Do what the stages do with one step of each waiting camera; none waits afterwards."""
        contract, moments, stacked = self._contract, {}, []
        with self._timed("flow"):
            for camera, (due, frame) in waiting.items():
                moment = moments[camera] = followers[camera].number(due, frame)
                _, field, span = followers[camera].motion(moment, frame)
                if self._stacks[camera].push(moment.segment, moment.step_id, field, span):
                    stacked.append(camera)
        with self._timed("spatial"):
            pictures = [followers[c].appearance(frame) for c, (_, frame) in waiting.items()]
            spatial = appearance_features(self._networks["spatial"].run, pictures)
        temporal: dict[int, Vector] = {}
        if stacked:
            with self._timed("temporal"):
                stacks = [self._stacks[camera] for camera in stacked]
                features = motion_features(
                    self._networks["temporal"].run, stacks, contract.temporal
                )
                temporal = dict(zip(stacked, features, strict=True))
        with self._timed("fusion"):
            batch = [
                (self._decisions[camera], self._joined(moment, vector, temporal.get(camera)))
                for (camera, moment), vector in zip(moments.items(), spatial, strict=True)
            ]
            for _ in decide_batch(
                self._networks["fusion"].run, batch, 0, SYSTEM_CLOCK.monotonic_ns
            ):
                pass
        waiting.clear()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        """Add the thread's CPU time to that of ``stage``."""
        began = time.thread_time_ns()
        yield
        self._ms[stage] += (time.thread_time_ns() - began) / 1e6  # type: ignore[assignment]

    def _joined(self, moment: Moment, spatial: Vector, temporal: Vector | None) -> DecidedStep:
        """A step with both streams' features; the first steps of a segment have no motion."""
        motion = None if temporal is None else temporal.tobytes()
        return decided_step(moment, self._watch, spatial.tobytes(), motion)
