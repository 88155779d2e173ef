"""Features of clips by the base's streams, step by step, kept in a cache.

Clips go through the pipeline's own steps: sampling, flow, preprocessing. So the head learns from
the numbers that it will meet live.
"""

import hashlib
import io
import os
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from zipfile import BadZipFile

import cv2
import numpy as np

from pipeline import flow
from pipeline.arrays import Frame, Vector
from pipeline.errors import SourceError
from pipeline.evaluate.recogniser import file_frames
from pipeline.model.pack import SpatialContract, TemporalContract
from pipeline.model.session import UnpackagedNetwork
from pipeline.run.linux import die_with_parent
from pipeline.sources.base import Grab
from pipeline.steps.flow_fields import FlowStack, FlowSteps
from pipeline.steps.follow import TimedFrame
from pipeline.steps.preprocess import spatial_input
from pipeline.steps.sampling import Steps
from pipeline.transport.messages import Moment
from teach.arrays import Flags, Times
from teach.base import Base

AT_ONCE = 16
"""Steps in a call of a network."""
GAP_S = 2.0
STEPS_FORMAT = 1
"""Raise it when the same clip would give other steps or features."""


@dataclass(frozen=True)
class ClipFeatures:
    """The features of one clip's steps.

    ``streams`` maps a stream to (S, d) float32, ``present`` to (S,) bool: whether it has features
    at the step. ``times_ns`` (S,) are media times.
    """

    path: Path
    times_ns: Times
    streams: Mapping[str, Vector]
    present: Mapping[str, Flags]

    @property
    def steps(self) -> int:
        return len(self.times_ns)

    def only(self, steps: slice) -> "ClipFeatures":
        """A part of the clip."""
        return ClipFeatures(
            self.path,
            self.times_ns[steps],
            {name: rows[steps] for name, rows in self.streams.items()},
            {name: rows[steps] for name, rows in self.present.items()},
        )


@dataclass(frozen=True)
class _Appearance:
    """What :func:`spatial_input` takes."""

    spatial: SpatialContract


@dataclass(frozen=True)
class _Motion:
    temporal: TemporalContract


class Extractor:
    """The base's networks, opened once, on one thread."""

    def __init__(self, base: Base, streams: Sequence[str], step_hz: float) -> None:
        """Raises :class:`pipeline.errors.PackError` for a network that can't be opened."""
        cv2.setNumThreads(1)
        self._base, self._streams, self._step_hz = base, tuple(streams), step_hz
        self._networks = {
            name: UnpackagedNetwork(
                path := base.folder / base.streams[name].file, path.read_bytes()
            )
            for name in self._streams
        }

    def clip(self, path: Path, streams: Sequence[str] = ()) -> ClipFeatures:
        """Features of a whole file by some streams, or by all; raises :class:`SourceError` if it
        can't be read."""
        return self.of_frames(path, file_frames(path), streams)

    def of_frames(
        self,
        path: Path,
        frames: Iterable[TimedFrame],
        streams: Sequence[str] = (),
        at_once: int = AT_ONCE,
    ) -> ClipFeatures:
        """Features of frames that ``path`` stands for, by ``at_once`` steps in a network's call."""
        names = tuple(streams) or self._streams
        times: list[int] = []
        parts: dict[str, list[Vector]] = {name: [] for name in names}
        there: dict[str, list[bool]] = {name: [] for name in names}
        for inputs in _in_batches(self._inputs(frames, names), at_once):
            times += [one.time_ns for one in inputs]
            for name in names:
                there[name] += [name in one.streams for one in inputs]
                parts[name].append(self._run(name, [one.streams.get(name) for one in inputs]))
        if not times:
            raise SourceError(f"{path}: has no frame", kind="unreadable", permanent=True)
        return ClipFeatures(
            path,
            np.array(times, np.int64),
            {name: np.concatenate(rows) for name, rows in parts.items()},
            {name: np.array(rows, bool) for name, rows in there.items()},
        )

    def _run(self, name: str, inputs: "Sequence[Frame | None]") -> Vector:
        """(n, d); zeros where a step has no input."""
        rows = np.zeros((len(inputs), self._base.streams[name].feature_size), np.float32)
        given = [place for place, one in enumerate(inputs) if one is not None]
        if given:
            field = "frames" if self._base.streams[name].kind == "spatial" else "flow"
            batch = np.stack([one for one in inputs if one is not None])
            rows[given] = self._networks[name].run({field: batch})[0]
        return rows

    def _inputs(
        self, frames: Iterable[TimedFrame], names: Sequence[str]
    ) -> "Iterator[_StepInputs]":
        """What each network takes at each step."""
        steps = Steps("clip", self._step_hz, GAP_S)
        spatial = {n: self._base.spatial(n) for n in names if n in self._base.appearances}
        motions = {n: _Flow(self._base, n) for n in names if n not in spatial}
        for timed in frames:
            due = steps.due(Grab(timed.pts_ns, timed.pts_ns, timed.discontinuity), timed.pts_ns)
            if due is None:
                continue
            frame = timed.retrieve()
            moment = steps.moment(due)
            given: dict[str, Frame] = {
                name: spatial_input(frame, _Appearance(stream.contract))
                for name, stream in spatial.items()
            }
            for name, motion in motions.items():
                stack = motion.stack_at(moment, frame)
                if stack is not None:
                    given[name] = stack
            yield _StepInputs(timed.pts_ns, given)


