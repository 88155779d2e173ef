"""Errors of a flow field against the ground truth.

The measures and the file format are those of the Middlebury evaluation (Baker et al., IJCV 2011).
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.arrays import FlowField

_MAGIC = b"PIEH"  # the bytes of the float 202021.25, which show a reader the byte order
_HEADER_BYTES = 12
_UNKNOWN_ABOVE = 1e9
_MAX_SIDE = 99_999


def read_flo(path: Path | str) -> FlowField:
    """Read a Middlebury ``.flo`` file: flow (H, W, 2) float32 in pixels, x right, y down.

    A pixel of unknown motion (a component beyond 1e9 or not a number) is NaN in both components.
    Raises ValueError with the reason when the file is malformed, and OSError when it can't be read.
    """
    path = Path(path)
    data = path.read_bytes()
    if len(data) < _HEADER_BYTES:
        raise ValueError(f"{path}: {len(data)} bytes, fewer than a .flo header's {_HEADER_BYTES}")
    if data[:4] != _MAGIC:
        raise ValueError(f"{path}: starts with {data[:4]!r}, a .flo file with {_MAGIC!r}")
    width, height = (int(side) for side in np.frombuffer(data, "<i4", 2, 4))
    if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
        raise ValueError(f"{path}: size {width}x{height}, sides must be 1 to {_MAX_SIDE}")
    expected = _HEADER_BYTES + 8 * width * height
    if len(data) != expected:
        raise ValueError(f"{path}: {len(data)} bytes, {width}x{height} pixels take {expected}")
    stored = np.frombuffer(data, "<f4", -1, _HEADER_BYTES).reshape(height, width, 2)
    flow = stored.astype(np.float32)
    known = (np.abs(flow) <= _UNKNOWN_ABOVE).all(axis=2)
    flow[~known] = np.nan
    return flow


def end_point_error(flow: FlowField, truth: FlowField) -> float:
    """Mean distance in pixels between ``flow`` and ``truth`` (each (H, W, 2) float32).

    Pixels where ``truth`` is NaN don't count. If ``flow`` is NaN where the truth is known, the
    result is NaN. Raises ValueError when the shapes differ or no pixel is known.
    """
    known = _known(flow, truth)
    error = flow[known].astype(np.float64) - truth[known]
    return float(np.hypot(error[:, 0], error[:, 1]).mean())


def angular_error(flow: FlowField, truth: FlowField) -> float:
    """Mean angle in degrees between ``(u, v, 1)`` of ``flow`` and of ``truth``.

    This is the measure of Barron, Fleet and Beauchemin (IJCV 1994). NaN and shapes are treated as
    in :func:`end_point_error`.
    """
    known = _known(flow, truth)
    # The angle between a and b is atan2(|a × b|, a · b), which is exact for small angles too.
    u, v = flow[known].astype(np.float64).T
    true_u, true_v = truth[known].astype(np.float64).T
    across = np.sqrt((u - true_u) ** 2 + (v - true_v) ** 2 + (u * true_v - v * true_u) ** 2)
    return float(np.degrees(np.arctan2(across, u * true_u + v * true_v + 1)).mean())


def _known(flow: FlowField, truth: FlowField) -> npt.NDArray[np.bool_]:
    """The pixels (H, W) whose truth is known; raises ValueError when nothing can be compared."""
    if flow.shape != truth.shape or flow.ndim != 3 or flow.shape[2] != 2:
        raise ValueError(
            f"flow and truth must both be (H, W, 2) of one size, got {flow.shape}, {truth.shape}"
        )
    known: npt.NDArray[np.bool_] = ~np.isnan(truth.sum(axis=2))
    if not known.any():
        raise ValueError("the truth is unknown at every pixel: there is nothing to compare with")
    return known
