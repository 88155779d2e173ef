"""From a frame to what the networks take: the one place where this is written.

Training and the live pipeline call the same functions, so a network sees in a stream what it saw
when it was trained. Everything here is a function of arrays; sizes and bounds come from a pack's
contract (:class:`pipeline.model.pack.Contract`) or from anything that has its two input parts.
"""

from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.arrays import Gray, QuantisedFlow
from pipeline.flow.base import FlowMethod, quantise
from pipeline.model.pack import SpatialContract, TemporalContract

Frame = npt.NDArray[np.uint8]


class SpatialInputs(Protocol):
    """What has the contract of the appearance network."""

    @property
    def spatial(self) -> SpatialContract: ...


class TemporalInputs(Protocol):
    """What has the contract of the motion network."""

    @property
    def temporal(self) -> TemporalContract: ...


def _check_frame(frame_bgr: Frame) -> None:
    if frame_bgr.ndim != 3 or frame_bgr.shape[2] != 3 or frame_bgr.dtype != np.uint8:
        raise ValueError(
            f"a frame must be (height, width, 3) uint8 BGR, got {frame_bgr.shape} {frame_bgr.dtype}"
        )


def _resize(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    resized = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def spatial_input(frame_bgr: Frame, contract: SpatialInputs) -> Frame:
    """The picture that ``spatial.onnx`` takes.

    ``frame_bgr`` is (H, W, 3) uint8 BGR of any size; returned is (h, w, 3) uint8 BGR of
    ``contract.spatial.size``, the whole frame without a crop. Raises ValueError for other arrays.
    """
    _check_frame(frame_bgr)
    return _resize(frame_bgr, contract.spatial.size)


def gray_for_flow(frame_bgr: Frame, contract: TemporalInputs) -> Gray:
    """The grey picture between two of which flow is computed.

    ``frame_bgr`` is (H, W, 3) uint8 BGR; returned is (fh, fw) uint8 of
    ``contract.temporal.flow_size``. Raises ValueError for other arrays.
    """
    _check_frame(frame_bgr)
    # Resizing before the conversion touches each source pixel once, not twice.
    small = _resize(frame_bgr, contract.temporal.flow_size)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)


def flow_input(
    previous: Gray,
    current: Gray,
    elapsed_steps: float,
    method: FlowMethod,
    contract: TemporalInputs,
) -> QuantisedFlow:
    """One field of the stack that ``temporal.onnx`` takes.

    ``previous`` and ``current`` come from :func:`gray_for_flow`. ``elapsed_steps`` is the time
    between them (:class:`pipeline.steps.sampling.Step`): the field is in pixels per nominal step.
    Returned is (h, w, 2) uint8 of ``contract.temporal.size``, quantised with its bound. Raises
    ValueError for a time that isn't positive or pictures that differ in shape.
    """
    if not elapsed_steps > 0:
        raise ValueError(f"elapsed_steps must be positive, got {elapsed_steps}")
    if previous.shape != current.shape:
        raise ValueError(f"flow needs two pictures alike, got {previous.shape}, {current.shape}")
    height, width = contract.temporal.size
    field = method(previous, current)
    small = cv2.resize(field, (width, height), interpolation=cv2.INTER_AREA)
    # Divided only now: a mean of quotients is the quotient of the mean, and this is smaller.
    per_step = np.asarray(small, np.float32) / np.float32(elapsed_steps)
    return quantise(per_step, contract.temporal.bound)
