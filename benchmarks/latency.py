"""From the grab of a frame to the event in another process, by the number of cameras."""

from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.live_cameras import CameraFigures, camera_streams, measure_cameras
from benchmarks.options import GESTURES, Model
from testbed.cameras import rtsp_server


def measure(
    cameras: Annotated[
        list[int], typer.Option(help="number of cameras; may be given several times")
    ] = [1, 2, 4, 8],  # noqa: B006
    seconds: Annotated[
        float, typer.Option(min=5, help="seconds for each number of cameras")
    ] = 60.0,
    model: Model = GESTURES,
) -> list[CameraFigures]:
    """Run the program on each number of cameras in turn."""
    with rtsp_server(camera_streams(max(cameras))) as server:
        return [measure_cameras(model, count, seconds, server) for count in cameras]


def show(results: list[CameraFigures]) -> None:
    for result in results:
        table = Table(
            title=f"{result['cameras']} cameras, {result['steps_per_camera_second']} steps a "
            f"second and camera, {result['cores']} cores: milliseconds"
        )
        for column in ("", "p50", "p95", "p99", "max"):
            table.add_column(column, justify="right" if column else "left")
        for name, of in result["ms"].items():
            table.add_row(name, *(f"{value:.1f}" for value in of.values()))
        Console().print(table)
