"""Runs a pack over footage and keeps the scores: in this process, or in several of one thread."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.clock import NS_PER_S
from pipeline.errors import EvaluationError, SourceError
from pipeline.evaluate.clip_list import shown
from pipeline.evaluate.protocol import best_of_subjects
from pipeline.evaluate.recogniser import OfflineRecogniser, StepResult, file_frames
from pipeline.evaluate.timeline import Interval, Item, Timeline
from pipeline.model.pack import Contract, ModelPack
from pipeline.model.watch import WHOLE_PICTURE
from pipeline.steps.polygons import Polygon

STREAMS = ("fused", "spatial", "temporal")

Tick = Callable[[int, float], None]
"""Called with progress: how many files or clips, and how many seconds of media, are new."""


@dataclass(frozen=True, slots=True, eq=False)
class Track:
    """The scores of a pack at each step of one camera: a row for each subject of a step."""

    segments: npt.NDArray[np.int64]
    """(S,); a change is a gap."""
    step_ids: npt.NDArray[np.int64]
    """(S,), increasing; the subjects of a step share it."""
    pts_ns: npt.NDArray[np.int64]
    """(S,), media time."""
    scores: npt.NDArray[np.float32]
    """(3, S, C) probabilities in the order of :data:`STREAMS`; NaN where a stream is masked."""
    subjects: tuple[str, ...]
    """(S,), by name."""
    begins: tuple[bool, ...]
    """(S,); true for the first row of a subject that comes, or comes back."""
    seen_ns: tuple[int, int] | None
    """Media time of the first and the last step, also of those without a subject; None without
    steps."""

    @classmethod
    def of(cls, results: Iterable[StepResult], labels: int, seen_ns: Sequence[int] = ()) -> Self:
        """Collect ``results``, which have ``labels`` scores each. ``seen_ns`` are the times of all
        steps; by default those of ``results``."""
        masked = np.full(labels, np.nan, np.float32)
        kept, subjects, begins = [], [], []
        for r in results:
            streams = [r.scores, *_filled(masked, r.spatial, r.temporal)]
            kept.append((r.segment, r.step_id, r.pts_ns, streams))
            subjects.append(r.subject)
            begins.append(r.begins)
        # reshape, for the shapes of no results: (0, 3) and (0, 3, C), then (3, 0, C).
        numbers = np.array([row[:3] for row in kept], np.int64).reshape(-1, 3)
        scores = np.array([row[3] for row in kept], np.float32).reshape(-1, len(STREAMS), labels)
        segments, step_ids, pts_ns = numbers.T
        times = seen_ns or pts_ns.tolist()
        return cls(
            segments, step_ids, pts_ns, np.ascontiguousarray(scores.transpose(1, 0, 2)),
            tuple(subjects), tuple(begins), (times[0], times[-1]) if times else None,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self.pts_ns)

    def of_subject(self, name: str) -> "Track":
        """The rows of one subject."""
        own = np.array([subject == name for subject in self.subjects], np.bool_)
        return Track(
            self.segments[own], self.step_ids[own], self.pts_ns[own], self.scores[:, own],
            (name,) * int(own.sum()), tuple(np.array(self.begins)[own].tolist()), self.seen_ns,
        )  # fmt: skip

    def together(self, background: Collection[int]) -> "Track":
        """One row for each step: of each label the best subject's fused score.

        ``background`` has the numbers of the background labels.
        """
        if len(self.names) < 2:
            return self
        is_background = np.isin(np.arange(self.scores.shape[2]), list(background))
        rows: dict[tuple[int, int], list[int]] = {}
        for place, key in enumerate(zip(self.segments, self.step_ids, strict=True)):
            rows.setdefault(key, []).append(place)
        first = [places[0] for places in rows.values()]
        scores = np.full((len(STREAMS), len(rows), self.scores.shape[2]), np.nan, np.float32)
        for step, places in enumerate(rows.values()):
            scores[0, step] = best_of_subjects([*self.scores[0, places]], is_background)
        return Track(
            self.segments[first], self.step_ids[first], self.pts_ns[first], scores,
            ("all",) * len(rows), (False,) * len(rows), self.seen_ns,
        )  # fmt: skip

    @property
    def names(self) -> list[str]:
        """The subjects, in the order in which they came."""
        return list(dict.fromkeys(self.subjects))

    def spoken(self, stream: int) -> npt.NDArray[np.float32]:
        """(S', C) float32: the scores of a stream at the steps that have any."""
        scores = self.scores[stream]  # (S, C)
        return np.asarray(scores[np.isfinite(scores).all(axis=1)], np.float32)

    def results(self) -> Iterator[StepResult]:
        """The steps with their fused scores, for the event rules."""
        for place, scores in enumerate(self.scores[0]):
            yield StepResult(
                segment=int(self.segments[place]),
                step_id=int(self.step_ids[place]),
                pts_ns=int(self.pts_ns[place]),
                scores=scores,
                spatial=None,
                temporal=None,
                alpha=None,
                subject=self.subjects[place],
                begins=self.begins[place],
            )

    def length_ns(self, step_hz: float) -> int:
        """The time from the first step to the end of the last; 0 without steps."""
        if self.seen_ns is None:
            return 0
        return self.seen_ns[1] - self.seen_ns[0] + round(NS_PER_S / step_hz)


def _filled(
    masked: npt.NDArray[np.float32], *vectors: npt.NDArray[np.float32] | None
) -> list[npt.NDArray[np.float32]]:
    """``vectors`` with ``masked`` in place of None."""
    return [masked if vector is None else vector for vector in vectors]


@dataclass(frozen=True, slots=True)
class Run:
    """A file's scores; ``error`` is why it has none."""

    path: Path
    track: Track
    error: str | None


@dataclass(frozen=True, slots=True)
class StreamRun:
    """A stream's scores, and when each clip played in it."""

    items: Sequence[Item]
    track: Track
    intervals: Sequence[Interval]
    """The clips of actions; ``played`` has all clips."""
    played: Sequence[Interval]
    end_ns: int
    unreadable: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FileJob:
    """Runs one file, from an empty window."""

    path: Path
    weight: int = 1
    ignore: tuple[Polygon, ...] = ()

    def run(self, recogniser: OfflineRecogniser, tick: Tick) -> Run:
        labels, period_s = len(recogniser.contract.labels), 1 / recogniser.contract.step_hz
        results: list[StepResult] = []
        seen_ns: list[int] = []

        def stepped(pts_ns: int) -> None:
            seen_ns.append(pts_ns)
            tick(0, period_s)

        error: str | None = None
        try:
            for result in recogniser.steps(file_frames(self.path), self.ignore, stepped):
                results.append(result)
        except SourceError as failure:
            error = shown(str(failure))
        # A readable file may still be too short for a step. Steps that show nobody are no fault.
        whole = recogniser.contract.view == WHOLE_PICTURE
        if error is None and not (results if whole else seen_ns):
            error = f"{shown(self.path)}: no step has scores"
        tick(self.weight, 0.0)
        return Run(self.path, Track.of(results, labels, () if whole else seen_ns), error)


@dataclass(frozen=True, slots=True)
class StreamJob:
    """Runs clips one after the other, as one camera would show them."""

    items: Sequence[Item]
    ignore: tuple[Polygon, ...] = ()

    @property
    def weight(self) -> int:
        return len(self.items)

    def run(self, recogniser: OfflineRecogniser, tick: Tick) -> StreamRun:
        contract = recogniser.contract
        timeline = timeline_of(self.items, contract, lambda: tick(1, 0.0))

        def stepped(_pts_ns: int) -> None:
            tick(0, 1 / contract.step_hz)

        results = recogniser.steps(timeline.frames(), self.ignore, stepped)
        track = Track.of(results, len(contract.labels))
        unreadable = [shown(reason) for reason in timeline.unreadable.values()]
        return StreamRun(
            self.items, track, timeline.intervals, timeline.played, timeline.end_ns, unreadable
        )


def timeline_of(
    items: Sequence[Item], contract: Contract, advance: Callable[[], None] = lambda: None
) -> Timeline:
    """The timeline of ``items``, with the step rate and background labels of a pack."""
    return Timeline(items, contract.background, contract.step_hz, advance)


Job = FileJob | StreamJob
Result = Run | StreamRun


def run_all(
    pack: ModelPack, jobs: Sequence[Job], *, processes: int, threads: int, tick: Tick
) -> list[Result]:
    """Run the jobs; returns their results in order. ``tick`` is called from this thread.

    With more than one process, each has its own networks. Raises
    :class:`pipeline.errors.PackError`, and :class:`EvaluationError` when a process was killed.
    """
    recogniser = OfflineRecogniser(pack, threads)  # a bad pack fails here, not in each process
    if processes == 1 or len(jobs) < 2:
        return [job.run(recogniser, tick) for job in jobs]
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(
        min(processes, len(jobs)), context, initializer=_open, initargs=(pack.folder, threads, stop)
    )
    try:
        futures: list[Future[tuple[Result, float]]] = [pool.submit(_work, job) for job in jobs]
        weights = {future: job.weight for future, job in zip(futures, jobs, strict=True)}
        for future in as_completed(futures):
            tick(weights[future], future.result()[1])
    except BrokenProcessPool:
        raise EvaluationError(
            "a process of --jobs was killed, perhaps because memory ran out; use fewer jobs"
        ) from None
    finally:
        # A stream takes minutes. After an interrupt the processes must not run to its end.
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
    return [future.result()[0] for future in futures]


@dataclass(frozen=True, slots=True)
class _Worker:
    """The state of a process of :func:`run_all`: its own networks, and whether it must stop."""

    recogniser: OfflineRecogniser
    stop: Event


_worker: _Worker | None = None


def _open(folder: Path, threads: int, stop: Event) -> None:
    """Prepare a process of the pool."""
    global _worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which sets ``stop``
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    _worker = _Worker(OfflineRecogniser(ModelPack.load(folder), threads), stop)


def _leave_with_parent() -> None:
    """End this process when its parent was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


class _Stopped(Exception):
    """The parent was interrupted, so the result is not needed."""


def _work(job: Job) -> tuple[Result, float]:
    """Run a job in a process of the pool; returns its result and its seconds of media."""
    worker = _worker
    assert worker is not None

    # The parent shows progress; here a tick is the chance to stop.
    def tick(_files: int, _media_s: float) -> None:
        if worker.stop.is_set():
            raise _Stopped

    result = job.run(worker.recogniser, tick)
    return result, result.track.length_ns(worker.recogniser.contract.step_hz) / NS_PER_S
