"""The flow methods of OpenCV: Farneback's and DIS."""

import cv2
import numpy as np

from pipeline.arrays import FlowField, Gray

# OpenCV's DIS reads beyond its pyramid, which ends the process, when a frame has too few rows for
# its width (https://github.com/opencv/opencv_contrib/issues/1355). From 32 on, every width works.
_DIS_MIN_SIDE = 32


def require_gray_pair(prev_gray: Gray, next_gray: Gray) -> None:
    """Raise ValueError unless both are (H, W) uint8 images of one shape, with H, W >= 1."""
    for name, image in (("prev_gray", prev_gray), ("next_gray", next_gray)):
        if image.ndim != 2 or image.dtype != np.uint8 or image.size == 0:
            raise ValueError(
                f"{name} must be (H, W) uint8 and not empty, got {image.shape} {image.dtype}"
            )
    if prev_gray.shape != next_gray.shape:
        raise ValueError(
            f"prev_gray and next_gray must have one shape, got {prev_gray.shape}, {next_gray.shape}"
        )


class Farneback:
    """Two-frame motion by polynomial expansion (Farnebäck, SCIA 2003).

    Parameters as the two-stream literature uses them: pyramid scale 0.5, 3 levels, window 15,
    3 iterations, neighbourhood 5, sigma 1.2.
    """

    def __call__(self, prev_gray: Gray, next_gray: Gray) -> FlowField:
        require_gray_pair(prev_gray, next_gray)
        start = np.zeros((*prev_gray.shape, 2), np.float32)  # OpenCV writes the flow into it
        cv2.calcOpticalFlowFarneback(prev_gray, next_gray, start, 0.5, 3, 15, 3, 5, 1.2, 0)
        return start


class DIS:
    """Dense inverse search (Kroeger et al., ECCV 2016) with OpenCV's ``fast`` preset."""

    def __init__(self, preset: int = cv2.DISOPTICAL_FLOW_PRESET_FAST) -> None:
        self._preset = preset
        self._dis = cv2.DISOpticalFlow.create(preset)
        self._shape: tuple[int, ...] = ()

    def __call__(self, prev_gray: Gray, next_gray: Gray) -> FlowField:
        require_gray_pair(prev_gray, next_gray)
        height, width = prev_gray.shape
        if self._shape != prev_gray.shape:
            # After a small frame, OpenCV's object uses fewer scales for all later frames.
            self._dis = cv2.DISOpticalFlow.create(self._preset)
            self._shape = prev_gray.shape
        below, right = max(0, _DIS_MIN_SIDE - height), max(0, _DIS_MIN_SIDE - width)
        if below or right:
            prev_gray = _pad(prev_gray, below, right)
            next_gray = _pad(next_gray, below, right)
        # OpenCV's DIS refuses arrays that aren't contiguous, such as a part of a larger picture.
        prev_gray, next_gray = np.ascontiguousarray(prev_gray), np.ascontiguousarray(next_gray)
        # A new output each call: OpenCV would start its search from the flow in an old one.
        flow = self._dis.calc(prev_gray, next_gray, None)  # type: ignore[call-overload]
        if below or right:
            flow = np.ascontiguousarray(flow[:height, :width])
        return np.asarray(flow, np.float32)


def _pad(image: Gray, below: int, right: int) -> Gray:
    padded = cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_REPLICATE)
    return np.asarray(padded, np.uint8)
