"""Clips as the networks see them: decoded, sampled to steps, turned into flow and features, cached.

A clip goes through the live pipeline's own :class:`~pipeline.clock.StepClock` and
:mod:`pipeline.preprocess`; what is cached is the quantised flow and the frozen backbone's grid.
"""

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch

from pipeline import flow
from pipeline.clock import NS_PER_MS, NS_PER_S, StepClock
from pipeline.preprocess import flow_input, grey_for_flow, spatial_input
from pipeline.sources.demo import EPISODE_S, DemoScene
from pipeline.windows import MAX_SPAN_STEPS
from training.config import TrainConfig
from training.networks import SpatialNetwork, load_imagenet

Frame = npt.NDArray[np.uint8]
TimedFrame = tuple[int, Frame]
CACHE_VERSION = 1
BACKBONE_BATCH = 32
EPISODE_SIZE = (320, 240)
EPISODE_SEED = 10_000


class DataError(Exception):
    """Data that can't be used; the message names the file and what is wrong."""


@dataclass(frozen=True)
class Entry:
    """A row of a clip list."""

    path: Path
    label: str
    group: str
    fold: int


class Stroke(NamedTuple):
    """A gesture of ``label`` is drawn from step ``first`` up to but not including ``past``."""

    label: int
    first: int
    past: int


@dataclass(frozen=True)
class Clip:
    """A clip in steps.

    ``fields`` (S, h, w, 2) uint8 quantised flow that ended at each step, ``moving`` (S,) bool,
    false where there is none (the first step); ``grid`` (S, 320, gh, gw) float16 from the frozen
    backbone, ``seen`` (S,) bool, false where the camera gave no frame; ``first`` and ``last`` are
    the grey pictures at either end, from which flow over a hard cut is made.
    ``strokes`` tells when gestures are drawn.
    """

    name: str
    label: int
    group: str
    fold: int
    fields: npt.NDArray[np.uint8]
    moving: npt.NDArray[np.bool_]
    grid: npt.NDArray[np.float16]
    seen: npt.NDArray[np.bool_]
    first: npt.NDArray[np.uint8]
    last: npt.NDArray[np.uint8]
    strokes: tuple[Stroke, ...]

    def __len__(self) -> int:
        return len(self.fields)


def read_list(data: Path, name: str) -> list[Entry]:
    """The rows of a clip list; raises :class:`DataError` where it's missing or lacks a column."""
    path = data / name
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [Entry(data / r["path"], r["label"], r["group"], int(r["fold"])) for r in rows]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: want columns path, label, group, fold: {error}") from None


def video_frames(path: Path) -> Iterator[TimedFrame]:
    """The frames of a video, (media time in ns, (H, W, 3) uint8 BGR); raises DataError."""
    capture = cv2.VideoCapture(str(path))
    if not capture.isOpened():
        raise DataError(f"{path}: can't be opened as a video")
    try:
        while True:
            more, frame = capture.read()
            if not more:
                return
            yield round(capture.get(cv2.CAP_PROP_POS_MSEC) * NS_PER_MS), np.asarray(frame, np.uint8)
    finally:
        capture.release()


@dataclass(frozen=True)
class Stepped:
    """A clip's steps before the backbone has seen them; fields as in :class:`Clip`."""

    pictures: npt.NDArray[np.uint8]
    seen: npt.NDArray[np.bool_]
    fields: npt.NDArray[np.uint8]
    moving: npt.NDArray[np.bool_]
    first: npt.NDArray[np.uint8]
    last: npt.NDArray[np.uint8]
    times_s: npt.NDArray[np.float64]


def step_clip(frames: Iterable[TimedFrame], config: TrainConfig) -> Stepped:
    """Sample frames to steps, with flow between them, as the live pipeline does.

    A step without a frame repeats the picture before it, not ``seen``; the field over it stands
    for each step that it spans. Raises :class:`DataError` when there's no frame.
    """
    clock, method = StepClock(config.step_hz), flow.create(config.temporal.method)
    pictures: list[Frame] = []
    fields: list[npt.NDArray[np.uint8]] = []
    moving: list[bool] = []
    seen: list[bool] = []
    times: list[float] = []
    greys: list[npt.NDArray[np.uint8]] = []
    still = np.full((*config.temporal.size, 2), 128, np.uint8)
    for time_ns, frame in frames:
        if (step := clock.step(time_ns)) is None:
            continue
        grey = grey_for_flow(frame, config)
        field = still
        if greys:
            field = flow_input(greys[-1], grey, step.elapsed_steps, method, config)
        spanned = len(greys) > 0 and step.skipped < MAX_SPAN_STEPS
        moving += [spanned] * (step.skipped + 1)
        pictures += [*pictures[-1:] * step.skipped, spatial_input(frame, config)]
        fields += [field] * (step.skipped + 1)
        seen += [*[False] * step.skipped, True]
        times += [time_ns / 1e9] * (step.skipped + 1)
        greys = [*greys[:1], grey]
    if not greys:
        raise DataError("the clip has no frame")
    return Stepped(
        np.stack(pictures), np.array(seen), np.stack(fields), np.array(moving),
        greys[0], greys[-1], np.array(times),
    )  # fmt: skip


