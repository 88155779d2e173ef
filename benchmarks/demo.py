"""The live program on the demo camera, scored against the camera's script."""

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Any, TypedDict

import typer
from rich.console import Console
from rich.table import Table

from pipeline.sources.demo import DemoScene, ScriptedGesture
from testbed.program import PipelineRun, scratch_folder

GRACE_S = 2.0
"""An event may start this long after the end of its gesture."""


class DemoResult(TypedDict):
    """The scores of each seed."""

    runs: list[dict[str, Any]]


@dataclass
class Match:
    """A gesture of the script and its event, None where no event matches."""

    gesture: ScriptedGesture
    event: dict[str, Any] | None


def match(script: list[ScriptedGesture], starts: list[dict[str, Any]]) -> list[Match]:
    """Match each gesture with the first unused event of its label that starts in its time."""
    unused = list(starts)
    matches = []
    for gesture in script:
        found = next(
            (
                event
                for event in unused
                if event["label"] == gesture.label
                and gesture.start_s <= event["media_time"][0] <= gesture.end_s + GRACE_S
            ),
            None,
        )
        if found is not None:
            unused.remove(found)
        matches.append(Match(gesture, found))
    return matches


def score(seed: int, seconds: float, model: Path | None = None) -> dict[str, Any]:
    """Run the program on ``demo:seed`` for ``seconds`` and score its events by the script."""
    settings: dict[str, Any] = {"cameras": {"demo": {"source": f"demo:{seed}"}}}
    if model is not None:
        settings["model"] = str(model.resolve())
    with scratch_folder() as folder, PipelineRun(folder, settings) as run:
        run.wait_for(lambda: run.scores("demo"), 60, "the first step")
        began = time.monotonic()
        first_s = float(run.scores("demo")[0].body["media_time"])
        while time.monotonic() < began + seconds:
            time.sleep(0.2)
        last_s = float(run.scores("demo")[-1].body["media_time"])
        events = run.events()
        steps = len(run.scores("demo"))
        code, stop_s = run.stop()
    starts = [heard.body for heard in events if heard.body["type"] == "start"]
    whole = [
        gesture
        for gesture in DemoScene(seed).script(last_s)
        if gesture.start_s >= first_s and gesture.end_s + GRACE_S <= last_s
    ]
    matches = match(whole, starts)
    right = [m for m in matches if m.event is not None]
    last_whole = max((g.end_s + GRACE_S for g in whole), default=0.0)
    false = [
        s for s in starts if s not in [m.event for m in right] and s["media_time"][0] <= last_whole
    ]
    first_event = min((h.at for h in events), default=None)
    delays = [m.event["media_time"][0] - m.gesture.end_s for m in right if m.event is not None]
    return {
        "seed": seed,
        "seconds": round(last_s - first_s, 1),
        "steps": steps,
        "gestures": len(whole),
        "right": len(right),
        "right_fraction": round(len(right) / max(len(whole), 1), 4),
        "false_events": len(false),
        "false_per_minute": round(len(false) / max((last_s - first_s) / 60, 1e-9), 3),
        "first_event_s": None if first_event is None else round(first_event - began, 2),
        "start_after_gesture_end_s": round(median(delays), 2) if delays else None,
        "latency_ms": _latency(events),
        "missed": [f"{m.gesture.label}@{m.gesture.start_s:.1f}" for m in matches if not m.event],
        "false": [f"{s['label']}@{s['media_time'][0]:.1f}" for s in false],
        "exit_code": code,
        "stop_s": round(stop_s, 2),
    }


def _latency(events: list[Any]) -> float | None:
    totals = [heard.body["latency_ms"]["total"] for heard in events]
    return round(median(totals), 1) if totals else None


def measure(
    seeds: Annotated[
        list[int],
        typer.Option("--seed", help="seed of the camera's script; may be given several times"),
    ] = [0],  # noqa: B006
    seconds: Annotated[float, typer.Option(min=1, help="seconds for each seed")] = 120.0,
    model: Annotated[
        Path | None, typer.Option(help="model pack folder; by default the program's own")
    ] = None,
) -> DemoResult:
    """Score several seeds."""
    return {"runs": [score(seed, seconds, model) for seed in seeds]}


def show(result: DemoResult) -> None:
    table = Table(title="the live program on the demo camera, against the camera's script")
    columns = (
        "seed",
        "seconds",
        "gestures",
        "right",
        "false_events",
        "false_per_minute",
        "first_event_s",
        "start_after_gesture_end_s",
        "latency_ms",
        "missed",
        "false",
    )
    for column in columns:
        table.add_column(column.replace("_", " "))
    for run in result["runs"]:
        table.add_row(*(str(run[column]) for column in columns))
    Console().print(table)
