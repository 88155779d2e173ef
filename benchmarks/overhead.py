"""What the running pipeline takes for a camera-second, against the bare work.

The bare work is measured in two ways. *Each alone* is the floor (:mod:`benchmarks.floor`): every
function and network is called by itself, with warm caches. *In turn* is one thread that does the
same work on the frames of all cameras (:mod:`benchmarks.bare_loop`), with caches as cold as the
pipeline's. Both are measured before and after the pipeline, because the machine's speed drifts.
"""

import time
import urllib.request
from pathlib import Path
from typing import Annotated, TypedDict

import typer
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from benchmarks.bare_loop import BareLoop
from benchmarks.floor import BATCHES, by_stage, measure_stream
from benchmarks.live_cameras import camera_streams
from benchmarks.options import GESTURES, Model
from pipeline.model.pack import ModelPack
from testbed.cameras import rtsp_server
from testbed.program import PipelineRun, free_port, scratch_folder
from testbed.resources import Sample, sample

SETTLE_S = 5.0
STEPS = "steps per camera-second"


class OverheadResult(TypedDict):
    """CPU milliseconds for a camera-second, by stage and in total, and what follows from them."""

    cameras: int
    steps_per_camera_second: float
    floor_ms: dict[str, float]
    """Each alone."""
    loop_ms: dict[str, float]
    """In turn."""
    pipeline_ms: dict[str, float]
    floor_total_ms: float
    loop_total_ms: float
    pipeline_total_ms: float
    overhead: float
    """The pipeline's total over the floor's."""
    overhead_over_loop: float


def pipeline_costs(model: Path, urls: dict[str, str], seconds: float) -> dict[str, float]:
    """CPU milliseconds for a camera-second by kind of stage, and under :data:`STEPS` the rate.

    The program runs as it does by default: it publishes events but not the scores of every step.
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
        costs[STEPS] = steps / elapsed / len(urls)
        return costs


def steps_so_far(metrics: str) -> float:
    """Steps of all cameras that fusion has scored, as of its last heartbeat."""
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
    """CPU milliseconds for a camera-second; stages of one kind are added up."""
    found: dict[str, float] = {}
    for name, of in late.items():
        kind = name.partition(":")[0]
        taken_s = of["cpu_s"] - early[name]["cpu_s"]
        found[kind] = found.get(kind, 0.0) + 1000 * taken_s / camera_s
    return found


def bare_work(
    pack: ModelPack, urls: list[str], seconds: float
) -> tuple[dict[str, float], dict[str, float]]:
    """CPU milliseconds for a camera-second by stage: each alone, in turn."""
    batch = max(b for b in BATCHES if b <= len(urls))
    alone = by_stage(pack, *measure_stream(pack, urls[0]), batch)
    return alone, BareLoop(pack, urls).run(SETTLE_S, seconds)


def mean(measurements: tuple[dict[str, float], ...]) -> dict[str, float]:
    """The mean by stage."""
    return {k: sum(m[k] for m in measurements) / len(measurements) for k in measurements[0]}


def measure(
    cameras: Annotated[int, typer.Option(min=1, help="number of cameras")] = 4,
    seconds: Annotated[float, typer.Option(min=5, help="seconds to measure the pipeline")] = 60.0,
    model: Model = GESTURES,
) -> OverheadResult:
    """Measure the bare work, the pipeline, and the bare work again."""
    pack = ModelPack.load(model)
    streams = camera_streams(cameras)
    with rtsp_server(streams) as server:
        urls = {name: server.url(name) for name in streams}
        before = bare_work(pack, list(urls.values()), seconds / 2)
        running = pipeline_costs(model, urls, seconds)
        after = bare_work(pack, list(urls.values()), seconds / 2)
    alone, in_turn = (mean(pair) for pair in zip(before, after, strict=True))
    steps_per_s = running.pop(STEPS)
    total, alone_total, in_turn_total = (sum(of.values()) for of in (running, alone, in_turn))
    return {
        "cameras": cameras,
        "steps_per_camera_second": round(steps_per_s, 2),
        "floor_ms": {k: round(v, 2) for k, v in alone.items()},
        "loop_ms": {k: round(v, 2) for k, v in in_turn.items()},
        "pipeline_ms": {k: round(v, 2) for k, v in running.items()},
        "floor_total_ms": round(alone_total, 1),
        "loop_total_ms": round(in_turn_total, 1),
        "pipeline_total_ms": round(total, 1),
        "overhead": round(total / alone_total, 3),
        "overhead_over_loop": round(total / in_turn_total, 3),
    }


def show(result: OverheadResult) -> None:
    table = Table(title=f"CPU ms for a camera-second, {result['cameras']} cameras")
    for column in ("stage", "each alone", "in turn", "pipeline"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    columns = result["floor_ms"], result["loop_ms"], result["pipeline_ms"]
    for stage in result["pipeline_ms"]:
        table.add_row(stage, *(f"{of[stage]:.1f}" if stage in of else "–" for of in columns))
    totals = result["floor_total_ms"], result["loop_total_ms"], result["pipeline_total_ms"]
    table.add_row("all", *(f"{total:.1f}" for total in totals), style="bold")
    Console().print(table)
    Console().print(
        f"The pipeline takes {result['overhead']:.2f} of the work done each alone and "
        f"{result['overhead_over_loop']:.2f} of the same work done in turn; "
        f"{result['steps_per_camera_second']:.2f} steps a second and camera."
    )
