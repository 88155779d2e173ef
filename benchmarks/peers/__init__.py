"""How many cameras other projects' loops carry, with the same clips, networks and flow.

Every loop is a process of its own. It reads RTSP addresses for a while and then reports how many
frames of each camera it processed, how late they were, and its CPU. The search doubles the number
of cameras until frames are missing or the 99th percentile of lateness passes the limit. Then it
halves the interval.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypedDict

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.live_cameras import LIMIT_MS, TOTAL, camera_names, camera_streams, measure_cameras
from benchmarks.options import GESTURES, Model
from pipeline.model.pack import ModelPack
from testbed.cameras import Server, rtsp_server
from testbed.footage import gesture_clips
from testbed.program import PROJECT

CAMERA_FPS = 30.0
SETTLE_S, TRIAL_S = 8.0, 15.0
PATIENCE_S = 90.0
MISSED = 0.02
"""Largest share of frames that the worst camera may miss: three steps of a trial."""
MOST = 24
RECIPE = PROJECT / "configs" / "train" / "gestures.yaml"
HERE = Path(__file__).parent


@dataclass
class Trial:
    """What a loop did with a number of cameras."""

    cameras: int
    rates: list[float]
    """Frames per second that the loop processed, of each camera."""
    late_ms: list[float]
    """Median and 99th percentile from the frame's grab to its scores."""
    cores: float

    def holds(self, rate: float) -> bool:
        """Whether the loop kept up with ``rate`` frames per second of every camera."""
        return (
            bool(self.late_ms)
            and min(self.rates) >= (1 - MISSED) * rate
            and self.late_ms[1] <= LIMIT_MS
        )


class LoopFigures(TypedDict):
    """The number of cameras that a loop carries, and the trials of the search."""

    cameras: float
    trials: list[dict[str, Any]]


Loop = Callable[[int], Trial]
"""Runs a loop on a number of cameras."""


def most_cameras(loop: Loop, rate: float, most: int = MOST) -> tuple[float, list[Trial]]:
    """The largest number of cameras that ``loop`` holds at ``rate``, and the trials.

    A loop that doesn't hold one camera gets the share of that camera's frames that it processes.
    """
    trials: list[Trial] = []

    def holds(cameras: int) -> bool:
        trials.append(loop(cameras))
        return trials[-1].holds(rate)

    good, bad = 0, 1
    while bad <= most and holds(bad):
        good, bad = bad, 2 * bad
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return float(good) or min(1.0, trials[0].rates[0] / rate), trials


def process_loop(python: str, script: list[str], given: list[str], server: Server) -> Loop:
    """A loop as a process: ``python`` runs ``script``, whose first arguments are ``given``."""

    def run(cameras: int) -> Trial:
        urls = [server.url(name) for name in camera_names(cameras)]
        times = [str(SETTLE_S), str(TRIAL_S)]
        done = subprocess.run(
            [python, *script, *given, *times, *urls],
            cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE_S + TRIAL_S, check=False,
        )  # fmt: skip
        reports = [line for line in done.stdout.splitlines() if line.startswith('{"rates"')]
        if not reports:
            raise SystemExit(f"{' '.join(script)} printed no figures:\n{done.stderr[-2000:]}")
        return Trial(cameras, **json.loads(reports[-1]))

    return run


def own_loop(model: Path, server: Server) -> Loop:
    """The pipeline itself as a loop."""

    def run(cameras: int) -> Trial:
        found = measure_cameras(model, cameras, TRIAL_S, server)
        total = found["ms"][TOTAL]
        return Trial(
            cameras, found["rates"], [total["p50"], total["p99"]], found["cores"]
        )  # fmt: skip

    return run


def contenders(
    model: Path, step_hz: float, server: Server, inference_python: str | None
) -> dict[str, tuple[Loop, float]]:
    """Loops by name, and the frames per second of each camera that each must process."""
    threads = ["-m", "benchmarks.peers.threads"]
    pipeline = [str(HERE / "inference_pipeline.py")]
    at_steps, all_frames = [str(model), str(step_hz), "1"], [str(model), "0", "0"]
    found = {
        "two-stream": (own_loop(model, server), step_hz),
        "threads, at steps": (
            process_loop(sys.executable, threads, at_steps, server), step_hz,
        ),
        "threads, every frame": (
            process_loop(sys.executable, threads, all_frames, server), CAMERA_FPS,
        ),
    }  # fmt: skip
    if inference_python is not None:
        found |= {
            "InferencePipeline, at steps": (
                process_loop(inference_python, pipeline, at_steps, server), step_hz,
            ),
            "InferencePipeline, every frame": (
                process_loop(inference_python, pipeline, all_frames, server), CAMERA_FPS,
            ),
        }  # fmt: skip
    return found


def textbook(step_s: float = TRIAL_S) -> Trial:
    """Run the textbook loop on files, which it reads as fast as it can, as one camera."""
    script = ["-m", "benchmarks.peers.textbook", str(RECIPE), "2", str(step_s)]
    done = subprocess.run(
        [sys.executable, *script, *map(str, gesture_clips())],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return Trial(1, **json.loads(done.stdout))


def measure(
    model: Model = GESTURES,
    inference_python: Annotated[
        str | None,
        typer.Option(help="Python of an environment where Roboflow's inference is installed"),
    ] = None,
) -> dict[str, LoopFigures]:
    """Search the number of cameras of each loop in turn."""
    step_hz = ModelPack.load(model).contract.step_hz
    found: dict[str, LoopFigures] = {}
    console = Console(stderr=True)
    with rtsp_server(camera_streams(MOST)) as server:
        for name, (loop, rate) in contenders(model, step_hz, server, inference_python).items():
            cameras, trials = most_cameras(loop, rate)
            found[name] = {"cameras": cameras, "trials": [vars(trial) for trial in trials]}
            console.print(f"{name}: {cameras:g} cameras")
    trial = textbook()
    found["textbook loop"] = {
        "cameras": round(trial.rates[0] / CAMERA_FPS, 3), "trials": [vars(trial)]
    }  # fmt: skip
    return found


def show(found: dict[str, LoopFigures]) -> None:
    table = Table(title="cameras of 640×480 at 30 fps that each loop carries")
    for column in ("loop", "cameras", "p50 ms", "p99 ms", "cores"):
        table.add_column(column, justify="left" if column == "loop" else "right")
    for name, of in found.items():
        held = [t for t in of["trials"] if t["cameras"] == max(1, int(of["cameras"]))][-1]
        late = held["late_ms"] or ["–", "–"]
        table.add_row(name, f"{of['cameras']:g}", *map(str, late), str(held["cores"]))
    Console().print(table)
