"""Four RTSP cameras for hours, with one fault after another.

Every few seconds a random fault hits a camera, the line to it or a stage. It lasts for some seconds
and is healed, and then all cameras must have steps again. Memory and open files of every process
are sampled during the run. At the end the events that a client received are compared with the log.
"""

import itertools
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
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from testbed import tiny_pack
from testbed.cameras import Server, rtsp_server
from testbed.footage import panning_clip, still_clip
from testbed.line import Line, line_to
from testbed.program import PipelineRun, scratch_folder
from testbed.resources import Sample, sample
from testbed.witness import Witness, tolerant_settings

CAMERAS = ("north", "east", "south", "west")
SIZE, OTHER_SIZE, FPS = (240, 320), (480, 640), 15
SAMPLE_S = 10.0
PATIENCE_S = 60.0
PAUSE_S = 12.0
"""Mean time from the end of a fault to the start of the next."""
SETTLED_S = 60.0
"""A process's first minute doesn't count as growth: buffers fill, sessions warm up."""

TimedSample = tuple[float, dict[str, Sample]]
"""Seconds since the start of the run, and a sample of each process by its stage's name."""


@dataclass
class Healed:
    """A fault that is over."""

    fault: str
    """Its name; where the cameras didn't recover, what was missing."""
    lasted_s: float
    recover_s: float | None
    """Seconds until all cameras had steps again; None where they didn't recover."""


@dataclass
class Camera:
    """A server and the line to it. The server can be replaced; the line keeps its port."""

    name: str
    moving: Path
    still: Path
    line: Line = field(init=False)
    server: Server = field(init=False)
    _stack: ExitStack = field(default_factory=ExitStack)

    def serve(
        self, clip: Path, size: tuple[int, int] = SIZE, login: str = "", port: int = 0
    ) -> None:
        """Replace the running server, if any."""
        self.stop()
        serving = rtsp_server({self.name: [clip]}, port=port, size=size, fps=FPS, login=login)
        self.server = self._stack.enter_context(serving)

    def replace(self, clip: Path, size: tuple[int, int] = SIZE, login: str = "") -> None:
        """Replace the server by one on the same port."""
        self.serve(clip, size, login, self.server.port)

    def stop(self) -> None:
        self._stack.close()


@contextmanager
def cameras(folder: Path) -> Iterator[dict[str, Camera]]:
    """Four cameras, each behind its own line."""
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
    """Cause a fault, wait and heal it. Returns its name and its seconds."""
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
        camera.replace(camera.moving)
    elif fault == "hangs":
        camera.server.pause()
        time.sleep(lasts)
        camera.server.resume()
    elif fault == "frozen":
        camera.replace(camera.still)
        time.sleep(lasts + 10)
        camera.replace(camera.moving)
    elif fault == "wrong password":
        camera.replace(camera.moving, login="somebody:else")
        time.sleep(lasts)
        camera.replace(camera.moving)
    elif fault == "other size":
        camera.replace(camera.moving, OTHER_SIZE)
        time.sleep(lasts)
        camera.replace(camera.moving)
    else:
        camera.line.fault = fault  # type: ignore[assignment]  # one of the line's three
        time.sleep(lasts)
        camera.line.fault = ""
    return f"camera: {fault}", time.monotonic() - began


