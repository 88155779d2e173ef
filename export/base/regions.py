"""Turned squares of a picture: where a hand or body is, cut out, and points put back.

A region (..., 5) is centre x, centre y, side, and the direction (x, y), of length 1, that points
up within it; in pixels of the frames, whose first pixel goes from 0 to 1.
"""

import numpy as np
import spox.opset.ai.onnx.v18 as op
from spox import Var

from export.base.ops import (
    floats,
    integers,
    joined,
    least,
    length,
    mean,
    most,
    numbers,
    part,
    picked,
    shaped,
    unit,
    widened,
)

HAND_OUTLINE = (0, 1, 2, 3, 5, 6, 9, 10, 13, 14, 17, 18)
"""Landmarks of a hand without its finger ends: its region shouldn't jump when a finger bends."""


def _moved(centre: Var, sides: Var, up: Var, forward: float, scale: float) -> Var:
    """A region ahead of ``centre`` by a part of the height; its side is the longer side, scaled."""
    ahead = centre + part(sides, 1, 2) * up * forward
    return joined(ahead, most(sides, keep=True) * scale, up)


def palm_region(box: Var, points: Var) -> Var:
    """From a palm's box (N, 4) and points (N, 7, 2): from the wrist to the middle knuckle is up."""
    up = unit(shaped(picked(points, [2], 1) - picked(points, [0], 1), 0, 2))
    centre = (part(box, 0, 2) + part(box, 2, 4)) * 0.5
    return _moved(centre, part(box, 2, 4) - part(box, 0, 2), up, 0.5, 2.6)


def hand_direction(points: Var) -> Var:
    """Up of a hand (..., 21, 2): from the wrist to the middle of the knuckles, of length 1."""
    knuckles = mean(picked(points, [5, 9, 9, 13], -2), -2)
    return unit(knuckles - _only(points, 0))


def hand_region(points: Var) -> Var:
    """The region (K, 5) of 21 landmarks (K, 21, 2): the next step's, where a hand is followed."""
    up = hand_direction(points)
    outline = picked(points, HAND_OUTLINE, 1)
    middle = (least(outline, 1) + most(outline, 1)) * 0.5
    right_down = _axes(up)  # (K, 2, 2)
    turned = op.matmul(outline - widened(middle, 1), op.transpose(right_down, perm=[0, 2, 1]))
    low, high = least(turned, 1), most(turned, 1)
    shift = op.matmul(widened((low + high) * 0.5, 1), right_down)
    return _moved(middle + shaped(shift, 0, 2), high - low, up, 0.1, 2.0)


def circle_region(points: Var, scale: float = 1.25) -> Var:
    """A body's region (N, 5): centre of the hips, and a point that gives size and direction."""
    centre, rim = _only(points, 0), _only(points, 1)
    radius = length(rim - centre, keep=True)
    return joined(centre, radius * (2 * scale), unit(rim - centre))


def upright(region: Var) -> Var:
    """The box (..., 4) of a region as if it weren't turned."""
    centre, half = part(region, 0, 2), part(region, 2, 3) * 0.5
    return joined(centre - half, centre + half)


def cut(frames: Var, region: Var, size: tuple[int, int], side: int) -> Var:
    """Cuts (K, 3, side, side) of K frames (K, h, w, 3) uint8; beyond the edge its pixels go on."""
    high, wide = size
    places = (np.arange(side) + 0.5) / side - 0.5
    # x and y as planes (K, 2, side, side): much faster than as pairs.
    scale = np.array([2 / wide, 2 / high])
    sides = _axes(part(region, 3, 5)) * widened(part(region, 2, 3), 1) * numbers(scale)
    across = shaped(part(sides, 0, 1, 1), 0, 2, 1, 1) * numbers(places.reshape(1, 1, 1, side))
    below = shaped(part(sides, 1, 2, 1), 0, 2, 1, 1) * numbers(places.reshape(1, 1, side, 1))
    middle = shaped(part(region, 0, 2) * numbers(scale) - 1.0, 0, 2, 1, 1)
    # onnxruntime is three times as fast with the padding "zeros"; with spots held to the middles
    # of the outermost pixels it is the same as "border".
    rim = (1 - scale / 2).reshape(1, 2, 1, 1)
    spots = op.max([op.min([across + (below + middle), numbers(rim)]), numbers(-rim)])
    pairs = op.transpose(shaped(spots, 0, 2, side * side), perm=[0, 2, 1])
    grid = shaped(pairs, 0, side, side, 2)
    planes = floats(op.transpose(frames, perm=[0, 3, 1, 2]))
    return op.grid_sample(planes, grid, mode="bilinear", padding_mode="zeros")


def put_back(points: Var, region: Var, side: int) -> Var:
    """Points (K, n, 3) in a cut's pixels to the frames' pixels; z is scaled alike."""
    extent = shaped(part(region, 2, 3), 0, 1, 1)
    within = (part(points, 0, 2) * (1 / side) - 0.5) * extent
    places = op.matmul(within, _axes(part(region, 3, 5))) + widened(part(region, 0, 2), 1)
    return joined(places, part(points, 2, 3) * (1 / side) * extent)


def _right(up: Var) -> Var:
    return joined(-part(up, 1, 2), part(up, 0, 1))


def _down(up: Var) -> Var:
    return -up


def _axes(up: Var) -> Var:
    """(K, 2, 2): the directions right and down of a region, as rows."""
    return joined(widened(_right(up), 1), widened(_down(up), 1), axis=1)


def _only(points: Var, which: int) -> Var:
    """One point of (..., n, 2)."""
    return op.squeeze(picked(points, [which], -2), integers(-2))
