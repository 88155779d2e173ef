"""Optical flow: the motion that the temporal stream uses.

Every method is a callable that takes two gray images and returns displacement::

    flow(prev_gray, next_gray) -> (H, W, 2) float32, pixels from prev to next (x right, y down)

``prev_gray`` and ``next_gray`` are (H, W) uint8 of equal shape. A method object may hold scratch
memory, so each thread creates its own with :func:`create`.
"""

from collections.abc import Callable

from pipeline.flow.base import FlowMethod

# Each method is imported when it is created: ``deep`` needs onnxruntime, and the others don't.


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
    """Create a flow method by name; raises ValueError that lists the known names."""
    try:
        return METHODS[name]()
    except KeyError:
        raise ValueError(_unknown(name)) from None


def _unknown(name: str) -> str:
    return f"unknown flow method {name!r}; must be one of {', '.join(sorted(METHODS))}"


def check(name: str) -> None:
    """Raise ValueError or :class:`PackError` if :func:`create` would; opens no network."""
    if name not in METHODS:
        raise ValueError(_unknown(name))
    if name == "deep":
        from pipeline.flow.deep import verified_network

        verified_network()


def create_fast(name: str) -> FlowMethod:
    """Create the fastest variant of a method, for when steps come late.

    DIS uses its ultrafast preset, and Lucas-Kanade one iteration per level; ``docs/flow.md`` has
    their cost in accuracy. The other methods have no faster variant and are created as they are.
    """
    if name == "dis":
        import cv2

        from pipeline.flow.opencv import DIS

        return DIS(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    if name == "lucas_kanade":
        from pipeline.flow.lucas_kanade import LucasKanade, Parameters

        return LucasKanade(Parameters(iterations=1, finest_iterations=1))
    return create(name)
