"""Four RTSP cameras for hours, and something always going wrong.

Every few seconds a fault is drawn: of a camera, of the line to it, or of a stage. It lasts a while,
is healed, and the camera must have steps again. Memory and open files of every process are noted
all the while; the events that a client heard are held against the log in the end.
"""

import itertools
import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.chaos import Witness, settings
from testbed.cameras import Server, rtsp_server
from testbed.footage import panning_clip, still_clip
from testbed.line import Line, line_to
from testbed.program import PipelineRun, scratch_folder
from testbed.resources import Sample, sample

CAMERAS = ("north", "east", "south", "west")
SIZE, OTHER_SIZE, FPS = (240, 320), (480, 640), 15
SAMPLE_S = 10.0
PATIENCE_S = 60.0
PAUSE_S = 12.0
"""Mean time from one fault's end to the next one's beginning."""
SETTLED_S = 60.0
"""A process's first minute is left out of its growth: buffers fill, sessions warm up."""


@dataclass
class Healed:
    """A fault that is over: what it was, seconds that it lasted, seconds until steps came again;
    None where they didn't, and ``fault`` then says what was waited for."""

    fault: str
    lasted_s: float
    recover_s: float | None


@dataclass
class Camera:
    """A server and the line to it. The server may be exchanged; the line's port stays."""

    name: str
    moving: Path
    still: Path
    line: Line = field(init=False)
    server: Server = field(init=False)
    _stack: ExitStack = field(default_factory=ExitStack)

    def serve(
        self, clip: Path, size: tuple[int, int] = SIZE, login: str = "", port: int = 0
    ) -> None:
        """A new server in place of the one that is running."""
        self.stop()
        serving = rtsp_server({self.name: [clip]}, port=port, size=size, fps=FPS, login=login)
        self.server = self._stack.enter_context(serving)

    def again(self, clip: Path, size: tuple[int, int] = SIZE, login: str = "") -> None:
        """Another server where the former one was."""
        self.serve(clip, size, login, self.server.port)

    def stop(self) -> None:
        self._stack.close()


@contextmanager
def cameras(folder: Path) -> Iterator[dict[str, Camera]]:
    """Four cameras behind four lines."""
    moving = panning_clip(folder / "moving.mp4", 20, FPS)
    still = still_clip(folder / "still.avi", FPS)
    with ExitStack() as stack:
        found = {}
        for name in CAMERAS:
            camera = Camera(name, moving, still)
            stack.callback(camera.stop)
            camera.serve(moving)
            camera.line = stack.enter_context(line_to(camera.server.port))
            found[name] = camera
        yield found


def camera_fault(camera: Camera, rng: random.Random) -> tuple[str, float]:
    """Cause one, wait, heal it; (its name, how long it lasted)."""
    began = time.monotonic()
    fault = rng.choice(
        (
            "killed",
            "hangs",
            "frozen",
            "wrong password",
            "other size",
            "cut",
            "garbage",
            "timestamps",
        )
    )
    lasts = rng.uniform(2, 12)
    if fault == "killed":
        camera.stop()
        time.sleep(lasts)
        camera.again(camera.moving)
    elif fault == "hangs":
        camera.server.pause()
        time.sleep(lasts)
        camera.server.resume()
    elif fault == "frozen":
        camera.again(camera.still)
        time.sleep(lasts + 10)
        camera.again(camera.moving)
    elif fault == "wrong password":
        camera.again(camera.moving, login="somebody:else")
        time.sleep(lasts)
        camera.again(camera.moving)
    elif fault == "other size":
        camera.again(camera.moving, OTHER_SIZE)
        time.sleep(lasts)
        camera.again(camera.moving)
    else:
        camera.line.fault = fault  # type: ignore[assignment]  # one of the three that are left
        time.sleep(lasts)
        camera.line.fault = ""
    return f"camera: {fault}", time.monotonic() - began


def stage_fault(run: PipelineRun, rng: random.Random) -> tuple[str, float]:
    """A stage is killed or stopped; the supervisor heals it."""
    began = time.monotonic()
    stage, pid = rng.choice(sorted(run.stages().items()))
    number = rng.choice((signal.SIGKILL, signal.SIGSTOP))
    ready = run.log().count(f"{stage} is ready")
    os.kill(pid, number)
    run.wait_for(lambda: run.log().count(f"{stage} is ready") > ready, PATIENCE_S, stage)
    kind = stage.partition(":")[0]
    return f"{kind}: {'kill -9' if number == signal.SIGKILL else 'kill -STOP'}", (
        time.monotonic() - began
    )


