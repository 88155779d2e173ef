"""A lesson: examples as windows, trials of several pairs of networks, and what they amount to."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Vector
from teach import verdict as verdicts
from teach.arrays import Flags, Numbers
from teach.base import Base
from teach.examples import Example, Rows, Windows, joined
from teach.fit import Head, Scaling, softmax
from teach.streams import Count, Labels, total
from teach.thresholds import Fitted, calibration_error, fit
from teach.trial import (
    Fitting,
    Looks,
    Trial,
    folds_of,
    left_out,
    quiet_streams,
    rightly,
    row_weights,
    streams_of,
    temperature,
)
from teach.verdict import Verdict

SEED = 0
WORTH = 1.0
"""Standard errors by which a dearer pair of networks must be better to be taken."""


@dataclass(frozen=True)
class Outcome:
    """A trial, its temperature and thresholds."""

    trial: Trial
    heat: float
    fitted: Fitted


class Lesson:
    """Examples of some labels as windows of ``length`` steps."""

    def __init__(
        self,
        base: Base,
        examples: Sequence[Example],
        labels: Labels,
        streams: Sequence[str],
        length: int,
        folds: Sequence[int] | None = None,
        footage: Sequence[Example] = (),
        early: bool = True,
    ) -> None:
        """``folds`` are the examples' own; by default groups are spread over some.

        ``footage`` is background that thresholds are fitted to, but not the head. Its groups are
        those of examples of the background: of the parts of it that are worth learning.
        ``early``: windows that end early in an action count as background.
        """
        self.base, self.examples, self.labels, self.length = base, examples, labels, length
        self.footage, self.given_folds, self.early = tuple(footage), folds, early
        self.windows = Windows(base, streams, length)
        rows = self._rows()
        self.rows = rows if early else rows.only(~rows.early)
        self.folds = (
            np.array(folds)
            if folds is not None
            else folds_of([one.group for one in examples], [one.label for one in examples])
        )

    def _rows(self) -> Rows:
        random = np.random.default_rng(SEED)
        rest = self.labels.rest
        clips = [one.clip for one in self.examples]
        quiet = [one.clip for one in self.examples if one.label in rest]
        return joined(
            [
                self.windows.of_rest(place, one)
                if one.label in rest
                else self.windows.of_action(place, one, clips, quiet, rest[0], random)
                for place, one in enumerate(self.examples)
            ]
        )

    def without_early(self) -> "Lesson":
        """The same without windows that end too early to tell.

        A sign that is held still is there from its first steps on, and such windows would deny it.
        """
        other = copy.copy(self)
        other.early, other.rows = False, self.rows.only(~self.rows.early)
        return other

    def trial(self, looks: Looks) -> Trial:
        """Fit without each fold, and predict it."""
        folds = self.folds[self.rows.clips]
        return left_out(
            self.base, looks, self.rows, folds, len(self.labels.names), self.labels.rest
        )

    def top1(self, trial: Trial) -> float:
        return trial.top1(self.rows, self.labels.rest)

    def best(self, trials: Sequence[Trial]) -> Trial:
        """The cheapest that is as good as the best, but for the noise of so few clips.

        ``trials`` come in the order of their cost.
        """
        top = max(trials, key=self.top1)
        enough = self.top1(top) - WORTH * top.error_of_top1(self.rows)
        return next(one for one in trials if self.top1(one) >= enough)

    def outcome(self, trial: Trial, false_a_day: float) -> Outcome:
        """Temperature and thresholds from what was left out."""
        weights = row_weights(self.rows, len(self.labels.names), self.labels.rest)
        heat = temperature(trial.logits, self.rows.labels, weights)
        streams = streams_of(self.windows, trial, self.examples, self.folds, self.labels.rest, heat)
        quiet, folds = self._quiet()
        scored = quiet_streams(self.windows, trial, quiet, folds, self.labels.rest, heat)
        return Outcome(trial, heat, fit(streams, scored, self.labels, false_a_day))

    def fold_of(self, group: str) -> int:
        """In which fold a group's clips are."""
        place = next(place for place, one in enumerate(self.examples) if one.group == group)
        return int(self.folds[place])

    def _quiet(self) -> tuple[list[Example], Numbers]:
        """Background to count false events in, and its folds: no moment of it twice."""
        groups = {one.group for one in self.footage}
        places = [place for place, one in enumerate(self.examples) if one.group not in groups]
        own = [self.examples[place] for place in places]
        folds = [self.fold_of(one.group) for one in self.footage]
        return [*own, *self.footage], np.array([*self.folds[places], *folds])

    def worth(self, outcome: Outcome) -> float:
        """Clips told right and F1 of events count alike; events in the background are false."""
        events = total(outcome.fitted.counts) + Count(false=outcome.fitted.quiet.false)
        return self.top1(outcome.trial) + events.f1

    def head(self, trial: Trial) -> Head:
        """The head of the pack, fitted to everything, as strongly as in the trial."""
        return self._fitting(trial.looks, self.rows).head(trial.strength, alone_too=True)

    def _fitting(self, looks: Looks, rows: Rows) -> Fitting:
        return Fitting(self.base, looks, rows, len(self.labels.names), self.labels.rest)

    def with_half(self, trial: Trial) -> float | None:
        """Top-1 when half of the clips of each label are taught."""
        half = self._half()
        if half is None:
            return None
        taught, tested = half
        rows = self.rows
        looks = trial.looks
        head = self._fitting(looks, rows.only(np.isin(rows.clips, taught))).head(trial.strength)
        test = rows.only(np.isin(rows.clips, tested))
        logits = head.logits([test.pooled[looks.appearance], test.pooled[looks.motion]])
        return Trial(looks, logits, {}).top1(test, self.labels.rest)

    def _half(self) -> tuple[Numbers, Numbers] | None:
        """Places of examples to teach and to test; None where a label has too few."""
        folds = np.unique(self.folds)
        first = np.flatnonzero(np.isin(self.folds, folds[: len(folds) // 2]))
        second = np.setdiff1d(np.arange(len(self.examples)), first)
        for places in (first, second):
            if {self.examples[place].label for place in places} != {
                one.label for one in self.examples
            }:
                return None
        return first, second


def decided(lesson: Lesson, trial: Trial, false_a_day: float) -> tuple[Lesson, Outcome]:
    """With or without early windows: what tells clips and events better that were left out."""
    outcome = lesson.outcome(trial, false_a_day)
    if not lesson.rows.early.any():
        return lesson, outcome
    other = lesson.without_early()
    without = other.outcome(other.trial(trial.looks), false_a_day)
    if other.worth(without) > lesson.worth(outcome):
        return other, without
    return lesson, outcome


def judged(
    lesson: Lesson, outcome: Outcome, tried: Mapping[str, float], twice: Sequence[str]
) -> Verdict:
    """What to expect of the pack."""
    trial, rows, labels = outcome.trial, lesson.rows, lesson.labels
    whole = rows.whole
    scores = softmax(trial.logits[whole] / outcome.heat)
    numbers, examples = rows.labels[whole], [lesson.examples[int(k)] for k in rows.clips[whole]]
    right = rightly(trial.logits[whole], numbers, labels.rest)
    table = verdicts.confusion_of(scores.argmax(1), numbers, len(labels.names))
    pairs = verdicts.confused_pairs(table, labels.names)
    vectors = _vectors(lesson, trial.looks, whole)
    alike = [verdicts.too_alike(vectors, numbers, n) for n in range(len(labels.names))]
    takes = [
        len({one.group for one in examples if one.label == n}) for n in range(len(labels.names))
    ]
    top1, error = lesson.top1(trial), trial.error_of_top1(rows)
    chance = verdicts.chance_of([one.label for one in examples])
    half = lesson.with_half(trial)
    events = total(outcome.fitted.counts)
    bound = outcome.fitted.most_a_day
    return Verdict(
        works=verdicts.surely_works(min(top1, _of_clips(right, numbers)), chance, error),
        top1=round(top1, 4),
        top1_error=round(error, 4),
        chance=round(chance, 4),
        looks=trial.looks.name,
        tried={name: round(value, 4) for name, value in tried.items()},
        event_f1=round(events.f1, 4),
        events_found=events.found,
        actions_shown=events.shown,
        false_events=events.false,
        background_minutes=round(60 * outcome.fitted.quiet_hours, 1),
        false_events_in_background=outcome.fitted.quiet.false,
        most_false_events_a_day=None if np.isinf(bound) else round(bound, 1),
        calibration_error=round(calibration_error(scores, right), 4),
        temperature=round(outcome.heat, 3),
        labels=verdicts.label_verdicts(table, labels.names, labels.rest, takes, alike, pairs),
        confusion=table.tolist(),
        names=list(labels.names),
        pairs=pairs,
        odd=verdicts.odd_examples(scores, numbers, examples, labels.names),
        twice=list(twice),
        with_half=None if half is None else round(half, 4),
        with_twice=None if half is None else round(verdicts.extrapolated(half, top1), 4),
        warnings=[],
        told=verdicts.told(scores, numbers, examples, labels.names),
    )


def _of_clips(right: Flags, labels: Numbers) -> float:
    """The mean over labels of whole clips told right: each clip counts once, also background."""
    return float(np.mean([right[labels == label].mean() for label in np.unique(labels)]))


def _vectors(lesson: Lesson, looks: Looks, rows: Flags) -> Vector:
    """What the fused head sees of some rows, (n, D)."""
    parts = []
    for name, share in zip((looks.appearance, looks.motion), looks.shares, strict=True):
        if share:
            pooled = [block[rows] for block in lesson.rows.pooled[name]]
            blocks = lesson.base.streams[name].blocks
            parts.append(Scaling.fitted(pooled, blocks).apply(pooled) * np.sqrt(share))
    return np.concatenate(parts, axis=1)
