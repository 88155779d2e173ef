"""From the network's numbers to boxes: distances to the sides, and one box a person.

Everything here is a function of arrays and numbers. Pixels are those of the network's input.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from pipeline.people.geometry import overlaps
from pipeline.people.letterbox import Boxes, Floats, Letterbox

People = npt.NDArray[np.float32]
"""(n, 5) float32: x0 y0 x1 y1 in 0..1 of the picture, and the score; the best score first."""

MOST_CANDIDATES = 300
"""Boxes that :func:`suppressed` compares at most: its time grows with their square."""


@lru_cache(maxsize=64)
def cells(size: tuple[int, int], strides: tuple[int, ...]) -> Floats:
    """(A, 3) float32: centre x, centre y and stride of each cell, row by row, scale by scale.

    ``size`` is that of the input. A scale has one cell for each ``stride`` by ``stride`` pixels.
    """
    parts = []
    for stride in strides:
        rows, columns = -(-size[0] // stride), -(-size[1] // stride)
        y, x = np.mgrid[:rows, :columns].astype(np.float32)
        centres = [(x.ravel() + 0.5) * stride, (y.ravel() + 0.5) * stride]
        parts.append(np.stack([*centres, np.full(x.size, stride)], axis=1))
    grid = np.concatenate(parts).astype(np.float32)
    grid.setflags(write=False)  # it is shared by all calls
    return grid


def decoded(sides: Floats, grid: Floats) -> Boxes:
    """Boxes from the network's distributions.

    ``sides`` is (n, 4 * bins): for the left, top, right and bottom side, how likely each distance
    from the cell's centre is, unnormalised. Distance k is k strides. A side lies at the mean of its
    distribution (Li et al., Generalized Focal Loss, 2020). ``grid`` is (n, 3), of :func:`cells`.
    """
    weights = sides.reshape(len(sides), 4, sides.shape[1] // 4)
    weights = np.exp(weights - weights.max(axis=2, keepdims=True))
    bins = np.arange(weights.shape[2], dtype=np.float32)
    distances = (weights @ bins) / weights.sum(axis=2) * grid[:, 2:]
    centres = np.tile(grid[:, :2], 2)  # x y x y
    signs = np.asarray([-1, -1, 1, 1], np.float32)
    return np.asarray(centres + signs * distances, np.float32)


def suppressed(boxes: Boxes, scores: Floats, overlap: float) -> list[int]:
    """The boxes to keep, the best score first; equal scores keep their order.

    A box is dropped if its overlap with a better one that is kept is more than ``overlap``
    (non-maximum suppression). Of more than :data:`MOST_CANDIDATES` boxes, the best are compared.
    """
    order = np.argsort(-scores, kind="stable")[:MOST_CANDIDATES]
    alike = overlaps(boxes[order], boxes[order]) > overlap
    dropped = np.zeros(len(order), bool)
    kept = []
    for place in range(len(order)):
        if not dropped[place]:
            kept.append(int(order[place]))
            dropped |= alike[place]
    return kept


def found_people(
    scores: Floats, sides: Floats, box: Letterbox, strides: Sequence[int], least: float,
    overlap: float,
) -> People:  # fmt: skip
    """People in one picture from the network's outputs: ``scores`` (A,), ``sides`` (A, 4 * bins).

    ``least`` is the lowest score to keep, ``overlap`` as in :func:`suppressed`.
    """
    sure = np.flatnonzero(scores >= least)
    boxes = decoded(sides[sure], cells(box.size, tuple(strides))[sure])
    kept = suppressed(boxes, scores[sure], overlap)
    shares = box.shares(boxes[kept])
    # A box in the border around the picture has no area in it.
    real = (shares[:, 2:] > shares[:, :2]).all(axis=1)
    return np.column_stack([shares, scores[sure][kept]])[real].astype(np.float32)