def trouble(
    run: PipelineRun, found: dict[str, Camera], until: float, rng: random.Random
) -> list[Healed]:
    """One fault after another until ``time.monotonic()`` is ``until``; all cameras must be back.

    What isn't back in time is said at once, with the end of the program's log, and the next fault
    drawn: hours of figures aren't lost to it.
    """
    healed = []
    while time.monotonic() < until and run.process.poll() is None:
        time.sleep(rng.expovariate(1 / PAUSE_S))
        try:
            healed.append(one_fault(run, found, rng))
        except AssertionError as error:
            reason = str(error).splitlines()[0]
            print(f"{reason}\n{run.log()[-4000:]}", file=sys.stderr)
            healed.append(Healed(reason, PATIENCE_S, None))
        run.heard[:-2000] = []
    return healed


def one_fault(run: PipelineRun, found: dict[str, Camera], rng: random.Random) -> Healed:
    """Cause one, heal it, wait for steps of all cameras; AssertionError where none come."""
    if rng.random() < 0.15:
        fault, lasted = stage_fault(run, rng)
    else:
        fault, lasted = camera_fault(found[rng.choice(CAMERAS)], rng)
    over = time.monotonic()
    for camera in CAMERAS:
        run.wait_for(
            partial(has_steps_since, run, camera, over), PATIENCE_S, f"{camera} after {fault}"
        )
    return Healed(fault, lasted, time.monotonic() - over)


def has_steps_since(run: PipelineRun, camera: str, moment: float) -> bool:
    return any(heard.at > moment for heard in run.scores(camera)[-2:])


