"""What a camera-second costs at least, and what the running pipeline takes for one.

The floor is the bare work in one thread of one process, no queue, no process, no message, in two
ways: each function and network called again and again by itself, with all that it needs in the
caches, and all of them in turn on the frames of live cameras (:mod:`benchmarks.bare_loop`). The
overhead is the pipeline's CPU time for a camera-second over either, measured in between.
"""

import json
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from benchmarks.bare_loop import BareLoop
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
from testbed.footage import clips
from testbed.program import PipelineRun, free_port, scratch_folder
from testbed.resources import Sample, sample

BATCHES = (1, 2, 4, 8)
METHODS = ("lucas_kanade", "farneback", "dis", "deep")
READ_S = 10.0
CALLS = 60
SETTLE_S = 5.0


def read_stream(url: str, step_hz: float, seconds: float) -> tuple[float, list[Frame]]:
    """CPU seconds for a second of the stream, and the frames of its steps."""
    source = create(url, camera="floor", clock=SYSTEM_CLOCK, options=SourceOptions())
    steps = StepClock(step_hz)
    frames: list[Frame] = []
    with closing(source):
        source.open()
        slot = np.empty((*source.size, 3), np.uint8)
        began, cpu_s = time.monotonic(), time.process_time()
        while time.monotonic() - began < seconds:
            grab = source.grab()
            if grab is not None and steps.step(grab.captured_ns) is not None:
                # Into one place, as capture decodes into the ring.
                frame = source.retrieve(slot)
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
    """Milliseconds of CPU for one step of one camera, by what is done."""
    contract, count = pack.contract, len(frames)
    greys = [gray_for_flow(frame, contract) for frame in frames]
    costs = {
        "picture for appearance": cost_ms(lambda n: spatial_input(frames[n], contract), count),
        "grey picture for flow": cost_ms(lambda n: gray_for_flow(frames[n], contract), count),
    }
    for name in METHODS:
        method = flow.create(name)

        def field(n: int, method: FlowMethod = method) -> object:
            return flow_input(greys[n - 1], greys[n], 1.0, method, contract)

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
    """CPU milliseconds for a camera-second, of what each stage does."""
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


def measure_floor(pack: ModelPack, url: str) -> tuple[float, dict[str, float]]:
    cv2.setNumThreads(1)
    read, frames = read_stream(url, pack.contract.step_hz, READ_S)
    return read, bare_costs(pack, frames)


def floor(model: Path, json_output: bool) -> None:
    """Measure and print the floor."""
    pack = ModelPack.load(model)
    with rtsp_server({"door": clips()}) as server:
        read, costs = measure_floor(pack, server.url("door"))
    stages = by_stage(pack, read, costs, 1)
    result = {
        "model": f"{pack.contract.name} {pack.contract.version}",
        "ms_per_step": {name: round(ms, 3) for name, ms in costs.items()},
        "ms_per_camera_second": {name: round(ms, 1) for name, ms in stages.items()},
        "cores_per_camera": round(sum(stages.values()) / 1000, 4),
    }
    if json_output:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
        return
    table = Table(title="CPU for one step of one camera, one thread")
    table.add_column("work")
    table.add_column("ms", justify="right")
    for name, ms in costs.items():
        table.add_row(name, f"{ms:.3f}")
    Console().print(table)
    Console().print({key: value for key, value in result.items() if key != "ms_per_step"})


