"""The running program on real RTSP cameras: latency, CPU and memory once it has settled.

Every score and event carries the time at which its newest frame was grabbed. The subscriber runs on
the same machine and reads the same clock when it receives the message. The times that the stages
report themselves are listed beside the total, so that time outside all stages shows.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TypedDict

import numpy as np
import psutil

from pipeline.transport.frame_ring import SHM_FOLDER
from testbed.cameras import Server
from testbed.footage import gesture_clips
from testbed.program import Heard, PipelineRun, scratch_folder
from testbed.resources import sample

SETTLE_S = 5.0
TOTAL = "grab → received"
EVENT = "grab → event received"
"""Keys of :attr:`CameraFigures.ms` beside the stages' names: of every step, and of events."""
LIMIT_MS = 200.0
"""Largest 99th percentile of latency at which a number of cameras counts as carried."""


class CameraFigures(TypedDict):
    """What the program did with some cameras."""

    cameras: int
    steps_per_camera_second: float
    rates: list[float]
    """Steps per second of each camera."""
    events: int
    cores: float
    server_cores: float
    """CPU seconds per second of the camera server."""
    private_mb: int
    rings_mb: int
    ms: dict[str, dict[str, float]]
    """p50, p95, p99 and max by stage, and under :data:`TOTAL` and :data:`EVENT`."""


def camera_names(count: int) -> list[str]:
    """``camera0``, ``camera1``, …"""
    return [f"camera{number}" for number in range(count)]


def camera_streams(count: int) -> dict[str, list[Path | str]]:
    """Streams for a server of ``count`` cameras, each of which plays the gesture clips."""
    return {name: gesture_clips() for name in camera_names(count)}


def measure_cameras(model: Path, cameras: int, seconds: float, server: Server) -> CameraFigures:
    """Run the program on the first ``cameras`` of the server's cameras.

    The governor is off, so that no step is skipped.
    """
    names = camera_names(cameras)
    with scratch_folder() as folder, settled_run(folder, model, names, server) as run:
        early, began, server_s = sample(run), time.monotonic(), cpu_s_of(server)
        time.sleep(seconds)
        late, elapsed = sample(run), time.monotonic() - began
        server_s = cpu_s_of(server) - server_s
        rings_mb = shared_mb(run)
        heard = [h for h in list(run.heard) if h.at > began]
    taken = latencies(heard)
    cpu_s = sum(of["cpu_s"] - early[name]["cpu_s"] for name, of in late.items())
    each = Counter(h.topic for h in heard if h.topic.startswith("score/"))
    return {
        "cameras": cameras,
        "steps_per_camera_second": round(len(taken[TOTAL]) / elapsed / cameras, 2),
        "rates": [round(each[f"score/{name}/"] / elapsed, 2) for name in names],
        "events": len(taken.get(EVENT, [])),
        "cores": round(cpu_s / elapsed, 3),
        "server_cores": round(server_s / elapsed, 3),
        "private_mb": round(sum(of["uss_mb"] for of in late.values())),
        "rings_mb": round(rings_mb),
        "ms": {name: spread(values) for name, values in taken.items()},
    }


@contextmanager
def settled_run(
    folder: Path,
    model: Path,
    names: Sequence[str],
    server: Server,
    packs: Sequence[Path] = (),
) -> Iterator[PipelineRun]:
    """The program on the server's cameras of these names, :data:`SETTLE_S` after all have scores.

    ``packs`` watch each camera; by default ``model`` does. The governor is off.
    """
    several = {"packs": list(map(str, packs))} if packs else {}
    config = {
        "model": str(model),
        "cameras": {name: {"source": server.url(name), **several} for name in names},
        "runtime": {"latency_ms": 0},
    }
    with PipelineRun(folder, config) as run:
        run.wait_for(lambda: all(run.scores(name) for name in names), 90, "all cameras")
        time.sleep(SETTLE_S)
        yield run


def shared_mb(run: PipelineRun) -> float:
    """Memory of the run's rings."""
    prefix = next(run.runs.glob("two-stream-*")).name[:23]
    return sum(path.stat().st_blocks * 512 for path in SHM_FOLDER.glob(f"{prefix}*")) / 2**20


def cpu_s_of(server: Server) -> float:
    """CPU seconds of a camera server since its start."""
    times = psutil.Process(server.process.pid).cpu_times()
    return times.user + times.system


def latencies(heard: list[Heard]) -> dict[str, list[float]]:
    """Milliseconds by stage, and under :data:`TOTAL` and :data:`EVENT`."""
    # Messages carry wall time and were received at a monotonic time.
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