@dataclass
class Sampler:
    """Notes what every process of a run takes, every few seconds, until it is stopped."""

    run: PipelineRun
    samples: list[tuple[float, dict[str, Sample]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._note, daemon=True)
        self._thread.start()

    def _note(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.samples.append((time.monotonic() - self._began, sample(self.run)))

    def stop(self) -> None:
        self._over.set()
        self._thread.join(SAMPLE_S)


def lives(samples: list[tuple[float, dict[str, Sample]]]) -> dict[str, list[dict[str, Any]]]:
    """For each stage, one entry for each process that it had: its age, memory and files."""
    found: dict[str, dict[int, list[tuple[float, Sample]]]] = {}
    for at, taken in samples:
        for name, of in taken.items():
            found.setdefault(name, {}).setdefault(of["pid"], []).append((at, of))
    return {name: [_life(noted) for noted in found[name].values()] for name in sorted(found)}


def _life(noted: list[tuple[float, Sample]]) -> dict[str, Any]:
    """Medians of the first and the last fifth after the process's first minute."""
    born = noted[0][0]
    settled = [of for at, of in noted if at - born >= SETTLED_S] or [of for _, of in noted]
    fifth = max(1, len(settled) // 5)
    early, late = settled[:fifth], settled[-fifth:]
    return {
        "minutes": round((noted[-1][0] - born) / 60, 1),
        "uss_mb": [round(median(of["uss_mb"] for of in part), 1) for part in (early, late)],
        "files": [median(of["files"] for of in part) for part in (early, late)],
    }


def measure(minutes: float, seed: int, pack: Path | None) -> tuple[dict[str, Any], list[Any]]:
    """The run's figures, and the samples for the plot."""
    from testbed import tiny_pack

    rng = random.Random(seed)
    with scratch_folder() as folder, cameras(folder) as found, Witness(folder) as witness:
        pack = pack or tiny_pack.make(folder / "tiny")
        log = folder / "events.sqlite"
        sources = {
            name: {"source": camera.line.url(name), "retry_max_s": 2, "frozen_s": 5}
            | {"login_retry_max_s": 20}
            for name, camera in found.items()
        }
        with PipelineRun(folder, settings(pack, log, **sources)) as run:
            run.wait_for(lambda: all(run.scores(name) for name in CAMERAS), 60, "all cameras")
            sampler = Sampler(run)
            began = time.monotonic()
            with watching(minutes * 60):
                healed = trouble(run, found, began + minutes * 60, rng)
            sampler.stop()
            elapsed = time.monotonic() - began
            segments = {c: run.scores(c)[-1].body["window"]["segment"] for c in CAMERAS}
            deaths = [line for line in run.log().splitlines() if "; restarting it" in line]
            restarts = Counter(died(line) for line in deaths)
            run.remember_run()
            code, stop_s = run.stop()
            remains = run.remains()
        account = witness.account(log)
    return {
        "minutes": round(elapsed / 60, 1),
        "exit_code": code,
        "stop_s": round(stop_s, 2),
        "left_behind": remains,
        "faults": by_fault(healed),
        "not_recovered": [h.fault for h in healed if h.recover_s is None],
        "restarts": dict(sorted(restarts.items())),
        "segments": segments,
        "events": vars(account),
        "processes": lives(sampler.samples),
    }, sampler.samples


def died(line: str) -> str:
    """The stage of which a line of the log says that it died."""
    return line.split(" died (")[0].split()[-1]


def by_fault(healed: list[Healed]) -> dict[str, dict[str, float]]:
    found = {}
    for fault, times in itertools.groupby(sorted(healed, key=lambda h: h.fault), lambda h: h.fault):
        recoveries = [h.recover_s for h in times if h.recover_s is not None]
        if not recoveries:
            continue
        found[fault] = {
            "times": len(recoveries),
            "recover_s_p50": round(median(recoveries), 2),
            "recover_s_max": round(max(recoveries), 2),
        }
    return found


@contextmanager
def watching(seconds: float) -> Iterator[None]:
    """A bar that shows the time that is left."""
    with Progress(console=Console(stderr=True)) as progress:
        task, began, over = (
            progress.add_task("soak", total=seconds),
            time.monotonic(),
            threading.Event(),
        )

        def tick() -> None:
            while not over.wait(1):
                progress.update(task, completed=time.monotonic() - began)

        ticking = threading.Thread(target=tick, daemon=True)
        ticking.start()
        try:
            yield
        finally:
            over.set()
            ticking.join()


def plot(samples: list[tuple[float, dict[str, Sample]]], path: Path) -> None:
    """Unique memory and open files of each process over the minutes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, (memory, files) = pyplot.subplots(2, 1, figsize=(10, 7), sharex=True)
    for name in sorted({name for _, taken in samples for name in taken}):
        minutes = [at / 60 for at, taken in samples if name in taken]
        memory.plot(minutes, [t[name]["uss_mb"] for _, t in samples if name in t], label=name, lw=1)
        files.plot(minutes, [t[name]["files"] for _, t in samples if name in t], label=name, lw=1)
    memory.set_ylabel("unique memory, MB")
    files.set_ylabel("open files")
    files.set_xlabel("minutes")
    memory.legend(ncols=4, fontsize="small")
    memory.set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(path, dpi=100)


def soak(
    minutes: float, seed: int, model: Path | None, picture: Path | None, json_output: bool
) -> None:
    """Measure and print."""
    result, samples = measure(minutes, seed, model)
    if picture is not None:
        plot(samples, picture)
    if json_output:
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
        return
    show(result)


def show(result: dict[str, Any]) -> None:
    console = Console()
    faults = Table(title=f"four RTSP cameras for {result['minutes']} minutes")
    for column in ("fault", "times", "steps again after, s: p50", "max"):
        faults.add_column(column, justify="left" if column == "fault" else "right")
    for fault, of in result["faults"].items():
        faults.add_row(fault, *(f"{value:g}" for value in of.values()))
    processes = Table(title="the longest-lived process of each stage")
    for column in ("stage", "processes", "minutes", "USS MB early → late", "files early → late"):
        processes.add_column(column, justify="left" if column == "stage" else "right")
    for name, found in result["processes"].items():
        longest = max(found, key=lambda life: life["minutes"])
        spans = (f"{a:g} → {b:g}" for a, b in (longest["uss_mb"], longest["files"]))
        processes.add_row(name, str(len(found)), f"{longest['minutes']:g}", *spans)
    console.print(faults, processes)
    console.print({k: v for k, v in result.items() if k not in ("faults", "processes")})
