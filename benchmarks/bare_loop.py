"""The pipeline's work without the pipeline: one thread that reads some cameras in turn.

No queue, no process, no message; the functions and networks are the pipeline's own, called on the
steps of all cameras together. Between two calls of one thing the others are called, as in the
pipeline, so that code and data are as cold as they are there.
"""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

import cv2
import numpy as np

from pipeline import flow
from pipeline.arrays import Frame, Gray, Vector
from pipeline.clock import SYSTEM_CLOCK, StepClock
from pipeline.model_pack import ModelPack
from pipeline.onnx_session import Network
from pipeline.preprocess import flow_input, grey_for_flow, spatial_input
from pipeline.sources import Source, SourceOptions, create
from pipeline.windows import FeatureWindow, FlowStack, score_windows


class BareLoop:
    """Costs by stage, in milliseconds of CPU, of what its thread does."""

    def __init__(self, pack: ModelPack, urls: Sequence[str]) -> None:
        contract = self._contract = pack.contract
        self._urls = urls
        self._networks = {
            name: Network(pack, name, providers=["CPUExecutionProvider"])
            for name in ("spatial", "temporal", "fusion")
        }
        self._method = flow.create(contract.temporal.method)
        self._stack_shape = (contract.temporal.stack, *contract.temporal.size, 2)
        self._greys: list[Gray | None] = [None for _ in urls]
        self._stacks = [FlowStack(contract.temporal.stack) for _ in urls]
        self._windows = [FeatureWindow(contract.window, contract.feature_size) for _ in urls]
        self._step = 0
        self._ms: Counter[str] = Counter()

    def run(self, settle_s: float, seconds: float) -> dict[str, float]:
        """Milliseconds of CPU for a camera-second, by stage, once ``settle_s`` are over."""
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
        reading = 1000 * cpu_s - self._ms.total()
        camera_s = elapsed_s * len(self._urls)
        return {stage: ms / camera_s for stage, ms in {"capture": reading, **self._ms}.items()}

    def _read(self, sources: Sequence[Source], seconds: float) -> None:
        until = time.monotonic() + seconds
        origin_ns = SYSTEM_CLOCK.monotonic_ns()
        clocks = [StepClock(self._contract.step_hz, origin_ns) for _ in sources]
        slots = [np.empty((*source.size, 3), np.uint8) for source in sources]
        waiting: dict[int, Frame] = {}
        while time.monotonic() < until:
            for camera, source in enumerate(sources):
                grab = source.grab()
                if grab is None or clocks[camera].step(grab.captured_ns) is None:
                    continue
                if camera in waiting:
                    self._work(waiting)
                waiting[camera] = source.retrieve(slots[camera])
            if len(waiting) == len(sources):
                self._work(waiting)

    def _work(self, waiting: dict[int, Frame]) -> None:
        """What the stages do with one step of each of some cameras."""
        self._step += 1
        stacked = []
        with self._timed("flow"):
            for camera, frame in waiting.items():
                if self._follow(camera, frame):
                    stacked.append(camera)
        with self._timed("spatial"):
            small = np.stack([spatial_input(frame, self._contract) for frame in waiting.values()])
            spatial = self._networks["spatial"].run({"frames": small})["features"]
        temporal: dict[int, Vector] = {}
        if stacked:
            with self._timed("temporal"):
                stacks = np.empty((len(stacked), *self._stack_shape), np.uint8)
                for place, camera in zip(stacks, stacked, strict=True):
                    self._stacks[camera].write(place)
                features = self._networks["temporal"].run({"flow": stacks})["features"]
                temporal = dict(zip(stacked, features, strict=True))
        with self._timed("fusion"):
            for camera, vector in zip(waiting, spatial, strict=True):
                self._windows[camera].push(0, self._step, vector, temporal.get(camera))
            score_windows(self._networks["fusion"].run, [self._windows[c] for c in waiting])
        waiting.clear()

    def _follow(self, camera: int, frame: Frame) -> bool:
        """Flow from the step before; whether the camera's stack is whole."""
        grey = grey_for_flow(frame, self._contract)
        before, self._greys[camera] = self._greys[camera], grey
        if before is None:
            return False
        field = flow_input(before, grey, 1.0, self._method, self._contract)
        return self._stacks[camera].push(0, self._step, field, 1)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.thread_time_ns()
        yield
        self._ms[stage] += (time.thread_time_ns() - began) / 1e6  # type: ignore[assignment]
