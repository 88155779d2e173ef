"""Frozen features of a clip's regions, to compare views and ways to make the flow of a region.

A region's motion can be cut out of the field of the whole picture, or be computed on the cuts of
two pictures; the camera's own motion can be taken off. Every way gives pictures of speed, for the
ImageNet network that linear recipes use (:class:`training.temporal.PooledMotion`). Next:
:mod:`training.view_figures`, which classifies the features.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import thread_time
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from pipeline import flow
from pipeline.arrays import FlowField, Frame, Gray, QuantisedFlow, picture_size
from pipeline.flow.base import quantise
from pipeline.model.pack import TemporalContract
from pipeline.people.camera_motion import CameraMotion, camera_motion, less_camera
from pipeline.people.cutting import cut, field_in, flow_of_cuts
from pipeline.people.detector import PersonDetector
from pipeline.people.regions import VIEWS, Finder, Seen, create
from pipeline.people.tracks import Track, Tracker
from pipeline.sources.base import Grab
from pipeline.steps.preprocess import gray_for_flow, spatial_input
from pipeline.steps.sampling import Steps
from pipeline.transport.messages import Box
from training.clip_cache import Arrays
from training.config import TrainConfig
from training.data import ClipFrame
from training.frozen import Frozen
from training.lite0 import load_imagenet
from training.spatial import SpatialNetwork
from training.temporal import HALF_FAST, POOLED_STACK, PooledMotion, Speed

WIDEST = 640
"""Columns of the pictures of which cuts are made: a picture that is wider is made smaller."""
DETECT_EVERY = 2
"""The detector looks at every n-th step."""
LOOK_EVERY = 2
"""The networks look at every n-th step: neighbours are much alike."""
AT_ONCE = 4
PEOPLE = 2
"""The persons that move most of whom features are kept."""
# The ways: cut out of the whole picture's field, and computed on the cuts.
LESS = {"whole": ("median", "camera", "camera+median"), "cuts": ("median", "camera")}
"""What is subtracted from a region's flow: its median, as the network of today's packs does, and
the camera's motion as the whole picture's field shows it."""


@dataclass
class Subject:
    """The inputs of one subject of a clip: by way for motion, oldest step first."""

    fields: dict[str, list[QuantisedFlow | None]] = field(default_factory=dict)
    pictures: list[Frame] = field(default_factory=list)
    motion: float = 0.0
    """Mean speed inside the region at its own scale, summed over steps."""


@dataclass
class Costs:
    """CPU seconds and calls of each part."""

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    calls: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def of(self, part: str, calls: int = 1) -> Iterator[None]:
        """Around ``calls`` calls of a part."""
        begun = thread_time()
        yield
        self.seconds[part] += thread_time() - begun
        self.calls[part] += calls


class Networks:
    """The frozen networks of a linear recipe, run by onnxruntime on one thread."""

    def __init__(self, config: TrainConfig) -> None:
        spatial = SpatialNetwork(config.spatial, config.feature_size, config.spatial_head).eval()
        load_imagenet(spatial.backbone, spatial.head)  # type: ignore[arg-type]
        height, width = config.spatial.size
        self._appearance = Frozen(spatial, torch.zeros(AT_ONCE, height, width, 3).byte())
        motion = PooledMotion(2 * POOLED_STACK, config.temporal.size, config.feature_size).eval()
        height, width = config.temporal.size
        with_median = _Motion(motion, Speed(config.temporal.size))
        without = _Motion(motion, _PlainSpeed(config.temporal.size))
        example = torch.zeros(AT_ONCE, POOLED_STACK, height, width, 2).byte()
        self._motion = {True: Frozen(with_median, example), False: Frozen(without, example)}

    def appearance(self, pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """(n, h, w, 3) uint8 BGR -> (n, d)."""
        return _in_parts(self._appearance, pictures)

    def motion(self, stacks: npt.NDArray[np.uint8], median: bool) -> npt.NDArray[np.float32]:
        """(n, L, h, w, 2) uint8 -> (n, d); ``median``: whether the median is subtracted."""
        return _in_parts(self._motion[median], stacks)


def _in_parts(network: Frozen, rows: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    parts = [network(torch.from_numpy(rows[k : k + AT_ONCE])) for k in range(0, len(rows), AT_ONCE)]
    return np.asarray(torch.cat(parts).numpy(), np.float32)


class _PlainSpeed(Speed):
    """:class:`Speed` of the fields as they are."""

    def forward(self, planes: Tensor) -> Tensor:
        speed = planes.reshape(-1, 2, *self.size).square().sum(1).sqrt()
        speed = speed.reshape(-1, planes.shape[1] // 2, *self.size)
        return nn.functional.interpolate(
            speed / (speed + HALF_FAST), scale_factor=2.0, mode="bilinear", align_corners=False
        )


class _Motion(nn.Module):
    def __init__(self, network: PooledMotion, speed: Speed) -> None:
        super().__init__()
        self.network, self.speed = network, speed

    def forward(self, stacks: Tensor) -> Tensor:
        planes = stacks.permute(0, 1, 4, 2, 3).reshape(-1, 2 * POOLED_STACK, *self.speed.size)
        y: Tensor = self.network(self.speed((planes.float() - 128.0) / 32.0))
        return y


@dataclass
class _Taken:
    """A step's pictures."""

    time_ns: int
    elapsed: float
    skipped: int
    frame: Frame
    small: Gray
    wide: Gray
    """At most :data:`WIDEST` columns, for cuts."""