@dataclass(frozen=True, slots=True)
class _StepInputs:
    time_ns: int
    streams: Mapping[str, Frame]


class _Flow:
    """The flow of one motion stream over a clip's steps."""

    def __init__(self, base: Base, name: str) -> None:
        contract = base.temporal(name).contract
        self._fields = FlowSteps(flow.create(contract.method), _Motion(contract))
        self._stack = FlowStack(contract.stack)
        self._shape = (contract.stack, *contract.size, 2)

    def stack_at(self, moment: Moment, frame: Frame) -> Frame | None:
        self._fields.advance(moment)
        field, span = self._fields.field(self._fields.gray(frame))
        if not self._stack.push(moment.segment, moment.step_id, field, span):
            return None
        stack = np.empty(self._shape, np.uint8)
        self._stack.write(stack)
        return stack


def _in_batches(steps: "Iterator[_StepInputs]", at_once: int) -> "Iterator[list[_StepInputs]]":
    batch: list[_StepInputs] = []
    for one in steps:
        batch.append(one)
        if len(batch) == at_once:
            yield batch
            batch = []
    if batch:
        yield batch


class Cache:
    """Features on disk, by the content of the clip and of the network."""

    def __init__(self, folder: Path, base: Base, step_hz: float) -> None:
        self._folder = folder
        self._base = base
        self._step_hz = step_hz

    def path(self, clip: Path, stream: str) -> Path:
        about = f"{self._base.identity(stream)} {self._step_hz:g} {STEPS_FORMAT}"
        with clip.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        name = hashlib.sha256(f"{content} {about}".encode()).hexdigest()[:32]
        return self._folder / name[:2] / f"{name}.npz"

    def get(self, clip: Path, streams: Sequence[str]) -> ClipFeatures | None:
        """What is kept of a clip by those of the streams that are kept; None: of none."""
        rows, there, times = {}, {}, None
        for name in streams:
            try:
                with np.load(self.path(clip, name), allow_pickle=False) as kept:
                    rows[name] = kept["features"].astype(np.float32)
                    there[name], times = kept["present"], kept["times_ns"]
            except (OSError, ValueError, KeyError, EOFError, BadZipFile):
                continue  # missing or damaged: it is computed again
        return None if times is None else ClipFeatures(clip, times, rows, there)

    def put(self, features: ClipFeatures) -> None:
        """Keep a clip's features; a full disk costs only time the next time."""
        for name, rows in features.streams.items():
            path = self.path(features.path, name)
            content = io.BytesIO()
            np.savez_compressed(
                content,
                features=rows.astype(np.float16),
                present=features.present[name],
                times_ns=features.times_ns,
            )
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                aside = path.with_suffix(f".{os.getpid()}")
                aside.write_bytes(content.getvalue())
                aside.replace(path)
            except OSError:
                return


@dataclass(frozen=True)
class Job:
    """What worker processes need: the base's folder, streams, steps a second, the cache."""

    base: Path
    streams: tuple[str, ...]
    step_hz: float
    cache: Path


_worker: tuple[Job, Extractor, Cache] | None = None


def _open(job: Job) -> tuple[Job, Extractor, Cache]:
    global _worker
    if _worker is None or _worker[0] != job:
        base = Base.load(job.base)
        cache = Cache(job.cache, base, job.step_hz)
        _worker = (job, Extractor(base, job.streams, job.step_hz), cache)
    return _worker


def _extract(job: Job, path: Path, streams: Sequence[str]) -> str | None:
    """Fill the cache with a clip; returns why it can't be read, if so."""
    _, extractor, cache = _open(job)
    try:
        cache.put(extractor.clip(path, streams))
    except SourceError as error:
        return str(error)
    return None


def extracted(
    job: Job, paths: Sequence[Path], workers: int
) -> Iterator[tuple[Path, ClipFeatures | str]]:
    """Features of clips as they become ready, or why a clip can't be read."""
    base = Base.load(job.base)
    cache = Cache(job.cache, base, job.step_hz)
    missing: dict[Path, list[str]] = {}
    for path in paths:
        kept = cache.get(path, job.streams)
        lacks = [name for name in job.streams if kept is None or name not in kept.streams]
        if kept is None or lacks:
            missing[path] = lacks
        else:
            yield path, kept
    if not missing:
        return
    # Spawned, not forked: onnxruntime's threads don't survive a fork.
    pool = ProcessPoolExecutor(
        min(workers, len(missing)), get_context("spawn"), initializer=_obey_parent
    )
    try:
        tasks = {pool.submit(_extract, job, *one): one[0] for one in missing.items()}
        for done in as_completed(tasks):
            path = tasks[done]
            problem = done.result()
            kept = None if problem else cache.get(path, job.streams)
            if kept is None or len(kept.streams) < len(job.streams):
                yield path, problem or "its features could not be kept: is the disk full?"
            else:
                yield path, kept
    finally:
        # After Ctrl-C nobody waits for clips that nobody will see.
        pool.shutdown(cancel_futures=True)


def _obey_parent() -> None:
    """In a worker: Ctrl-C is the parent's business, and a parent that is killed leaves nobody."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
