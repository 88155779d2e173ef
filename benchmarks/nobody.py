"""False alarms where things move and nobody is there: with and without ``needs_person``.

The footage is rendered: a room with the noise of a camera, and in it a curtain in the wind, the
shadow of a tree, lamps that are switched, insects before the lens, or an animal.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, TypedDict

import cv2
import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.options import GESTURES, Model
from pipeline.arrays import Frame
from pipeline.model.pack import ModelPack
from testbed.program import PipelineRun, scratch_folder
from testbed.video_files import write_video

FIGHTS = GESTURES.parent / "fights"
FPS, SIZE, NOISE = 15, (240, 320), 3.0
LONGEST_S = 3600.0

Picture = npt.NDArray[np.float32]
Draw = Callable[[Picture, float, np.random.Generator], Picture]
"""A room (h, w, 3), the time in seconds and chance → what is seen, in gray levels."""


class NobodyResult(TypedDict):
    """Alarms an hour, by what moves: as the pack gives them, and with ``needs_person``."""

    pack: str
    minutes: float
    bare: dict[str, float]
    needs_person: dict[str, float]


def room(seed: int) -> Picture:
    """Walls and furniture of random colours, and some texture."""
    rng = np.random.default_rng(seed)
    height, width = SIZE
    picture = np.empty((height, width, 3), np.float32)
    picture[:] = rng.uniform(90, 170, 3)
    for _ in range(12):
        x, y = rng.integers(0, width), rng.integers(0, height)
        wide, high = rng.integers(20, 120), rng.integers(20, 120)
        picture[y : y + high, x : x + wide] = rng.uniform(30, 220, 3)
    grain = cv2.resize(rng.normal(0, 6, (60, 80, 3)).astype(np.float32), (width, height))
    return np.asarray(picture + grain, np.float32)


def curtain(picture: Picture, time_s: float, _rng: np.random.Generator) -> Picture:
    """A third of the picture waves: a striped cloth in a wind that comes and goes."""
    height, width = SIZE
    y, x = np.mgrid[0:height, 0 : width // 3].astype(np.float32)
    wind = 4 + 4 * np.sin(0.4 * time_s) + 3 * np.sin(1.7 * time_s)
    shift = wind * (y / height) * np.sin(2.2 * time_s + y / 40 + x / 30)
    stripes = 150 + 40 * np.sin((x + shift) / 5) + 15 * np.sin((x + shift) / 17)
    picture[:, : width // 3] = stripes[..., np.newaxis] * np.array([0.9, 1.0, 0.8], np.float32)
    return picture


def shadow(picture: Picture, time_s: float, _rng: np.random.Generator) -> Picture:
    """The shadow of a tree sways over the picture."""
    height, width = SIZE
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    shade = np.zeros(SIZE, np.float32)
    for number in range(6):
        middle_x = width * (0.2 + 0.12 * number) + 40 * np.sin(0.9 * time_s + number)
        middle_y = height * (0.3 + 0.08 * number) + 15 * np.sin(1.3 * time_s + 2 * number)
        shade += np.exp(-(((x - middle_x) / 30) ** 2 + ((y - middle_y) / 45) ** 2))
    return np.asarray(picture * (1 - 0.5 * shade.clip(0, 1))[..., np.newaxis], np.float32)


def lamps(picture: Picture, time_s: float, _rng: np.random.Generator) -> Picture:
    """A lamp at the ceiling goes on and off, and another in a corner."""
    height, width = SIZE
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    corner = np.exp(-(((x - 0.8 * width) / 80) ** 2 + ((y - 0.3 * height) / 80) ** 2))
    light = 0.5 + 0.5 * (time_s % 14 < 6) + 0.7 * corner * (time_s % 9 < 4)
    return np.asarray(picture * light[..., np.newaxis], np.float32)


def insects(picture: Picture, time_s: float, _rng: np.random.Generator) -> Picture:
    """Large blurred spots hurry before the lens."""
    height, width = SIZE
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    for number in range(3):
        fast = 2.3 + number
        middle_x = width * (0.5 + 0.6 * np.sin(fast * time_s + number))
        middle_y = height * (0.5 + 0.5 * np.sin(1.37 * fast * time_s + 2 * number))
        spot = np.exp(-(((x - middle_x) / 14) ** 2 + ((y - middle_y) / 10) ** 2))
        picture = picture * (1 - 0.8 * spot[..., np.newaxis])
    return np.asarray(picture, np.float32)


def animal(picture: Picture, time_s: float, _rng: np.random.Generator) -> Picture:
    """A textured body of the size of a dog runs to and fro, stops, and runs on."""
    height, width = SIZE
    turn = time_s % 8
    place = turn / 3 if turn < 3 else 1 if turn < 4 else max(0.0, 1 - (turn - 4) / 3)
    x0 = round(place * (width - 70))
    y0 = round(0.68 * height + 3 * np.sin(9 * time_s) * (place not in (0, 1)))
    coat = np.random.default_rng(1).uniform(30, 120, (35, 70, 1)).astype(np.float32)
    y, x = np.mgrid[0:35, 0:70].astype(np.float32)
    body = (((x - 35) / 33) ** 2 + ((y - 17) / 16) ** 2 < 1)[..., np.newaxis]
    part = picture[y0 : y0 + 35, x0 : x0 + 70]
    picture[y0 : y0 + 35, x0 : x0 + 70] = np.where(body, coat, part)
    return picture


THINGS: dict[str, Draw] = {
    "curtain": curtain,
    "shadow": shadow,
    "lamps": lamps,
    "insects": insects,
    "animal": animal,
}


def footage(draw: Draw, seconds: float, seed: int) -> Iterator[Frame]:
    """Pictures of a room in which something moves, with a camera's noise."""
    rng, still = np.random.default_rng(seed), room(seed)
    for number in range(round(seconds * FPS)):
        picture = draw(still.copy(), number / FPS, rng)
        noise = rng.normal(0, NOISE, (*SIZE, 1)).astype(np.float32)
        yield np.clip(picture + noise, 0, 255).astype(np.uint8)


