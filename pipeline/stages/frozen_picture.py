"""Frozen pictures: a camera that shows the same picture for long, as no working camera does."""

import cv2
import numpy as np

from pipeline.arrays import Frame, Gray, is_planar, planes
from pipeline.clock import NS_PER_S

STRIDE = 8
TOLERANCE = 10
"""Gray levels. An encoder makes slightly different pictures of the same one at each key frame:
x264 at 2 Mbit/s differs by up to 6 on a photograph and by up to 10 on coloured noise, whose colours
change by more than twice that."""


class FrozenPicture:
    """Notices that a camera has shown one picture for ``after_s`` seconds; 0: never.

    Compares the gray of every eighth pixel of every eighth row with the first of the pictures. The
    picture is frozen while no pixel differs by more than :data:`TOLERANCE`. A dark and empty scene
    may look frozen too; the first thing that moves in it ends that.
    """

    def __init__(self, after_s: float) -> None:
        self._after_ns = after_s * NS_PER_S
        self._first: Gray | None = None
        self._since_ns = 0

    def forget(self) -> None:
        """The next picture counts as a new one, even if it is the same."""
        self._first = None

    def is_frozen(self, frame: Frame, now_ns: int) -> bool:
        """Whether ``frame`` is still the picture of ``after_s`` ago."""
        if not self._after_ns:
            return False
        sample = _sample(frame)
        if self._first is None or not _alike(sample, self._first):
            self._first, self._since_ns = sample, now_ns
            return False
        return now_ns - self._since_ns >= self._after_ns


def _sample(frame: Frame) -> Gray:
    whole = planes(frame)[0] if is_planar(frame) else frame
    few = np.ascontiguousarray(whole[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE])
    if few.ndim == 2 or not few.size:
        return few
    return np.asarray(cv2.cvtColor(few, cv2.COLOR_BGR2GRAY), np.uint8)


def _alike(one: Gray, other: Gray) -> bool:
    if one.shape != other.shape:
        return False
    return not one.size or cv2.norm(one, other, cv2.NORM_INF) <= TOLERANCE
