"""From frames to the inputs of the networks.

Training and the live pipeline call the same functions, so a network gets the same input in both.
Everything here is a function of arrays. Sizes and bounds come from a pack's contract
(:class:`pipeline.model.pack.Contract`) or from another object with the same two input parts.
"""

from typing import Protocol

import cv2
import numpy as np

from pipeline.arrays import Frame, Gray, QuantisedFlow, is_planar, picture_size, planes
from pipeline.flow.base import FlowMethod, quantise
from pipeline.model.pack import SpatialContract, TemporalContract
from pipeline.pictures import FULL_LUMA, check_frame, padded_bgr, resized, small_bgr


class SpatialInputs(Protocol):
    """An object with the contract of the appearance network."""

    @property
    def spatial(self) -> SpatialContract: ...


class TemporalInputs(Protocol):
    """An object with the contract of the motion network."""

    @property
    def temporal(self) -> TemporalContract: ...


def alike(frame: Frame, shape: tuple[int, ...]) -> Frame:
    """A frame in the size and the form of a frame of ``shape``."""
    height, width = picture_size(shape)
    if is_planar(frame) and shape[2] == 1:
        small = np.empty(shape, np.uint8)
        for source, place in zip(planes(frame), planes(small), strict=True):
            place[:] = resized(source, (place.shape[0], place.shape[1]))
        return small
    bgr = small_bgr(frame, (height, width))
    if shape[2] == 3:
        return bgr
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2YUV_I420), np.uint8)[:, :, None]


def spatial_input(frame: Frame, contract: SpatialInputs) -> Frame:
    """Resize a frame to the input of ``spatial.onnx``.

    ``frame`` has any size and either form (:data:`pipeline.arrays.Frame`). The result is (h, w, 3)
    uint8 BGR of ``contract.spatial.size``: the whole frame, not a crop, stretched or with black
    borders as ``contract.spatial.fit`` says. Raises ValueError for other arrays.
    """
    check_frame(frame)
    spatial = contract.spatial
    fitted = padded_bgr if spatial.fit == "pad" else small_bgr
    return fitted(frame, spatial.size)


def gray_for_flow(frame: Frame, contract: TemporalInputs) -> Gray:
    """Convert a frame to the gray image that flow methods take.

    ``frame`` has any size and either form; of planes only luma is read. The result is (fh, fw)
    uint8 of ``contract.temporal.flow_size``. Raises ValueError for other arrays.
    """
    check_frame(frame)
    return _gray(frame, contract.temporal.flow_size)


def gray_of_width(frame: Frame, most: int) -> Gray:
    """The gray image of a frame, as :func:`gray_for_flow`, in its own shape and at most ``most``
    pixels wide."""
    check_frame(frame)
    height, width = picture_size(frame.shape)
    scale = min(1.0, most / width)
    return _gray(frame, (max(1, round(height * scale)), max(1, round(width * scale))))


def _gray(frame: Frame, size: tuple[int, int]) -> Gray:
    if is_planar(frame):
        return np.asarray(cv2.LUT(resized(planes(frame)[0], size), FULL_LUMA), np.uint8)
    # Resize first: the conversion then has fewer pixels to read.
    return np.asarray(cv2.cvtColor(resized(frame, size), cv2.COLOR_BGR2GRAY), np.uint8)


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
