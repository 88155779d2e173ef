"""Faults at random moments: how soon each is noticed and over, and what it cost in events.

Three runs. *Stages*: two cameras, a random stage killed or stopped in turn. *Whole program*: every
process killed at once, started again on the same event log. *Cameras*: a real RTSP server that is
killed, stopped, frozen, wants a password or comes back with another size, behind a line that goes
bad. A client listens to each from its first to its last event; what it delivered is held against
the log.
"""

import json
import os
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import Any, Self

import psutil
from rich.console import Console
from rich.progress import track
from rich.table import Table

from pipeline.client import EventClient
from pipeline.public.event_log import read_since
from pipeline.public.records import event_from_json
from testbed.cameras import Server, rtsp_server
from testbed.footage import panning_clip, still_clip
from testbed.line import Fault, Line, line_to
from testbed.program import PipelineRun, scratch_folder
from testbed.resources import process_family

STAGES = ("capture:a", "flow:0", "spatial", "temporal", "fusion", "publish")
PATIENCE_S = 40.0
SIZE, OTHER_SIZE, FPS = (240, 320), (480, 640), 20


@dataclass
class Trial:
    """One fault: seconds from it to the word of it, and to the next step that was scored."""

    fault: str
    notice_s: float | None
    recover_s: float | None


@dataclass
class Account:
    """What became of the events of a run."""

    logged: int
    holes: int
    without_end: int
    lost: int
    twice: int


@dataclass
class Report:
    """Of one run."""

    trials: list[Trial]
    events: Account


@dataclass
class Witness:
    """A client that listens from the first event on, whoever is killed meanwhile."""

    folder: Path
    seqs: list[int] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def _listen(self) -> None:
        events, replay = (f"ipc://{self.folder}/{name}" for name in ("events", "replay"))
        with EventClient(events, replay, since=0) as client:
            while not self._over.is_set():
                event = client.receive(0.1)
                if event is not None:
                    self.seqs.append(event.seq)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(5)

    def account(self, log: Path) -> Account:
        """Hold what was heard against the log."""
        events = [event_from_json(body) for body in read_since(log, 0)]
        logged = [event.seq for event in events]
        ids = defaultdict(list)
        for event in events:
            ids[event.id].append(event.type)
        return Account(
            logged=len(logged),
            holes=len(set(range(1, len(logged) + 1)) - set(logged)),
            without_end=sum(
                types.count("start") != 1 or types.count("end") != 1 for types in ids.values()
            ),
            lost=len(set(logged) - set(self.seqs)),
            twice=len(self.seqs) - len(set(self.seqs)),
        )


def settings(pack: Path, log: Path, **cameras: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": str(pack),
        "cameras": cameras,
        "events": {"log": str(log), "update_every_s": 0.3},
        "supervisor": {"restarts": 1000, "hang_s": 2.0},
    }


def watch(
    run: PipelineRun,
    fault: str,
    camera: str | None,
    cause: Callable[[], None],
    noticed: Callable[[], object],
) -> Trial:
    """Cause a fault; seconds until ``noticed`` and until ``camera``, if any, has steps again."""
    began = time.monotonic()
    cause()
    run.wait_for(noticed, PATIENCE_S, f"the word of {fault}")
    told = time.monotonic()
    if camera is None:
        return Trial(fault, told - began, None)
    run.wait_for(
        lambda: any(h.at > told for h in run.scores(camera)[-3:]), PATIENCE_S, f"{fault}: a step"
    )
    back = next(h.at for h in run.scores(camera) if h.at > told)
    return Trial(fault, told - began, back - began)


def stage_fault(run: PipelineRun, stage: str, number: int, rng: random.Random) -> Trial:
    """Kill or stop one stage at a random moment."""
    time.sleep(rng.uniform(0.0, 0.6))
    words = f"{stage} died"
    before, ready = run.log().count(words), run.log().count(f"{stage} is ready")
    pid = run.stages()[stage]
    name = "kill -9" if number == signal.SIGKILL else "kill -STOP"
    trial = watch(
        run, f"{name} {stage}", "a", lambda: os.kill(pid, number),
        lambda: run.log().count(words) > before,
    )  # fmt: skip
    run.wait_for(lambda: run.log().count(f"{stage} is ready") > ready, PATIENCE_S, "the stage")
    return trial


def listen_to(folder: Path, config: dict[str, Any], witness: Witness, log: Path) -> None:
    """Let the program run once more on its log until the witness has heard all that is in it."""
    with PipelineRun(folder, config) as run:
        run.wait_for(lambda: any(h.topic.startswith("score/") for h in run.heard), 60, "a step")
        last = max((event_from_json(body).seq for body in read_since(log, 0)), default=0)
        run.wait_for(lambda: witness.seqs[-1:] >= [last], PATIENCE_S, f"event {last}")


def stages(kills: int, stops: int, pack: Path, clip: Path, rng: random.Random) -> Report:
    """Two cameras; one stage after another is killed or stopped."""
    faults = [signal.SIGKILL] * kills + [signal.SIGSTOP] * stops
    rng.shuffle(faults)
    trials = []
    with scratch_folder() as folder, Witness(folder) as witness:
        log, camera = folder / "events.sqlite", {"source": str(clip), "loop": True}
        config = settings(pack, log, a=camera, b=camera)
        with PipelineRun(folder, config) as run:
            run.wait_for(lambda: run.scores("a") and run.scores("b"), 60, "steps of both")
            for number in progress(faults, "stages"):
                trials.append(stage_fault(run, rng.choice(STAGES), number, rng))
                run.heard[:-200] = []
        listen_to(folder, config, witness, log)
        return Report(trials, witness.account(log))


