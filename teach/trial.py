"""Trials: fit without some groups of clips, and predict those.

The figures of a trial are the ones to expect on clips of the same kind that weren't taught.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Vector
from pipeline.evaluate.protocol import stream_order
from teach.arrays import Flags, Numbers
from teach.base import Base
from teach.examples import Example, Rows, Windows
from teach.features import ClipFeatures
from teach.fit import STRENGTH, STRENGTHS, Head, Regression, Scaling, StreamHead, softmax
from teach.streams import ScoredStream, Shown

FOLDS = 5
BACKGROUND_SHARE = 1.0
"""The background weighs as much as this many actions."""
PAUSE_STEPS = 60
"""Longest pause between two actions of a stream."""
TEMPERATURES = np.geomspace(0.2, 5.0, 49)


@dataclass(frozen=True)
class Looks:
    """The streams of a pack: what looks at pictures and what looks at motion, and their shares."""

    appearance: str
    motion: str
    shares: tuple[float, float]

    @property
    def name(self) -> str:
        used = [n for n, s in zip((self.appearance, self.motion), self.shares, strict=True) if s]
        return "+".join(used)


class Fitting:
    """Windows scaled and ready: heads are fitted to them."""

    def __init__(
        self, base: Base, looks: Looks, rows: Rows, labels: int, background: Sequence[int]
    ) -> None:
        self._labels, self._spans, self._numbers = labels, rows.spans, rows.labels
        self._weights = row_weights(rows, labels, background)
        names = (looks.appearance, looks.motion)
        self._blocks = [base.streams[name].blocks for name in names]
        self._scalings = [
            Scaling.fitted(rows.pooled[name], blocks)
            for name, blocks in zip(names, self._blocks, strict=True)
        ]
        self._alone = [
            one.apply(rows.pooled[name]) for one, name in zip(self._scalings, names, strict=True)
        ]
        self._factors = [np.float32(np.sqrt(share)) for share in looks.shares]
        used = [v * f for v, f in zip(self._alone, self._factors, strict=True) if f]
        self._fused = self._regression(np.concatenate(used, axis=1))

    def _regression(self, vectors: Vector) -> Regression:
        return Regression(vectors, self._numbers, self._weights, self._labels)

    def head(self, strength: float = STRENGTH, alone_too: bool = False) -> Head:
        """``alone_too``: fit the scores of each stream alone as well, which only a pack needs."""
        fused, bias = self._fused.fitted(strength)
        streams, place = [], 0
        for blocks, scaling, vectors, factor in zip(
            self._blocks, self._scalings, self._alone, self._factors, strict=True
        ):
            part = np.zeros((vectors.shape[1], self._labels), np.float32)
            if factor:
                part = fused[place : place + vectors.shape[1]] * factor
                place += vectors.shape[1]
            own, own_bias = np.zeros_like(part), np.zeros(self._labels, np.float32)
            if alone_too:
                own, own_bias = self._regression(vectors).fitted(strength)
            streams.append(
                StreamHead(
                    blocks, self._spans, scaling.mean, scaling.scale, scaling.limit, part, own,
                    own_bias,
                )
            )  # fmt: skip
        return Head((streams[0], streams[1]), bias)


def row_weights(rows: Rows, labels: int, background: Sequence[int]) -> Vector:
    """Each label weighs the same, whatever the number and length of its clips."""
    kinds = rows.clips * labels + rows.labels
    weights: Vector = (1.0 / np.bincount(kinds)[kinds]).astype(np.float32)
    for label in range(labels):
        of_label = rows.labels == label
        if of_label.any():
            share = BACKGROUND_SHARE if label in background else 1.0
            weights[of_label] *= share / weights[of_label].sum()
    weights *= len(rows) / weights.sum()
    return weights


def folds_of(groups: Sequence[str], labels: Sequence[int], most: int = FOLDS) -> Numbers:
    """A fold for each clip; groups stay together, labels are spread over the folds.

    There are as many folds as the label with the fewest groups allows, at least two.
    """
    by_label: dict[int, list[str]] = {}
    for group, label in zip(groups, labels, strict=True):
        seen = by_label.setdefault(label, [])
        if group not in seen:
            seen.append(group)
    count = max(2, min(most, *(len(seen) for seen in by_label.values())))
    fold: dict[str, int] = {}
    load = np.zeros((count, max(labels) + 1))
    # Large groups first: the small ones then fill the gaps.
    sizes = {group: groups.count(group) for group in dict.fromkeys(groups)}
    for group in sorted(sizes, key=lambda name: (-sizes[name], name)):
        of_group = np.bincount(
            [one for name, one in zip(groups, labels, strict=True) if name == group],
            minlength=load.shape[1],
        )
        costs = [((load[k] + of_group) ** 2).sum() - (load[k] ** 2).sum() for k in range(count)]
        fold[group] = int(np.argmin(costs))
        load[fold[group]] += of_group
    return np.array([fold[group] for group in groups])


@dataclass(frozen=True)
class Trial:
    """Logits (n, C) of every window by a head that was fitted without the window's fold."""

    looks: Looks
    logits: Vector
    heads: Mapping[int, Head]
    strength: float = STRENGTH
    """C of the regression."""

    def top1(self, rows: Rows, background: Sequence[int]) -> float:
        """The mean over labels of how many whole windows are right; background labels are one."""
        right = rightly(self.logits, rows.labels, background)
        shares = []
        for label in np.unique(rows.labels):
            chosen = (rows.labels == label) & (rows.whole | np.isin(label, background))
            if chosen.any():
                shares.append(right[chosen].mean())
        return float(np.mean(shares))

    def error_of_top1(self, rows: Rows) -> float:
        """The standard error of :meth:`top1`, for clips that are independent."""
        count = max(1, len(np.unique(rows.clips)))
        right = rightly(self.logits, rows.labels, ())[rows.whole]
        share = float(right.mean()) if len(right) else 0.5
        return float(np.sqrt(max(share * (1 - share), 1 / count) / count))


