"""Faults at random moments: how soon each is noticed and over, and which events it cost.

There are three runs:

* *Stages*: two cameras, and one random stage after another is killed or stopped.
* *Whole program*: all processes are killed at once, and the program starts again on its event log.
* *Cameras*: a real RTSP server is killed and stopped, sends a frozen picture, asks for a password
  and comes back with another frame size. The line to it goes bad meanwhile.

A client receives the events of each run from the first to the last, and they are compared with the
event log.
"""

import os
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Any, TypeVar

import psutil
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from pipeline.public.event_log import read_since
from pipeline.public.records import event_from_json
from testbed import tiny_pack
from testbed.cameras import Server, rtsp_server
from testbed.footage import panning_clip, still_clip
from testbed.line import Fault, Line, line_to
from testbed.program import PipelineRun, scratch_folder
from testbed.resources import process_family
from testbed.witness import Account, Witness, tolerant_settings

STAGES = ("capture:a", "flow:0", "spatial", "temporal", "fusion", "publish")
PATIENCE_S = 40.0
SIZE, OTHER_SIZE, FPS = (240, 320), (480, 640), 20

Item = TypeVar("Item")


@dataclass
class Trial:
    """One fault. A time is None where it can't be measured."""

    fault: str
    notice_s: float | None
    """Seconds from the fault until the program reported it."""
    recover_s: float | None
    """Seconds from the fault to the next step that was scored."""


@dataclass
class Report:
    """The faults and the events of one run."""

    run: str
    trials: list[Trial]
    events: Account


def watch(
    run: PipelineRun,
    fault: str,
    camera: str | None,
    cause: Callable[[], None],
    noticed: Callable[[], object],
) -> Trial:
    """Cause a fault; wait until it is ``noticed`` and until ``camera``, if any, has steps again."""
    began = time.monotonic()
    cause()
    run.wait_for(noticed, PATIENCE_S, f"a report of {fault}")
    reported = time.monotonic()
    if camera is None:
        return Trial(fault, reported - began, None)
    run.wait_for(
        lambda: any(h.at > reported for h in run.scores(camera)[-3:]),
        PATIENCE_S,
        f"{fault}: a step",
    )
    back = next(h.at for h in run.scores(camera) if h.at > reported)
    return Trial(fault, reported - began, back - began)


def stage_fault(run: PipelineRun, stage: str, number: int, rng: random.Random) -> Trial:
    """Kill or stop one stage at a random moment."""
    time.sleep(rng.uniform(0.0, 0.6))
    death = f"{stage} died"
    before, ready = run.log().count(death), run.log().count(f"{stage} is ready")
    pid = run.stages()[stage]
    name = "kill -9" if number == signal.SIGKILL else "kill -STOP"
    trial = watch(
        run, f"{name} {stage}", "a", lambda: os.kill(pid, number),
        lambda: run.log().count(death) > before,
    )  # fmt: skip
    run.wait_for(lambda: run.log().count(f"{stage} is ready") > ready, PATIENCE_S, "the stage")
    return trial


def let_witness_catch_up(folder: Path, config: dict[str, Any], witness: Witness, log: Path) -> None:
    """Run the program once more on its log until the witness has received all its events."""
    with PipelineRun(folder, config) as run:
        run.wait_for(lambda: any(h.topic.startswith("score/") for h in run.heard), 60, "a step")
        last = max((event_from_json(body).seq for body in read_since(log, 0)), default=0)
        run.wait_for(lambda: witness.seqs[-1:] >= [last], PATIENCE_S, f"event {last}")


def stage_run(kills: int, stops: int, pack: Path, clip: Path, rng: random.Random) -> Report:
    """Run two cameras and kill or stop one stage after another."""
    faults = [signal.SIGKILL] * kills + [signal.SIGSTOP] * stops
    rng.shuffle(faults)
    trials = []
    with scratch_folder() as folder, Witness(folder) as witness:
        log, camera = folder / "events.sqlite", {"source": str(clip), "loop": True}
        config = tolerant_settings(pack, log, a=camera, b=camera)
        with PipelineRun(folder, config) as run:
            run.wait_for(lambda: run.scores("a") and run.scores("b"), 60, "steps of both")
            for number in progress(faults, "stages"):
                trials.append(stage_fault(run, rng.choice(STAGES), number, rng))
                run.heard[:-200] = []
        let_witness_catch_up(folder, config, witness, log)
        return Report("stages", trials, witness.account(log))


def program_run(kills: int, pack: Path, clip: Path, rng: random.Random) -> Report:
    """Kill all processes of the program at once and start it again, many times."""
    trials = []
    with scratch_folder() as folder, Witness(folder) as witness:
        log, camera = folder / "events.sqlite", {"source": str(clip), "loop": True}
        config = tolerant_settings(pack, log, a=camera, b=camera)
        for _ in progress(range(kills), "whole program"):
            began = time.monotonic()
            with PipelineRun(folder, config) as run:
                run.wait_for(lambda: run.scores("a"), PATIENCE_S, "a step")
                trials.append(Trial("kill -9 of all", None, run.scores("a")[0].at - began))
                time.sleep(rng.uniform(0.0, 2.0))
                kill_all(run)
        let_witness_catch_up(folder, config, witness, log)
        return Report("whole program", trials, witness.account(log))


def kill_all(run: PipelineRun) -> None:
    """Kill every process of the program, in random order."""
    family = process_family(run.process.pid)
    for process in random.sample(family, len(family)):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    run.process.wait()


