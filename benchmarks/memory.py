"""A week's memory of many cameras: what it takes, and how long a back-test over it takes.

Two rooms are recorded by a run without loss, faster than they were filmed. A back-test of what was
recorded must say what that run said. Then the memory's own code writes what was recorded again and
again, with other times, until it is a week of many cameras. What the run said is logged likewise.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict

import typer
import yaml
from rich.console import Console
from rich.table import Table

from benchmarks.options import GESTURES, Model
from benchmarks.rooms import FPS, PAUSE_S, write_room
from benchmarks.week import DAY_S, begins, ended, log_again, new_log, remember
from pipeline.clock import NS_PER_S, SYSTEM_CLOCK
from pipeline.memory.store import MemoryReader
from testbed.footage import shared_data
from testbed.program import PROJECT, PipelineRun, scratch_folder

ROOMS = tuple(PAUSE_S)
RECORDED, WEEK = "recorded", "week"
LONGEST_S = 4 * 3600.0
MOST_MB, SLACK_M = 1e6, 60
"""No camera's memory is cut. A back-test asks for an hour more: it begins after the week's end."""


class Compared(TypedDict):
    """Events of a back-test that live said too, that live didn't say, and that only live said."""

    same: int
    new: int
    gone: int


class RoomFigures(TypedDict):
    """One room. A day's bytes and events are those of one camera of the week."""

    footage_minutes: float
    hours_a_day: float
    """Of the other hours of a day nothing is kept."""
    kept_share: float
    """Of the recorded steps."""
    bytes_a_step: float
    """Of a step that is kept."""
    megabytes_a_day: float
    events_a_day: float


class MemoryResult(TypedDict):
    pack: str
    cameras: int
    days: float
    jobs: int
    cores: int
    load_before: float
    load_after: float
    """Processes that want to run (the mean of a minute), before the week's back-test and after."""
    recorded: Compared
    week: Compared
    steps: int
    gigabytes: float
    """Of the memory's files."""
    writing_minutes: float
    backtest_minutes: float
    backtest_cpu_minutes: float
    rooms: dict[str, RoomFigures]


class Plan(NamedTuple):
    """What is measured."""

    days: float
    names: dict[str, str]
    """Camera → room."""
    seconds: dict[str, float]
    """Room → its footage."""
    hours: dict[str, float]
    """Room → how long of a day it is as in its footage; else nothing moves."""
    jobs: int
    seed: int
    model: Path


def measure(
    days: Annotated[float, typer.Option(min=0.001, help="how long the memory is")] = 7.0,
    cameras: Annotated[int, typer.Option(min=1, help="half of them busy, half quiet")] = 8,
    minutes: Annotated[
        float,
        typer.Option(min=0.1, help="footage of the busy room; of the quiet one six times as much"),
    ] = 4.0,
    hours: Annotated[
        float, typer.Option(min=0.1, max=24, help="of a day in which busy rooms are busy")
    ] = 1.0,
    jobs: Annotated[int, typer.Option(min=1, help="cameras that are tested at a time")] = 2,
    seed: Annotated[int, typer.Option(help="of the order of the clips")] = 0,
    model: Model = GESTURES,
) -> MemoryResult:
    """Record two rooms, make a week of them, and back-test it."""
    names = {f"{ROOMS[i % 2]}-{i // 2}": ROOMS[i % 2] for i in range(cameras)}
    seconds = {"busy": 60 * minutes, "quiet": 360 * minutes}
    plan = Plan(days, names, seconds, {"busy": hours, "quiet": 24.0}, jobs, seed, model.resolve())
    with scratch_folder() as folder:
        recorded = _record(plan, folder)
        _say(f"recorded: {recorded}; writing the week")
        began = time.monotonic()
        config = _write_week(plan, folder)
        writing_s = time.monotonic() - began
        _say("written; testing it")
        return _test_week(plan, folder, config, recorded, writing_s)