def alarms(clip: Path, model: Path, seconds: float) -> tuple[float, float]:
    """Alarms an hour: as the pack gives them, and with ``needs_person`` for every label."""
    labels = ModelPack.load(model).contract.actions
    rules = {label: {"needs_person": True} for label in labels}
    cameras = {"bare": {"source": str(clip)}, "asks": {"source": str(clip), "rules": rules}}
    settings = {
        "model": str(model.resolve()),
        "cameras": cameras,
        "runtime": {"delivery": "lossless"},
        "publish": {"scores": False},
        "supervisor": {"first_source_s": 0},
    }
    with scratch_folder() as folder, PipelineRun(folder, settings) as run:
        if run.process.wait(LONGEST_S) != 0:
            raise RuntimeError(f"the program failed: {run.log()[-2000:]}")
        run._reader.join(10)
        starts = [event["camera"] for event in run.printed() if event["type"] == "start"]
    hours = seconds / 3600
    return starts.count("bare") / hours, starts.count("asks") / hours


def measure(
    minutes: Annotated[float, typer.Option(min=0.1, help="footage of each thing")] = 10.0,
    seed: Annotated[int, typer.Option(help="of the rooms")] = 0,
    model: Model = FIGHTS,
) -> NobodyResult:
    """Render footage in which nobody is, and count the alarms."""
    result: NobodyResult = {
        "pack": ModelPack.load(model).contract.name,
        "minutes": minutes,
        "bare": {},
        "needs_person": {},
    }
    for number, (name, draw) in enumerate(THINGS.items()):
        with scratch_folder() as folder:
            pictures = footage(draw, 60 * minutes, seed + number)
            clip = write_video(folder / "clip.mp4", pictures, fps=FPS)
            bare, asks = alarms(clip, model, 60 * minutes)
        result["bare"][name], result["needs_person"][name] = round(bare, 1), round(asks, 1)
    return result


def show(result: NobodyResult) -> None:
    title = f"{result['pack']}: false alarms an hour, {result['minutes']:g} min of each"
    table = Table(title=title)
    for column in ("what moves", "as it is", "needs_person"):
        table.add_column(column, justify="right")
    for name, bare in result["bare"].items():
        table.add_row(name, f"{bare:g}", f"{result['needs_person'][name]:g}")
    Console().print(table)
