"""Optical flow: the motion that the temporal stream looks at.

Every method is a callable of two grey images that returns displacement::

    flow(prev_gray, next_gray) -> (H, W, 2) float32, pixels from prev to next (x right, y down)

``prev_gray`` and ``next_gray`` are (H, W) uint8 of equal shape. A method object may hold scratch
memory, so each thread makes its own with :func:`create`.
"""

from collections.abc import Callable

from pipeline.flow.base import FlowMethod


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