class _Cuts(NamedTuple):
    """What :func:`gray_for_flow` needs to know."""

    temporal: TemporalContract


def taken(frames: Iterable[ClipFrame], config: TrainConfig) -> Iterator[_Taken]:
    """The steps of a clip, sampled as the live pipeline does."""
    steps = Steps("clip", config.step_hz, gap_s=math.inf)
    for time_ns, frame in frames:
        due = steps.due(Grab(time_ns, time_ns, False), time_ns)
        if due is None:
            continue
        moment = steps.moment(due)
        height, width = picture_size(frame.shape)
        scale = min(1.0, WIDEST / width)
        size = round(height * scale), round(width * scale)
        wide = gray_for_flow(frame, _Cuts(config.temporal.model_copy(update={"flow_size": size})))
        small = gray_for_flow(frame, config)
        yield _Taken(time_ns, moment.elapsed_steps, moment.skipped, frame, small, wide)


class ClipSubjects:
    """Follows one clip and collects the inputs of each subject of each view."""

    def __init__(
        self, config: TrainConfig, detector: PersonDetector, costs: Costs, views: Iterable[str]
    ) -> None:
        self._config, self._detector, self._costs = config, detector, costs
        self._method = flow.create(config.temporal.method)
        self._views = tuple(views)
        self.subjects: dict[str, dict[str, Subject]] = {view: {} for view in self._views}
        self._finders: dict[str, Finder] = {}
        self._tracker = Tracker()
        self._before: _Taken | None = None
        self._steps = 0

    def add(self, step: _Taken) -> None:
        """The clip's next step."""
        if not self._finders:
            height, width = picture_size(step.frame.shape)
            aspect = width / height
            shape = self._config.spatial.size[1] / self._config.spatial.size[0]
            self._tracker.forget(aspect)
            self._finders = {view: create(view, aspect, shape) for view in self._views}
        tracks = self._tracks(step)
        whole, camera = None, None
        if self._before is not None:
            with self._costs.of("flow of the whole"):
                whole = self._method(self._before.small, step.small) / np.float32(step.elapsed)
            with self._costs.of("camera's motion"):
                camera = camera_motion(whole)
        for view, finder in self._finders.items():
            seen = Seen(step.time_ns, whole, tracks, camera)
            with self._costs.of(f"regions, {view}"):
                regions = finder.find(seen)
            for name, region in regions.items():
                subject = self.subjects[view].setdefault(name, Subject())
                with self._costs.of(f"picture, {view}"):
                    picture = spatial_input(cut(step.frame, region), self._config)
                subject.pictures.append(picture)
                self._motion(subject, step, whole, camera, region, view != "frame")
        self._before = step
        self._steps += 1

    def _tracks(self, step: _Taken) -> list[Track]:
        if not any(VIEWS[view].needs_people for view in self._views):
            return []
        if self._steps % DETECT_EVERY:
            return self._tracker.predict(step.time_ns)
        with self._costs.of("detector"):
            found = self._detector(step.frame)
        return self._tracker.update(found, step.time_ns)

    def _motion(
        self, subject: Subject, step: _Taken, whole: FlowField | None,
        camera: CameraMotion | None, region: Box, with_cuts: bool,
    ) -> None:  # fmt: skip
        if whole is None or camera is None or self._before is None:
            return
        temporal = self._config.temporal
        fields = {}
        where = "region" if with_cuts else "frame"
        with self._costs.of(f"field of the {where}, cut"):
            fields["whole"] = field_in(whole, region)
        subject.motion += float(np.hypot(*np.moveaxis(
            less_camera(fields["whole"], camera, region)[::8, ::8], -1, 0)).mean())  # fmt: skip
        if with_cuts:
            with self._costs.of("flow of cuts"):
                fields["cuts"] = flow_of_cuts(
                    self._before.wide, step.wide, region, temporal.flow_size, self._method
                ) / np.float32(step.elapsed)
        for way, known in fields.items():
            own = less_camera(known, camera, region)
            for less, motion in (("", known), ("camera", own)):
                with self._costs.of("quantised"):
                    small = cv2.resize(motion, temporal.size[::-1], interpolation=cv2.INTER_AREA)
                    stored = quantise(np.asarray(small, np.float32), temporal.bound)
                kept = subject.fields.setdefault(f"{way} {less}".strip(), [])
                kept += [stored] * (1 + step.skipped)


