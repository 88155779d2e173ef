"""Two real RTSP cameras, one over TCP and one over UDP, for minutes.

Measures memory, open files, missing steps and latency.
"""

import time
from statistics import median
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from testbed.cameras import rtsp_server
from testbed.footage import gesture_clips
from testbed.program import PipelineRun, scratch_folder
from testbed.resources import Sample, sample
from testbed.witness import holes

SAMPLE_S = 5.0
SETTLED = 0.2
"""First share of the run that doesn't count as growth: buffers fill, clips loop for the first
time."""


def growth(
    samples: list[dict[str, Sample]], name: str, what: Literal["uss_mb", "files"]
) -> tuple[float, float]:
    """Medians of the first fifth after settling and of the last fifth."""
    values = [s[name][what] for s in samples[int(len(samples) * SETTLED) :] if name in s]
    fifth = max(1, len(values) // 5)
    return median(values[:fifth]), median(values[-fifth:])


def measure(
    minutes: Annotated[float, typer.Option(min=0.2, help="minutes to run")] = 10.0,
) -> dict[str, Any]:
    """Run the program on two cameras that play gestures of different scenes.

    Needs TWO_STREAM_DATA and GStreamer's RTSP server.
    """
    streams = {"one": gesture_clips(scene=3), "two": gesture_clips(scene=14)}
    with rtsp_server(streams) as server, scratch_folder() as folder:
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
                "holes_in_seq": holes([e["seq"] for e in run.printed()]),
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


def show(result: dict[str, Any]) -> None:
    console = Console()
    table = Table(title=f"two RTSP cameras for {result['minutes']} minutes")
    for column in ("process", "USS MB early → late", "files early → late", "cores"):
        table.add_column(column)
    for name, of in result["processes"].items():
        early_late = (f"{a:g} → {b:g}" for a, b in (of["uss_mb"], of["files"]))
        table.add_row(name, *early_late, f"{of['cores']:g}")
    console.print(table)
    console.print({key: value for key, value in result.items() if key != "processes"})