def camera_run(times: int, pack: Path, folder: Path, rng: random.Random) -> Report:
    """Run a real RTSP camera that dies, hangs, freezes and refuses the login, on a bad line."""
    moving = panning_clip(folder / "moving.mp4", 10, FPS)
    still = still_clip(folder / "still.avi", FPS)
    trials: list[Trial] = []
    with scratch_folder() as scratch, Witness(scratch) as witness:
        log = scratch / "events.sqlite"
        # This server only finds a free port, which all later servers of the camera use.
        with rtsp_server({"door": [moving]}, size=SIZE, fps=FPS) as server:
            port = server.port
        again = partial(rtsp_server, port=port, fps=FPS)
        with line_to(port) as line:
            door = {"source": line.url("door"), "retry_max_s": 2, "frozen_s": 5}
            config = tolerant_settings(pack, log, door=door | {"login_retry_max_s": 15})
            with PipelineRun(scratch, config) as run:
                for turn in progress(range(times), "cameras"):
                    size = OTHER_SIZE if turn % 2 else SIZE
                    with again({"door": [moving]}, size=size) as server:
                        trials += server_faults(run, server, line, rng)
                        trials.append(watch(run, "server killed", None, server.kill, lost(run)))
                    with again({"door": [still]}, size=size):
                        trials.append(Trial("frozen picture", seconds_until(run, "frozen"), None))
                    with again({"door": [moving]}, size=size, login="someone:else"):
                        trials.append(
                            Trial("wrong password", seconds_until(run, "unauthorised"), None)
                        )
            with again({"door": [moving]}, size=SIZE):
                let_witness_catch_up(scratch, config, witness, log)
        return Report("cameras", trials, witness.account(log))


def server_faults(run: PipelineRun, server: Server, line: Line, rng: random.Random) -> list[Trial]:
    """The faults of one server and of its line. The server has just started, with another frame
    size than the one before."""
    trials = [Trial("server back, other size", None, seconds_until_steps(run))]
    for seconds in (3.0, 7.0):
        time.sleep(rng.uniform(1.0, 2.0))
        trials.append(hang(run, server, seconds))
    time.sleep(rng.uniform(1.0, 2.0))
    trials.append(
        watch(run, "line cut for 4 s", "door", partial(spoil, line, "cut", 4.0), lost(run))
    )
    for fault in ("garbage", "timestamps"):
        time.sleep(rng.uniform(1.0, 2.0))
        spoil(line, fault, 4.0)
        time.sleep(4.1)
        trials.append(Trial(f"{fault} for 4 s", None, seconds_until_steps(run)))
    return trials


def spoil(line: Line, fault: Fault, seconds: float) -> None:
    """A fault of the line that heals itself."""
    line.fault = fault
    threading.Timer(seconds, setattr, (line, "fault", "")).start()


def seconds_until_steps(run: PipelineRun) -> float:
    """Seconds until the camera has a new step."""
    began = time.monotonic()
    run.wait_for(lambda: any(h.at > began for h in run.scores("door")[-2:]), PATIENCE_S, "a step")
    return time.monotonic() - began


def seconds_until(run: PipelineRun, state: str) -> float:
    """Seconds until the program publishes that the camera is in ``state``."""
    began = time.monotonic()
    run.wait_for(
        lambda: any(h.at > began and h.body["state"] == state for h in run.statuses("door")),
        PATIENCE_S,
        state,
    )
    return time.monotonic() - began


def lost(run: PipelineRun) -> Callable[[], bool]:
    """Returns whether the program has published, since this call, that the camera is lost."""
    since = time.monotonic()
    return lambda: any(
        h.at > since and h.body["state"] in ("stalled", "offline") for h in run.statuses("door")
    )


def hang(run: PipelineRun, server: Server, seconds: float) -> Trial:
    """Let the server stop answering for a while, with its connections open."""

    def cause() -> None:
        server.pause()
        threading.Timer(seconds, server.resume).start()

    trial = watch(run, f"server hangs for {seconds:g} s", "door", cause, lost(run))
    time.sleep(1.0)
    return trial


def progress(items: Iterable[Item], what: str) -> Iterable[Item]:
    return track(items, what, console=Console(stderr=True))


def measure(
    kills: Annotated[
        int, typer.Option(min=4, help="number of kills, of stages and of the whole program")
    ] = 500,
    seed: Annotated[int, typer.Option(help="seed of the faults and their moments")] = 0,
) -> Iterator[Report]:
    """Yield the report of each run as it ends."""
    rng = random.Random(seed)
    with scratch_folder() as folder:
        pack = tiny_pack.make(folder / "tiny")
        clip = panning_clip(folder / "panning.mp4", 60)
        yield stage_run(max(1, kills * 3 // 4), max(1, kills // 25), pack, clip, rng)
        yield program_run(max(1, kills // 4), pack, clip, rng)
        yield camera_run(max(2, kills // 50), pack, folder, rng)


def show(report: Report) -> None:
    """Two tables: the faults, and the events."""
    table = Table(title=f"{report.run}: faults at random moments, seconds")
    for column in ("fault", "times", "noticed: p50", "max", "over: p50", "max"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    by_fault = defaultdict(list)
    for trial in report.trials:
        by_fault[trial.fault].append(trial)
    for fault, trials in sorted(by_fault.items()):
        notices = [t.notice_s for t in trials if t.notice_s is not None]
        recoveries = [t.recover_s for t in trials if t.recover_s is not None]
        table.add_row(fault, str(len(trials)), *_spread(notices), *_spread(recoveries))
    events = Table(title=f"{report.run}: events")
    for column in ("logged", "holes in seq", "without an end", "lost", "twice"):
        events.add_column(column, justify="right")
    events.add_row(*(str(value) for value in asdict(report.events).values()))
    Console().print(table)
    Console().print(events)


def _spread(values: list[float]) -> tuple[str, str]:
    return (f"{median(values):.2f}", f"{max(values):.2f}") if values else ("–", "–")
