"""Where the running pipeline spends its CPU time: ``perf`` samples of every stage, by library.

``perf`` samples all threads of all stages. A sample counts for the library whose code ran, and
libraries are grouped into a few kinds. This needs Linux's ``perf`` and the right to use it: root,
or a ``kernel.perf_event_paranoid`` of 1 or less.
"""

import re
import shutil
import subprocess
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from benchmarks.live_cameras import camera_streams, settled_run
from benchmarks.options import GESTURES, Model
from testbed.cameras import rtsp_server
from testbed.program import scratch_folder

HZ = 999
KINDS = {
    "codec": r"libav|libsw|libx264",
    "OpenCV": r"cv2",
    "onnxruntime": r"onnxruntime",
    "NumPy": r"numpy|multiarray|umath|openblas",
    "ZeroMQ": r"zmq",
    "Python": r"python3|\[vdso\]|msgspec|_core\.cpython|libsqlite",
    "kernel": r"\[kernel|\[unknown\]",
}
OTHER = "C library"
_SAMPLE = re.compile(r"\s*(\d+)\s+[0-9a-f]+ .*\((.*)\)$")
"""A line of ``perf script``: process id, address, symbol and, in parentheses, the library."""


@dataclass(frozen=True)
class ProfileResult:
    """CPU milliseconds for a camera-second, by stage and then by kind of code."""

    cameras: int
    ms: dict[str, dict[str, float]]

    def as_json(self) -> dict[str, dict[str, float]]:
        return {s: {kind: round(ms, 2) for kind, ms in of.items()} for s, of in self.ms.items()}


def kind_of(library: str) -> str:
    """The kind of a library, one of :data:`KINDS` or :data:`OTHER`."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, library)), OTHER)


def by_stage_and_kind(
    script: str, stages: dict[int, str], seconds: float
) -> dict[str, dict[str, float]]:
    """CPU milliseconds per second from the output of ``perf script -F pid,ip,sym,dso``.

    ``stages`` holds the kind of stage of each process id.
    """
    samples: dict[str, Counter[str]] = defaultdict(Counter)
    for line in script.splitlines():
        if match := _SAMPLE.match(line):
            stage = stages.get(int(match[1]))
            if stage is not None:
                samples[stage][kind_of(Path(match[2]).name if "/" in match[2] else match[2])] += 1
    ms = 1000 / HZ / seconds
    return {s: {kind: n * ms for kind, n in found.items()} for s, found in samples.items()}


def measure(
    cameras: Annotated[int, typer.Option(min=1, help="number of cameras")] = 4,
    seconds: Annotated[float, typer.Option(min=2, help="seconds to sample")] = 20.0,
    model: Model = GESTURES,
) -> ProfileResult:
    """Sample the running program."""
    if shutil.which("perf") is None:
        raise SystemExit("perf is not installed (Debian: apt install linux-perf)")
    streams = camera_streams(cameras)
    with (
        rtsp_server(streams) as server,
        scratch_folder() as folder,
        settled_run(folder, model, list(streams), server) as run,
    ):
        pids = {run.process.pid: "supervisor"} | {
            pid: name.partition(":")[0] for name, pid in run.stages().items()
        }
        data = folder / "perf.data"
        subprocess.run(
            ["perf", "record", "-q", "-o", data, "-F", str(HZ), "-p", ",".join(map(str, pids)),
             "--", "sleep", str(seconds)],
            check=True,
        )  # fmt: skip
        script = subprocess.run(
            ["perf", "script", "-i", data, "-F", "pid,ip,sym,dso"],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
    found = by_stage_and_kind(script, pids, seconds * cameras)
    order = ("capture", "flow", "spatial", "temporal", "fusion", "publish", "supervisor")
    return ProfileResult(cameras, {stage: found[stage] for stage in order if stage in found})


def show(result: ProfileResult) -> None:
    found = result.ms
    kinds = [*KINDS, OTHER]
    table = Table(
        title=f"CPU ms for a camera-second, {result.cameras} cameras, by the code that ran"
    )
    for column in ("stage", *kinds, "all"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage, of in found.items():
        table.add_row(
            stage, *(f"{of.get(kind, 0.0):.1f}" for kind in kinds), f"{sum(of.values()):.1f}"
        )
    totals = [sum(of.get(kind, 0.0) for of in found.values()) for kind in kinds]
    table.add_row("all", *(f"{ms:.1f}" for ms in totals), f"{sum(totals):.1f}", style="bold")
    Console(width=100).print(table)
