"""From the grab of a frame to a subscriber in another process that has the event of it.

Every message names when its newest frame was grabbed; the subscriber runs on the same machine and
reads the same clock when it has the message. What stages say of themselves stands beside that, so
that what no stage accounts for would show.
"""

import json
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

from pipeline.transport.frame_ring import SHM_FOLDER
from testbed.cameras import Server, rtsp_server
from testbed.footage import clips
from testbed.program import Heard, PipelineRun, scratch_folder
from testbed.resources import sample

SETTLE_S = 5.0
TOTAL = "grab → received"
EVENT = "grab → event received"


def measure(model: Path, cameras: int, seconds: float, server: Server) -> dict[str, Any]:
    """Milliseconds by stage and in total, of every step of ``cameras`` of the server's.

    They are ``camera0``, ``camera1``, …. The governor is off: all of each step is done.
    """
    names = [f"camera{number}" for number in range(cameras)]
    with scratch_folder() as folder, settled(folder, model, names, server) as run:
        early, began, served_s = sample(run), time.monotonic(), cpu_of(server)
        time.sleep(seconds)
        late, elapsed = sample(run), time.monotonic() - began
        served_s = cpu_of(server) - served_s
        rings_mb = shared_mb(run)
        heard = [h for h in list(run.heard) if h.at > began]
    taken = latencies(heard)
    cpu_s = sum(of["cpu_s"] - early[name]["cpu_s"] for name, of in late.items())
    steps = len(taken[TOTAL])
    each = Counter(h.topic for h in heard if h.topic.startswith("score/"))
    return {
        "cameras": cameras,
        "steps_per_camera_second": round(steps / elapsed / cameras, 2),
        "rates": [round(each[f"score/{name}/"] / elapsed, 2) for name in names],
        "events": len(taken.get(EVENT, [])),
        "cores": round(cpu_s / elapsed, 3),
        "server_cores": round(served_s / elapsed, 3),
        "private_mb": round(sum(of["uss_mb"] for of in late.values())),
        "rings_mb": round(rings_mb),
        "ms": {name: spread(values) for name, values in taken.items()},
    }


@contextmanager
def settled(
    folder: Path, model: Path, names: Sequence[str], server: Server
) -> Iterator[PipelineRun]:
    """The program with the server's cameras of these names, the governor off, some seconds after
    the first scores of all."""
    config = {
        "model": str(model),
        "cameras": {name: {"source": server.url(name)} for name in names},
        "runtime": {"latency_ms": 0},
    }
    with PipelineRun(folder, config) as run:
        run.wait_for(lambda: all(run.scores(name) for name in names), 90, "all cameras")
        time.sleep(SETTLE_S)
        yield run


def shared_mb(run: PipelineRun) -> float:
    """What the run's rings take of the memory."""
    prefix = next(run.runs.glob("two-stream-*")).name[:23]
    return sum(path.stat().st_blocks * 512 for path in SHM_FOLDER.glob(f"{prefix}*")) / 2**20


def cpu_of(server: Server) -> float:
    """CPU seconds that a camera server has taken."""
    times = psutil.Process(server.process.pid).cpu_times()
    return times.user + times.system


def latencies(heard: list[Heard]) -> dict[str, list[float]]:
    """Milliseconds by what took them."""
    offset_s = time.time() - time.monotonic()
    found: dict[str, list[float]] = defaultdict(list)
    grabbed = {}
    for message in heard:
        if not message.topic.startswith("score/"):
            continue
        body = message.body
        grabbed_s = datetime.fromisoformat(body["time"]).timestamp()
        grabbed[message.topic.split("/")[1], body["window"]["last_step"]] = grabbed_s
        for stage, ms in body["latency_ms"].items():
            if stage != "total":
                found[stage].append(ms)
        found[TOTAL].append(1000 * (message.at + offset_s - grabbed_s))
    for message in heard:
        if message.topic.startswith("action/"):
            step = (message.body["camera"], message.body["window"]["last_step"])
            if step in grabbed:
                found[EVENT].append(1000 * (message.at + offset_s - grabbed[step]))
    return dict(found)


def spread(values: list[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(values, (50, 95, 99))
    return {
        "p50": round(float(p50), 1),
        "p95": round(float(p95), 1),
        "p99": round(float(p99), 1),
        "max": round(max(values), 1),
    }


def latency(
    model: Path, cameras: list[int], seconds: float, picture: Path | None, json_output: bool
) -> None:
    """Measure and print."""
    streams = {f"camera{number}": clips() for number in range(max(cameras))}
    with rtsp_server(streams) as server:
        results = [measure(model, count, seconds, server) for count in cameras]
    if picture is not None:
        from benchmarks import pictures

        pictures.latency(results, picture)
    if json_output:
        sys.stdout.write(json.dumps(results, indent=1) + "\n")
        return
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