class Backbone:
    """The frozen appearance network, one thread of inference at a time."""

    def __init__(self, config: TrainConfig) -> None:
        self._network = SpatialNetwork(config.spatial, config.feature_size).eval()
        load_imagenet(self._network.backbone)

    @torch.inference_mode()
    def __call__(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        """(S, h, w, 3) uint8 BGR -> (S, 320, gh, gw) float16."""
        grids = torch.cat([
            self._network.features(torch.from_numpy(pictures[first : first + BACKBONE_BATCH]))
            for first in range(0, len(pictures), BACKBONE_BATCH)
        ])  # fmt: skip
        return np.asarray(grids.numpy(), np.float16)


def make_clip(
    entry: Entry, label: int, stepped: Stepped, backbone: Backbone, strokes: tuple[Stroke, ...]
) -> Clip:
    """A clip from its steps."""
    return Clip(
        entry.path.stem, label, entry.group, entry.fold, stepped.fields, stepped.moving,
        backbone(stepped.pictures), stepped.seen, stepped.first, stepped.last, strokes,
    )  # fmt: skip


def cache_key(config: TrainConfig, what: str) -> str:
    """File name under which ``what`` is cached: changes with everything that shapes the arrays."""
    parts = (CACHE_VERSION, config.step_hz, config.spatial.model_dump_json(),
             config.temporal.model_dump_json(exclude={"backbone", "stack"}), what)  # fmt: skip
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24] + ".npz"


def cached(folder: Path, key: str, make: Callable[[], Clip]) -> Clip:
    """The clip under ``key`` in ``folder``, made and stored when it isn't there."""
    path = folder / key
    if path.is_file():
        with np.load(path) as arrays:
            strokes = tuple(Stroke(*row) for row in arrays["strokes"].tolist())
            return Clip(
                name=str(arrays["name"]), label=int(arrays["label"]), group=str(arrays["group"]),
                fold=int(arrays["fold"]), fields=arrays["fields"], moving=arrays["moving"],
                grid=arrays["grid"], seen=arrays["seen"], first=arrays["first"],
                last=arrays["last"], strokes=strokes,
            )  # fmt: skip
    clip = make()
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".partial.npz")
    rows = np.array(clip.strokes, np.int64).reshape(-1, 3)
    np.savez(unfinished, **{**vars(clip), "strokes": rows})
    unfinished.replace(path)
    return clip


def load_clips(
    config: TrainConfig,
    data: Path,
    cache: Path,
    list_name: str,
    advance: Callable[[], None] = lambda: None,
) -> list[Clip]:
    """The clips of a list, from the cache where they are in it.

    Labels the configuration doesn't know become its first background label, group and fold are
    kept. ``advance`` is called after each clip. Raises :class:`DataError`.
    """
    backbone: list[Backbone] = []

    def make(entry: Entry, label: int) -> Clip:
        if not backbone:
            backbone.append(Backbone(config))
        try:
            stepped = step_clip(video_frames(entry.path), config)
        except DataError as error:
            raise DataError(f"{entry.path}: {error}") from None
        means_nothing = config.labels[label] in config.background
        strokes = () if means_nothing else (Stroke(label, 0, len(stepped.fields)),)
        return make_clip(entry, label, stepped, backbone[0], strokes)

    clips = []
    for entry in read_list(data, list_name):
        known = entry.label in config.labels
        label = config.labels.index(entry.label if known else config.background[0])
        what = f"{entry.path.relative_to(data)} {entry.path.stat().st_size}"
        clip = cached(cache, cache_key(config, what), partial(make, entry, label))
        clips.append(replace(clip, label=label, group=entry.group, fold=entry.fold))
        advance()
    return clips


def load_episodes(
    config: TrainConfig, cache: Path, count: int, advance: Callable[[], None] = lambda: None
) -> list[Clip]:
    """``count`` episodes of the built-in demo camera, of seeds that the demo itself doesn't use.

    A rendered hand performs one gesture after the other, with pauses and idle behaviour between:
    what training on clips alone doesn't show. They carry fold -1: they're never validated on.
    """
    backbone: list[Backbone] = []

    def make(seed: int) -> Clip:
        if not backbone:
            backbone.append(Backbone(config))
        scene = DemoScene(seed, *EPISODE_SIZE)
        rng = np.random.default_rng(seed)
        # Cameras run at many rates and never quite on time; so do the frames that stand for steps.
        times = np.cumsum(rng.uniform(0.8, 1.2, round(EPISODE_S * config.step_hz))) / config.step_hz
        times = times[times < EPISODE_S]
        stepped = step_clip(((round(t * NS_PER_S), scene.render(float(t))) for t in times), config)
        strokes = tuple(
            Stroke(config.labels.index(gesture.label), *np.searchsorted(
                stepped.times_s, (gesture.start_s, gesture.end_s)).tolist())
            for gesture in scene.script(EPISODE_S) if gesture.label in config.labels
        )  # fmt: skip
        entry = Entry(Path(f"demo-{seed}"), config.background[0], f"demo-{seed}", -1)
        return make_clip(entry, 0, stepped, backbone[0], strokes)

    clips = []
    for seed in range(EPISODE_SEED, EPISODE_SEED + count):
        key = cache_key(config, f"demo {seed} {EPISODE_SIZE}")
        clips.append(cached(cache, key, partial(make, seed)))
        advance()
    return clips
