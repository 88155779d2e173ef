"""What people cost: the running program by the number of people in the picture.

People are cut out of labelled frames and walk before a wall. The networks are those of a pack of
the whole picture under another view: what they cost is right, what they recognise means nothing.
"""

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Annotated, Any, TypedDict

import cv2
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.options import GESTURES, Model
from pipeline.arrays import Frame
from pipeline.people.detector import PersonDetector
from pipeline.pictures import resized
from testbed.footage import shared_data
from testbed.program import PROJECT, PipelineRun, free_port, scratch_folder
from testbed.renamed_pack import renamed
from testbed.resources import sample
from testbed.video_files import write_video

FPS, HEIGHT, WIDTH = 25, 480, 640
PERIOD_S = 20
"""The people walk to and fro in this time."""
SETTLE_S = 8.0
STAGES = ("capture", "people", "flow", "spatial", "temporal", "fusion")


class Crowd(TypedDict):
    """One case: cores by stage, and how many people were followed."""

    people: int
    case: str
    followed: float
    cores: dict[str, float]
    late_ms: float


def cutouts(least: float = 0.45) -> list[Frame]:
    """People out of the labelled frames whom the detector finds before a wall.

    They are at least so high as a share of the picture.
    """
    detector = PersonDetector(score=0.6)
    found: list[Frame] = []
    data = shared_data()
    for labelled in json.loads((PROJECT / "tests/people/labels.json").read_text()):
        if labelled["clip"].endswith(".avi"):
            continue
        capture = cv2.VideoCapture(str(data / labelled["clip"]))
        capture.set(cv2.CAP_PROP_POS_FRAMES, labelled["frame"])
        there, picture = capture.read()
        if not there:
            continue
        height, width = picture.shape[:2]
        for x0, y0, x1, y1 in labelled["boxes"]:
            if y1 - y0 >= least and (y1 - y0) * height > 1.5 * (x1 - x0) * width:
                left, right = int(x0 * width), int(x1 * width)
                body = picture[int(y0 * height) : int(y1 * height), left:right].astype(np.uint8)
                if len(detector(next(crowd(1, [body])))) == 1:
                    found.append(body)
    return found


def crowd(people: int, everybody: list[Frame], seed: int = 0) -> Iterator[Frame]:
    """Pictures of a wall before which ``people`` walk, for :data:`PERIOD_S`."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(110, 150, (HEIGHT // 16, WIDTH // 16, 3), np.uint8)
    wall = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    rows = 1 if people <= 5 else 3
    high = 300 if rows == 1 else 150
    walkers = []
    for number in range(people):
        body = everybody[number % len(everybody)]
        wide = round(high * body.shape[1] / body.shape[0])
        lane = (number // rows + 0.5) / (people / rows)
        top = round((number % rows + 0.5) / rows * (HEIGHT - high))
        walkers.append((resized(body, (high, wide)), lane, top, rng.uniform(0, 2 * np.pi)))
    for step in range(PERIOD_S * FPS):
        picture = np.asarray(wall, np.uint8).copy()
        for body, lane, top, phase in walkers:
            sway = 30 * np.sin(2 * np.pi * 4 * step / (PERIOD_S * FPS) + phase)
            left = round(np.clip(lane * WIDTH + sway - body.shape[1] / 2, 0, WIDTH - body.shape[1]))
            picture[top : top + body.shape[0], left : left + body.shape[1]] = body
        noise = rng.integers(-3, 4, (HEIGHT, WIDTH, 1), np.int16)
        yield np.clip(picture + noise, 0, 255).astype(np.uint8)


def cores(
    pack: Path, clip: Path, seconds: float, **camera: Any
) -> tuple[dict[str, float], float, float]:
    """Cores by stage; the people who were followed; and the latency at the end."""
    port = free_port()
    settings = {
        "model": str(pack),
        "cameras": {"a": {"source": str(clip), "loop": True, **camera}},
        "supervisor": {"metrics": f"127.0.0.1:{port}"},
        "publish": {"scores": False},
        # The governor would do less where the machine is busy.
        "runtime": {"latency_ms": 0},
    }
    with scratch_folder() as folder, PipelineRun(folder, settings) as run:
        run.wait_for(lambda: run.statuses("a"), 60, "the camera")
        run.wait_for(lambda: run.log().count("is ready") >= len(run.stages()), 60, "the stages")
        time.sleep(SETTLE_S)
        early, began, followed = sample(run), time.monotonic(), []
        while time.monotonic() - began < seconds:
            time.sleep(0.5)
            followed.append(_metric(port, "two_stream_people"))
        late, elapsed = sample(run), time.monotonic() - began
        late_ms = 1000 * _metric(port, "two_stream_latency_smoothed_seconds")
    used: dict[str, float] = {}
    for name, of in late.items():
        kind = name.partition(":")[0]
        used[kind] = used.get(kind, 0.0) + (of["cpu_s"] - early[name]["cpu_s"]) / elapsed
    return used, sum(followed) / len(followed), late_ms


def _metric(port: int, name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
        lines = page.read().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.split("{")[0].split()[0] == name)


def measure(
    people: Annotated[list[int], typer.Option(help="numbers of people")] = [0, 1, 2, 4, 5, 20],  # noqa: B006
    seconds: Annotated[float, typer.Option(min=2, help="seconds of each case")] = 20.0,
    rounds: Annotated[int, typer.Option(min=1, help="rounds; each runs all cases")] = 1,
    model: Model = GESTURES,
) -> list[Crowd]:
    """Measure the program on people who walk before a wall."""
    found: list[Crowd] = []
    everybody = cutouts()
    with scratch_folder() as folder:
        person = renamed(model, folder / "person", "person", view="person")
        cases: dict[str, tuple[Path, dict[str, Any]]] = {
            "whole picture": (model, {}),
            "needs_person": (model, {"rules": {"star": {"needs_person": True}}}),
            "person": (person, {}),
        }
        for count in people:
            clip = write_video(folder / f"{count}.mp4", crowd(count, everybody), fps=FPS)
            each: dict[str, list[tuple[dict[str, float], float, float]]] = {}
            for _ in range(rounds):
                for name, (pack, camera) in cases.items():
                    each.setdefault(name, []).append(cores(pack, clip, seconds, **camera))
            for name, runs in each.items():
                used = {
                    stage: round(median(run[0].get(stage, 0.0) for run in runs), 3)
                    for stage in (*STAGES, "publish", "supervisor")
                }
                found.append(
                    {
                        "people": count,
                        "case": name,
                        "followed": round(median(run[1] for run in runs), 1),
                        "cores": used,
                        "late_ms": round(median(run[2] for run in runs)),
                    }
                )
    return found


def show(result: list[Crowd]) -> None:
    table = Table(title="cores of one camera, by stage")
    for column in ("people", "followed", "what is looked at", *STAGES, "all", "ms"):
        table.add_column(column, justify="right")
    for row in result:
        table.add_row(
            str(row["people"]),
            f"{row['followed']:g}",
            row["case"],
            *(f"{row['cores'][stage]:.3f}" for stage in STAGES),
            f"{sum(row['cores'].values()):.3f}",
            f"{row['late_ms']:g}",
        )
    Console(width=160).print(table)
