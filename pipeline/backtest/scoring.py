"""Scores of remembered steps: many windows at once, equal to those of a live run. Pure.

Live, a window is scored when its newest step comes. Here all of them are known, so the fusion
network takes a hundred windows in a call.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pipeline.arrays import Vector
from pipeline.decision.decisions import vector_of
from pipeline.model.pack import ViewName
from pipeline.model.watch import WHOLE_PICTURE, Watch, feature_key
from pipeline.steps.join import DecidedStep
from pipeline.steps.window import Run

AT_ONCE = 128
"""Windows in a call."""


@dataclass(frozen=True, slots=True)
class SubjectScores:
    """The scores of one subject at some steps that follow each other.

    ``rows`` are their places in the stretch, ``values`` (n, C) float32 probabilities. ``begins``:
    the subject wasn't there before.
    """

    subject: str
    rows: list[int]
    values: Vector
    begins: bool


class _Rows(NamedTuple):
    """Features of steps that follow each other, (steps, d) and (steps, e) float32."""

    spatial: Vector
    temporal: Vector


@dataclass(slots=True)
class _Past:
    """The newest T - 1 steps of a subject."""

    segment: int
    number: int
    features: _Rows
    mask: Vector


def subjects_at(step: DecidedStep, view: ViewName) -> Iterable[str] | None:
    """Who is there at a step, for a view; None where nobody can tell."""
    return (WHOLE_PICTURE,) if view == WHOLE_PICTURE else step.regions(view)


class StretchScorer:
    """Scores one camera's steps, stretch after stretch, by one pack."""

    def __init__(self, run: Run, watch: Watch) -> None:
        """``run`` is the pack's fusion network."""
        self._run, self._watch = run, watch
        self._past: dict[str, _Past] = {}
        contract = watch.pack.contract
        self._length, self._sizes = contract.window, contract.feature_sizes

    def scores(self, steps: Sequence[DecidedStep]) -> Iterator[SubjectScores]:
        """The scores of each subject in these steps, which follow those of the call before.

        Steps without any feature have none, as live.
        """
        for subject, run in self._runs(steps):
            past = self._past.get(subject)
            first = steps[run[0]].moment
            follows = past is not None and past.segment == first.segment
            if past is None or not follows or not self._near(past.number, first.step_id):
                past = self._nothing(first.segment, self._number(first.step_id) - 1)
            rows, values, self._past[subject] = self._score(subject, steps, run, past)
            if rows:
                yield SubjectScores(subject, rows, values, not follows)

    def _runs(self, steps: Sequence[DecidedStep]) -> Iterable[tuple[str, list[int]]]:
        """Steps at which a subject is there, in one segment and without a long gap."""
        going: dict[str, list[int]] = {}
        for row, step in enumerate(steps):
            if not self._watch.takes(step.moment.step_id):
                continue
            there = subjects_at(step, self._watch.view)
            if there is None:
                continue
            for name in [name for name in going if name not in there]:
                yield name, going.pop(name)
                self._past.pop(name, None)  # whoever comes back begins an empty window
            for name in [name for name in self._past if name not in there and name not in going]:
                del self._past[name]
            for name in there:
                run = going.get(name)
                if run is not None and self._breaks(steps[run[-1]], step):
                    yield name, going.pop(name)
                going.setdefault(name, []).append(row)
        yield from going.items()

    def _breaks(self, before: DecidedStep, after: DecidedStep) -> bool:
        number = self._number(before.moment.step_id)
        return before.moment.segment != after.moment.segment or not self._near(
            number, after.moment.step_id
        )

    def _number(self, step_id: int) -> int:
        return step_id // self._watch.every

    def _near(self, number: int, step_id: int) -> bool:
        """Whether a step's window still holds step ``number`` of the pack's."""
        return 0 < self._number(step_id) - number < self._length

    def _nothing(self, segment: int, number: int) -> _Past:
        before = self._length - 1
        features = self._rows(before)
        return _Past(segment, number, features, np.zeros((before, 2), np.float32))

    def _score(
        self, subject: str, steps: Sequence[DecidedStep], run: Sequence[int], past: _Past
    ) -> tuple[list[int], Vector, _Past]:
        """Rows that have scores, the scores, and the newest steps."""
        before, first = self._length - 1, past.number + 1
        numbers = [self._number(steps[row].moment.step_id) - first for row in run]
        features = self._rows(before + numbers[-1] + 1)
        mask = np.zeros((len(features[0]), 2), np.float32)
        mask[:before] = past.mask
        for rows, old in zip(features, past.features, strict=True):
            rows[:before] = old
        keys = (
            feature_key(self._watch.spatial, subject),
            feature_key(self._watch.temporal, subject),
        )
        scored, ends = [], []
        for row, number in zip(run, numbers, strict=True):
            step, place = steps[row], before + number
            for stream, feature in enumerate((step.spatial, step.temporal)):
                vector = vector_of(feature, keys[stream])
                if vector is not None:
                    features[stream][place], mask[place, stream] = vector, 1.0
            if mask[place].any():
                scored.append(row)
                ends.append(number)
        newest = self._number(steps[run[-1]].moment.step_id)
        tail = slice(len(mask) - before, None)
        newest_rows = _Rows(*(rows[tail].copy() for rows in features))
        kept = _Past(past.segment, newest, newest_rows, mask[tail].copy())
        return scored, self._windows(features, mask, ends), kept

    def _rows(self, steps: int) -> _Rows:
        return _Rows(*(np.zeros((steps, size), np.float32) for size in self._sizes))

    def _windows(self, features: _Rows, mask: Vector, ends: Sequence[int]) -> Vector:
        """Scores (n, C) of the windows that begin at rows ``ends``."""
        parts = [
            self._run(_inputs(features, mask, ends[at : at + AT_ONCE], self._length))["scores"]
            for at in range(0, len(ends), AT_ONCE)
        ]
        labels = len(self._watch.pack.contract.labels)
        return np.concatenate(parts) if parts else np.zeros((0, labels), np.float32)


def _inputs(features: _Rows, mask: Vector, begins: Sequence[int], length: int) -> dict[str, Vector]:
    rows = np.asarray(begins)[:, np.newaxis] + np.arange(length)
    return {
        "spatial": features.spatial[rows],
        "temporal": features.temporal[rows],
        "mask": mask[rows],
    }
