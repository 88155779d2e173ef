"""Fits a pack to a camera's own background: ``two-stream calibrate``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from pipeline.clock import NS_PER_S
from pipeline.evaluate.clip_list import shown
from pipeline.model.pack import ModelPack, Threshold
from pipeline.model.session import Network
from teach.bar import Tick
from teach.corrections import Times, times_of
from teach.features import ClipFeatures, Extractor
from teach.footage import Footage, examples_of, parted
from teach.from_reviews import check_out
from teach.lesson_file import KeptLesson, load
from teach.pack import TeachError
from teach.place import Place
from teach.refit import Refitted, refitted
from teach.streams import Count, counted, total
from teach.thresholds import fit
from teach.trial import quiet_streams, streams_of
from teach.versions import switch

LEAST_S = 30.0
"""Less footage says nothing."""
LEAST_WINDOWS = 2
MARGIN_NS = 3 * NS_PER_S
"""So long around an action nothing counts as background."""


@dataclass(frozen=True)
class CalibrateOrder:
    """Which pack, and whose background: a camera's memory, or files."""

    pack: Path
    config: Path | None = None
    camera: str = ""
    hours: float = 1.0
    files: tuple[Path, ...] = ()
    out: Path | None = None
    switch: bool = False
    false_a_day: float | None = None
    tick: Tick = lambda _what, _done, _all: None


class Calibrated(msgspec.Struct, frozen=True):
    """False events in the footage, and actions found in streams of the lesson's clips."""

    pack: str
    before: str
    after: str
    folder: str
    where: str
    minutes: float
    """Of footage in which something moved."""
    hours: float
    """From its beginning to its end."""
    false_before: int
    """By the version before, as it was."""
    false_after: int
    """By heads and thresholds that were fitted without the stretch of time in which they count."""
    actions: int
    found_before: int
    found_after: int
    warnings: list[str]


@dataclass(frozen=True)
class _Found:
    """Footage, from when to when in hours, where it is from, and what to say of it."""

    pieces: list[ClipFeatures]
    hours: float
    where: str
    warnings: list[str]


def calibrate(order: CalibrateOrder) -> Calibrated:
    """Learn the background and write the next version.

    Raises :class:`TeachError`, :class:`pipeline.errors.FeatureMemoryError` and others.
    """
    folder = order.pack.resolve()
    before = ModelPack.load(folder)
    check_out(order.out, order.switch)
    kept = load(before)
    order.tick("remembering", 0, 1)
    got = _of_files(order, kept) if order.files else _of_memory(order, kept, before)
    _check_enough(got, kept)
    order.tick("remembering", 1, 1)
    footage = parted(got.pieces, Network(before, "fusion").run, before, kept.looks)
    learned, whole = examples_of(footage, kept.labels, kept.window, f"quiet {got.where}")
    # What was learned here before makes place for what is learned now.
    groups = {one.group for one in learned}
    own = [one for one in kept.examples if one.group not in groups]
    order.tick("fitting", 0, 1)
    allowed = kept.false_a_day if order.false_a_day is None else order.false_a_day
    made = refitted(kept, before, order.out, [*own, *learned], whole, allowed)
    order.tick("fitting", 1, 1)
    found = _calibrated(before, kept, made, got, footage, allowed)
    if order.switch:
        switch(folder, found.after)
        return msgspec.structs.replace(found, folder=str(order.pack))
    return found


def _check_enough(got: _Found, kept: KeptLesson) -> None:
    if not kept.labels.rest:
        raise TeachError("the pack has no background label, so it can't learn any background")
    least_s = max(LEAST_S, LEAST_WINDOWS * kept.window / kept.labels.step_hz)
    there_s = sum(one.steps for one in got.pieces) / kept.labels.step_hz
    if there_s < least_s:
        raise TeachError(
            f"{got.where}: has {there_s:.0f} seconds of background in which something moves; "
            f"{least_s:.0f} are needed"
        )


def _calibrated(
    before: ModelPack,
    kept: KeptLesson,
    made: Refitted,
    got: _Found,
    footage: Footage,
    allowed: float,
) -> Calibrated:
    contract = before.contract
    limits = {label: contract.threshold(label) for label in contract.actions}
    then, seen = _before(kept, limits), total(made.outcome.fitted.counts)
    return Calibrated(
        pack=contract.name,
        before=contract.version,
        after=made.pack.contract.version,
        folder=str(made.pack.folder),
        where=got.where,
        minutes=round(footage.steps / kept.labels.step_hz / 60, 1),
        hours=round(got.hours, 2),
        false_before=footage.false(kept.labels, limits),
        false_after=_false_left_out(made, allowed),
        actions=seen.shown,
        found_before=then.found,
        found_after=seen.found,
        warnings=got.warnings,
    )