def whole(kills: int, pack: Path, clip: Path, rng: random.Random) -> Report:
    """Every process of the program is killed at once, and the program started again."""
    trials = []
    with scratch_folder() as folder, Witness(folder) as witness:
        log, camera = folder / "events.sqlite", {"source": str(clip), "loop": True}
        config = settings(pack, log, a=camera, b=camera)
        for _ in progress(range(kills), "whole program"):
            began = time.monotonic()
            with PipelineRun(folder, config) as run:
                run.wait_for(lambda: run.scores("a"), PATIENCE_S, "a step")
                trials.append(Trial("kill -9 of all", None, run.scores("a")[0].at - began))
                time.sleep(rng.uniform(0.0, 2.0))
                kill_all(run)
        listen_to(folder, config, witness, log)
        return Report(trials, witness.account(log))


def kill_all(run: PipelineRun) -> None:
    family = process_family(run.process.pid)
    for process in random.sample(family, len(family)):
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    run.process.wait()


def cameras(times: int, pack: Path, folder: Path, rng: random.Random) -> Report:
    """A real RTSP camera that goes, hangs, freezes, locks the door, behind a line that goes bad."""
    moving = panning_clip(folder / "moving.mp4", 10, FPS)
    still = still_clip(folder / "still.avi", FPS)
    trials: list[Trial] = []
    with scratch_folder() as scratch, Witness(scratch) as witness:
        log = scratch / "events.sqlite"
        with rtsp_server({"door": [moving]}, size=SIZE, fps=FPS) as server:
            port = server.port
        again = partial(rtsp_server, port=port, fps=FPS)
        with line_to(port) as line:
            door = {"source": line.url("door"), "retry_max_s": 2, "frozen_s": 5}
            config = settings(pack, log, door=door | {"login_retry_max_s": 15})
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
                listen_to(scratch, config, witness, log)
        return Report(trials, witness.account(log))


def server_faults(run: PipelineRun, server: Server, line: Line, rng: random.Random) -> list[Trial]:
    """What a server that has just come, with another size than before, and its line go through."""
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
    """Until the camera has a step that is newer than now."""
    began = time.monotonic()
    run.wait_for(lambda: any(h.at > began for h in run.scores("door")[-2:]), PATIENCE_S, "a step")
    return time.monotonic() - began


def seconds_until(run: PipelineRun, state: str) -> float:
    """Until the camera is said to be in ``state``."""
    began = time.monotonic()
    run.wait_for(
        lambda: any(h.at > began and h.body["state"] == state for h in run.statuses("door")),
        PATIENCE_S,
        state,
    )
    return time.monotonic() - began


def lost(run: PipelineRun) -> Callable[[], bool]:
    """Whether the camera was said to be something else than online since now."""
    since = time.monotonic()
    return lambda: any(
        h.at > since and h.body["state"] in ("stalled", "offline") for h in run.statuses("door")
    )


def hang(run: PipelineRun, server: Server, seconds: float) -> Trial:
    """The server answers no more for a while, with its connections open."""

    def cause() -> None:
        server.pause()
        threading.Timer(seconds, server.resume).start()

    trial = watch(run, f"server hangs for {seconds:g} s", "door", cause, lost(run))
    time.sleep(1.0)
    return trial


def progress(items: Any, what: str) -> Any:
    return track(items, what, console=Console(stderr=True))


def chaos(kills: int, seed: int, json_output: bool) -> None:
    """Measure, and print each part as it ends."""
    from testbed import tiny_pack

    rng = random.Random(seed)
    with scratch_folder() as folder:
        pack = tiny_pack.make(folder / "tiny")
        clip = panning_clip(folder / "panning.mp4", 60)
        parts: dict[str, Callable[[], Report]] = {
            "stages": lambda: stages(max(1, kills * 3 // 4), max(1, kills // 25), pack, clip, rng),
            "whole program": lambda: whole(max(1, kills // 4), pack, clip, rng),
            "cameras": lambda: cameras(max(2, kills // 50), pack, folder, rng),
        }
        for name, part in parts.items():
            report = part()
            if json_output:
                print(json.dumps({"run": name} | asdict(report)), flush=True)
            else:
                show(name, report)


def show(name: str, report: Report) -> None:
    """Two tables: the faults, and the events."""
    table = Table(title=f"{name}: faults at random moments, seconds")
    for column in ("fault", "times", "noticed: p50", "max", "over: p50", "max"):
        table.add_column(column, justify="left" if column == "fault" else "right")
    by_fault = defaultdict(list)
    for trial in report.trials:
        by_fault[trial.fault].append(trial)
    for fault, trials in sorted(by_fault.items()):
        notices = [t.notice_s for t in trials if t.notice_s is not None]
        recoveries = [t.recover_s for t in trials if t.recover_s is not None]
        table.add_row(fault, str(len(trials)), *_spread(notices), *_spread(recoveries))
    events = Table(title=f"{name}: events")
    for column in ("logged", "holes in seq", "without an end", "lost", "twice"):
        events.add_column(column, justify="right")
    events.add_row(*(str(value) for value in asdict(report.events).values()))
    Console().print(table)
    Console().print(events)


def _spread(values: list[float]) -> tuple[str, str]:
    return (f"{median(values):.2f}", f"{max(values):.2f}") if values else ("–", "–")
