"""MediaPipe's single-shot detectors: a picture to the boxes and points of what it found."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import spox.opset.ai.onnx.v18 as op
from spox import Var

from export.base.ops import (
    floats,
    integers,
    joined,
    most,
    numbers,
    part,
    run,
    shaped,
    step_in,
    total,
)
from export.base.ops import widened as wide_at

OVERLAP = 0.3
"""Boxes that overlap more (IoU) are of the same thing, and are averaged by their scores."""
_TINY = 1e-9


@dataclass(frozen=True)
class Detector:
    """A detector's network, and what its numbers mean."""

    network: onnx.ModelProto
    side: int
    strides: tuple[int, ...]
    """Pixels of a cell, for each layer; two anchors a cell."""
    least: float
    """Anchors with a lower score don't count."""


@dataclass(frozen=True)
class Found:
    """One detection for each picture."""

    score: Var
    """(N, 1)"""
    box: Var
    """(N, 4): left, top, right, bottom, in pixels of the frames"""
    points: Var
    """(N, k, 2): x, y in pixels of the frames"""


@dataclass(frozen=True)
class Anchored:
    """What the network says at each of its M anchors."""

    scores: Var
    """(N, M)"""
    rows: Var
    """(N, M, 4 + 2k): left, top, right, bottom, then points, in pixels of the frames"""


def anchors(side: int, strides: Sequence[int]) -> npt.NDArray[np.float32]:
    """Centres (M, 2) of the anchors, 0 to 1; layers with equal strides share a grid."""
    found = []
    for stride in dict.fromkeys(strides):
        cells = side // stride
        y, x = np.divmod(np.arange(cells * cells), cells)
        centres = (np.stack([x, y], 1) + 0.5) / cells
        found.append(np.repeat(centres, 2 * list(strides).count(stride), 0))
    return np.concatenate(found).astype(np.float32)


def shrunk(frames: Var, size: tuple[int, int], side: int) -> Var:
    """Frames (N, h, w, 3) uint8 in a black square: (N, 3, side, side), each pixel a mean.

    The longer side must be a multiple of ``side``: a mean of whole pixels is cheap and exact.
    """
    high, wide = size
    factor, rest = divmod(max(size), side)
    if rest or high % factor or wide % factor:
        raise ValueError(f"frames of {high}×{wide} don't shrink to {side} by a whole factor")
    cells = shaped(floats(frames), 0, high // factor, factor, wide // factor, factor, 3)
    # Both axes at once: onnxruntime takes twenty times as long for one after the other.
    small = op.reduce_mean(cells, integers(2, 4), keepdims=0)
    small = op.transpose(small, perm=[0, 3, 1, 2])
    above, left = (side - high // factor) // 2, (side - wide // factor) // 2
    below, right = side - high // factor - above, side - wide // factor - left
    return op.pad(small, integers(0, 0, above, left, 0, 0, below, right))


def anchored(detector: Detector, frames: Var, size: tuple[int, int]) -> Anchored:
    """Run the detector on frames of ``size``."""
    side = detector.side
    said = run(detector.network, shrunk(frames, size, side))
    centres = numbers(anchors(side, detector.strides) * side)
    scale = max(size) / side
    margin = numbers([(max(size) - size[1]) / 2, (max(size) - size[0]) / 2])
    points = said["boxes"].unwrap_tensor().shape[-1] // 2 - 2
    middle = (part(said["boxes"], 0, 2) + centres) * scale - margin
    half = part(said["boxes"], 2, 4) * (scale / 2)
    count = len(anchors(side, detector.strides))
    offsets = shaped(part(said["boxes"], 4, 4 + 2 * points), 0, 0, points, 2)
    where = (offsets + wide_at(centres, 1)) * scale - margin
    rows = joined(middle - half, middle + half, shaped(where, 0, 0, 2 * points))
    return Anchored(shaped(op.sigmoid(said["scores"]), 0, count), rows)


def _boxes_overlap(a: Var, b: Var) -> Var:
    """IoU along the last axis (4) of boxes that broadcast."""
    high = op.min([part(a, 2, 4), part(b, 2, 4)])
    both = op.relu(high - op.max([part(a, 0, 2), part(b, 0, 2)]))
    sides_a, sides_b = part(a, 2, 4) - part(a, 0, 2), part(b, 2, 4) - part(b, 0, 2)
    shared = area(both)
    return shared / op.max([area(sides_a) + area(sides_b) - shared, numbers(_TINY)])


def area(sides: Var) -> Var:
    """Width times height of (..., 2)."""
    wide, high = part(sides, 0, 1), part(sides, 1, 2)
    return total(op.mul(wide, high))


def overlap(a: Var, b: Var) -> Var:
    """Intersection over union of boxes (..., 4): (...)."""
    return _boxes_overlap(a, b)


def found(said: Anchored, least: float, count: int, rank: Var | None = None) -> list[Found]:
    """The ``count`` best detections, each the mean of those that overlap it.

    ``rank`` (N, M) says which anchor is best; by default its score. A detection that isn't there
    has a score below ``least``.
    """
    free = said.scores
    detections = []
    for _ in range(count):
        best = op.arg_max(free if rank is None else rank, axis=1, keepdims=1)
        score = step_in(free, best)
        same = overlap(wide_at(step_in(part(said.rows, 0, 4), best), 1), part(said.rows, 0, 4))
        near = floats(op.greater_or_equal(same, numbers(OVERLAP)))
        votes = free * near * floats(op.greater_or_equal(free, numbers(least)))
        row = shaped(op.matmul(wide_at(votes, 1), said.rows), 0, -1)
        row = row / op.max([total(votes, keep=True), numbers(_TINY)])
        row_points = shaped(part(row, 4, 1 << 20), 0, -1, 2)
        detections.append(Found(wide_at(score, 1), part(row, 0, 4), row_points))
        free = free * (1.0 - near)
    return detections


def largest(sizes: Var, scores: Var, sure: float) -> Var:
    """A rank (N, M): the largest of those with a score of ``sure``, else by score."""
    enough = op.greater_or_equal(scores, numbers(sure))
    top = most(sizes, keep=True)
    return op.where(enough, sizes / top + 1.0, scores)
