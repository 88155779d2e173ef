"""A camera that is knocked: all people jump by one shift, and are the same people."""

import numpy as np
import numpy.typing as npt

_NEAR = 0.25
"""How near a shifted person must be to a detection, in heights of the person."""
_ALIKE = 1.25
"""How much their heights may differ, as a factor."""
_AGREEING = 0.7
"""The share of the people that one shift must explain, and two at least."""

Places = npt.NDArray[np.float64]
"""(n, 3): the middle's x and y, and the height, in one unit."""


def common_shift(expected: Places, found: Places) -> tuple[float, float] | None:
    """The shift that brings most of the people to detections; None if there is no such shift.

    A shift that nobody needs is none: this is for looks at which most people are where nobody was
    expected.
    """
    if len(expected) < 2 or len(found) < 2:
        return None
    off = found[np.newaxis, :, :2] - expected[:, np.newaxis, :2]  # (n, m, 2)
    ratio = found[np.newaxis, :, 2] / expected[:, np.newaxis, 2]
    alike = (ratio < _ALIKE) & (ratio > 1 / _ALIKE)
    reach = _NEAR * expected[:, 2]
    best: tuple[int, tuple[float, float]] = (_explained(off, alike, reach, np.zeros(2)), (0.0, 0.0))
    for shift in off[alike]:
        explained = _explained(off, alike, reach, shift)
        if explained > best[0]:
            best = explained, (float(shift[0]), float(shift[1]))
    enough = best[0] >= max(2, _AGREEING * len(expected))
    return best[1] if enough and best[1] != (0.0, 0.0) else None


def _explained(
    off: npt.NDArray[np.float64],
    alike: npt.NDArray[np.bool_],
    reach: npt.NDArray[np.float64],
    shift: npt.NDArray[np.float64],
) -> int:
    """How many people have a detection near their shifted place."""
    near = np.hypot(*np.moveaxis(off - shift, -1, 0)) < reach[:, np.newaxis]
    return int((near & alike).any(axis=1).sum())