def rightly(logits: Vector, labels: Numbers, background: Sequence[int]) -> Flags:
    predicted = logits.argmax(1)
    both_rest = np.isin(predicted, background) & np.isin(labels, background)
    right: Flags = (predicted == labels) | both_rest
    return right


def left_out(
    base: Base, looks: Looks, rows: Rows, folds: Numbers, labels: int, background: Sequence[int]
) -> Trial:
    """``folds`` (n,) is each window's. The fit is as strong as tells best what was left out."""
    logits = {strength: np.zeros((len(rows), labels), np.float32) for strength in STRENGTHS}
    heads: dict[float, dict[int, Head]] = {strength: {} for strength in STRENGTHS}
    for fold in np.unique(folds):
        out = folds == fold
        fitting = Fitting(base, looks, rows.only(~out), labels, background)
        test = rows.only(out)
        pooled = [test.pooled[looks.appearance], test.pooled[looks.motion]]
        for strength in STRENGTHS:
            heads[strength][int(fold)] = head = fitting.head(strength)
            logits[strength][out] = head.logits(pooled)
    weights = row_weights(rows, labels, background)
    best = min(STRENGTHS, key=lambda one: least_loss(logits[one], rows.labels, weights)[0])
    return Trial(looks, logits[best], heads[best], best)


def temperature(logits: Vector, numbers: Numbers, weights: Vector) -> float:
    """By what the logits are to be divided so that scores mean what they say: least mean
    negative log likelihood (Guo et al. 2017, "On Calibration of Modern Neural Networks")."""
    return least_loss(logits, numbers, weights)[1]


def least_loss(logits: Vector, numbers: Numbers, weights: Vector) -> tuple[float, float]:
    """The least negative log likelihood of any temperature, and that temperature."""
    rows = np.arange(len(numbers))
    return min(
        (float((-np.log(softmax(logits / t)[rows, numbers] + 1e-12) * weights).sum()), float(t))
        for t in TEMPERATURES
    )


def streams_of(
    windows: Windows,
    trial: Trial,
    examples: Sequence[Example],
    folds: Numbers,
    rest: Sequence[int],
    heat: float,
    seed: int = 0,
) -> list[ScoredStream]:
    """A stream of each fold's clips, scored by the head that was fitted without them.

    ``folds`` is each example's. Background follows each action: clips of it, or of any fold where
    this one has none.
    """
    found = []
    for fold, head in trial.heads.items():
        own = [one for one, number in zip(examples, folds, strict=True) if number == fold]
        actions = [one for one in own if one.label not in rest]
        quiet = [one for one in own if one.label in rest] or [
            one for one in examples if one.label in rest
        ]
        if actions:
            found.append(_stream(windows, trial.looks, head, [*actions, *quiet], rest, heat, seed))
    return found


def _stream(
    windows: Windows,
    looks: Looks,
    head: Head,
    examples: Sequence[Example],
    rest: Sequence[int],
    heat: float,
    seed: int,
) -> ScoredStream:
    clips, shown, step = [], [], 0
    for place in stream_order([one.label not in rest for one in examples], seed):
        if place is None:
            continue
        one = examples[place]
        clip = one.clip
        if one.label in rest and clip.steps > PAUSE_STEPS:
            clip = clip.only(slice(0, PAUSE_STEPS))
        if one.label not in rest:
            shown.append(Shown(one.label, step, step + clip.steps))
        clips.append(clip)
        step += clip.steps
    return ScoredStream(scores_of(windows, looks, head, clips, heat), tuple(shown))


def scores_of(
    windows: Windows, looks: Looks, head: Head, clips: Sequence[ClipFeatures], heat: float
) -> Vector:
    """Scores (S, C) at every step of clips that play one after the other."""
    pooled = windows.of_stream(clips)
    return softmax(head.logits([pooled[looks.appearance], pooled[looks.motion]]) / heat)


def quiet_streams(
    windows: Windows,
    trial: Trial,
    examples: Sequence[Example],
    folds: Numbers,
    rest: Sequence[int],
    heat: float,
) -> list[ScoredStream]:
    """Each background clip by itself, scored by the head that was fitted without it."""
    return [
        ScoredStream(scores_of(windows, trial.looks, trial.heads[int(fold)], [one.clip], heat), ())
        for one, fold in zip(examples, folds, strict=True)
        if one.label in rest and int(fold) in trial.heads
    ]
