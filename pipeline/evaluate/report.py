"""One evaluation: the request, the runs, and the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK
from pipeline.errors import EvaluationError
from pipeline.evaluate import clips, streams
from pipeline.evaluate.clip_list import (
    Entry,
    check_labels,
    chosen,
    negatives,
    read,
    shown,
)
from pipeline.evaluate.runs import FileJob, Job, Run, StreamJob, StreamRun, Tick, run_all
from pipeline.evaluate.sweep import Point, sweep
from pipeline.evaluate.timeline import arrange
from pipeline.model.pack import ModelPack
from pipeline.steps.polygons import Polygon


class Protocol(StrEnum):
    CLIP = "clip"
    STREAM = "stream"
    BOTH = "both"


@dataclass(frozen=True)
class Request:
    """The footage to evaluate on, and how; the fields are options of the command line."""

    data: Path | None = None
    protocol: Protocol = Protocol.CLIP
    negatives: Sequence[Path] = ()
    root: Path | None = None
    fold: int | None = None
    limit: int | None = None
    seed: int = 0
    threads: int = 1
    jobs: int = 1
    ignore: Sequence[Polygon] = ()
    """Parts of the picture that are painted gray, as for a camera."""


class ModelFacts(msgspec.Struct, frozen=True):
    """The pack that was evaluated."""

    name: str
    version: str
    sha256: str


class Asked(msgspec.Struct, frozen=True, omit_defaults=True):
    """The options that must be the same in two reports to compare them."""

    data: str | None
    negatives: list[str]
    protocol: Protocol
    fold: int | None
    limit: int | None
    seed: int
    ignored: list[Polygon] = []
    """Parts of the picture, if any."""


class Speed(msgspec.Struct, frozen=True):
    """How fast this machine processed the footage."""

    media_s: float
    wall_s: float
    times_real_time: float
    jobs: int


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """Everything that was measured, as plain data; a protocol that wasn't run is left out."""

    model: ModelFacts
    asked: Asked
    speed: Speed
    clip: clips.ClipReport | None = None
    stream: streams.StreamReport | None = None
    thresholds: list[Point] | None = None
    """The stream with other start thresholds; the first is the pack's own."""
    negatives: streams.QuietReport | None = None


@dataclass(frozen=True)
class Evaluation:
    """A report and the scores that it was computed from."""

    pack: ModelPack
    report: Report
    clip_runs: Sequence[Run]
    stream_run: StreamRun | None
    quiet_runs: Sequence[Run]
    ignore: Sequence[Polygon] = ()


@dataclass(frozen=True)
class Footage:
    """The files to run: clips with labels, and files without actions."""

    entries: Sequence[Entry]
    quiet: Sequence[Path]


def footage(request: Request, pack: ModelPack) -> Footage:
    """Find the files of a request; raises :class:`EvaluationError` that says what is wrong."""
    if request.data is None and not request.negatives:
        raise EvaluationError("nothing to evaluate: give --data, or --negatives")
    labels = pack.contract.labels
    entries: list[Entry] = []
    if request.data is not None:
        entries = chosen(read(request.data, request.root), request.fold, request.limit)
        check_labels(entries, labels)
    known = [label for label in labels if label not in pack.contract.background]
    quiet = [file for path in request.negatives for file in negatives(path, known, request.root)]
    return Footage(entries, quiet)


def evaluate(pack: ModelPack, request: Request, found: Footage, tick: Tick) -> Evaluation:
    """Run the pack over the footage; raises :class:`EvaluationError` when none can be read."""
    jobs, clip_count = _jobs(pack, request, found)
    started_ns = SYSTEM_CLOCK.monotonic_ns()
    results = run_all(pack, jobs, processes=request.jobs, threads=request.threads, tick=tick)
    wall_s = (SYSTEM_CLOCK.monotonic_ns() - started_ns) / NS_PER_S
    step_hz = pack.contract.step_hz
    media_s = sum(result.track.length_ns(step_hz) for result in results) / NS_PER_S
    # Results are in the order of the jobs: the stream, the clips, the footage without actions.
    stream = next((result for result in results if isinstance(result, StreamRun)), None)
    files = [result for result in results if isinstance(result, Run)]
    clip_runs, quiet_runs = files[:clip_count], files[clip_count:]
    _check_readable(clip_runs, stream, quiet_runs)
    contract = pack.contract
    report = Report(
        model=ModelFacts(contract.name, contract.version, pack.sha256),
        asked=_asked(request),
        speed=Speed(
            round(media_s, 1), round(wall_s, 2), round(media_s / max(wall_s, 1e-9), 2), request.jobs
        ),
        clip=clips.report(found.entries, clip_runs, contract) if clip_runs else None,
        stream=streams.stream_report(stream, contract) if stream else None,
        thresholds=sweep(stream, quiet_runs, contract) if stream and stream.intervals else None,
        negatives=streams.quiet_report(quiet_runs, contract) if quiet_runs else None,
    )
    return Evaluation(pack, report, clip_runs, stream, quiet_runs, request.ignore)


def _jobs(pack: ModelPack, request: Request, found: Footage) -> tuple[list[Job], int]:
    """The jobs, the longest (the stream) first, and how many of their files are clips."""
    jobs: list[Job] = []
    clip_count, ignore = 0, tuple(request.ignore)
    if found.entries and request.protocol is not Protocol.CLIP:
        items = arrange(found.entries, pack.contract.background, request.seed)
        jobs.append(StreamJob(items, ignore))
    if request.protocol is not Protocol.STREAM:
        clip_count = len(found.entries)
        jobs += [FileJob(entry.path, ignore=ignore) for entry in found.entries]
    return [*jobs, *(FileJob(path, ignore=ignore) for path in found.quiet)], clip_count


def _asked(request: Request) -> Asked:
    return Asked(
        data=None if request.data is None else shown(request.data),
        negatives=[shown(path) for path in request.negatives],
        protocol=request.protocol,
        fold=request.fold,
        limit=request.limit,
        seed=request.seed,
        ignored=list(request.ignore),
    )


def _check_readable(clips: Sequence[Run], stream: StreamRun | None, quiet: Sequence[Run]) -> None:
    if clips and all(run.error is not None for run in clips):
        raise EvaluationError(
            f"none of {len(clips)} clips can be read; the first: {clips[0].error}"
        )
    if stream is not None and not stream.end_ns:
        # The list has each clip once, even if the stream plays it several times.
        raise EvaluationError(
            f"none of {len(stream.unreadable)} clips can be read; the first: {stream.unreadable[0]}"
        )
    if quiet and all(run.error is not None for run in quiet):
        raise EvaluationError(
            f"none of {len(quiet)} videos without actions can be read; the first: {quiet[0].error}"
        )


def all_jobs(request: Request, pack: ModelPack, found: Footage) -> int:
    """The number of clips and files to run, for a progress bar."""
    return sum(job.weight for job in _jobs(pack, request, found)[0])