def stage_fault(run: PipelineRun, rng: random.Random) -> tuple[str, float]:
    """Kill or stop a stage and wait until the supervisor has restarted it.

    Returns the fault's name and its seconds.
    """
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
    """Cause one fault after another until ``time.monotonic()`` is ``until``.

    When the cameras don't recover in time, the end of the program's log is printed. The run
    continues all the same, so that hours of figures aren't lost.
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
    """Cause a fault, heal it and wait for steps of all cameras; AssertionError if none come."""
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
    """Samples memory, files and CPU of every process every few seconds until it is stopped."""

    run: PipelineRun
    samples: list[TimedSample] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._began = time.monotonic()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.samples.append((time.monotonic() - self._began, sample(self.run)))

    def stop(self) -> None:
        self._over.set()
        self._thread.join(SAMPLE_S)


def lives(samples: list[TimedSample]) -> dict[str, list[dict[str, Any]]]:
    """By stage, one entry for each process that it had: its age, memory and files."""
    found: dict[str, dict[int, list[tuple[float, Sample]]]] = {}
    for at, taken in samples:
        for name, of in taken.items():
            found.setdefault(name, {}).setdefault(of["pid"], []).append((at, of))
    return {name: [_life(taken) for taken in found[name].values()] for name in sorted(found)}


def _life(samples: list[tuple[float, Sample]]) -> dict[str, Any]:
    """Medians of the first and the last fifth after the process's first minute."""
    born = samples[0][0]
    settled = [of for at, of in samples if at - born >= SETTLED_S] or [of for _, of in samples]
    fifth = max(1, len(settled) // 5)
    early, late = settled[:fifth], settled[-fifth:]
    return {
        "minutes": round((samples[-1][0] - born) / 60, 1),
        "uss_mb": [round(median(of["uss_mb"] for of in part), 1) for part in (early, late)],
        "files": [median(of["files"] for of in part) for part in (early, late)],
    }


@dataclass(frozen=True)
class SoakResult:
    """The figures of the run, and the samples for the picture."""

    figures: dict[str, Any]
    samples: list[TimedSample]

    def as_json(self) -> dict[str, Any]:
        return self.figures


def measure(
    minutes: Annotated[float, typer.Option(min=1, help="minutes to run")] = 120.0,
    seed: Annotated[int, typer.Option(help="seed of the faults and their moments")] = 0,
    model: Annotated[
        Path | None, typer.Option(help="model pack folder; by default a tiny hand-made pack")
    ] = None,
) -> SoakResult:
    """Run the program on four cameras and cause one fault after another."""
    rng = random.Random(seed)
    with scratch_folder() as folder, cameras(folder) as found, Witness(folder) as witness:
        pack = model or tiny_pack.make(folder / "tiny")
        log = folder / "events.sqlite"
        sources = {
            name: {"source": camera.line.url(name), "retry_max_s": 2, "frozen_s": 5}
            | {"login_retry_max_s": 20}
            for name, camera in found.items()
        }
        with PipelineRun(folder, tolerant_settings(pack, log, **sources)) as run:
            run.wait_for(lambda: all(run.scores(name) for name in CAMERAS), 60, "all cameras")
            sampler = Sampler(run)
            began = time.monotonic()
            with progress_bar(minutes * 60):
                healed = trouble(run, found, began + minutes * 60, rng)
            sampler.stop()
            elapsed = time.monotonic() - began
            segments = {c: run.scores(c)[-1].body["window"]["segment"] for c in CAMERAS}
            deaths = [line for line in run.log().splitlines() if "; restarting it" in line]
            restarts = Counter(stage_of(line) for line in deaths)
            run.remember_run()
            code, stop_s = run.stop()
            remains = run.remains()
        account = witness.account(log)
    figures = {
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
    }
    return SoakResult(figures, sampler.samples)


def stage_of(line: str) -> str:
    """The stage that died according to a line of the log."""
    return line.split(" died (")[0].split()[-1]


def by_fault(healed: list[Healed]) -> dict[str, dict[str, float]]:
    """How often each fault happened and how soon the cameras recovered, where they did."""
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
def progress_bar(seconds: float) -> Iterator[None]:
    """Show on standard error how much of ``seconds`` has passed."""
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


def show(result: SoakResult) -> None:
    console, figures = Console(), result.figures
    faults = Table(title=f"four RTSP cameras for {figures['minutes']} minutes")
    for column in ("fault", "times", "steps again after, s: p50", "max"):
        faults.add_column(column, justify="left" if column == "fault" else "right")
    for fault, of in figures["faults"].items():
        faults.add_row(fault, *(f"{value:g}" for value in of.values()))
    processes = Table(title="the longest-lived process of each stage")
    for column in ("stage", "processes", "minutes", "USS MB early → late", "files early → late"):
        processes.add_column(column, justify="left" if column == "stage" else "right")
    for name, found in figures["processes"].items():
        longest = max(found, key=lambda life: life["minutes"])
        spans = (f"{a:g} → {b:g}" for a, b in (longest["uss_mb"], longest["files"]))
        processes.add_row(name, str(len(found)), f"{longest['minutes']:g}", *spans)
    console.print(faults, processes)
    console.print({k: v for k, v in figures.items() if k not in ("faults", "processes")})
