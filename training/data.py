"""Clips as the networks get them: decoded, sampled to steps, turned into flow and features, cached.

A clip goes through the live pipeline's own :mod:`pipeline.steps.follow`. The cache holds its
quantised flow and the frozen backbone's grids, of the pictures themselves and of their photometric
variants (:mod:`training.photometric`). Next: :mod:`training.crossvalidation`.
"""

import functools
import importlib
import math
import pkgutil
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pipeline import arrays, flow
from pipeline.arrays import STILL, Gray, QuantisedFlow
from pipeline.clock import NS_PER_S, SYSTEM_CLOCK
from pipeline.errors import SourceError
from pipeline.model.labels import RULE, alike, problem_of
from pipeline.model.watch import WHOLE_PICTURE
from pipeline.sources import SourceOptions, demo, media_time, pixels, stream, video_file
from pipeline.sources.demo import EPISODE_S, DemoScene
from pipeline.sources.video_file import VideoFile
from pipeline.steps import flow_fields, follow, preprocess, sampling
from pipeline.steps.follow import CameraFollower, TimedFrame
from pipeline.steps.sampling import Steps
from training import frozen, lite0, photometric
from training.clip_cache import (
    CACHE_VERSION,
    ArrayFiles,
    Arrays,
    FileContents,
    code_digest,
    digest_of,
    library_versions,
)
from training.clip_list_formats import (
    NEVER_HELD_OUT,
    DataError,
    Entry,
    named,
)
from training.clip_lists import as_clip_list, read_list
from training.config import ClipList, Others, TrainConfig
from training.frozen import Frozen
from training.lite0 import imagenet_file, load_imagenet
from training.photometric import photometric_variants
from training.spatial import SpatialNetwork

Frame = npt.NDArray[np.uint8]
ClipFrame = tuple[int, Frame]
MOTION = ("fields", "moving", "seen", "first", "last", "strokes")
APPEARANCE = ("grid", "looks")
LIBRARIES = ("av", "numpy", "onnxruntime", "onnxruntime-gpu", "torch")
# A layer's output should stay in the processor's cache until the next layer reads it: batches of 32
# take twice as long for each picture.
BACKBONE_BATCH = 4
EPISODE_SIZE = (320, 240)
EPISODE_SEED = 10_000


class Stroke(NamedTuple):
    """A gesture of ``label`` is drawn from step ``first`` up to but not including ``past``."""

    label: int
    first: int
    past: int


@dataclass(frozen=True)
class Clip:
    """A clip in steps.

    * ``fields`` (S, h, w, 2) uint8: the quantised flow that ends at each step
    * ``moving`` (S,) bool: false where a step has no flow (the first step)
    * ``grid`` (S, c, gh, gw) float16: the frozen backbone's output
    * ``looks`` (K, S, c, gh, gw) float16: the same for K photometric variants of the pictures
    * ``seen`` (S,) bool: false where the camera delivered no frame
    * ``first``, ``last``: the gray pictures at either end, for the flow over a hard cut
    * ``strokes``: when gestures are drawn
    * ``content``: changes with the bytes of its file and with its segment

    With a view of regions, it is one subject of a clip (:mod:`training.subjects`):

    * ``subject``: its name; :data:`NOBODY` stands for a clip in which nobody was found
    * ``start``: the clip's step at which the subject's first lies; ``steps``: those of the clip
    * ``rank``: 0 for the subject that moves most, then 1, …
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
    looks: npt.NDArray[np.float16]
    content: str = ""
    subject: str = WHOLE_PICTURE
    start: int = 0
    steps: int = 0
    rank: int = 0

    def __len__(self) -> int:
        return len(self.fields)


NOBODY = ""
"""The subject of a clip in which nobody was found."""


class Unreadable(NamedTuple):
    """A clip that was skipped, and why; its path is relative to the data folder."""

    path: Path
    reason: str


class LoadedClips(NamedTuple):
    """The clips of a list, and its files that couldn't be read."""

    clips: list[Clip]
    unreadable: list[Unreadable]


