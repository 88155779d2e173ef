"""The least CPU that a camera-second costs: the bare work in one thread of one process.

There is no queue, no other process and no message. Each function and each network is called again
and again by itself, with everything that it needs in the caches.
"""

import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from statistics import median
from typing import Any, TypedDict

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.options import GESTURES, Model
from pipeline import flow
from pipeline.arrays import Frame
from pipeline.clock import SYSTEM_CLOCK
from pipeline.flow.base import FlowMethod
from pipeline.model.pack import ModelPack
from pipeline.model.session import Network
from pipeline.sources import SourceOptions, create
from pipeline.steps.preprocess import flow_input, gray_for_flow, spatial_input
from pipeline.steps.sampling import StepClock
from testbed.cameras import rtsp_server
from testbed.footage import gesture_clips

BATCHES = (1, 2, 4, 8)
METHODS = ("lucas_kanade", "farneback", "dis", "deep")
READ_S = 10.0
CALLS = 60


class FloorResult(TypedDict):
    """CPU of the bare work."""

    model: str
    ms_per_step: dict[str, float]
    """For one step of one camera, by what is done."""
    ms_per_camera_second: dict[str, float]
    """By the stage that does it in the pipeline."""
    cores_per_camera: float


def read_stream(url: str, step_hz: float, seconds: float) -> tuple[float, list[Frame]]:
    """CPU seconds per second of the stream, and the frames of its first :data:`CALLS` steps."""
    source = create(url, camera="floor", clock=SYSTEM_CLOCK, options=SourceOptions())
    steps = StepClock(step_hz)
    frames: list[Frame] = []
    with closing(source):
        source.open()
        slot: Frame | None = None
        began, cpu_s = time.monotonic(), time.process_time()
        while time.monotonic() - began < seconds:
            grab = source.grab()
            if grab is not None and steps.step(grab.captured_ns) is not None:
                # Always into the same memory, as capture decodes into the ring's slots.
                slot = frame = source.retrieve(slot)
                if len(frames) < CALLS:
                    frames.append(frame.copy())
        return (time.process_time() - cpu_s) / (time.monotonic() - began), frames


def cost_ms(work: Callable[[int], object], calls: int) -> float:
    """Median CPU milliseconds of ``work(number)``."""
    work(0)
    taken = []
    for number in range(calls):
        began = time.thread_time_ns()
        work(number)
        taken.append((time.thread_time_ns() - began) / 1e6)
    return median(taken)


def bare_costs(pack: ModelPack, frames: list[Frame]) -> dict[str, float]:
    """CPU milliseconds for one step of one camera, by what is done."""
    contract, count = pack.contract, len(frames)
    grays = [gray_for_flow(frame, contract) for frame in frames]
    costs = {
        "picture for appearance": cost_ms(lambda n: spatial_input(frames[n], contract), count),
        "grey picture for flow": cost_ms(lambda n: gray_for_flow(frames[n], contract), count),
    }
    for name in METHODS:
        method = flow.create(name)

        def field(n: int, method: FlowMethod = method) -> object:
            return flow_input(grays[n - 1], grays[n], 1.0, method, contract)

        costs[f"flow: {name}"] = cost_ms(field, count)
    for name, inputs in network_inputs(pack, frames).items():
        network = Network(pack, name, providers=["CPUExecutionProvider"])
        for batch in BATCHES:
            given = {key: np.repeat(value, batch, axis=0) for key, value in inputs.items()}
            taken = cost_ms(partial(_run, network, given), count)
            costs[f"{name}, batch of {batch}"] = taken / batch
    return costs


def _run(network: Network, inputs: dict[str, Any], _: int) -> object:
    return network.run(inputs)


def network_inputs(pack: ModelPack, frames: list[Frame]) -> dict[str, dict[str, Any]]:
    """One camera's input of each network."""
    contract = pack.contract
    window = np.random.default_rng(1).normal(
        size=(1, contract.window, contract.feature_size)
    ).astype(np.float32)  # fmt: skip
    stack = (1, contract.temporal.stack, *contract.temporal.size, 2)
    return {
        "spatial": {"frames": spatial_input(frames[0], contract)[None]},
        "temporal": {"flow": np.full(stack, 128, np.uint8)},
        "fusion": {
            "spatial": window,
            "temporal": window,
            "mask": np.ones((1, contract.window, 2), np.float32),
        },
    }


def by_stage(pack: ModelPack, read: float, costs: dict[str, float], batch: int) -> dict[str, float]:
    """CPU milliseconds for a camera-second, by stage; ``read`` is of :func:`read_stream`."""
    contract = pack.contract
    per_step = {
        "flow": costs["grey picture for flow"] + costs[f"flow: {contract.temporal.method}"],
        "spatial": costs["picture for appearance"] + costs[f"spatial, batch of {batch}"],
        "temporal": costs[f"temporal, batch of {batch}"],
        "fusion": costs[f"fusion, batch of {batch}"],
    }
    return {"capture": 1000 * read} | {
        stage: contract.step_hz * ms for stage, ms in per_step.items()
    }


def measure_stream(pack: ModelPack, url: str) -> tuple[float, dict[str, float]]:
    """What :func:`read_stream` and :func:`bare_costs` return for one camera, on one thread."""
    cv2.setNumThreads(1)
    read, frames = read_stream(url, pack.contract.step_hz, READ_S)
    return read, bare_costs(pack, frames)


def measure(model: Model = GESTURES) -> FloorResult:
    """Measure the bare work on one live camera's frames."""
    pack = ModelPack.load(model)
    with rtsp_server({"door": gesture_clips()}) as server:
        read, costs = measure_stream(pack, server.url("door"))
    stages = by_stage(pack, read, costs, 1)
    return {
        "model": f"{pack.contract.name} {pack.contract.version}",
        "ms_per_step": {name: round(ms, 3) for name, ms in costs.items()},
        "ms_per_camera_second": {name: round(ms, 1) for name, ms in stages.items()},
        "cores_per_camera": round(sum(stages.values()) / 1000, 4),
    }


def show(result: FloorResult) -> None:
    table = Table(title="CPU for one step of one camera, one thread")
    table.add_column("work")
    table.add_column("ms", justify="right")
    for name, ms in result["ms_per_step"].items():
        table.add_row(name, f"{ms:.3f}")
    Console().print(table)
    Console().print({key: value for key, value in result.items() if key != "ms_per_step"})