def pipeline_costs(model: Path, urls: dict[str, str], seconds: float) -> dict[str, float]:
    """CPU milliseconds for a camera-second, of each kind of stage of the running program.

    As it runs by default: events are published, the scores of every step are not.
    """
    metrics = f"127.0.0.1:{free_port()}"
    settings = {
        "model": str(model),
        "cameras": {name: {"source": url} for name, url in urls.items()},
        "publish": {"scores": False},
        "supervisor": {"metrics": metrics},
    }
    with scratch_folder() as folder, PipelineRun(folder, settings) as run:
        run.wait_for(lambda: steps_so_far(metrics) > 0, 60, "a step")
        time.sleep(SETTLE_S)
        early, steps, began = sample(run), steps_so_far(metrics), time.monotonic()
        time.sleep(seconds)
        late, elapsed = sample(run), time.monotonic() - began
        steps = steps_so_far(metrics) - steps
        costs = cpu_by_kind(early, late, elapsed * len(urls))
        costs["steps per camera-second"] = steps / elapsed / len(urls)
        return costs


def steps_so_far(metrics: str) -> float:
    """Steps that fusion has scored, of all cameras; a heartbeat old."""
    try:
        with urllib.request.urlopen(f"http://{metrics}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return 0.0
    return sum(
        one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
        if one.name == "two_stream_steps_total" and one.labels["stage"] == "fusion"
    )


def cpu_by_kind(
    early: dict[str, Sample], late: dict[str, Sample], camera_s: float
) -> dict[str, float]:
    """Milliseconds of CPU for a camera-second, stages of one kind together."""
    found: dict[str, float] = {}
    for name, of in late.items():
        kind = name.partition(":")[0]
        taken_s = of["cpu_s"] - early[name]["cpu_s"]
        found[kind] = found.get(kind, 0.0) + 1000 * taken_s / camera_s
    return found


def overhead(
    model: Path, cameras: int, seconds: float, picture: Path | None, json_output: bool
) -> None:
    """Measure the bare work, the pipeline, the bare work again; print the one over the other."""
    pack = ModelPack.load(model)
    streams = {f"camera{number}": clips() for number in range(cameras)}
    batch = max(b for b in BATCHES if b <= cameras)
    floors, loops = [], []
    with rtsp_server(streams) as server:
        urls = {name: server.url(name) for name in streams}

        def measure_bare() -> None:
            floors.append(by_stage(pack, *measure_floor(pack, urls["camera0"]), batch))
            loops.append(BareLoop(pack, list(urls.values())).run(SETTLE_S, seconds / 2))

        measure_bare()
        running = pipeline_costs(model, urls, seconds)
        measure_bare()
    bare, loop = mean(floors), mean(loops)
    steps_per_s = running.pop("steps per camera-second")
    total, least, interleaved = sum(running.values()), sum(bare.values()), sum(loop.values())
    result = {
        "cameras": cameras,
        "steps_per_camera_second": round(steps_per_s, 2),
        "floor_ms": {k: round(v, 2) for k, v in bare.items()},
        "loop_ms": {k: round(v, 2) for k, v in loop.items()},
        "pipeline_ms": {k: round(v, 2) for k, v in running.items()},
        "floor_total_ms": round(least, 1),
        "loop_total_ms": round(interleaved, 1),
        "pipeline_total_ms": round(total, 1),
        "overhead": round(total / least, 3),
        "overhead_over_loop": round(total / interleaved, 3),
    }
    if picture is not None:
        from benchmarks import pictures

        pictures.overhead(result, picture)
    if json_output:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
        return
    table = Table(title=f"CPU ms for a camera-second, {cameras} cameras")
    for column in ("stage", "each alone", "in turn", "pipeline"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage in running:
        cells = (f"{of[stage]:.1f}" if stage in of else "–" for of in (bare, loop, running))
        table.add_row(stage, *cells)
    table.add_row("all", f"{least:.1f}", f"{interleaved:.1f}", f"{total:.1f}", style="bold")
    Console().print(table)
    Console().print(
        f"{total / least:.2f} of the work done each alone, {total / interleaved:.2f} of the same "
        f"done in turn; {steps_per_s:.2f} steps a second and camera"
    )


def mean(measurements: list[dict[str, float]]) -> dict[str, float]:
    """Of each stage."""
    return {k: sum(m[k] for m in measurements) / len(measurements) for k in measurements[0]}
