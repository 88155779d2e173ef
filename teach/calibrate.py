"""Fits a pack to a camera's own background: ``two-stream calibrate``."""

from collections.abc import Mapping

import msgspec
import numpy as np

from pipeline.model.pack import ModelPack, Threshold
from pipeline.model.session import Network
from teach.background import Background, CalibrateOrder, background_of
from teach.footage import Footage, examples_of, parted
from teach.from_reviews import check_out
from teach.lesson_file import KeptLesson, load
from teach.refit import Refitted, refitted
from teach.streams import Count, counted, total
from teach.thresholds import fit
from teach.trial import quiet_streams, streams_of
from teach.versions import switch


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


def calibrate(order: CalibrateOrder) -> Calibrated:
    """Learn the background and write the next version.

    Raises :class:`TeachError`, :class:`pipeline.errors.FeatureMemoryError` and others.
    """
    folder = order.pack.resolve()
    before = ModelPack.load(folder)
    check_out(order.out, order.switch)
    kept = load(before)
    order.tick("remembering", 0, 1)
    got = background_of(order, kept, before)
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


def _calibrated(
    before: ModelPack,
    kept: KeptLesson,
    made: Refitted,
    got: Background,
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
