"""The interface of flow methods, and the 8-bit form in which flow is stored."""

from typing import Protocol

import numpy as np

from pipeline.arrays import STILL, FlowField, Gray, QuantisedFlow

_LEVELS = np.float32(127.0)


class FlowMethod(Protocol):
    """Dense displacement from one gray image to the next.

    ``prev_gray`` and ``next_gray`` are (H, W) uint8 of equal shape. The result is (H, W, 2)
    float32, pixels from prev to next, x right, y down.
    """

    def __call__(self, prev_gray: Gray, next_gray: Gray) -> FlowField: ...


def quantise(flow: FlowField, bound: float) -> QuantisedFlow:
    """Convert flow in pixels per step to uint8, as it is stored and as the network takes it.

    ``q = round(127 * clip(u / bound, -1, 1)) + 128``: no motion is exactly 128, ±``bound`` is
    255 and 1. The shape stays the same. Two-stream networks store flow as 8-bit images in the same
    way (Simonyan and Zisserman 2014, section 5).
    """
    scaled = flow * np.float32(_LEVELS / bound)
    np.rint(scaled, out=scaled)
    # The same as np.clip, whose overhead is larger than the work on a small field.
    np.minimum(scaled, _LEVELS, out=scaled)
    np.maximum(scaled, -_LEVELS, out=scaled)
    scaled += np.float32(STILL)
    return scaled.astype(np.uint8)


def dequantise(quantised: QuantisedFlow, bound: float) -> FlowField:
    """Invert :func:`quantise`, to within ``bound / 254``."""
    return (quantised.astype(np.float32) - np.float32(STILL)) * np.float32(bound / 127.0)
