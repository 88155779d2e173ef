"""Whether a picture shows anything new: the detector rests while nothing moves."""

import cv2
import numpy as np

from pipeline.arrays import Frame, Gray, is_planar, picture_size, planes
from pipeline.clock import NS_PER_S
from pipeline.pictures import resized

_COLUMNS = 96
_SAMPLES = 5
"""Pixels that are read of each cell, in both directions: a mean over all would cost ten times."""
_LEAST = 4.0
"""Gray levels by which a cell must differ ..."""
_NOISES = 6.0
"""... and in standard deviations of the picture's noise."""
_CELLS = 2
"""So many cells must differ: a single one is a spark."""
HOLD_S = 2.0
"""The gate stays open for so long: somebody who stops is still seen a few times."""


class MotionGate:
    """Open while the picture differs from the one that was last looked at, and a while longer.

    The first picture after :meth:`forget` is always new.
    """

    def __init__(self) -> None:
        self._looked_at: Gray | None = None
        self._now: Gray | None = None
        self._open_until_ns = 0

    def open(self, frame: Frame, time_ns: int) -> bool:
        """Whether to look at a frame of either form; ``time_ns`` must not go back."""
        self._now = _reduced(frame)
        if self._looked_at is None or differs(self._looked_at, self._now):
            self._open_until_ns = time_ns + round(HOLD_S * NS_PER_S)
        return time_ns <= self._open_until_ns

    def looked(self) -> None:
        """The newest frame has been looked at."""
        self._looked_at = self._now

    def forget(self) -> None:
        """The next frame is new: another segment, or another size of picture."""
        self._looked_at = self._now = None


def differs(one: Gray, other: Gray) -> bool:
    """Whether two pictures (h, w) differ by more than noise and by more than their brightness."""
    change = cv2.subtract(other, one, dtype=cv2.CV_32F)
    change -= np.median(change)
    size = np.abs(change)
    noise = 1.4826 * float(np.median(size))  # the standard deviation, where the noise is Gaussian
    return int(np.count_nonzero(size > max(_LEAST, _NOISES * noise))) >= _CELLS


def _reduced(frame: Frame) -> Gray:
    """The picture's luma, or its green, :data:`_COLUMNS` wide."""
    height, width = picture_size(frame.shape)
    plane = planes(frame)[0] if is_planar(frame) else frame[:, :, 1]
    stride = max(1, width // (_COLUMNS * _SAMPLES))
    some = np.ascontiguousarray(plane[::stride, ::stride])
    columns = min(_COLUMNS, some.shape[1])
    return resized(some, (max(1, round(columns * height / width)), columns))
