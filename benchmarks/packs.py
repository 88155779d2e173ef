"""What a second pack costs: on the same base, and with networks of its own.

Real RTSP cameras. The cases take turns, so that other work on the machine slows all alike.
"""

import time
from pathlib import Path
from statistics import median
from typing import Annotated, TypedDict

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.live_cameras import camera_names, camera_streams, settled_run
from benchmarks.options import GESTURES, Model
from testbed.cameras import Server, rtsp_server
from testbed.program import scratch_folder
from testbed.renamed_pack import renamed
from testbed.resources import sample

FIGHTS = GESTURES.parent / "fights"


class PacksResult(TypedDict):
    """Cores that the program used, by case: the median of the rounds."""

    cameras: int
    seconds: float
    cores: dict[str, float]
    rounds: dict[str, list[float]]


def cores(packs: list[Path], cameras: int, seconds: float, server: Server) -> float:
    """CPU seconds a second of all processes."""
    with (
        scratch_folder() as folder,
        settled_run(folder, packs[0], camera_names(cameras), server, packs) as run,
    ):
        early, began = sample(run), time.monotonic()
        time.sleep(seconds)
        late, elapsed = sample(run), time.monotonic() - began
    return sum(of["cpu_s"] - early[name]["cpu_s"] for name, of in late.items()) / elapsed


def measure(
    cameras: Annotated[int, typer.Option(min=1, help="number of cameras")] = 3,
    seconds: Annotated[float, typer.Option(min=5, help="seconds of each round")] = 20.0,
    rounds: Annotated[int, typer.Option(min=1, help="rounds; each runs all cases")] = 3,
    model: Model = GESTURES,
    other: Annotated[Path, typer.Option(help="a pack with networks of its own")] = FIGHTS,
) -> PacksResult:
    """Measure the program with one pack at each camera, and with two."""
    found: dict[str, list[float]] = {}
    with scratch_folder() as folder, rtsp_server(camera_streams(cameras)) as server:
        second = renamed(model, folder / "second", "second")
        cases = {
            "one pack": [model],
            "two packs on one base": [model, second],
            "two packs": [model, other],
        }
        for _ in range(rounds):
            for name, packs in cases.items():
                found.setdefault(name, []).append(round(cores(packs, cameras, seconds, server), 3))
    return {
        "cameras": cameras,
        "seconds": seconds,
        "cores": {name: median(each) for name, each in found.items()},
        "rounds": found,
    }


def show(result: PacksResult) -> None:
    table = Table(title=f"{result['cameras']} cameras, {result['seconds']:g} s a round")
    for column in ("packs at each camera", "cores", "against one pack"):
        table.add_column(column, justify="right")
    one = result["cores"]["one pack"]
    for name, used in result["cores"].items():
        table.add_row(name, f"{used:.3f}", f"{used / one:.2f}×")
    Console().print(table)
