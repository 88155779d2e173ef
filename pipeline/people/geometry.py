"""Boxes in a picture: x0, y0, x1, y1."""

import numpy as np
import numpy.typing as npt

from pipeline.transport.messages import Box

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
"""The whole picture."""

Boxes = npt.NDArray[np.float64]
"""(n, 4) float64: x0, y0, x1, y1 in one unit for both directions, or in 0..1."""


def checked(detections: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """A copy (n, 5) float64 of detections, cut at the picture's border, without the unusable ones.

    A box is unusable when a number is not finite or nothing of it is in the picture. Raises
    ValueError for another shape.
    """
    found = np.asarray(detections, np.float64)
    if found.size == 0:
        return np.empty((0, 5))
    if found.ndim != 2 or found.shape[1] != 5:
        raise ValueError(f"detections must be (n, 5): x0 y0 x1 y1 score, got {found.shape}")
    found = found[np.isfinite(found).all(axis=1)]
    found[:, :4] = found[:, :4].clip(0, 1)
    wide, high = found[:, 2] - found[:, 0], found[:, 3] - found[:, 1]
    return found[(wide > 0) & (high > 0)]


def inside(box: Box) -> Box:
    """A box of 0..1, cut at the picture's border."""
    x0, y0, x1, y1 = (min(max(side, 0.0), 1.0) for side in box)
    return x0, y0, x1, y1


def covered(box: npt.NDArray[np.float64], others: Boxes) -> float:
    """The largest part of ``box`` (4,) that one of ``others`` (n, 4) covers, 0..1."""
    whole = box[np.newaxis]
    return float((shared(whole, others) / np.maximum(areas(whole), 1e-12)).max())


def overlaps(
    one: npt.NDArray[np.floating], others: npt.NDArray[np.floating]
) -> npt.NDArray[np.floating]:
    """Intersection over union of each of ``one`` (n, 4) with each of ``others`` (m, 4): (n, m)."""
    both = shared(one, others)
    union = areas(one)[:, np.newaxis] + areas(others)[np.newaxis] - both
    return np.asarray(np.divide(both, union, out=both, where=union > 0))


def shared(
    one: npt.NDArray[np.floating], others: npt.NDArray[np.floating]
) -> npt.NDArray[np.floating]:
    """The area that each of ``one`` (n, 4) shares with each of ``others`` (m, 4): (n, m)."""
    low = np.maximum(one[:, np.newaxis, :2], others[np.newaxis, :, :2])
    high = np.minimum(one[:, np.newaxis, 2:], others[np.newaxis, :, 2:])
    sides = np.maximum(high - low, 0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def areas(boxes: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """The areas (n,) of boxes (n, 4); 0 where a box is turned inside out."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return np.asarray(sides[:, 0] * sides[:, 1])
