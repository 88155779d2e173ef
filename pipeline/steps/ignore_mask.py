"""Ignore masks: parts of a camera's picture that nothing looks at become one even gray.

A frame is painted over before flow and the networks see it, so what happens inside a polygon
changes no score. Flow methods carry the motion around into an even part. So a flow field is made
still inside, too.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.arrays import Frame, Gray, is_planar, picture_size, planes
from pipeline.steps.polygons import Polygon

GRAY = 128
"""Of each channel of a BGR picture."""
LUMA, CHROMA = 126, 128
"""The same gray in planes of limited range."""
BLACK, BLACK_LUMA = 0, 16
_SHIFT = 8
"""fillPoly takes fixed-point numbers with this many bits after the point."""
_ON_SIDE = 1e-6
"""Pixels by which a centre may lie outside and still count as on a side."""
_FINER = 8
Cells = npt.NDArray[np.bool_]
_MEASURE = (480, 640)
"""The size of the picture in which :func:`covered` counts pixels."""


def inside(polygon: Polygon, height: int, width: int) -> Gray:
    """(height, width) uint8: 255 for each pixel that a polygon touches, 0 elsewhere."""
    # A pixel's centre lies half a pixel from its corner; OpenCV counts from centres.
    points = (np.array(polygon) * (width, height) - 0.5) * (1 << _SHIFT)
    picture, corners = np.zeros((height, width), np.uint8), [np.rint(points).astype(np.int32)]
    cv2.fillPoly(picture, corners, 255, shift=_SHIFT)
    # It misses a centre close to a side now and then.
    for row, first, last in _runs(polygon, height, width):
        picture[row, first : last + 1] = 255
    return picture


def _runs(polygon: Polygon, height: int, width: int) -> Iterator[tuple[int, int, int]]:
    """Row, first and last column of the pixels whose centres are inside (even-odd rule)."""
    x0, y0 = np.array(polygon).T
    x1, y1 = np.roll(x0, -1), np.roll(y0, -1)
    for row in range(height):
        y = (row + 0.5) / height
        crossed = (y0 > y) != (y1 > y)
        slope = (x1 - x0)[crossed] / (y1 - y0)[crossed]
        sides = np.sort(x0[crossed] + (y - y0[crossed]) * slope) * width - 0.5
        for left, right in zip(sides[::2], sides[1::2], strict=True):
            first, last = math.ceil(left - _ON_SIDE), math.floor(right + _ON_SIDE)
            if last >= first:
                yield row, max(0, first), min(width - 1, last)


def still_cells(polygons: Sequence[Polygon], size: tuple[int, int]) -> Cells | None:
    """(height, width) bool: the vectors of a flow field that lie inside by half or more.

    ``size`` is (height, width) of the field. None without polygons.
    """
    if not polygons:
        return None
    height, width = size
    large = np.zeros((height * _FINER, width * _FINER), np.uint8)
    for polygon in polygons:
        large |= inside(polygon, *large.shape)
    share = large.reshape(height, _FINER, width, _FINER).mean(axis=(1, 3))
    return np.asarray(share >= 127, np.bool_)


def covered(polygons: Iterable[Polygon]) -> float:
    """The share of the picture that polygons hide together, 0..1."""
    picture = np.zeros(_MEASURE, np.uint8)
    for polygon in polygons:
        picture |= inside(polygon, *_MEASURE)
    return np.count_nonzero(picture) / picture.size


@dataclass(frozen=True, slots=True)
class _Patch:
    """What is painted over a part of a plane, or of a BGR picture."""

    plane: int
    rows: slice
    columns: slice
    level: int
    mask: Gray | None
    """None: all of it."""
    paint: Frame | Gray


class IgnoreMask:
    """Paints a camera's ``ignore`` polygons over its frames; they may change their size.

    They become gray for what looks at pictures, or ``black`` for people who do.
    """

    def __init__(self, polygons: Sequence[Polygon], *, black: bool = False) -> None:
        self._polygons = tuple(polygons)
        self._levels = (BLACK, BLACK_LUMA) if black else (GRAY, LUMA)
        self._shape: tuple[int, ...] | None = None
        self._patches: list[_Patch] = []

    def __bool__(self) -> bool:
        """Whether there is anything to paint over."""
        return bool(self._polygons)

    def paint(self, frame: Frame) -> None:
        """Paint over a frame of either form (:data:`pipeline.arrays.Frame`), in place."""
        if not self._polygons:
            return
        if frame.shape != self._shape:
            self._patches = [
                patch
                for polygon in self._polygons
                for patch in _patches(polygon, frame, *self._levels)
            ]
            self._shape = frame.shape
        parts = planes(frame) if is_planar(frame) else (frame,)
        for patch in self._patches:
            place = parts[patch.plane][patch.rows, patch.columns]
            if patch.mask is None:
                place[:] = patch.level
            else:
                cv2.copyTo(patch.paint, patch.mask, place)

    def painted(self, frame: Frame) -> Frame:
        """A copy that is painted over; without polygons the frame itself."""
        if not self._polygons:
            return frame
        copy = frame.copy()
        self.paint(copy)
        return copy


def _patches(polygon: Polygon, frame: Frame, level: int, luma: int) -> Iterator[_Patch]:
    height, width = picture_size(frame.shape)
    mask = inside(polygon, height, width)
    if not is_planar(frame):
        yield _patch(0, mask, level, 3)
        return
    # One sample of colour belongs to four pixels. It is hidden if it tells of one that is.
    few = mask.reshape(height // 2, 2, width // 2, 2).max(axis=(1, 3))
    yield _patch(0, mask, luma)
    for plane in (1, 2):
        yield _patch(plane, few, CHROMA)


def _patch(plane: int, mask: Gray, level: int, channels: int = 0) -> _Patch:
    """Cut to the part that the mask touches, so that a small polygon costs little."""
    left, top, width, height = cv2.boundingRect(mask)
    rows, columns = slice(top, top + height), slice(left, left + width)
    cut = np.ascontiguousarray(mask[rows, columns])
    shape = (*cut.shape, channels) if channels else cut.shape
    paint = np.full(shape, level, np.uint8)
    return _Patch(plane, rows, columns, level, None if cut.all() else cut, paint)
