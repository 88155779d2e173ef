"""Stillness: a picture that stands, which no living camera gives however calm its scene is."""

import cv2
import numpy as np

from pipeline.clock import NS_PER_S
from pipeline.frame_ring import Image

STRIDE = 8
TOLERANCE = 10
"""Grey levels. An encoder that is given one picture for ever makes slightly different ones of it
with each key frame: x264, at 2 Mbit/s, by up to 6 of a photograph, and by up to 10 of coloured
noise, whose colours change by more than twice that."""


class Stillness:
    """Tells for how long a camera has shown one picture.

    The grey of every eighth pixel of every eighth row is held against the picture with which the
    stillness began. Where none has moved by more than :data:`TOLERANCE` for ``after_s`` seconds
    the picture is frozen; ``after_s`` 0 never finds it so. A dark and empty scene may look frozen
    too; the first thing that moves in it ends that.
    """

    def __init__(self, after_s: float) -> None:
        self._after_ns = after_s * NS_PER_S
        self._first: Image | None = None
        self._since_ns = 0

    def forget(self) -> None:
        """What comes next is another picture, even if it is the same."""
        self._first = None

    def frozen(self, frame: Image, now_ns: int) -> bool:
        """Whether ``frame``, (H, W, 3) uint8, is still the picture of ``after_s`` ago."""
        if not self._after_ns:
            return False
        few = np.ascontiguousarray(frame[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE])
        sample = np.asarray(cv2.cvtColor(few, cv2.COLOR_BGR2GRAY), np.uint8) if few.size else few
        if self._first is None or not _alike(sample, self._first):
            self._first, self._since_ns = sample, now_ns
            return False
        return now_ns - self._since_ns >= self._after_ns


def _alike(one: Image, other: Image) -> bool:
    if one.shape != other.shape:
        return False
    return not one.size or cv2.norm(one, other, cv2.NORM_INF) <= TOLERANCE
