"""The clip protocol: one prediction per clip, how often it is right, and how confident it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.clock import NS_PER_S
from pipeline.evaluate.clip_list import Entry, shown
from pipeline.evaluate.protocol import best_of_subjects, clip_scores
from pipeline.evaluate.runs import STREAMS, Run, Track
from pipeline.evaluate.statistics import Calibration, calibration, mean, ratio, wilson
from pipeline.model.pack import Contract
from pipeline.model.watch import WHOLE_PICTURE

NONE = -1
"""The prediction of a stream without any score in a clip; never right."""


class LabelFigures(msgspec.Struct, frozen=True):
    """The figures of one label; None where the divisor is 0."""

    clips: int
    recall: float | None
    precision: float | None
    f1: float | None


class ScoreFigures(msgspec.Struct, frozen=True):
    """The figures of one of the three scores: fused, or of one stream alone."""

    top1: float | None
    top1_interval: tuple[float, float] | None
    """95 % (Wilson), for independent clips."""
    mean_recall: float | None
    macro_f1: float | None
    """The mean of F1; both means are over the labels that have clips."""
    labels: dict[str, LabelFigures]
    confusion: list[list[int]]
    """(C, C), row = true label, column = predicted, in the order of the pack's labels."""
    calibration: Calibration


class SubjectPrediction(msgspec.Struct, frozen=True):
    """The fused prediction for one subject of a clip, and its probability."""

    subject: str
    predicted: str
    score: float


class Prediction(msgspec.Struct, frozen=True, omit_defaults=True):
    """The fused prediction for a clip, its probability, and that of the true label.

    ``spatial`` and ``temporal`` are the predictions of the streams alone. ``subjects`` are there
    for packs that look at parts of the picture.
    """

    path: str
    label: str
    predicted: str
    score: float
    true_score: float
    spatial: str | None
    temporal: str | None
    subjects: tuple[SubjectPrediction, ...] = ()

    @property
    def right(self) -> bool:
        return self.predicted == self.label


class ClipReport(msgspec.Struct, frozen=True):
    """All figures of the clip protocol as plain data."""

    clips: int
    steps: int
    media_s: float
    scores: dict[str, ScoreFigures]
    """By :data:`STREAMS`."""
    labels_without_clips: list[str]
    predictions: list[Prediction]
    mistakes: list[Prediction]
    """The worst first: those with the largest lead of the wrong label."""
    unreadable: list[str]


@dataclass(frozen=True)
class _Outcomes:
    """True labels (N,); predicted labels and their probabilities (N, 3), by :data:`STREAMS`."""

    truth: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float64]


def predictions(run: Run, contract: Contract) -> list[npt.NDArray[np.float32] | None]:
    """A clip's probabilities (C,) by :data:`STREAMS`; None for a stream without any score.

    A label's is that of its best subject. A clip that shows nobody is background.
    """
    background = np.array([label in contract.background for label in contract.labels])
    each = [_of_track(track, background) for track in _tracks(run)]
    found: list[npt.NDArray[np.float32] | None] = []
    for stream in range(len(STREAMS)):
        scored = [rows[stream] for rows in each]
        known = [row for row in scored if row is not None]
        found.append(best_of_subjects(known, background) if known or not each else None)
    return found


def _tracks(run: Run) -> list[Track]:
    return [run.track.of_subject(name) for name in run.track.names]


def _of_track(
    track: Track, background: npt.NDArray[np.bool_]
) -> list[npt.NDArray[np.float32] | None]:
    scored = [track.spoken(stream) for stream in range(len(STREAMS))]  # (S', C) each
    return [clip_scores(steps, background) if len(steps) else None for steps in scored]


def _of_subjects(run: Run, contract: Contract) -> tuple[SubjectPrediction, ...]:
    """What each subject does; nothing for a pack of the whole picture."""
    if contract.view == WHOLE_PICTURE:
        return ()
    background = np.array([label in contract.background for label in contract.labels])
    found = []
    for track in _tracks(run):
        fused = _of_track(track, background)[0]
        if fused is not None:
            label = contract.labels[int(fused.argmax())]
            found.append(SubjectPrediction(track.subjects[0], label, round(float(fused.max()), 4)))
    return tuple(found)