def _before(kept: KeptLesson, limits: Mapping[str, Threshold]) -> Count:
    """Actions found by the lesson and the thresholds of the version before, clips left out."""
    lesson = kept.lesson(kept.examples)
    trial = lesson.trial(kept.looks)
    heat = lesson.outcome(trial, kept.false_a_day).heat
    streams = streams_of(
        lesson.windows, trial, lesson.examples, lesson.folds, kept.labels.rest, heat
    )
    return total(counted(streams, kept.labels, limits))


def _false_left_out(made: Refitted, false_a_day: float) -> int:
    """False events in the footage: in each stretch by a head and thresholds that don't know it."""
    lesson, trial, heat = made.lesson, made.outcome.trial, made.outcome.heat
    labels = lesson.labels
    streams = streams_of(lesson.windows, trial, lesson.examples, lesson.folds, labels.rest, heat)
    folds = np.array([lesson.fold_of(one.group) for one in lesson.footage])
    quiet = quiet_streams(lesson.windows, trial, lesson.footage, folds, labels.rest, heat)
    false = 0
    for fold in np.unique(folds):
        others = [one for one, number in zip(quiet, folds, strict=True) if number != fold]
        own = [one for one, number in zip(quiet, folds, strict=True) if number == fold]
        fitted = fit(streams, others, labels, false_a_day)
        false += sum(counted(own, labels, fitted.thresholds).values(), Count()).false
    return false


def _of_files(order: CalibrateOrder, kept: KeptLesson) -> _Found:
    """The footage of video files, by the pack's own networks."""
    streams = (kept.looks.appearance, kept.looks.motion)
    extractor = Extractor(kept.base, streams, kept.labels.step_hz)
    pieces = []
    for number, path in enumerate(order.files):
        pieces.append(extractor.clip(path))
        order.tick("looking at files", number + 1, len(order.files))
    hours = sum(one.steps for one in pieces) / kept.labels.step_hz / 3600
    names = ", ".join(shown(path.name) for path in order.files)
    return _Found(pieces, hours, order.camera or names, [])


def _of_memory(order: CalibrateOrder, kept: KeptLesson, pack: ModelPack) -> _Found:
    """What a camera's memory has of its last hours, without the actions in it."""
    if order.config is None or not order.camera:
        raise TeachError("calibrate: name --config and --camera, or files with --background")
    place = Place(order.config)
    recall = place.recall(order.camera, pack, kept.looks)
    span = place.memory.kept(order.camera)
    assert span is not None  # the recall has looked
    first_ns = max(span.first_ns, span.last_ns - round(order.hours * 3600 * NS_PER_S))
    around_ns = round(kept.window * NS_PER_S / kept.labels.step_hz) + MARGIN_NS
    actions, warnings = _actions(place, order.camera, pack, (first_ns, span.last_ns))
    pieces = [
        piece
        for first, last in _between(actions, around_ns, first_ns, span.last_ns)
        for _, piece in recall.pieces(first, last)
    ]
    warnings += place.overruled(pack.contract.actions)
    hours = (span.last_ns - first_ns) / NS_PER_S / 3600
    return _Found(pieces, hours, order.camera, warnings)


def _actions(
    place: Place, camera: str, pack: ModelPack, span_ns: tuple[int, int]
) -> tuple[list[Times], list[str]]:
    """When people say that something happened; and a warning of events that nobody has reviewed,
    which count as background."""
    log = [one for one in place.log() if one.camera == camera]
    known = {one.id: one.at for one in log}
    reviews = [one for one in place.reviews(needed=False) if one.camera == camera]
    actions = [times_of(one, known) for one in reviews if one.verdict != "wrong"]
    judged = {one.event for one in reviews}
    open_ = [
        one
        for one in log
        if one.id not in judged
        and one.label in pack.contract.actions
        and span_ns[0] <= one.at.end_ns
        and one.at.start_ns <= span_ns[1]
    ]
    if not open_:
        return actions, []
    return actions, [
        f"{len(open_)} events in this time aren't reviewed, and are taught as background; if some "
        "are right, say so first: two-stream review ask"
    ]


def _between(
    actions: Sequence[Times], around_ns: int, first_ns: int, last_ns: int
) -> list[tuple[int, int]]:
    """The time from ``first_ns`` to ``last_ns`` without the actions and what is around them."""
    spans, at = [], first_ns
    for one in sorted(actions, key=lambda times: times.start_ns):
        if at < min(one.start_ns - around_ns, last_ns):
            spans.append((at, min(one.start_ns - around_ns, last_ns)))
        at = max(at, one.end_ns + around_ns)
    if at < last_ns:
        spans.append((at, last_ns))
    return spans
