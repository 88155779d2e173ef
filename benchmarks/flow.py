"""Optical flow: its error and its time on one core.

Errors are measured on the Middlebury pairs under ``$TWO_STREAM_DATA/flow`` at their own size, as
they are and with the faults that cameras add. Times are measured on the same pairs, at their own
size and at the sizes of live flow. The methods take turns while they are timed, so a machine that
slows down slows all of them alike.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.flow_errors import angular_error, end_point_error, read_flo
from pipeline.arrays import FlowField, Gray
from pipeline.errors import EvaluationError
from pipeline.flow import create
from pipeline.flow.base import FlowMethod
from pipeline.flow.opencv import DIS

PAIRS = ("RubberWhale", "Dimetrodon", "Grove2", "Venus")
SIZES = {"160x120": (160, 120), "320x240": (320, 240), "native": None}
ROUNDS = 15
GRID = 4  # OpenCV's Lucas-Kanade computes every fourth pixel: all of them would take a second


@dataclass(frozen=True)
class Pair:
    """Two frames, (H, W) uint8, and the true flow between them, (H, W, 2) float32.

    The flow is NaN where it is unknown.
    """

    name: str
    prev: Gray
    next: Gray
    truth: FlowField


@dataclass(frozen=True)
class Score:
    """Errors and times of one method, by the names of pairs and of :data:`SIZES`."""

    end_point_error_px: dict[str, float]
    angular_error_deg: dict[str, float]
    median_ms: dict[str, float]
    harder_px: dict[str, float]
    """Mean error over the pairs of each name of :func:`harder`. ``still`` is the mean flow at
    320x240 in a scene without motion, with noise of σ = 4 gray levels."""


@dataclass(frozen=True, kw_only=True)
class FlowResult:
    """The scores of all methods."""

    benchmark: str = "flow"
    about: dict[str, Any]
    methods: dict[str, Score]


def zero(prev_gray: Gray, next_gray: Gray) -> FlowField:
    """No motion anywhere. A useful method has a smaller error than this one."""
    return np.zeros((*prev_gray.shape, 2), np.float32)


def opencv_lucas_kanade(prev_gray: Gray, next_gray: Gray) -> FlowField:
    """``cv2.calcOpticalFlowPyrLK`` with its defaults at every :data:`GRID`-th pixel.

    Returns (ceil(H / GRID), ceil(W / GRID), 2) float32. Where OpenCV finds no motion, it is 0.
    """
    height, width = prev_gray.shape
    grid = np.mgrid[0:height:GRID, 0:width:GRID][::-1].astype(np.float32)
    points = np.ascontiguousarray(np.moveaxis(grid, 0, -1))
    start = points.reshape(-1, 1, 2)
    found, status, _ = cv2.calcOpticalFlowPyrLK(prev_gray, next_gray, start, start.copy())
    flow = np.where(np.asarray(status)[..., np.newaxis] == 1, np.asarray(found) - start, 0)
    return flow.reshape(points.shape).astype(np.float32)


def methods() -> dict[str, FlowMethod]:
    """The methods to compare; ``dis``, ``deep``, ``farneback`` and ``lucas_kanade`` are the ones
    of :mod:`pipeline.flow`."""
    return {
        "zero": zero,
        "dis ultrafast": DIS(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST),
        "dis": create("dis"),
        "dis medium": DIS(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM),
        "deep": create("deep"),
        "farneback": create("farneback"),
        "lucas_kanade": create("lucas_kanade"),
        f"opencv LK 1/{GRID * GRID}": opencv_lucas_kanade,
    }


def load_pairs(folder: Path) -> list[Pair]:
    """Load the four pairs; raises FileNotFoundError with the path of a missing file."""
    pairs = []
    for name in PAIRS:
        frames = []
        for file in ("frame10.png", "frame11.png"):
            path = folder / name / file
            frame = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
            if frame is None:
                raise FileNotFoundError(f"no readable image at {path}")
            frames.append(np.asarray(frame, np.uint8))
        truth = read_flo(folder / name / "flow10.flo")
        pairs.append(Pair(name, frames[0], frames[1], truth))
    return pairs


@contextmanager
def one_core() -> Iterator[None]:
    """Keep OpenCV on one thread within the context."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def errors(
    method: FlowMethod,
    pairs: Sequence[Pair],
    error: Callable[[FlowField, FlowField], float] = end_point_error,
) -> dict[str, float]:
    """``error`` of ``method`` on each pair. A method that works on a grid is compared there."""
    found = {}
    for pair in pairs:
        flow = method(pair.prev, pair.next)
        truth = pair.truth if flow.shape == pair.truth.shape else pair.truth[::GRID, ::GRID]
        found[pair.name] = error(flow, truth)
    return found