def video_frames(
    path: Path, start_s: float = 0.0, end_s: float | None = None
) -> Iterator[ClipFrame]:
    """The frames of a video from ``start_s`` up to ``end_s``; by default all of them.

    Yields (media time in ns since ``start_s``, frame), timed and decoded as in the live pipeline.
    Raises DataError.
    """
    source = VideoFile(
        path, camera=path.name, clock=SYSTEM_CLOCK, options=SourceOptions(realtime=False)
    )
    start_ns = round(start_s * NS_PER_S)
    with closing(source):
        try:
            source.open(start_ns)
        except SourceError as error:
            raise DataError(f"{path}: {error.reason}") from None
        while (grab := source.grab()) is not None:
            assert grab.pts_ns is not None
            if end_s is not None and grab.pts_ns >= end_s * NS_PER_S:
                return
            yield grab.pts_ns - start_ns, source.retrieve()


@dataclass(frozen=True)
class Stepped:
    """A clip's steps before the backbone runs; fields as in :class:`Clip`.

    ``pictures`` (S, h, w, 3) uint8 BGR, ``times_s`` (S,) float64.
    """

    pictures: npt.NDArray[np.uint8]
    seen: npt.NDArray[np.bool_]
    fields: npt.NDArray[np.uint8]
    moving: npt.NDArray[np.bool_]
    first: npt.NDArray[np.uint8]
    last: npt.NDArray[np.uint8]
    times_s: npt.NDArray[np.float64]


def step_clip(frames: Iterable[ClipFrame], config: TrainConfig) -> Stepped:
    """Sample frames to steps, with flow between them, as the live pipeline does.

    A step without a frame repeats the picture before it and isn't ``seen``. A field that spans
    several steps is repeated for each of them. Raises :class:`DataError` for a clip without frames.
    """
    # An infinite gap keeps a clip in one segment, however long its pauses are.
    steps = Steps("clip", config.step_hz, gap_s=math.inf)
    follower = CameraFollower(steps, config, flow.create(config.temporal.method))
    pictures: list[Frame] = []
    fields: list[QuantisedFlow] = []
    moving: list[bool] = []
    seen: list[bool] = []
    times: list[float] = []
    grays: list[Gray] = []
    still = np.full((*config.temporal.size, 2), STILL, np.uint8)
    timed = (TimedFrame(time_ns, partial(_same, frame)) for time_ns, frame in frames)
    for step in follower.follow(timed):
        skipped = step.moment.skipped
        pictures += [*pictures[-1:] * skipped, step.picture]
        fields += [still if step.field is None else step.field] * (skipped + 1)
        moving += [step.field is not None] * (skipped + 1)
        seen += [*[False] * skipped, True]
        times += [step.moment.captured_ns / NS_PER_S] * (skipped + 1)
        grays = [*grays[:1], step.gray]
    if not grays:
        raise DataError("the clip has no frame")
    return Stepped(
        np.stack(pictures), np.array(seen), np.stack(fields), np.array(moving),
        grays[0], grays[-1], np.array(times),
    )  # fmt: skip


def _same(frame: Frame) -> Frame:
    return frame


class _Headless(nn.Module):
    def __init__(self, network: SpatialNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, frames: Tensor) -> Tensor:
        return self.network.features(frames)


