"""What evidence costs, and how soon a clip is there: RTSP cameras that share one stream.

The cases take turns: without evidence, with evidence while no event comes, and without and with
evidence while events come all the time.
"""

import time
from statistics import median, quantiles
from typing import Annotated, Any, TypedDict

import typer
from rich.console import Console
from rich.table import Table

from testbed import tiny_pack
from testbed.cameras import rtsp_server
from testbed.footage import panning_clip
from testbed.program import Heard, PipelineRun, scratch_folder
from testbed.resources import sample
from testbed.video_files import as_h264

SIZE, FPS = (480, 640), 30
NEVER = {"start": 1.0, "end": 0.99}
"""Thresholds that no score reaches."""
CASES = ("off, no event", "on, no event", "off, events", "on, events")


class Case(TypedDict):
    cores: float
    """CPU seconds a second of all processes: the median of the rounds."""
    rounds: list[float]
    memory_mb: float
    """Of all processes, each page counted where it is private."""
    events_per_s: float


class EvidenceResult(TypedDict):
    cameras: int
    seconds: float
    cases: dict[str, Case]
    clips: int
    lost: int
    clip_p50_s: float
    """From the message that an action has ended to the message that its clip is there, less the
    time that the clip goes on."""
    clip_p99_s: float
    picture_p50_s: float
    """From the message that an action has started to its snapshot's."""
    picture_p99_s: float


def measure(
    cameras: Annotated[int, typer.Option(min=1, help="number of cameras")] = 8,
    seconds: Annotated[float, typer.Option(min=5, help="seconds of each round")] = 20.0,
    rounds: Annotated[int, typer.Option(min=1, help="rounds; each runs all cases")] = 3,
    cooldown: Annotated[
        float,
        typer.Option(min=0, help="seconds between two events of a label and camera, at least"),
    ] = 0.0,
) -> EvidenceResult:
    """Measure the program with and without evidence, while nothing happens and while much does."""
    found: dict[str, list[tuple[float, float, float]]] = {case: [] for case in CASES}
    heard: list[list[Heard]] = []
    with scratch_folder() as folder:
        pack = tiny_pack.make(folder / "pack")
        clip = as_h264(panning_clip(folder / "pan.avi", 10, fps=FPS, size=SIZE), folder / "pan.mp4")
        with rtsp_server({"door": [clip]}, size=SIZE, fps=FPS, shared=True) as server:
            for _ in range(rounds):
                for case in CASES:
                    with scratch_folder() as place:
                        given = settings(
                            str(pack), server.url("door"), cameras, case, str(place / "files")
                        )
                        if cooldown:
                            rules = {key: {"cooldown_s": cooldown} for key in ("left", "right")}
                            given.setdefault("events", {})["rules"] = rules
                        with PipelineRun(place / "run", given) as run:
                            found[case].append(_measured(run, cameras, seconds, case))
                            if case == "on, events":
                                heard.append(list(run.heard))
    return _result(cameras, seconds, found, heard)


def settings(pack: str, url: str, cameras: int, case: str, folder: str) -> dict[str, Any]:
    """The config of a case."""
    given: dict[str, Any] = {
        "model": pack,
        "cameras": {f"c{number}": {"source": url} for number in range(cameras)},
        "publish": {"scores": False},
    }
    if "no event" in case:
        given["events"] = {"thresholds": dict.fromkeys(("left", "right"), NEVER)}
    if case.startswith("on"):
        given["evidence"] = {"folder": folder, "clips": {"pre_s": 5, "post_s": 0}}
    return given


def _measured(
    run: PipelineRun, cameras: int, seconds: float, case: str
) -> tuple[float, float, float]:
    """Cores, memory in MB, and events a second."""
    run.wait_for(
        lambda: all(
            any(h.body["state"] == "online" and h.body["size"] for h in run.statuses(f"c{number}"))
            for number in range(cameras)
        ),
        120,
        "all cameras",
    )
    time.sleep(6.0 if "no event" in case else 10.0)
    early, began, events = sample(run), time.monotonic(), len(_starts(run.heard))
    time.sleep(seconds)
    late, elapsed = sample(run), time.monotonic() - began
    cpu_s = sum(of["cpu_s"] - early[name]["cpu_s"] for name, of in late.items() if name in early)
    count = len(_starts(run.heard)) - events
    return cpu_s / elapsed, sum(of["uss_mb"] for of in late.values()), count / elapsed


def _starts(heard: list[Heard]) -> list[Heard]:
    return [h for h in list(heard) if h.topic.startswith("action/") and h.body["type"] == "start"]


def _waits(heard: list[Heard], event: str, kind: str) -> list[float]:
    """Seconds from each action's ``event`` record to its first evidence of ``kind``."""
    began = {
        h.body["id"]: h.at
        for h in heard
        if h.topic.startswith("action/") and h.body["type"] == event
    }
    waits: dict[str, float] = {}
    for h in heard:
        ready = h.topic.startswith("evidence/") and h.body["state"] == "ready"
        if ready and h.body["kind"] == kind and h.body["id"] in began:
            waits.setdefault(h.body["id"], h.at - began[h.body["id"]])
    return list(waits.values())


def _result(
    cameras: int,
    seconds: float,
    found: dict[str, list[tuple[float, float, float]]],
    heard: list[list[Heard]],
) -> EvidenceResult:
    clips = [wait for one in heard for wait in _waits(one, "end", "clip")]
    pictures = [wait for one in heard for wait in _waits(one, "start", "snapshot")]
    lost = sum(
        h.topic.startswith("evidence/") and h.body["state"] == "lost" for one in heard for h in one
    )
    return {
        "cameras": cameras,
        "seconds": seconds,
        "cases": {
            case: {
                "cores": median(one[0] for one in rounds),
                "rounds": [round(one[0], 3) for one in rounds],
                "memory_mb": median(one[1] for one in rounds),
                "events_per_s": median(one[2] for one in rounds),
            }
            for case, rounds in found.items()
        },
        "clips": len(clips),
        "lost": lost,
        "clip_p50_s": median(clips),
        "clip_p99_s": quantiles(clips, n=100)[98],
        "picture_p50_s": median(pictures),
        "picture_p99_s": quantiles(pictures, n=100)[98],
    }


def show(result: EvidenceResult) -> None:
    console = Console()
    table = Table(title=f"evidence, {result['cameras']} RTSP cameras, rounds taking turns")
    for name in ("", "cores", "rounds", "memory MB", "events/s"):
        table.add_column(name, justify="right" if name else "left")
    for name, case in result["cases"].items():
        table.add_row(
            name,
            f"{case['cores']:.3f}",
            " ".join(f"{one:.3f}" for one in case["rounds"]),
            f"{case['memory_mb']:.0f}",
            f"{case['events_per_s']:.2f}",
        )
    console.print(table)
    console.print(
        f"{result['clips']} clips, {result['lost']} lost; "
        f"clip after the action's end: p50 {result['clip_p50_s']:.2f} s, "
        f"p99 {result['clip_p99_s']:.2f} s; "
        f"snapshot after its start: p50 {result['picture_p50_s']:.2f} s, "
        f"p99 {result['picture_p99_s']:.2f} s"
    )
