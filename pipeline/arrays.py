"""The arrays that travel through the pipeline: shape, dtype and order of each."""

import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]
"""A picture in one of two forms, which the last dimension tells apart.

(H, W, 3) uint8: channels in the order B G R, as OpenCV has them.
(H * 3/2, W, 1) uint8, H and W even: the planes Y, U and V of 4:2:0 one behind the other (I420), as
cameras send them; BT.601, limited range (Y 16..235, U and V 16..240).
"""

Gray = npt.NDArray[np.uint8]
"""(H, W) uint8."""

FlowField = npt.NDArray[np.float32]
"""(H, W, 2) float32: displacement in pixels from one frame to the next, x (right), y (down)."""

QuantisedFlow = npt.NDArray[np.uint8]
"""(H, W, 2) uint8: a flow field in 8 bits (:func:`pipeline.flow.base.quantise`)."""

STILL = 128
"""No motion in a :data:`QuantisedFlow`."""

Vector = npt.NDArray[np.float32]
"""(d,) float32 features of a step, or (C,) float32 scores of it; for a batch (N, d) and (N, C)."""


def is_planar(frame: Frame) -> bool:
    """Whether a frame holds planes; otherwise it is BGR."""
    return bool(frame.shape[2] == 1)


def planar_shape(height: int, width: int) -> tuple[int, int, int]:
    """The shape of a planar frame of a picture with an even ``height`` and ``width``."""
    return height * 3 // 2, width, 1


def picture_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) of the picture in a frame of ``shape``."""
    return (shape[0] * 2 // 3 if shape[2] == 1 else shape[0]), shape[1]


def planes(frame: Frame) -> tuple[Gray, Gray, Gray]:
    """Views of a planar frame's Y (H, W), U and V (H/2, W/2)."""
    height, width = picture_size(frame.shape)
    flat = frame.reshape(-1)
    luma, chroma = height * width, height * width // 4
    half = (height // 2, width // 2)
    return (
        flat[:luma].reshape(height, width),
        flat[luma : luma + chroma].reshape(half),
        flat[luma + chroma :].reshape(half),
    )
