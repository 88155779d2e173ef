"""How many cameras one machine carries.

The cameras are real RTSP streams, 640×480 at 30 fps. A process of the same machine serves them, and
its CPU time is reported beside the pipeline's. Cameras are added one at a time while the program
skips no step and the 99th percentile of latency stays under the limit. Then the largest number that
passed must pass for minutes.
"""

from pathlib import Path
from typing import Annotated, TypedDict

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.live_cameras import (
    LIMIT_MS,
    TOTAL,
    CameraFigures,
    camera_streams,
    measure_cameras,
)
from benchmarks.options import GESTURES, Model
from pipeline.model.pack import ModelPack
from testbed.cameras import Server, rtsp_server

TRIAL_S = 15.0
MOST = 32
MISSED = 0.005
"""Largest share of missing steps: a trial rarely begins and ends exactly with a step."""


class DensityResult(TypedDict):
    """The number of cameras that passed for ``seconds``, and every trial on the way to it."""

    held: int
    seconds: float
    trials: list[CameraFigures]


def holds(figures: CameraFigures, step_hz: float) -> bool:
    """Whether no steps are missing and the latency stays under the limit."""
    missed = 1 - figures["steps_per_camera_second"] / step_hz
    return missed <= MISSED and figures["ms"][TOTAL]["p99"] <= LIMIT_MS


def search(
    model: Path, first: int, seconds: float, step_hz: float, server: Server
) -> list[CameraFigures]:
    """Short trials upwards from ``first`` cameras until one fails, then long ones downwards."""
    trials = []
    cameras = first
    while cameras <= MOST:
        trials.append(measure_cameras(model, cameras, TRIAL_S, server))
        report(trials[-1], step_hz)
        if not holds(trials[-1], step_hz):
            break
        cameras += 1
    while cameras > 1:
        cameras -= 1
        trials.append(measure_cameras(model, cameras, seconds, server))
        report(trials[-1], step_hz)
        if holds(trials[-1], step_hz):
            break
    return trials


def report(figures: CameraFigures, step_hz: float) -> None:
    """One line about a trial on standard error: the whole search takes minutes."""
    verdict = "holds" if holds(figures, step_hz) else "too many"
    Console(stderr=True).print(
        f"{figures['cameras']} cameras: {verdict}, {figures['steps_per_camera_second']} steps a "
        f"second and camera, p99 {figures['ms'][TOTAL]['p99']} ms, {figures['cores']} cores and "
        f"{figures['server_cores']} for the server"
    )


def measure(
    first: Annotated[int, typer.Option(min=1, help="number of cameras to begin with")] = 4,
    seconds: Annotated[
        float, typer.Option(min=5, help="seconds that the largest number must hold")
    ] = 120.0,
    model: Model = GESTURES,
) -> DensityResult:
    """Search the largest number of cameras that holds."""
    step_hz = ModelPack.load(model).contract.step_hz
    with rtsp_server(camera_streams(MOST)) as server:
        trials = search(model, first, seconds, step_hz, server)
    return {"held": trials[-1]["cameras"], "seconds": seconds, "trials": trials}


def show(result: DensityResult) -> None:
    table = Table(title=f"{result['held']} cameras for {result['seconds']:g} s")
    for column in ("cameras", "steps/s each", "p50 ms", "p99 ms", "cores", "server's cores"):
        table.add_column(column, justify="right")
    for trial in result["trials"]:
        of = trial["ms"][TOTAL]
        cells = (trial["cameras"], trial["steps_per_camera_second"], of["p50"], of["p99"])
        table.add_row(*map(str, cells), str(trial["cores"]), str(trial["server_cores"]))
    Console().print(table)