def median_ms(
    compared: Mapping[str, FlowMethod],
    frames: Sequence[tuple[Gray, Gray]],
    rounds: int,
    timer: Callable[[], int] = time.thread_time_ns,
) -> dict[str, float]:
    """Median milliseconds per pair for each method, over ``rounds`` of all pairs.

    The methods take turns. By default the thread's CPU time is measured, because other programs on
    the machine affect it least.
    """
    taken: dict[str, list[int]] = {name: [] for name in compared}
    for round_ in range(rounds + 1):
        for prev, following in frames:
            for name, method in compared.items():
                began = timer()
                method(prev, following)
                if round_:  # the first round allocates
                    taken[name].append(timer() - began)
    return {name: statistics.median(times) / 1e6 for name, times in taken.items()}


def harder(pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """The pairs as worse cameras would record them.

    ``noise`` has noise of σ = 5 gray levels in both frames. In ``brighter`` the second frame is 6 %
    brighter. ``far`` has 40 pixels more motion to the right.
    """
    rng = np.random.default_rng(5)
    further = np.array([40, 0], np.float32)
    return {
        "noise": [Pair(p.name, _noisy(rng, p.prev, 5), _noisy(rng, p.next, 5), p.truth)
                  for p in pairs],
        "brighter": [Pair(p.name, p.prev, _clipped(p.next * 1.06), p.truth) for p in pairs],
        "far": [Pair(p.name, np.ascontiguousarray(p.prev[:, 40:]),
                     np.ascontiguousarray(p.next[:, :-40]), p.truth[:, 40:] + further)
                for p in pairs],
    }  # fmt: skip


def still(pairs: Sequence[Pair]) -> list[Pair]:
    """Pairs without motion: each first frame twice at 320x240, with different noise (σ = 4)."""
    rng = np.random.default_rng(4)
    frames = [_resized(pair.prev, SIZES["320x240"]) for pair in pairs]
    nothing = np.zeros((*frames[0].shape, 2), np.float32)
    return [
        Pair(pair.name, _noisy(rng, frame, 4), _noisy(rng, frame, 4), nothing)
        for pair, frame in zip(pairs, frames, strict=True)
    ]


def _noisy(rng: np.random.Generator, image: Gray, sigma: float) -> Gray:
    return _clipped(image + rng.normal(0, sigma, image.shape))


def _clipped(image: npt.NDArray[np.floating[Any]]) -> Gray:
    return np.asarray(np.clip(np.rint(image), 0, 255), np.uint8)


def score(pairs: Sequence[Pair], rounds: int = ROUNDS) -> dict[str, Score]:
    """Measure every method's errors and its times on one core."""
    compared = methods()
    worse = {**harder(pairs), "still": still(pairs)}
    times: dict[str, dict[str, float]] = {}
    with one_core():
        for size, wanted in SIZES.items():
            frames = [(_resized(p.prev, wanted), _resized(p.next, wanted)) for p in pairs]
            times[size] = median_ms(compared, frames, rounds)
        return {
            name: Score(
                errors(method, pairs),
                errors(method, pairs, angular_error),
                {size: times[size][name] for size in SIZES},
                {
                    what: statistics.fmean(errors(method, those).values())
                    for what, those in worse.items()
                },
            )
            for name, method in compared.items()
        }


def measure() -> FlowResult:
    """Score the methods on the pairs under ``$TWO_STREAM_DATA/flow``."""
    root = os.environ.get("TWO_STREAM_DATA")
    if not root:
        raise EvaluationError("set TWO_STREAM_DATA to the folder that holds flow/RubberWhale/ …")
    try:
        pairs = load_pairs(Path(root) / "flow")
    except (OSError, ValueError) as error:
        raise EvaluationError(str(error)) from None
    about = {"opencv": cv2.__version__, "threads": 1, "rounds": ROUNDS}
    return FlowResult(about=about, methods=score(pairs))


def show(result: FlowResult) -> None:
    Console().print(_table(result.methods))
    Console().print(_harder_table(result.methods))


def _resized(image: Gray, size: tuple[int, int] | None) -> Gray:
    if size is None:
        return image
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _table(scores: Mapping[str, Score]) -> Table:
    table = Table(
        title="End-point error, pixels at native size; median CPU ms per pair on one core",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("method", no_wrap=True)
    for heading in (*(pair[:6] for pair in PAIRS), "mean", *SIZES):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, score in scores.items():
        error = score.end_point_error_px
        table.add_row(
            name,
            *(f"{error[pair]:.3f}" for pair in PAIRS),
            f"{statistics.fmean(error.values()):.3f}",
            *(f"{score.median_ms[size]:.2f}" for size in SIZES),
        )
    return table


def _harder_table(scores: Mapping[str, Score]) -> Table:
    table = Table(
        title="Mean end-point error, pixels: noise σ 5, second frame 6 % brighter, 40 px further,\n"
        "and mean flow in a still scene with noise σ 4 at 320x240",
        box=box.SIMPLE_HEAD,
        padding=0,
    )
    table.add_column("method", no_wrap=True)
    conditions = next(iter(scores.values())).harder_px
    for condition in conditions:
        table.add_column(condition, justify="right")
    for name, score in scores.items():
        table.add_row(name, *(f"{score.harder_px[condition]:.3f}" for condition in conditions))
    return table