def _say(words: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {words}", file=sys.stderr, flush=True)


def _record(plan: Plan, folder: Path) -> Compared:
    """Record both rooms; returns what a back-test of that says."""
    data, sources = shared_data(), {}
    for room, seconds in plan.seconds.items():
        path = write_room(room, data, folder / f"{room}.mp4", seconds, plan.seed)
        sources[room] = {"source": str(path)}
    settings = _settings(folder / RECORDED, plan.model, sources)
    settings["runtime"] = {"delivery": "lossless"}
    with PipelineRun(folder / "run", settings) as run:
        if run.process.wait(LONGEST_S) != 0:
            raise RuntimeError(f"the program failed: {run.log()[-2000:]}")
    return _compared(_backtest(plan, _config(folder / "recorded.yaml", settings), "1w"))


def _write_week(plan: Plan, folder: Path) -> Path:
    """Write memory and log of all cameras; returns a config that names them."""
    recorded = MemoryReader(folder / RECORDED / "memory")
    said = ended(folder / RECORDED / "log.sqlite")
    settings = _settings(folder / WEEK, plan.model, {n: {"source": "demo"} for n in plan.names})
    log = folder / WEEK / "log.sqlite"
    new_log(log)
    start_ns = SYSTEM_CLOCK.wall_ns() - round(plan.days * DAY_S * NS_PER_S)
    for name, room in plan.names.items():
        at_ns = list(begins(start_ns, plan.days, plan.hours[room], plan.seconds[room]))
        remember(recorded, room, folder / WEEK / "memory", name, at_ns)
        log_again(log, [event for event in said if event.camera == room], name, at_ns)
    return _config(folder / "week.yaml", settings)


def _test_week(
    plan: Plan, folder: Path, config: Path, recorded: Compared, writing_s: float
) -> MemoryResult:
    before, spent, began = os.getloadavg()[0], _cpu_s(), time.monotonic()
    report = _backtest(plan, config, f"{int(plan.days * 1440) + SLACK_M}m")
    took_s, spent = time.monotonic() - began, _cpu_s() - spent
    return {
        "pack": f"{report['pack']} {report['version']}",
        "cameras": len(plan.names),
        "days": plan.days,
        "jobs": plan.jobs,
        "cores": len(os.sched_getaffinity(0)),
        "load_before": round(before, 1),
        "load_after": round(os.getloadavg()[0], 1),
        "recorded": recorded,
        "week": _compared(report),
        "steps": report["steps"],
        "gigabytes": round(_files(folder / WEEK / "memory") / 1e9, 3),
        "writing_minutes": round(writing_s / 60, 2),
        "backtest_minutes": round(took_s / 60, 2),
        "backtest_cpu_minutes": round(spent / 60, 2),
        "rooms": {
            room: _figures(plan, folder, room, report)
            for room in dict.fromkeys(plan.names.values())
        },
    }


def _figures(plan: Plan, folder: Path, room: str, report: dict[str, Any]) -> RoomFigures:
    camera = next(name for name, of in plan.names.items() if of == room)
    first = MemoryReader(folder / RECORDED / "memory").kept(room)
    week = MemoryReader(folder / WEEK / "memory").kept(camera)
    rows = [*report["same"], *report["new"]]
    assert first is not None
    assert week is not None
    return {
        "footage_minutes": plan.seconds[room] / 60,
        "hours_a_day": plan.hours[room],
        "kept_share": round(first.steps / (plan.seconds[room] * FPS), 4),
        "bytes_a_step": round(first.bytes / first.steps, 1),
        "megabytes_a_day": round(week.bytes / plan.days / 1e6, 2),
        "events_a_day": round(sum(row["camera"] == camera for row in rows) / plan.days, 1),
    }


def _settings(folder: Path, model: Path, cameras: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": str(model),
        "cameras": cameras,
        "events": {"log": str(folder / "log.sqlite")},
        "memory": {"folder": str(folder / "memory"), "days": 3650, "mb": MOST_MB},
        "publish": {"scores": False},
        "supervisor": {"first_source_s": 0},
    }


def _config(path: Path, settings: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(settings))
    return path


def _backtest(plan: Plan, config: Path, since: str) -> dict[str, Any]:
    """The report of ``two-stream backtest``."""
    words = ["--pack", str(plan.model), "-c", str(config), "--since", since]
    command = [sys.executable, "-m", "pipeline.backtest", *words, "--jobs", str(plan.jobs)]
    done = subprocess.run(
        [*command, "--json"], cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"the back-test failed: {done.stderr[-2000:]}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def _compared(report: dict[str, Any]) -> Compared:
    return {"same": len(report["same"]), "new": len(report["new"]), "gone": len(report["gone"])}


def _cpu_s() -> float:
    """CPU seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _files(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def show(result: MemoryResult) -> None:
    table = Table(title=f"{result['pack']}, {result['cameras']} cameras, {result['days']:g} days")
    columns = ("room", "hours a day", "kept of them", "bytes a step", "MB a day", "events a day")
    for column in columns:
        table.add_column(column, justify="right")
    for room, of in result["rooms"].items():
        table.add_row(
            room, f"{of['hours_a_day']:g}", f"{100 * of['kept_share']:.0f} %",
            f"{of['bytes_a_step']:.0f}", f"{of['megabytes_a_day']:.1f}",
            f"{of['events_a_day']:.0f}",
        )  # fmt: skip
    console = Console()
    console.print(table)
    console.print(
        f"back-test: {result['backtest_minutes']:.1f} min ({result['backtest_cpu_minutes']:.1f} of "
        f"CPU) for {result['steps']} steps, {result['gigabytes']:.2f} GB; {result['jobs']} cameras "
        f"at a time, {result['cores']} cores, load {result['load_before']} to "
        f"{result['load_after']}"
    )
    for what, found in (("recorded", result["recorded"]), ("week", result["week"])):
        console.print(
            f"{what}: {found['same']} events as live, {found['new']} that live didn't say, "
            f"{found['gone']} that only live said"
        )
