"""Training sequences: clips put one after another, as in a camera's stream.

The live pipeline runs a pack on a sliding window at every step. Such a window also holds what came
before a gesture, part of one, or what follows, which single clips don't show. So a sequence is a
chain of parts: clips, pieces of rendered episodes, clips without a label, stillness. Hard cuts,
stillness or the start of a new segment join the parts, and every step has a target.

Next: :mod:`training.clip_augment`, what is done to each clip; then :mod:`training.model`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline import flow
from pipeline.arrays import STILL
from pipeline.flow.base import FlowMethod
from pipeline.steps.preprocess import TemporalInputs, flow_input
from training.clip_augment import (
    cropped,
    mirrored,
    reversed_clip,
    scribble,
    still_after,
    stretched,
)
from training.config import CompositionConfig, TrainConfig
from training.data import Clip, Stroke

UNSEEN = 0.25
Rng = np.random.Generator
Floats = npt.NDArray[np.float32]


class Batch(NamedTuple):
    """N sequences of T steps.

    * ``fields`` (N, T, h, w, 2) uint8, ``grid`` (N, T, c, gh, gw) float16, ``moving`` and ``seen``
      (N, T) bool: as in :class:`~training.data.Clip`
    * ``target`` (N, T) int64 and its ``weight`` (N, T) float32, 0 where a step has no target
    * ``drawn`` (N, T) int64: the gesture that is being drawn; ``progress`` (N, T) float32: the part
      of it drawn so far, 0 where no gesture is being drawn
    """

    fields: npt.NDArray[np.uint8]
    grid: npt.NDArray[np.float16]
    moving: npt.NDArray[np.bool_]
    seen: npt.NDArray[np.bool_]
    target: npt.NDArray[np.int64]
    weight: Floats
    drawn: npt.NDArray[np.int64]
    progress: Floats


def stack_valid(moving: npt.NDArray[np.bool_], stack: int) -> npt.NDArray[np.bool_]:
    """(…, T) bool: the steps at which all ``stack`` fields of a stack exist in one segment."""
    valid = moving.copy()
    for lag in range(1, stack):
        shifted = np.zeros_like(moving)
        shifted[..., lag:] = moving[..., :-lag] if lag < moving.shape[-1] else False
        valid &= shifted
    return valid


def stack_indices(steps: int, stack: int) -> npt.NDArray[np.int64]:
    """(T, L): the indices of the fields in each step's stack, oldest first.

    Clamped to 0 at the start, where :func:`stack_valid` is false.
    """
    lags = np.arange(stack - 1, -1, -1)
    return np.asarray(np.maximum(np.arange(steps)[:, None] - lags[None], 0), np.int64)


def targets(
    strokes: Sequence[Stroke], steps: int, config: CompositionConfig, background: int
) -> tuple[npt.NDArray[np.int64], Floats]:
    """The target label of each of ``steps`` steps, and its weight.

    Along a stroke the target is background at first, then none (weight 0) just before the stroke
    is recognisable. From there it is the label, until ``hold`` steps after the stroke's end; then
    none for ``settle`` steps, then background again. A stroke that began well before the sequence
    can't be recognised and has no target at all.
    """
    target = np.full(steps, background, np.int64)
    weight = np.ones(steps, np.float32)
    for label, first, past in strokes:
        length = past - first
        recognised = min(past - 1, first + math.floor(config.recognisable * length))
        unsure = recognised - math.ceil(config.undecided * length)
        weight[max(0, unsure) : max(0, past + config.hold + config.settle)] = 0.0
        if -first <= UNSEEN * length:
            labelled = slice(recognised, max(0, past + config.hold))
            target[labelled], weight[labelled] = label, 1.0
    return target, weight


def foresight(strokes: Sequence[Stroke], steps: int) -> tuple[npt.NDArray[np.int64], Floats]:
    """The gesture that each step is part of, and the part of it drawn so far.

    A second target, used in training alone. It is denser than :func:`targets` and makes the
    recurrent state keep track of a gesture from its beginning.
    """
    drawn = np.zeros(steps, np.int64)
    progress = np.zeros(steps, np.float32)
    for label, first, past in strokes:
        if -first <= UNSEEN * (past - first):
            inside = np.arange(max(0, first), min(past, steps))
            drawn[inside] = label
            progress[inside] = (inside + 1 - first) / (past - first)
    return drawn, progress


class Join(IntEnum):
    """How two parts of a chain are joined."""

    CUT = 0
    """A hard cut, as between clips played one after the other; the flow across it is nonsense."""
    STILL = 1
    """Nothing moved."""
    SEGMENT = 2
    """A new segment: no flow field."""


JOIN_SHARES = (0.5, 0.3, 0.2)


def chained(
    parts: Sequence[Clip], joins: Sequence[Join], method: FlowMethod, inputs: TemporalInputs
) -> Clip:
    """The parts one after the other, with ``joins`` between them; named after the first."""
    fields = np.concatenate([clip.fields for clip in parts])
    moving = np.concatenate([clip.moving for clip in parts])
    strokes, start = list(parts[0].strokes), len(parts[0])
    for before, clip, join in zip(parts[:-1], parts[1:], joins, strict=True):
        strokes += [Stroke(s.label, s.first + start, s.past + start) for s in clip.strokes]
        fields[start] = STILL
        if join is Join.CUT:
            fields[start] = flow_input(before.last, clip.first, 1.0, method, inputs)
        moving[start] = join is not Join.SEGMENT
        start += len(clip)
    return replace(
        parts[0], fields=fields, moving=moving, last=parts[-1].last, strokes=tuple(strokes),
        grid=np.concatenate([clip.grid for clip in parts]),
        seen=np.concatenate([clip.seen for clip in parts]),
    )  # fmt: skip


@dataclass(frozen=True)
class Pools:
    """The clips that parts are drawn from: by label, rendered episodes, clips without a label."""

    by_label: dict[int, list[Clip]]
    episodes: list[Clip]
    negatives: list[Clip]


def make_pools(
    config: TrainConfig, clips: Sequence[Clip], negatives: Sequence[Clip], episodes: Sequence[Clip]
) -> Pools:
    """Sort clips into pools."""
    by_label: dict[int, list[Clip]] = {}
    for clip in clips:
        by_label.setdefault(clip.label, []).append(clip)
    return Pools(by_label, list(episodes), list(negatives))


class Composer:
    """Composes random training sequences; one per process, because it holds a flow method."""

    def __init__(self, config: TrainConfig, pools: Pools) -> None:
        self._config = config
        self.pools = pools
        self._labels = sorted(pools.by_label)
        self._background = config.labels.index(config.background[0])
        self._method = flow.create(config.temporal.method)
        names = config.labels
        self._mirror = {names.index(a): names.index(b) for a, b in config.swaps.items()}
        scribbled = {names.index(label) for label in config.composition.scribbled}
        self._scribbled = sorted(scribbled & pools.by_label.keys())
        self._reverse = {names.index(a): names.index(b) for a, b in config.reversals.items()}

    def batch(self, rng: Rng) -> Batch:
        """A batch of ``optimiser.batch`` sequences."""
        rows = [self.sequence(rng) for _ in range(self._config.optimiser.batch)]
        return Batch(*(np.stack(column) for column in zip(*rows, strict=True)))

    def sequence(self, rng: Rng) -> Batch:
        """One sequence: a :class:`Batch` without the dimension N."""
        steps = self._config.composition.steps
        parts, offset = [], 0
        if rng.random() < self._config.composition.lead_in:
            parts.append(self._lead_in(rng))
            offset = int(rng.integers(len(parts[0])))
        while sum(map(len, parts)) - offset < steps:
            parts += self._gesture(rng)
        joins = rng.choice(len(Join), len(parts) - 1, p=JOIN_SHARES)
        chain = chained(parts, [Join(int(j)) for j in joins], self._method, self._config)
        return self._targeted(chain, offset)

    def _gesture(self, rng: Rng) -> list[Clip]:
        """The next parts: a piece of an episode, a scribble, or a clip, perhaps then stillness."""
        if self.pools.episodes and rng.random() < self._config.composition.rendered:
            return [self._episode_part(rng, 30, 90)]
        if self._scribbled and rng.random() < self._config.composition.scribbles:
            return [self._scribble(rng)]
        label = self._labels[int(rng.integers(len(self._labels)))]
        clip = self._varied(self._pick(self.pools.by_label[label], rng), rng)
        if rng.random() < 0.5:
            return [clip]
        return [clip, still_after(clip, int(rng.integers(2, 16)), rng)]

    def _scribble(self, rng: Rng) -> Clip:
        label = self._scribbled[int(rng.integers(len(self._scribbled)))]
        clip = self._varied(self._pick(self.pools.by_label[label], rng), rng)
        return scribble(clip, int(rng.integers(12, 50)), rng)

    def _lead_in(self, rng: Rng) -> Clip:
        """The part at a random step of which the sequence begins."""
        if self.pools.negatives and rng.random() < self._config.composition.negatives:
            return self._varied(self._pick(self.pools.negatives, rng), rng)
        if self.pools.episodes and rng.random() < 0.4:
            return self._episode_part(rng, 10, 50)
        pool = self.pools.by_label[self._labels[int(rng.integers(len(self._labels)))]]
        clip = self._varied(self._pick(pool, rng), rng)
        return clip if rng.random() < 0.5 else still_after(clip, int(rng.integers(3, 30)), rng)

    def _episode_part(self, rng: Rng, fewest: int, most: int) -> Clip:
        clip = self._pick(self.pools.episodes, rng)
        length = min(int(rng.integers(fewest, most)), len(clip))
        first = int(rng.integers(len(clip) - length + 1))
        return self._varied(cropped(clip, first, first + length), rng)

    def _pick(self, pool: Sequence[Clip], rng: Rng) -> Clip:
        """A random clip, with the grid of its own pictures or of a photometric variant."""
        clip = pool[int(rng.integers(len(pool)))]
        chosen = int(rng.integers(len(clip.looks) + 1))
        grid = clip.looks[chosen - 1] if chosen else clip.grid
        return replace(clip, grid=grid, looks=clip.looks[:0])

    def _varied(self, clip: Clip, rng: Rng) -> Clip:
        """The clip, mirrored and played backwards at random where its labels allow, and
        stretched."""
        labels = {clip.label, *(s.label for s in clip.strokes)}
        if labels <= self._mirror.keys() and rng.random() < 0.5:
            clip = mirrored(clip, self._mirror)
            labels = {clip.label, *(s.label for s in clip.strokes)}
        if labels <= self._reverse.keys() and rng.random() < 0.3:
            clip = reversed_clip(clip, self._reverse)
        low, high = np.log(self._config.composition.stretch)
        return stretched(clip, float(np.exp(rng.uniform(low, high))))

    def _targeted(self, chain: Clip, offset: int) -> Batch:
        """The steps of ``chain`` from ``offset`` on, with their targets."""
        config, steps = self._config, self._config.composition.steps
        part = slice(offset, offset + steps)
        moved = [Stroke(s.label, s.first - offset, s.past - offset) for s in chain.strokes]
        target, weight = targets(moved, steps, config.composition, self._background)
        weight[target == self._background] *= config.optimiser.background_weight
        moving = chain.moving[part].copy()
        moving[0] = False
        return Batch(
            chain.fields[part], chain.grid[part], moving, chain.seen[part], target, weight,
            *foresight(moved, steps),
        )  # fmt: skip
