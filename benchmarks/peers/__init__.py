"""The same clips, networks and flow in other people's loops: how many cameras each carries.

Every loop is a process of its own that is given RTSP addresses, works for a while and says how many
frames of each camera it worked off, how late, and on how much CPU. The number of cameras is doubled
until frames are missed or the 99th percentile of lateness passes the limit, then narrowed down.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.density import LIMIT_MS
from benchmarks.latency import TOTAL, measure
from pipeline.model.pack import ModelPack
from testbed.cameras import Server, rtsp_server
from testbed.footage import clips
from testbed.program import PROJECT

CAMERA_FPS = 30.0
SETTLE_S, TRIAL_S = 8.0, 15.0
PATIENCE_S = 90.0
MISSED = 0.02
"""Share of its frames that the worst camera may lack: three steps of a trial."""
MOST = 24
RECIPE = PROJECT / "configs" / "train" / "gestures.yaml"
HERE = Path(__file__).parent


@dataclass
class Trial:
    """What a loop did with some cameras."""

    cameras: int
    rates: list[float]
    """Frames a second that were worked off, of each camera."""
    late_ms: list[float]
    """Median and 99th percentile from the frame's grab to its scores."""
    cores: float

    def holds(self, rate: float) -> bool:
        return (
            bool(self.late_ms)
            and min(self.rates) >= (1 - MISSED) * rate
            and self.late_ms[1] <= LIMIT_MS
        )


Loop = Callable[[int], Trial]


def most_cameras(loop: Loop, rate: float, most: int = MOST) -> tuple[float, list[Trial]]:
    """The largest number of cameras that ``loop`` holds at ``rate``; the part of one that it works
    off where it doesn't hold one. Doubles, then halves the interval."""
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
    """A loop as a process: ``script`` is what ``python`` runs, ``given`` its first arguments."""

    def run(cameras: int) -> Trial:
        urls = [server.url(f"camera{number}") for number in range(cameras)]
        times = [str(SETTLE_S), str(TRIAL_S)]
        done = subprocess.run(
            [python, *script, *given, *times, *urls],
            cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE_S + TRIAL_S, check=False,
        )  # fmt: skip
        said = [line for line in done.stdout.splitlines() if line.startswith('{"rates"')]
        if not said:
            raise SystemExit(f"{' '.join(script)} said nothing:\n{done.stderr[-2000:]}")
        return Trial(cameras, **json.loads(said[-1]))

    return run


def own_loop(model: Path, server: Server) -> Loop:
    """This program."""

    def run(cameras: int) -> Trial:
        found = measure(model, cameras, TRIAL_S, server)
        total = found["ms"][TOTAL]
        return Trial(
            cameras, found["rates"], [total["p50"], total["p99"]], found["cores"]
        )  # fmt: skip

    return run


def contenders(
    model: Path, step_hz: float, server: Server, inference_python: str | None
) -> dict[str, tuple[Loop, float]]:
    """Loops by name, and the rate at which each must work."""
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
    """The textbook loop reads files as fast as it can; one camera, whatever it gets to."""
    script = ["-m", "benchmarks.peers.textbook", str(RECIPE), "2", str(step_s)]
    done = subprocess.run(
        [sys.executable, *script, *map(str, clips())],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return Trial(1, **json.loads(done.stdout))


def peers(
    model: Path, inference_python: str | None, picture: Path | None, json_output: bool
) -> None:
    """Measure and print."""
    step_hz = ModelPack.load(model).contract.step_hz
    streams = {f"camera{number}": clips() for number in range(MOST)}
    found: dict[str, dict[str, Any]] = {}
    console = Console(stderr=True)
    with rtsp_server(streams) as server:
        for name, (loop, rate) in contenders(model, step_hz, server, inference_python).items():
            cameras, trials = most_cameras(loop, rate)
            found[name] = {"cameras": cameras, "trials": [vars(trial) for trial in trials]}
            console.print(f"{name}: {cameras:g} cameras")
    trial = textbook()
    found["textbook loop"] = {
        "cameras": round(trial.rates[0] / CAMERA_FPS, 3), "trials": [vars(trial)]
    }  # fmt: skip
    if picture is not None:
        from benchmarks import pictures

        pictures.peers(found, picture)
    if json_output:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        show(found)


def show(found: dict[str, dict[str, Any]]) -> None:
    table = Table(title="cameras of 640×480 at 30 fps that each loop carries")
    for column in ("loop", "cameras", "p50 ms", "p99 ms", "cores"):
        table.add_column(column, justify="left" if column == "loop" else "right")
    for name, of in found.items():
        held = [t for t in of["trials"] if t["cameras"] == max(1, int(of["cameras"]))][-1]
        late = held["late_ms"] or ["–", "–"]
        table.add_row(name, f"{of['cameras']:g}", *map(str, late), str(held["cores"]))
    Console().print(table)