def confusion(truth: Sequence[int], predicted: Sequence[int], labels: int) -> npt.NDArray[np.int64]:
    """(C, C) counts, row = true label, column = predicted; ``NONE`` is in no column."""
    matrix = np.zeros((labels, labels), np.int64)
    for row, column in zip(truth, predicted, strict=True):
        if column != NONE:
            matrix[row, column] += 1
    return matrix


def report(entries: Sequence[Entry], runs: Sequence[Run], contract: Contract) -> ClipReport:
    """The figures of the clip protocol; unreadable clips are listed, and don't count as wrong."""
    readable = [(e, r) for e, r in zip(entries, runs, strict=True) if r.error is None]
    scores = [predictions(run, contract) for _, run in readable]
    truth = [contract.labels.index(entry.label) for entry, _ in readable]
    best = [[NONE if one is None else int(one.argmax()) for one in row] for row in scores]
    confidence = [[0.0 if one is None else float(one.max()) for one in row] for row in scores]
    # reshape, because without a readable clip the arrays would be (0,) instead of (0, 3).
    outcomes = _Outcomes(
        np.array(truth, np.int64),
        np.array(best, np.int64).reshape(-1, len(STREAMS)),
        np.array(confidence, np.float64).reshape(-1, len(STREAMS)),
    )
    named = [
        _prediction(entry, row, contract.labels, _of_subjects(run, contract))
        for (entry, run), row in zip(readable, scores, strict=True)
    ]
    wrong = [one for one in named if not one.right]
    media_ns = sum(run.track.length_ns(contract.step_hz) for _, run in readable)
    return ClipReport(
        clips=len(readable),
        steps=sum(len(set(run.track.step_ids.tolist())) for _, run in readable),
        media_s=round(media_ns / NS_PER_S, 1),
        scores={name: _figures(outcomes, i, contract.labels) for i, name in enumerate(STREAMS)},
        labels_without_clips=[
            label for i, label in enumerate(contract.labels) if i not in set(truth)
        ],
        predictions=named,
        mistakes=sorted(wrong, key=lambda one: one.true_score - one.score),
        unreadable=[run.error for run in runs if run.error is not None],
    )


def _prediction(
    entry: Entry, scores: Sequence[npt.NDArray[np.float32] | None], labels: Sequence[str],
    subjects: tuple[SubjectPrediction, ...],
) -> Prediction:  # fmt: skip
    fused = scores[0]
    assert fused is not None  # a run without an error has scores
    best = [None if one is None else labels[int(one.argmax())] for one in scores]
    return Prediction(
        path=shown(entry.path),
        label=entry.label,
        predicted=labels[int(fused.argmax())],
        score=round(float(fused.max()), 4),
        true_score=round(float(fused[labels.index(entry.label)]), 4),
        spatial=best[1],
        temporal=best[2],
        subjects=subjects,
    )


def _figures(outcomes: _Outcomes, stream: int, labels: Sequence[str]) -> ScoreFigures:
    truth, predicted = outcomes.truth, outcomes.predicted[:, stream]  # (N,) each
    matrix = confusion(truth.tolist(), predicted.tolist(), len(labels))
    right = predicted == truth
    scored = predicted != NONE
    per_label = {}
    for i, label in enumerate(labels):
        # Clips come from the truth: a row of the matrix omits the clips without a prediction.
        hits, clips, named = int(matrix[i, i]), int((truth == i).sum()), int(matrix[:, i].sum())
        per_label[label] = LabelFigures(
            clips, ratio(hits, clips), ratio(hits, named), ratio(2 * hits, clips + named)
        )
    with_clips = [row for row in per_label.values() if row.clips]
    return ScoreFigures(
        top1=ratio(int(right.sum()), len(truth)),
        top1_interval=wilson(int(right.sum()), len(truth)),
        mean_recall=mean([row.recall for row in with_clips]),
        macro_f1=mean([row.f1 for row in with_clips]),
        labels=per_label,
        confusion=matrix.tolist(),
        calibration=calibration(outcomes.confidence[scored, stream], right[scored]),
    )
