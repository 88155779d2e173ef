"""Pictures in another size and form: from the planes that cameras send to small BGR pictures."""

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.arrays import Frame, is_planar, picture_size, planes

# Limited range to full range: Y from 16..235, U and V from 16..240 around 128 (BT.601).
_LEVELS = np.arange(256, dtype=np.float32)
FULL_LUMA = np.clip(np.rint((_LEVELS - 16) * (255 / 219)), 0, 255).astype(np.uint8)
FULL_CHROMA = np.clip(np.rint((_LEVELS - 128) * (255 / 224) + 128), 0, 255).astype(np.uint8)


def check_frame(frame: Frame) -> None:
    """Raise ValueError unless an array is a frame of one of the two forms."""
    bgr_or_planar = frame.ndim == 3 and frame.shape[2] in (1, 3)
    if not bgr_or_planar or frame.dtype != np.uint8:
        raise ValueError(
            "a frame must be (height, width, 3) uint8 BGR or (height * 3/2, width, 1) uint8 "
            f"planes, got {frame.shape} {frame.dtype}"
        )


def resized(image: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """An image (H, W) or (H, W, C) in ``size`` (height, width), each pixel the mean of an area."""
    # OpenCV takes (width, height).
    small = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.uint8)


def padded_bgr(frame: Frame, size: tuple[int, int]) -> Frame:
    """As :func:`small_bgr`, but the picture keeps its shape; black fills the two other sides."""
    height, width = picture_size(frame.shape)
    scale = min(size[0] / height, size[1] / width)
    inner = (
        min(size[0], max(1, round(height * scale))),
        min(size[1], max(1, round(width * scale))),
    )
    small = small_bgr(frame, inner)
    if inner == size:
        return small
    whole = np.zeros((*size, 3), np.uint8)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    whole[top : top + inner[0], left : left + inner[1]] = small
    return whole


def small_bgr(frame: Frame, size: tuple[int, int]) -> Frame:
    """A frame of either form in ``size`` (h, w), as (h, w, 3) uint8 BGR.

    Planes are made small first: the conversion then has fewer pixels to read, and no picture of
    full size is made.
    """
    if not is_planar(frame):
        return resized(frame, size)
    luma, blue, red = (resized(plane, size) for plane in planes(frame))
    full = cv2.merge(
        (
            cv2.LUT(luma, FULL_LUMA),
            cv2.LUT(red, FULL_CHROMA),
            cv2.LUT(blue, FULL_CHROMA),
        )
    )
    return np.asarray(cv2.cvtColor(full, cv2.COLOR_YCrCb2BGR), np.uint8)
