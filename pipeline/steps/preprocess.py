"""From frames to the inputs of the networks.

Training and the live pipeline call the same functions, so a network gets the same input in both.
Everything here is a function of arrays. Sizes and bounds come from a pack's contract
(:class:`pipeline.model.pack.Contract`) or from another object with the same two input parts.
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
    """An object with the contract of the appearance network."""

    @property
    def spatial(self) -> SpatialContract: ...


class TemporalInputs(Protocol):
    """An object with the contract of the motion network."""

    @property
    def temporal(self) -> TemporalContract: ...


def _check_frame(frame_bgr: Frame) -> None:
    if frame_bgr.ndim != 3 or frame_bgr.shape[2] != 3 or frame_bgr.dtype != np.uint8:
        raise ValueError(
            f"a frame must be (height, width, 3) uint8 BGR, got {frame_bgr.shape} {frame_bgr.dtype}"
        )


def _resize(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    # ``size`` is (height, width); OpenCV takes (width, height).
    resized = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(resized, np.uint8)


def spatial_input(frame_bgr: Frame, contract: SpatialInputs) -> Frame:
    """Resize a frame to the input of ``spatial.onnx``.

    ``frame_bgr`` is (H, W, 3) uint8 BGR of any size. The result is (h, w, 3) uint8 BGR of
    ``contract.spatial.size``: the whole frame, not a crop. Raises ValueError for other arrays.
    """
    _check_frame(frame_bgr)
    return _resize(frame_bgr, contract.spatial.size)


def gray_for_flow(frame_bgr: Frame, contract: TemporalInputs) -> Gray:
    """Convert a frame to the gray image that flow methods take.

    ``frame_bgr`` is (H, W, 3) uint8 BGR. The result is (fh, fw) uint8 of
    ``contract.temporal.flow_size``. Raises ValueError for other arrays.
    """
    _check_frame(frame_bgr)
    # Resize first: the conversion then has fewer pixels to read.
    small = _resize(frame_bgr, contract.temporal.flow_size)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)


def flow_input(
    previous: Gray,
    current: Gray,
    elapsed_steps: float,
    method: FlowMethod,
    contract: TemporalInputs,
) -> QuantisedFlow:
    """Compute one field of the stack that ``temporal.onnx`` takes.

    ``previous`` and ``current`` come from :func:`gray_for_flow`. ``elapsed_steps`` is the time
    between them (:class:`pipeline.steps.sampling.Step`): the field is in pixels per nominal step.
    The result is (h, w, 2) uint8 of ``contract.temporal.size``, quantised with its bound. Raises
    ValueError for a time that isn't positive or images that differ in shape.
    """
    if not elapsed_steps > 0:
        raise ValueError(f"elapsed_steps must be positive, got {elapsed_steps}")
    if previous.shape != current.shape:
        raise ValueError(
            f"flow needs two images of one shape, got {previous.shape}, {current.shape}"
        )
    height, width = contract.temporal.size
    field = method(previous, current)  # (fh, fw, 2) float32
    small = cv2.resize(field, (width, height), interpolation=cv2.INTER_AREA)
    # Divide after the resize: the result is the same, and the small field has fewer values.
    per_step = np.asarray(small, np.float32) / np.float32(elapsed_steps)
    return quantise(per_step, contract.temporal.bound)
