"""Each stage is killed in turn while two cameras run: how soon it is back, what was lost."""

import itertools
import json
import os
import signal
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.harness import Heard, PipelineRun, panning_clip, scratch_folder

STAGES = ("capture:a", "flow:0", "spatial", "temporal", "fusion", "publish")


def _starts(run: PipelineRun, camera: str, since: float) -> list[Heard]:
    return [h for h in run.events(camera) if h.body["type"] == "start" and h.at > since]


def _longest_pause(run: PipelineRun, camera: str, since: float, until: float) -> float:
    """Longest time between two steps of ``camera`` that a subscriber heard."""
    times = [since, *(h.at for h in run.scores(camera) if since < h.at < until), until]
    return max(later - earlier for earlier, later in itertools.pairwise(times))


def kill(run: PipelineRun, stage: str) -> dict[str, Any]:
    """Kill one stage and watch it come back."""
    began = time.monotonic()
    ready = run.log().count(f"{stage} is ready")
    os.kill(run.stages()[stage], signal.SIGKILL)
    killed = time.monotonic()
    run.wait_for(lambda: run.log().count(f"{stage} is ready") > ready, 20, f"{stage} ready again")
    back = time.monotonic()
    run.wait_for(
        lambda: _starts(run, "a", back) and _starts(run, "b", back), 30, "events of both cameras"
    )
    until = max(time.monotonic(), back + 1.0)
    return {
        "stage": stage,
        "back_s": round(back - killed, 2),
        "pause_a_s": round(_longest_pause(run, "a", began, until), 2),
        "pause_b_s": round(_longest_pause(run, "b", began, until), 2),
    }


def measure(rounds: int, pack: Path, clip: Path) -> dict[str, Any]:
    camera = {"source": str(clip), "loop": True}
    settings = {
        "model": str(pack),
        "cameras": {"a": camera, "b": camera},
        "flow": {"workers": 1},
        "supervisor": {"restarts": 1000},
    }
    kills = []
    with scratch_folder() as folder, PipelineRun(folder, settings) as run:
        run.wait_for(lambda: _starts(run, "a", 0) and _starts(run, "b", 0), 60, "events of both")
        for _ in range(rounds):
            kills += [kill(run, stage) for stage in STAGES]
        run.remember_run()
        code, stop_s = run.stop()
        left = run.remains()
        sequence = [event["seq"] for event in run.printed()]
    return {
        "kills": kills,
        "events": len(sequence),
        "holes_in_seq": sum(b != a + 1 for a, b in itertools.pairwise(sequence)),
        "exit_code": code,
        "stop_s": round(stop_s, 2),
        "left_behind": left,
    }


def kills(rounds: int, json_output: bool) -> None:
    """Measure and print."""
    from tests import tiny_pack

    with scratch_folder() as folder:
        pack = tiny_pack.make(folder / "tiny")
        result = measure(rounds, pack, panning_clip(folder / "panning.mp4", 60))
    if json_output:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
        return
    table = Table(title=f"kill -9 of each stage, {rounds} times, two cameras")
    for column in ("stage", "back: median s", "max s", "longest pause a, s", "b, s"):
        table.add_column(column)
    for stage in STAGES:
        of_stage = [k for k in result["kills"] if k["stage"] == stage]
        back = [k["back_s"] for k in of_stage]
        pauses = [max(k[f"pause_{camera}_s"] for k in of_stage) for camera in "ab"]
        table.add_row(
            stage, f"{median(back):.2f}", f"{max(back):.2f}", *(f"{p:.2f}" for p in pauses)
        )
    Console().print(table)
    Console().print({key: value for key, value in result.items() if key != "kills"})
