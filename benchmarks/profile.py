"""Where the running pipeline's CPU time goes: ``perf`` samples of every stage, by library.

Samples are taken of all threads of all stages; each belongs to the library whose code ran, and
libraries to a few kinds. Wants Linux's ``perf``, and the right to use it (root, or
``kernel.perf_event_paranoid`` of 1 and less).
"""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.latency import settled
from testbed.cameras import rtsp_server
from testbed.footage import clips
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


def kind_of(library: str) -> str:
    """The kind that a sample's library is of."""
    return next((kind for kind, pattern in KINDS.items() if re.search(pattern, library)), OTHER)


def by_stage_and_kind(
    script: str, stages: dict[int, str], seconds: float
) -> dict[str, dict[str, float]]:
    """CPU milliseconds a second from what ``perf script -F pid,ip,sym,dso`` prints.

    ``stages`` are the stages' kinds by process.
    """
    samples: dict[str, Counter[str]] = defaultdict(Counter)
    for line in script.splitlines():
        if match := _SAMPLE.match(line):
            stage = stages.get(int(match[1]))
            if stage is not None:
                samples[stage][kind_of(Path(match[2]).name if "/" in match[2] else match[2])] += 1
    ms = 1000 / HZ / seconds
    return {s: {kind: n * ms for kind, n in found.items()} for s, found in samples.items()}


def measure(model: Path, cameras: int, seconds: float) -> dict[str, dict[str, float]]:
    """CPU milliseconds for a camera-second, by kind of stage and of code."""
    names = [f"camera{number}" for number in range(cameras)]
    with (
        rtsp_server({name: clips() for name in names}) as server,
        scratch_folder() as folder,
        settled(folder, model, names, server) as run,
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
    return {stage: found[stage] for stage in order if stage in found}


def profile(
    model: Path, cameras: int, seconds: float, picture: Path | None, json_output: bool
) -> None:
    """Measure and print."""
    if shutil.which("perf") is None:
        raise SystemExit("there is no perf here (Debian: apt install linux-perf)")
    found = measure(model, cameras, seconds)
    if picture is not None:
        from benchmarks import pictures

        pictures.profile(found, cameras, picture)
    if json_output:
        rounded = {s: {k: round(ms, 2) for k, ms in of.items()} for s, of in found.items()}
        sys.stdout.write(json.dumps(rounded, indent=1) + "\n")
        return
    kinds = [*KINDS, OTHER]
    table = Table(title=f"CPU ms for a camera-second, {cameras} cameras, by the code that ran")
    for column in ("stage", *kinds, "all"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage, of in found.items():
        table.add_row(
            stage, *(f"{of.get(kind, 0.0):.1f}" for kind in kinds), f"{sum(of.values()):.1f}"
        )
    totals = [sum(of.get(kind, 0.0) for of in found.values()) for kind in kinds]
    table.add_row("all", *(f"{ms:.1f}" for ms in totals), f"{sum(totals):.1f}", style="bold")
    Console(width=100).print(table)
