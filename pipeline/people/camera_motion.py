"""What of a flow field is the camera's own motion."""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.arrays import FlowField
from pipeline.people.geometry import WHOLE
from pipeline.transport.messages import Box

_GRID = 40
"""The field is reduced to about so many columns before the fit: enough for six numbers."""
_STILL_PX = 0.35
"""Motion below this, in pixels of the field, is noise (docs/flow.md: 0.14 to 0.21 in the mean)."""
_STILL_SHARE = 0.3
"""Where so much of the picture stands still, the camera does: it moves everything or nothing."""
_KEPT = (0.7, 0.6, 0.6)
"""The share of cells that each round of the fit keeps: those that fit the round before best."""


@dataclass(frozen=True, slots=True)
class CameraMotion:
    """Motion of the whole picture in one step: shift, zoom and turn, as an affine map.

    ``matrix`` is (2, 3): times (x, y, 1) in 0..1 of the picture it gives the shift of that point in
    shares of the picture's width and height.
    """

    matrix: npt.NDArray[np.float64]

    def field(self, size: tuple[int, int], region: Box = WHOLE) -> FlowField:
        """This motion as flow (h, w, 2), in pixels of a picture of ``size`` of the ``region``."""
        x0, y0, x1, y1 = region
        height, width = size
        x = x0 + (np.arange(width) + 0.5) / width * (x1 - x0)
        y = y0 + (np.arange(height) + 0.5) / height * (y1 - y0)
        scale = np.array([width / (x1 - x0), height / (y1 - y0)])
        across, down, shift = (self.matrix * scale[:, np.newaxis]).T
        flow = shift + x[np.newaxis, :, np.newaxis] * across + y[:, np.newaxis, np.newaxis] * down
        return np.asarray(flow, np.float32)


STILL_CAMERA = CameraMotion(np.zeros((2, 3)))


def camera_motion(field: FlowField) -> CameraMotion:
    """The camera's motion in a field (H, W, 2) of the whole picture.

    An affine map is fitted by least squares, starting at the median; each round keeps the cells
    that fit best, so that what moves by itself doesn't count. A camera that stands still, by
    :data:`_STILL_SHARE`, is exactly :data:`STILL_CAMERA`: somebody near may fill most of the
    picture.
    """
    small = reduced(field, _GRID)
    height, width = small.shape[:2]
    flow = small.reshape(-1, 2).astype(np.float64)
    if (np.hypot(flow[:, 0], flow[:, 1]) < _STILL_PX).mean() >= _STILL_SHARE:
        return STILL_CAMERA
    y, x = np.mgrid[0:height, 0:width]
    places = np.stack(
        [(x.ravel() + 0.5) / width, (y.ravel() + 0.5) / height, np.ones(height * width)], axis=1
    )
    guess = np.tile(np.median(flow, axis=0), (len(flow), 1))
    matrix = np.zeros((3, 2))
    for share in _KEPT:
        off = np.hypot(*(flow - guess).T)
        fitting = off <= np.quantile(off, share)
        matrix, *_ = np.linalg.lstsq(places[fitting], flow[fitting], rcond=None)
        guess = places @ matrix
    size = np.array([field.shape[1], field.shape[0]], np.float64)
    return CameraMotion(matrix.T / size[:, np.newaxis])


def less_camera(field: FlowField, camera: CameraMotion, region: Box = WHOLE) -> FlowField:
    """A field (H, W, 2) that shows ``region`` at its own scale, less the camera's motion."""
    if camera is STILL_CAMERA:
        return field
    return field - camera.field((field.shape[0], field.shape[1]), region)


def reduced(field: FlowField, columns: int) -> FlowField:
    """Means of a field over cells, about ``columns`` of them in a row; still in its own pixels."""
    height, width = field.shape[:2]
    columns = min(columns, width)
    rows = min(height, max(1, round(height * columns / width)))
    small = cv2.resize(field, (columns, rows), interpolation=cv2.INTER_AREA)
    return np.asarray(small, np.float32).reshape(rows, columns, 2)
