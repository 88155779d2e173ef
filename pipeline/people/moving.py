"""Where something moves: one box around it, from a flow field alone."""

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.arrays import FlowField
from pipeline.people.camera_motion import (
    STILL_CAMERA,
    CameraMotion,
    camera_motion,
    less_camera,
    reduced,
)
from pipeline.transport.messages import Box

_COLUMNS = 80
_GATE_PX = 0.4
"""Motion below this, in pixels of the field and a step, is noise (docs/flow.md)."""
_GATE_OF_NOISE = 4.0
"""... and below this many times the median, which in a still picture is the noise of the camera."""
_NOISE_AT_MOST_PX = 0.5
"""The median counts as noise up to here: somebody near may move half of the picture."""
_FEWEST = 0.001
"""The least share of the picture that must move."""
_FASTEST = 4.0
"""A cell counts at most this many times the gate: a fast hand doesn't outweigh a slow body."""
_GUESSED = 2
"""Cells at the border of a picture that moves whose flow is a guess: half a patch of DIS."""
_OUTSIDE = 0.03
"""The share of the motion that may lie outside the box on each side: leaves, a stray vector."""


def moving_box(field: FlowField, camera: CameraMotion | None = None) -> Box | None:
    """The box (0..1) around what moves in a field (H, W, 2) in pixels a step; None for nothing.

    The camera's motion is taken off; by default it is estimated from the field itself.
    """
    small = reduced(field, _COLUMNS)
    camera = camera_motion(field) if camera is None else camera
    rows, columns = small.shape[:2]
    size = np.array([field.shape[1] / columns, field.shape[0] / rows], np.float32)
    # ``less_camera`` reckons in the small field's pixels; the values are in the large one's.
    own = less_camera(small / size, camera) * size
    speed = np.hypot(own[..., 0], own[..., 1]).astype(np.float32)
    if min(rows, columns) >= 3:
        speed = np.asarray(cv2.medianBlur(speed, 3), np.float32)  # single cells are noise
    noise = min(float(np.median(speed)), _NOISE_AT_MOST_PX)
    gate = max(_GATE_PX, _GATE_OF_NOISE * noise)
    weights = np.where(speed >= gate, np.minimum(speed, _FASTEST * gate), 0).astype(np.float64)
    _without_border(weights, camera)
    if np.count_nonzero(weights) < max(1.0, _FEWEST * weights.size):
        return None
    x0, x1 = _span(weights.sum(axis=0))
    y0, y1 = _span(weights.sum(axis=1))
    return x0, y0, x1, y1


def _without_border(weights: npt.NDArray[np.float64], camera: CameraMotion) -> None:
    """Clear the border, as wide as a moving camera takes cells out of the picture: nothing matches
    them, and the flow beside them is a guess."""
    if camera is STILL_CAMERA:
        return
    rows, columns = weights.shape
    shift = camera.field((rows, columns))
    y, x = np.mgrid[0:rows, 0:columns]
    for place, way, cells in ((x, shift[..., 0], columns), (y, shift[..., 1], rows)):
        after = place + way
        out = (np.minimum(place, after) < _GUESSED) | (
            np.maximum(place, after) > cells - 1 - _GUESSED
        )
        weights[out] = 0


def _span(weights: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Where the middle of the weights (n,) lies, all but a small share on either side; 0..1."""
    so_far = np.cumsum(weights) / weights.sum()
    first = int(np.searchsorted(so_far, _OUTSIDE, side="right"))
    last = int(np.searchsorted(so_far, 1 - _OUTSIDE, side="left"))
    return first / len(weights), (last + 1) / len(weights)