class Backbone:
    """The frozen part of the appearance network, run on one CPU thread."""

    def __init__(self, config: TrainConfig) -> None:
        network = SpatialNetwork(config.spatial, config.feature_size)
        load_imagenet(network.backbone)
        example = torch.zeros(BACKBONE_BATCH, *config.spatial.size, 3, dtype=torch.uint8)
        self._grids = Frozen(_Headless(network), example)

    def __call__(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        """(S, h, w, 3) uint8 BGR -> (S, c, gh, gw) float16."""
        grids = torch.cat([
            self._grids(torch.from_numpy(pictures[first : first + BACKBONE_BATCH]))
            for first in range(0, len(pictures), BACKBONE_BATCH)
        ])  # fmt: skip
        return np.asarray(grids.numpy(), np.float16)


def motion_of(stepped: Stepped, strokes: Sequence[Stroke] = ()) -> Arrays:
    """The arrays of a clip for the motion stream, named as in :class:`Clip`."""
    return {
        "fields": stepped.fields, "moving": stepped.moving, "seen": stepped.seen,
        "first": stepped.first, "last": stepped.last,
        "strokes": np.array(strokes, np.int64).reshape(-1, 3),
    }  # fmt: skip


def appearance_of(
    pictures: npt.NDArray[np.uint8], backbone: Backbone, looks: int, seed: int
) -> Arrays:
    """The arrays of a clip for the appearance stream, named as in :class:`Clip`.

    ``looks`` is the number of photometric variants.
    """
    grid = backbone(pictures)
    variants = photometric_variants(pictures, looks, seed)
    others = [backbone(variant) for variant in variants]
    return {
        "grid": grid,
        "looks": np.stack(others) if others else np.empty((0, *grid.shape), np.float16),
    }


class ClipCache:
    """Clips, from the files of computed arrays if they have them.

    The two streams' arrays of a clip are separate files: another flow method then needs no new
    run of the backbone, which takes longest.
    """

    def __init__(self, folder: Path, config: TrainConfig) -> None:
        self._files, self._config = ArrayFiles(folder), config
        self._backbone: Backbone | None = None

    def clip(
        self, entry: Entry, content: str, looks: int, step: Callable[[], Stepped],
        strokes: Callable[[Stepped], Sequence[Stroke]] = lambda _: (),
    ) -> Clip:  # fmt: skip
        """The clip of ``entry``, with label 0; ``content`` identifies its pictures.

        ``step`` is called if a file is missing, and its exceptions are passed on.
        """
        config, once = self._config, functools.cache(step)
        # Two names of the same pictures have different variants.
        seed = zlib.crc32(entry.name.encode("utf-8", "surrogateescape"))
        motion = self._files.get(
            digest_of(*made_by(), content, config.step_hz, motion_settings(config)),
            MOTION, lambda: motion_of(once(), strokes(once())),
        )  # fmt: skip
        appearance = self._files.get(
            digest_of(
                *made_by(), weights_hash(), content, config.step_hz,
                config.spatial.model_dump_json(), looks, seed,
            ),
            APPEARANCE, lambda: appearance_of(once().pictures, self.network(), looks, seed),
        )  # fmt: skip
        drawn = tuple(Stroke(*row) for row in motion.pop("strokes").tolist())
        return Clip(
            entry.name, 0, entry.group, entry.fold, strokes=drawn, content=content,
            **cast(dict[str, Any], {**motion, **appearance}),
        )  # fmt: skip

    def network(self) -> Backbone:
        """The frozen backbone, made when it is first needed."""
        if self._backbone is None:
            self._backbone = Backbone(self._config)
        return self._backbone


def motion_settings(config: TrainConfig) -> str:
    """The settings that a clip's flow depends on."""
    return config.temporal.model_dump_json(exclude={"backbone", "stack"})


@functools.cache
def made_by() -> tuple[object, ...]:
    """What computes the arrays of clips: the code and the libraries.

    The code of ``deep`` states the hash of its network.
    """
    methods = [
        importlib.import_module(x.name)
        for x in pkgutil.iter_modules(flow.__path__, f"{flow.__name__}.")
    ]
    code = code_digest(
        arrays, flow, *methods, demo, follow, sampling, flow_fields, preprocess, media_time, pixels,
        stream, video_file, photometric, lite0, frozen, SpatialNetwork, video_frames, step_clip,
        Backbone, motion_of, appearance_of, _stepped_episode, _drawn,
    )  # fmt: skip
    return CACHE_VERSION, code, library_versions(*LIBRARIES)


@functools.cache
def weights_hash() -> str:
    """The hash of the backbone's ImageNet weights."""
    return FileContents().of(imagenet_file())


def labelled_entries(
    config: TrainConfig, data: Path, source: str | ClipList, others: Others = "refuse"
) -> list[tuple[Entry, int]]:
    """The clips of a list that are used, and the number of each one's label.

    ``others`` applies to labels that the configuration doesn't have, unless ``source`` overrides
    it: refuse them, skip them, or use them as its first background label. Raises DataError.
    """
    wanted = as_clip_list(source)
    policy = wanted.others or others
    entries = read_list(data, source)
    unknown = Counter(entry.label for entry in entries if entry.label not in config.labels)
    where = {entry.label: entry.where for entry in reversed(entries)}
    _check_look(config, {label: where[label] for label in unknown})
    if unknown and policy == "refuse":
        counts = named(f"{label} ({count})" for label, count in sorted(unknown.items()))
        raise DataError(
            f"{data / wanted.path}: clips with labels that the configuration doesn't have: "
            f"{counts}; it has {', '.join(config.labels)}. `others: skip` skips them"
            + _unusable({label: where[label] for label in unknown})
        )
    numbers = {label: number for number, label in enumerate(config.labels)}
    if policy == "background":
        numbers |= dict.fromkeys(unknown, numbers[config.background[0]])
    return [(entry, numbers[entry.label]) for entry in entries if entry.label in numbers]


def _check_look(config: TrainConfig, unknown: Mapping[str, str]) -> None:
    """Raises DataError for a label that is written like none of the recipe's, but looks like one.

    ``unknown``: label -> where it was first given.
    """
    known = {alike(label): label for label in config.labels}
    for label, where in unknown.items():
        if (meant := known.get(alike(label))) is not None:
            raise DataError(f"{where}: label {label!r} must be written {meant!r}, as in the recipe")


def _unusable(unknown: Mapping[str, str]) -> str:
    """What a list's labels would have to be, if one of them can't be any recipe's."""
    for label, where in unknown.items():
        if problem := problem_of(label):
            return f". {where}: label {label!r} {problem}; {RULE}"
    return ""


def content_of(entry: Entry, contents: FileContents) -> str:
    """Identifies the pictures of a clip: the bytes of its file, and its segment."""
    whole = contents.of(entry.path)
    return whole if entry.is_whole else f"{whole} {entry.start_s!r} {entry.end_s!r}"


def _as_listed(clip: Clip, entry: Entry, label: int, config: TrainConfig) -> Clip:
    # Label, group and fold aren't cached: another list may give the same clip others.
    means_nothing = config.labels[label] in config.background
    strokes = () if means_nothing else (Stroke(label, 0, len(clip)),)
    return replace(clip, label=label, group=entry.group, fold=entry.fold, strokes=strokes)


Computed = Callable[[Entry, FileContents], list[Clip]]
"""Makes what is trained on of a clip of a list: one :class:`Clip`, or one for each subject. Raises
DataError."""


def whole_frames(config: TrainConfig, cache: Path) -> Computed:
    """A clip's whole frames, from the cache if it has them."""
    clips = ClipCache(cache, config)

    def computed(entry: Entry, contents: FileContents) -> list[Clip]:
        step = partial(_stepped_file, entry, config, contents)
        return [clips.clip(entry, content_of(entry, contents), config.looks, step)]

    return computed


def load_clips(
    config: TrainConfig,
    data: Path,
    cache: Path,
    source: str | ClipList,
    advance: Callable[[], None] = lambda: None,
    others: Others = "refuse",
    computed: Computed | None = None,
) -> LoadedClips:
    """The clips of a list, from the cache if it has them; ``others`` as in labelled_entries.

    ``advance`` is called after each clip. Files that can't be read are skipped and returned by
    name. ``computed`` has or makes the arrays of a clip, by default of the whole frame. Raises
    :class:`DataError` for a list that can't be used.
    """
    computed = computed or whole_frames(config, cache)
    loaded, contents = LoadedClips([], []), FileContents()
    for entry, label in labelled_entries(config, data, source, others):
        try:
            found = computed(entry, contents)
        except DataError as error:
            # A part beyond the end of its file has no frame, and that is no fault.
            if not entry.filler:
                reason = str(error).removeprefix(f"{entry.path}: ")
                loaded.unreadable.append(Unreadable(_inside(entry.path, data), reason))
        else:
            loaded.clips.extend(_as_listed(clip, entry, label, config) for clip in found)
        advance()
    return loaded


def _stepped_file(entry: Entry, config: TrainConfig, contents: FileContents) -> Stepped:
    stepped = step_clip(video_frames(entry.path, entry.start_s, entry.end_s), config)
    contents.check_unchanged(entry.path)
    return stepped


def _inside(path: Path, data: Path) -> Path:
    """A path as it may appear in a pack: without the folders of this machine."""
    return path.relative_to(data) if path.is_relative_to(data) else Path(path.name)


def check_labels(config: TrainConfig, labels: Iterable[int], where: str) -> None:
    """Raises DataError naming the labels without a clip, apart from background labels."""
    found = {config.labels[label] for label in labels}
    if missing := [x for x in config.labels if x not in found and x not in config.background]:
        raise DataError(f"{where}: no clip of {named(missing)}")


def check_readable(config: TrainConfig, loaded: Sequence[LoadedClips]) -> None:
    """Raises DataError if more than half of all clips, or all of a label, can't be read."""
    bad = [clip for part in loaded for clip in part.unreadable]
    reasons = named(f"{clip.path}: {clip.reason}" for clip in bad)
    total = len(bad) + sum(len(part.clips) for part in loaded)
    if 2 * len(bad) > total:
        raise DataError(f"{len(bad)} of {total} clips can't be read: {reasons}")
    try:
        check_labels(config, (clip.label for clip in loaded[0].clips), "among the readable clips")
    except DataError as error:
        raise DataError(f"{error}; {len(bad)} clips can't be read: {reasons}") from None


def load_episodes(
    config: TrainConfig, cache: Path, count: int, advance: Callable[[], None] = lambda: None
) -> list[Clip]:
    """``count`` episodes of the built-in demo camera, with seeds that the demo itself doesn't use.

    In an episode a rendered hand performs one gesture after the other, with pauses and idle
    behaviour in between, which clips don't show. Episodes have fold -1: no fold holds them out.
    """
    cached, clips = ClipCache(cache, config), []
    for seed in range(EPISODE_SEED, EPISODE_SEED + count):
        name = f"demo-{seed}"
        entry = Entry(Path(name), config.background[0], name, NEVER_HELD_OUT)
        what = f"demo {seed} {EPISODE_SIZE} {config.labels}"
        scene = DemoScene(seed, *EPISODE_SIZE)
        clips.append(
            cached.clip(
                entry, what, 0, partial(_stepped_episode, scene, seed, config),
                partial(_drawn, scene, config),
            )
        )  # fmt: skip
        advance()
    return clips


def _stepped_episode(scene: DemoScene, seed: int, config: TrainConfig) -> Stepped:
    rng = np.random.default_rng(seed)
    # Frame times vary by up to 20 %, as cameras' do.
    times = np.cumsum(rng.uniform(0.8, 1.2, round(EPISODE_S * config.step_hz))) / config.step_hz
    times = times[times < EPISODE_S]
    return step_clip(((round(t * NS_PER_S), scene.render(float(t))) for t in times), config)


def _drawn(scene: DemoScene, config: TrainConfig, stepped: Stepped) -> list[Stroke]:
    return [
        Stroke(config.labels.index(gesture.label), *np.searchsorted(
            stepped.times_s, (gesture.start_s, gesture.end_s)).tolist())
        for gesture in scene.script(EPISODE_S) if gesture.label in config.labels
    ]  # fmt: skip
