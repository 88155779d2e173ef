"""Where in its clip an action happens, found from the labels of whole clips alone.

A recording of a fall shows walking, the fall, and lying. Taught as it is, walking would be part of
the fall. So the one window of each clip is looked for that the other clips' windows explain best
(multiple instance learning). Heads that choose a clip's window never learned from that clip: a head
would find again whatever it was given (Cinbis, Verbeek, Schmid 2017, "Weakly Supervised Object
Localization with Multi-Fold Multiple Instance Learning").
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Vector
from teach.arrays import Numbers
from teach.base import Base
from teach.examples import Example, Window, Windows
from teach.fit import Regression, Scaling, softmax
from teach.streams import Labels
from teach.trial import folds_of

ROUNDS = 8
EVERY = 3
"""Steps between two windows that are tried."""
MOST_TRIED = 60
"""Windows tried of one clip."""
MOST_REST = 40
"""Windows of one clip of the background."""
STRENGTH = 1.0
"""C of the regression: weaker than a pack's, since most windows are labelled wrong at first."""
APART = 0.5
"""So much of a window lies between what came before the action and the action."""


@dataclass(frozen=True)
class _Tried:
    """Windows: whose they are (n,), at which step they end (n,), their labels (n,) and vectors
    (n, D)."""

    clips: Numbers
    ends: Numbers
    labels: Numbers
    vectors: Vector

    def __len__(self) -> int:
        return len(self.ends)


def located(
    base: Base,
    streams: Sequence[str],
    examples: Sequence[Example],
    labels: Labels,
    length: int,
    folds: Sequence[int] | None = None,
) -> tuple[list[Example], list[int]]:
    """Each clip of an action cut to the ``length`` steps that show it, and whose clip each is.

    What came before, in the same place, is added as background of the same group. Clips that are
    no longer than ``length``, and those of the background, stay as they are.
    """
    tried = _tried(base, streams, examples, labels, length)
    own = folds_of([e.group for e in examples], [e.label for e in examples])
    fold = own if folds is None else np.array(folds)
    chosen = _searched(tried, fold[tried.clips], labels)
    ends = dict(zip(tried.clips[chosen].tolist(), tried.ends[chosen].tolist(), strict=True))
    parts = [
        (part, place)
        for place, one in enumerate(examples)
        for part in ([one] if place not in ends else _parts(one, ends[place], length, labels))
    ]
    return [part for part, _ in parts], [place for _, place in parts]


def _parts(one: Example, end: int, length: int, labels: Labels) -> list[Example]:
    """The action, which ends before step ``end``, and what came well before it."""
    first = max(0, end - length)
    parts = [Example(one.clip.only(slice(first, end)), one.label, one.group, one.name)]
    before = first - round(APART * length)
    if before >= length:
        quiet = one.clip.only(slice(0, before))
        parts.append(Example(quiet, labels.rest[0], one.group, f"{one.name} (before)"))
    return parts


def _tried(
    base: Base, streams: Sequence[str], examples: Sequence[Example], labels: Labels, length: int
) -> _Tried:
    windows = Windows(base, streams, length)
    clips, ends = [], []
    for place, one in enumerate(examples):
        most = MOST_REST if one.label in labels.rest else MOST_TRIED
        own = _ends(one.clip.steps, length, most)
        clips += [place] * len(own)
        ends += own
    parts = windows.pooled([Window(examples[c].clip, e) for c, e in zip(clips, ends, strict=True)])
    vectors = [
        Scaling.fitted(parts[name], base.streams[name].blocks).apply(parts[name])
        for name in streams
    ]
    together = np.concatenate(vectors, axis=1) / np.float32(np.sqrt(len(vectors)))
    numbers = np.array([examples[place].label for place in clips])
    return _Tried(np.array(clips), np.array(ends), numbers, together)


def _ends(steps: int, length: int, most: int) -> list[int]:
    """Where windows end: the newest at the clip's end, the oldest after its first ``length``."""
    ends = list(range(steps, min(length, steps) - 1, -EVERY))
    if len(ends) > most:
        ends = [ends[int(k)] for k in np.linspace(0, len(ends) - 1, most)]
    return ends


def _searched(tried: _Tried, folds: Numbers, labels: Labels) -> Numbers:
    """Places (m,) of the windows that show an action: one of each clip of an action."""
    rest = np.isin(tried.labels, labels.rest)
    taught = np.arange(len(tried))  # at first every window of an action's clip
    chosen = np.zeros(0, int)
    for _ in range(ROUNDS):
        scores = _scores(tried, taught, folds, len(labels.names))
        best = [
            places[int(scores[places].argmax())]
            for clip in np.unique(tried.clips[~rest])
            for places in [np.flatnonzero(tried.clips == clip)]
        ]
        if np.array_equal(chosen, best):
            break
        chosen = np.array(best)
        taught = np.concatenate([np.flatnonzero(rest), chosen])
    return chosen


def _scores(tried: _Tried, taught: Numbers, folds: Numbers, labels: int) -> Vector:
    """The score (n,) of each window's own label, by a head that never saw its fold."""
    scores = np.zeros(len(tried), np.float32)
    for fold in np.unique(folds):
        rows = taught[folds[taught] != fold]
        out = np.flatnonzero(folds == fold)
        weights, bias = Regression(
            tried.vectors[rows], tried.labels[rows], _weights(tried, rows, labels), labels
        ).fitted(STRENGTH)
        own = softmax(tried.vectors[out] @ weights + bias)
        scores[out] = own[np.arange(len(out)), tried.labels[out]]
    return scores


def _weights(tried: _Tried, rows: Numbers, labels: int) -> Vector:
    """Each clip of a label weighs the same, and each label too."""
    clips = tried.clips[rows]
    weights = 1.0 / np.bincount(clips)[clips]
    for label in range(labels):
        own = tried.labels[rows] == label
        if own.any():
            weights[own] /= weights[own].sum()
    scaled: Vector = (weights * len(rows) / weights.sum()).astype(np.float32)
    return scaled
