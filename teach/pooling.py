"""From the features of a window to one vector, in numpy. :mod:`teach.head_graph` is its twin.

A block pools some features over the window's steps. Steps that the mask leaves out, and steps at
which the block has no values (no hand was found), count nowhere. A block without any valid step
gives zeros.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipeline.arrays import Vector
from teach.base import STROKE_POINTS, Block, Pool

FLOOR = 1e-6
LEAST_SPAN = 8
MOVES = 0.25
"""A step moves that is this part as fast as the fastest of the window."""
LEAST_MOVING = 3
SMALLEST_STROKE, STROKE_FLOOR = 1e-3, 0.01
SWING_FLOOR = 0.1
"""Under which a swing is no swing: the logarithm is of it plus this."""
ABSENT = 1e6
"""Larger than any feature: what stands for missing values under a maximum."""


def pooled(
    features: Vector, mask: Vector, blocks: Sequence[Block], spans: Sequence[int]
) -> list[Vector]:
    """The pooled values (N, width) of each block over the newest ``spans`` steps: all blocks over
    the first span, then over the next.

    ``features`` is (N, T, d) float32, ``mask`` (N, T), 1 where the step is present.
    """
    return [
        _block(features[:, -span:], mask[:, -span:], block) for span in spans for block in blocks
    ]


def spans_of(length: int) -> tuple[int, ...]:
    """The whole window and its newer half.

    A window is as long as the longest action. What came before a short one must not blur it.
    """
    return tuple(dict.fromkeys((length, max(min(length, LEAST_SPAN), round(length / 2)))))


def _block(features: Vector, mask: Vector, block: Block) -> Vector:
    values = features[:, :, block.start : block.start + block.size]
    there = mask > 0.5
    if block.valid is not None:
        there = there & (features[:, :, block.valid] > 0.5)
    weight = there.astype(np.float32)
    if block.unit is not None:
        unit = features[:, :, block.unit : block.unit + 1]
        divisor: Vector = np.maximum(_mean(unit, weight), np.float32(FLOOR))
        values = values / divisor[:, np.newaxis]
    present = mask
    if block.lag:
        values = values[:, block.lag :] - values[:, : -block.lag]
        weight = weight[:, block.lag :] * weight[:, : -block.lag]
        present = mask[:, block.lag :]
    return np.concatenate(
        [_POOLS[pool](values, weight, present) for pool in block.pools], axis=1
    ).astype(np.float32)


def _mean(values: Vector, weight: Vector) -> Vector:
    count = np.maximum(weight.sum(1, keepdims=True), 1.0)
    mean: Vector = np.einsum("ntd,nt->nd", values, weight / count)
    return mean


def _mean_pool(values: Vector, weight: Vector, _present: Vector) -> Vector:
    return _mean(values, weight)


def _std_pool(values: Vector, weight: Vector, _present: Vector) -> Vector:
    around = values - _mean(values, weight)[:, np.newaxis]
    return np.sqrt(_mean(around * around, weight))


def _max_pool(values: Vector, weight: Vector, _present: Vector) -> Vector:
    missing = (1.0 - weight)[:, :, np.newaxis] * np.float32(ABSENT)
    return _where_any((values - missing).max(1), weight)


def _min_pool(values: Vector, weight: Vector, _present: Vector) -> Vector:
    missing = (1.0 - weight)[:, :, np.newaxis] * np.float32(ABSENT)
    return _where_any((values + missing).min(1), weight)


def _where_any(values: Vector, weight: Vector) -> Vector:
    some = weight.sum(1, keepdims=True) > 0
    return np.where(some, values, np.float32(0.0))


def _thirds_pool(values: Vector, weight: Vector, present: Vector) -> Vector:
    """The mean of each third of the present steps. One without valid steps takes the one before."""
    parts = thirds(present) * weight[:, :, np.newaxis]  # (N, T, 3)
    counts = parts.sum(1)  # (N, 3)
    first, second, third = (_mean(values, parts[:, :, k]) for k in range(3))
    any_first, any_second, any_third = (counts[:, k, np.newaxis] > 0 for k in range(3))
    first = np.where(any_first, first, np.where(any_second, second, third))
    second = np.where(any_second, second, first)
    third = np.where(any_third, third, second)
    return np.concatenate([first, second, third], axis=1)


def thirds(present: Vector) -> Vector:
    """To which third (N, T, 3) of the present steps (N, T) each step belongs; 0 or 1."""
    steps = present.shape[1]
    age = np.arange(steps, 0, -1, dtype=np.float32)  # the newest step has age 1
    oldest = (present * age).max(1, keepdims=True)  # (N, 1)
    # Steps from the oldest present one on, counted from 0, in parts of the whole.
    place = (oldest - age) / np.maximum(oldest, 1.0)
    return np.stack(
        [
            (place >= 0) & (place < 1 / 3 - FLOOR),
            (place >= 1 / 3 - FLOOR) & (place < 2 / 3 - FLOOR),
            place >= 2 / 3 - FLOOR,
        ],
        axis=2,
    ).astype(np.float32)


def _swing_pool(values: Vector, weight: Vector, _present: Vector) -> Vector:
    """How far the values go to either side of their mean: log root mean squares, up then down."""
    around = values - _mean(values, weight)[:, np.newaxis]
    sides = (np.maximum(around, 0.0), np.maximum(-around, 0.0))
    return np.concatenate(
        [
            _where_any(np.log(np.sqrt(_mean(side * side, weight)) + SWING_FLOOR), weight)
            for side in sides
        ],
        axis=1,
    )


def _stroke_pool(values: Vector, weight: Vector, _present: Vector) -> Vector:
    """The path (N, T, 2 velocities) as it was drawn: twelve points of it, equally far apart in
    time, between the first and the last step that moves. Centred, and scaled to reach 1.

    Then where it ends from where it began, the logarithm of its size, and how it turns. Zeros where
    fewer than three steps move.
    """
    moved = values * weight[:, :, np.newaxis]
    speed = np.sqrt((moved**2).sum(2))
    on = (speed > MOVES * speed.max(1, keepdims=True)) & (speed > 0)
    steps = np.arange(values.shape[1], dtype=np.float32)
    first = np.where(on, steps, np.float32(ABSENT)).min(1, keepdims=True)
    last = np.where(on, steps, np.float32(-1)).max(1, keepdims=True)
    some = on.sum(1, keepdims=True) >= LEAST_MOVING
    places = first + (last - first) * np.linspace(0, 1, STROKE_POINTS, dtype=np.float32)
    near = np.maximum(1 - np.abs(places[:, :, np.newaxis] - steps), 0)  # (N, 12, T)
    points = near @ moved.cumsum(1)
    end = points[:, -1] - points[:, 0]
    points = points - points.mean(1, keepdims=True)
    size = np.maximum(np.abs(points).max((1, 2))[:, np.newaxis], np.float32(SMALLEST_STROKE))
    cross = moved[:, :-1, 0] * moved[:, 1:, 1] - moved[:, :-1, 1] * moved[:, 1:, 0]
    inside = (steps[:-1] >= first) & (steps[:-1] < last)
    turn = (cross * inside).sum(1, keepdims=True)
    parts = [
        points.reshape(len(points), -1) / size[:, :1],
        end / size,
        np.log(size + np.float32(STROKE_FLOOR)),
        turn / size**2,
    ]
    return np.where(some, np.concatenate(parts, axis=1), np.float32(0))


_POOLS: Mapping[Pool, Callable[[Vector, Vector, Vector], Vector]] = {
    "mean": _mean_pool,
    "std": _std_pool,
    "max": _max_pool,
    "min": _min_pool,
    "thirds": _thirds_pool,
    "swing": _swing_pool,
    "stroke": _stroke_pool,
}
