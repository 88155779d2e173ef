"""Two real RTSP cameras, one over TCP and one over UDP, for minutes: memory, files, drops."""

import itertools
import json
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any, Literal

from rich.console import Console
from rich.progress import track
from rich.table import Table

from testbed.cameras import rtsp_server
from testbed.program import PipelineRun, scratch_folder
from testbed.resources import Sample, sample

SAMPLE_S = 5.0
SETTLED = 0.2
"""The first part of the run is left out of growth: buffers fill, clips loop for the first time."""


def clips(data: Path) -> dict[str, list[Path | str]]:
    """Gestures of two different recording scenes, one after another."""
    return {
        "one": sorted((data / "vga").glob("*_3.mp4")),
        "two": sorted((data / "vga").glob("*_14.mp4")),
    }


def growth(
    samples: list[dict[str, Sample]], name: str, what: Literal["uss_mb", "files"]
) -> tuple[float, float]:
    """(median of the first fifth after settling, median of the last fifth)."""
    values = [s[name][what] for s in samples[int(len(samples) * SETTLED) :] if name in s]
    fifth = max(1, len(values) // 5)
    return median(values[:fifth]), median(values[-fifth:])


def measure(minutes: float, data: Path) -> dict[str, Any]:
    with rtsp_server(clips(data)) as server, scratch_folder() as folder:
        settings = {
            "cameras": {
                "one": {"source": server.url("one"), "transport": "tcp"},
                "two": {"source": server.url("two"), "transport": "udp"},
            }
        }
        samples = []
        with PipelineRun(folder, settings) as run:
            run.wait_for(lambda: run.scores("one") and run.scores("two"), 60, "both cameras")
            began = time.monotonic()
            for _ in track(
                range(int(minutes * 60 / SAMPLE_S)), "listening", console=Console(stderr=True)
            ):
                time.sleep(SAMPLE_S)
                samples.append(sample(run))
            elapsed = time.monotonic() - began
            run.remember_run()
            code, stop_s = run.stop()
            return {
                "minutes": round(elapsed / 60, 2),
                "cameras": {c: _camera(run, c, elapsed) for c in ("one", "two")},
                "processes": _processes(samples, elapsed),
                "holes_in_seq": _holes([e["seq"] for e in run.printed()]),
                "restarts": run.log().count(" died ("),
                "exit_code": code,
                "stop_s": round(stop_s, 2),
                "left_behind": run.remains(),
            }


def _camera(run: PipelineRun, camera: str, elapsed: float) -> dict[str, Any]:
    scores = run.scores(camera)
    steps = [h.body["window"]["last_step"] for h in scores]
    events = run.events(camera)
    totals = sorted(h.body["latency_ms"]["total"] for h in scores)
    return {
        "steps": len(steps),
        "steps_per_s": round(len(steps) / elapsed, 2),
        "steps_missing": steps[-1] - steps[0] + 1 - len(steps),
        "segments": len({h.body["window"]["segment"] for h in scores}),
        "events": len([h for h in events if h.body["type"] == "start"]),
        "topics": sorted({h.topic for h in events}),
        "latency_ms_p50": totals[len(totals) // 2],
        "latency_ms_p99": totals[int(len(totals) * 0.99)],
        "masked_steps": sum(
            h.body["streams"]["spatial"] is None or h.body["streams"]["temporal"] is None
            for h in scores[20:]
        ),
    }


def _processes(samples: list[dict[str, Sample]], elapsed: float) -> dict[str, Any]:
    found = {}
    for name in samples[-1]:
        early, late = growth(samples, name, "uss_mb")
        files_early, files_late = growth(samples, name, "files")
        cpu = samples[-1][name]["cpu_s"] - samples[0].get(name, samples[-1][name])["cpu_s"]
        found[name] = {
            "uss_mb": [round(early, 2), round(late, 2)],
            "uss_mb_each_minute": [
                round(s[name]["uss_mb"], 1) for s in samples[:: int(60 / SAMPLE_S)] if name in s
            ],
            "files": [files_early, files_late],
            "cores": round(cpu / elapsed, 3),
        }
    return found


def _holes(sequence: list[int]) -> int:
    return sum(b != a + 1 for a, b in itertools.pairwise(sequence))


def rtsp(minutes: float, json_output: bool) -> None:
    """Measure and print; needs TWO_STREAM_DATA and GStreamer's RTSP server."""
    folder = os.environ.get("TWO_STREAM_DATA")
    if not folder:
        raise SystemExit("TWO_STREAM_DATA must name the folder of clips")
    result = measure(minutes, Path(folder))
    if json_output:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
        return
    console = Console()
    table = Table(title=f"two RTSP cameras for {result['minutes']} minutes")
    for column in ("process", "USS MB early → late", "files early → late", "cores"):
        table.add_column(column)
    for name, of in result["processes"].items():
        early_late = (f"{a:g} → {b:g}" for a, b in (of["uss_mb"], of["files"]))
        table.add_row(name, *early_late, f"{of['cores']:g}")
    console.print(table)
    console.print({key: value for key, value in result.items() if key != "processes"})
