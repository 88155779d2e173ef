"""Optical flow: the motion that the temporal stream looks at.

Every method is a callable of two grey images that returns displacement::

    flow(prev_gray, next_gray) -> (H, W, 2) float32, pixels from prev to next (x right, y down)

``prev_gray`` and ``next_gray`` are (H, W) uint8 of equal shape. A method object may hold scratch
memory, so each thread makes its own with :func:`create`.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import numpy.typing as npt

Gray = npt.NDArray[np.uint8]
FlowField = npt.NDArray[np.float32]
QuantisedFlow = npt.NDArray[np.uint8]


class FlowMethod(Protocol):
    """Dense displacement from one grey image to the next."""

    def __call__(self, prev_gray: Gray, next_gray: Gray) -> FlowField: ...


def _lucas_kanade() -> FlowMethod:
    from pipeline.flow.lucas_kanade import LucasKanade

    return LucasKanade()


def _farneback() -> FlowMethod:
    from pipeline.flow.opencv import Farneback

    return Farneback()


def _dis() -> FlowMethod:
    from pipeline.flow.opencv import DIS

    return DIS()


def _deep() -> FlowMethod:
    from pipeline.flow.deep import Deep

    return Deep()


METHODS: dict[str, Callable[[], FlowMethod]] = {
    "deep": _deep,
    "dis": _dis,
    "farneback": _farneback,
    "lucas_kanade": _lucas_kanade,
}


def create(name: str) -> FlowMethod:
    """A fresh flow method by its name; raises ValueError naming those there are."""
    try:
        return METHODS[name]()
    except KeyError:
        raise ValueError(
            f"unknown flow method {name!r}: there are {', '.join(sorted(METHODS))}"
        ) from None


def create_fast(name: str) -> FlowMethod:
    """The fastest that the method has, for when time is short; itself where it has nothing faster.

    DIS by its ultrafast preset, Lucas-Kanade with one iteration a level; ``docs/flow.md`` has what
    either costs in accuracy.
    """
    if name == "dis":
        import cv2

        from pipeline.flow.opencv import DIS

        return DIS(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    if name == "lucas_kanade":
        from pipeline.flow.lucas_kanade import LucasKanade, Parameters

        return LucasKanade(Parameters(iterations=1, finest_iterations=1))
    return create(name)


def quantise(flow: FlowField, bound: float) -> QuantisedFlow:
    """Flow in pixels per step as uint8, the form in which it is stored and given to the network.

    ``q = round(127 * clip(u / bound, -1, 1)) + 128``: no motion is exactly 128, ±``bound`` is
    255 and 1 (two-stream networks store flow as 8-bit images in the same way: Simonyan and
    Zisserman 2014, section 5). Shape is kept.
    """
    scaled = flow * np.float32(127.0 / bound)
    np.rint(scaled, out=scaled)
    # As np.clip, whose way to the same two loops is longer than they are on a small field.
    np.minimum(scaled, np.float32(127.0), out=scaled)
    np.maximum(scaled, np.float32(-127.0), out=scaled)
    scaled += 128.0
    return scaled.astype(np.uint8)


def dequantise(quantised: QuantisedFlow, bound: float) -> FlowField:
    """The inverse of :func:`quantise`, to within ``bound / 254``."""
    return (quantised.astype(np.float32) - np.float32(128.0)) * np.float32(bound / 127.0)
