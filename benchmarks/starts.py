"""What the start of a stage costs: forked by the fork server, or as a program of its own."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Annotated, TypedDict

import psutil
import typer
from rich.console import Console
from rich.progress import track

from testbed.fork_server import FAILS, disturbed
from testbed.program import PipelineRun, scratch_folder
from testbed.resources import process_family, proportional_mb

STAGES = ("flow:0", "spatial", "temporal", "fusion", "publish")


class Start(TypedDict):
    """``ready`` is when the last stage is; ``restart`` is from a kill -9 until the stage is ready.

    CPU seconds of the start are those of all processes until then, those of a restart are the new
    stage's own. Memory is the sum of all processes' proportional set sizes.
    """

    ready_s: float
    ready_cpu_s: float
    restart_s: float
    restart_cpu_s: float
    memory_mb: float


class StartsResult(TypedDict):
    forked: Start
    direct: Start


def measure(
    times: Annotated[int, typer.Option(min=1, help="programs started in each way")] = 3,
) -> StartsResult:
    """Start the demo camera both ways in turn; the figures are medians."""
    forked, direct = [], []
    with scratch_folder() as folder:
        for number in track(range(times), "programs", console=Console(stderr=True)):
            forked.append(_start(folder / f"forked-{number}", {}))
            environment = disturbed(folder / "hook", FAILS)
            direct.append(_start(folder / f"direct-{number}", environment))
    return {"forked": _median(forked), "direct": _median(direct)}


def show(result: StartsResult) -> None:
    Console().print(result)


def _start(folder: Path, environment: dict[str, str]) -> Start:
    settings = {"cameras": {"demo": {"source": "demo"}}}
    began = time.monotonic()
    with PipelineRun(folder, settings, environment=environment) as run:
        run.wait_for(_seen(run, " is ready", len(STAGES) + 1), 60, "all stages")
        ready_s = time.monotonic() - began
        ready_cpu_s = sum(map(_cpu_s, process_family(run.process.pid)))
        run.wait_for(lambda: run.scores("demo"), 60, "a step")
        memory_mb = proportional_mb(run)
        seconds, cpu = [], []
        for stage in STAGES:
            ready = _seen(run, f"{stage} is ready", 2)
            began = time.monotonic()
            os.kill(run.stages()[stage], signal.SIGKILL)
            run.wait_for(ready, 60, f"{stage} again")
            seconds.append(time.monotonic() - began)
            cpu.append(_cpu_s(psutil.Process(run.stages()[stage])))
    return {
        "ready_s": ready_s,
        "ready_cpu_s": ready_cpu_s,
        "restart_s": median(seconds),
        "restart_cpu_s": median(cpu),
        "memory_mb": memory_mb,
    }


def _seen(run: PipelineRun, text: str, count: int) -> Callable[[], bool]:
    return lambda: run.log().count(text) >= count


def _cpu_s(process: psutil.Process) -> float:
    """Its own CPU time and that of its children that are gone."""
    times = process.cpu_times()
    return times.user + times.system + times.children_user + times.children_system


def _median(starts: list[Start]) -> Start:
    def of(figure: Callable[[Start], float]) -> float:
        return round(median(map(figure, starts)), 2)

    return {
        "ready_s": of(lambda start: start["ready_s"]),
        "ready_cpu_s": of(lambda start: start["ready_cpu_s"]),
        "restart_s": of(lambda start: start["restart_s"]),
        "restart_cpu_s": of(lambda start: start["restart_cpu_s"]),
        "memory_mb": of(lambda start: start["memory_mb"]),
    }