def clip_view_features(
    frames: Iterable[ClipFrame], config: TrainConfig, networks: Networks, detector: PersonDetector,
    views: Iterable[str],
) -> tuple[Arrays, Costs]:  # fmt: skip
    """Statistics of each view's subjects, those that move most first: ``view|appearance`` and
    ``view|way|less`` (K, 2 d), the mean and standard deviation of features over the clip."""
    costs = Costs()
    following = ClipSubjects(config, detector, costs, views)
    for step in taken(frames, config):
        following.add(step)
    arrays: Arrays = {}
    for view, subjects in following.subjects.items():
        ranked = sorted(subjects.values(), key=lambda x: -x.motion)
        ranked = [x for x in ranked if _stacks(next(iter(x.fields.values()), [])) is not None]
        rows: dict[str, list[npt.NDArray[np.float32]]] = {}
        for subject in ranked[:PEOPLE]:
            for name, row in _subject_features(subject, networks, costs):
                rows.setdefault(name, []).append(row)
        arrays |= {f"{view}|{name}": np.stack(found) for name, found in rows.items()}
    return arrays, costs


def _subject_features(
    subject: Subject, networks: Networks, costs: Costs
) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    pictures = np.stack(subject.pictures[::LOOK_EVERY])
    with costs.of("appearance network", len(pictures)):
        features = networks.appearance(pictures)
    yield "appearance", statistics(features)
    for way, fields in subject.fields.items():
        stacks = _stacks(fields)
        assert stacks is not None
        flow_way, _, off = way.partition(" ")
        for median in (True, False):
            less = "+".join([*([off] if off else []), *(["median"] if median else [])])
            if less not in LESS[flow_way]:
                continue
            with costs.of("motion network", len(stacks)):
                features = networks.motion(stacks, median)
            yield f"{flow_way}|{less}", statistics(features)


def _stacks(fields: list[QuantisedFlow | None]) -> npt.NDArray[np.uint8] | None:
    """(n, L, h, w, 2): every :data:`LOOK_EVERY`-th stack; None for too few fields."""
    count = len(fields) - POOLED_STACK + 1
    if count < 1:
        return None
    return np.stack([
        np.stack(fields[first : first + POOLED_STACK])  # type: ignore[arg-type]
        for first in range(0, count, LOOK_EVERY)
    ])  # fmt: skip


def statistics(features: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """(n, d) -> (2 d,): the mean and the standard deviation."""
    return np.concatenate([features.mean(0), features.std(0)])
