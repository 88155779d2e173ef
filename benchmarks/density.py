"""How many cameras one machine carries.

Real RTSP cameras, 640×480 at 30 fps, served by another process of the same machine, whose CPU time
is reported beside the pipeline's. Cameras are added one at a time while no step is missed and the
99th percentile of latency stays under the limit; then the last number that held must hold for
minutes.
"""

import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.latency import TOTAL, measure
from pipeline.model.pack import ModelPack
from testbed.cameras import Server, rtsp_server
from testbed.footage import clips

TRIAL_S = 15.0
MOST = 32
LIMIT_MS = 200.0
MISSED = 0.005
"""Share of steps that may lack: a trial rarely begins and ends with a step."""


def holds(result: dict[str, Any], step_hz: float) -> bool:
    """Whether no steps were missed and none was late."""
    missed = 1 - result["steps_per_camera_second"] / step_hz
    return bool(missed <= MISSED and result["ms"][TOTAL]["p99"] <= LIMIT_MS)


def search(
    model: Path, first: int, seconds: float, step_hz: float, server: Server
) -> list[dict[str, Any]]:
    """Trials upwards from ``first`` cameras to the first that fails, then long ones downwards."""
    trials = []
    cameras = first
    while cameras <= MOST:
        trials.append(measure(model, cameras, TRIAL_S, server))
        say(trials[-1], step_hz)
        if not holds(trials[-1], step_hz):
            break
        cameras += 1
    while cameras > 1:
        cameras -= 1
        trials.append(measure(model, cameras, seconds, server))
        say(trials[-1], step_hz)
        if holds(trials[-1], step_hz):
            break
    return trials


def say(result: dict[str, Any], step_hz: float) -> None:
    words = "holds" if holds(result, step_hz) else "too many"
    Console(stderr=True).print(
        f"{result['cameras']} cameras: {words}, {result['steps_per_camera_second']} steps a second "
        f"and camera, p99 {result['ms'][TOTAL]['p99']} ms, {result['cores']} cores and "
        f"{result['server_cores']} for the server"
    )


def density(
    model: Path, first: int, seconds: float, picture: Path | None, json_output: bool
) -> None:
    """Measure and print."""
    step_hz = ModelPack.load(model).contract.step_hz
    streams = {f"camera{number}": clips() for number in range(MOST)}
    with rtsp_server(streams) as server:
        trials = search(model, first, seconds, step_hz, server)
    last = trials[-1]
    result = {"held": last["cameras"], "seconds": seconds, "trials": trials}
    if picture is not None:
        from benchmarks import pictures

        pictures.density(result, picture)
    if json_output:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
        return
    table = Table(title=f"{last['cameras']} cameras for {seconds:g} s")
    for column in ("cameras", "steps/s each", "p50 ms", "p99 ms", "cores", "server's cores"):
        table.add_column(column, justify="right")
    for trial in trials:
        of = trial["ms"][TOTAL]
        cells = (trial["cameras"], trial["steps_per_camera_second"], of["p50"], of["p99"])
        table.add_row(*map(str, cells), str(trial["cores"]), str(trial["server_cores"]))
    Console().print(table)
