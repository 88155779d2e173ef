"""Cutting a region out of frames and out of flow fields.

A region (x0, y0, x1, y1) lies inside the picture. At the border it is shifted, never padded: a
border of one colour is an edge that the networks haven't learned, and at which flow finds nothing
or too much.
"""

from typing import NamedTuple

import cv2
import numpy as np

from pipeline.arrays import FlowField, Frame, Gray, is_planar, picture_size, planar_shape, planes
from pipeline.flow.base import FlowMethod
from pipeline.people.geometry import WHOLE
from pipeline.transport.messages import Box


class Rect(NamedTuple):
    """A part of a picture in pixels: the left and upper corner, width and height."""

    x: int
    y: int
    width: int
    height: int


def pixel_rect(region: Box, width: int, height: int) -> Rect:
    """The pixels of a region in a picture of ``width`` × ``height``.

    All four numbers are even, as the colour planes of I420 need it; the whole picture stays whole.
    The size depends on the region's size alone, so a region that only moves keeps its scale.
    """
    x, wide = _side(region[0], region[2], width)
    y, high = _side(region[1], region[3], height)
    return Rect(x, y, wide, high)


def _side(low: float, high: float, length: int) -> tuple[int, int]:
    if (low <= 0 and high >= 1) or length < 4:
        return 0, length
    most = length // 2 * 2
    size = min(max(2, 2 * round((high - low) * length / 2)), most)
    start = 2 * round(low * length / 2)
    return min(max(0, start), most - size), size


def cut(frame: Frame, region: Box) -> Frame:
    """The region's part of a frame of either form, at full resolution and in the same form.

    BGR gives a view, planes a copy. ``spatial_input`` and ``gray_for_flow`` of
    :mod:`pipeline.steps.preprocess` make the networks' inputs of it, as of a whole frame.
    """
    if region == WHOLE:
        return frame
    height, width = picture_size(frame.shape)
    x, y, wide, high = pixel_rect(region, width, height)
    if not is_planar(frame):
        return frame[y : y + high, x : x + wide]
    part = np.empty(planar_shape(high, wide), np.uint8)
    for scale, source, place in zip((1, 2, 2), planes(frame), planes(part), strict=True):
        top, left = y // scale, x // scale
        place[:] = source[top : top + place.shape[0], left : left + place.shape[1]]
    return part


def field_in(field: FlowField, region: Box) -> FlowField:
    """The flow inside a region, cut out of the field (H, W, 2) of the whole picture.

    The result has the field's shape and the region's scale: vectors are in pixels of a picture of
    that size that shows the region alone, as :func:`flow_of_cuts` computes it. This is cheap for
    many regions, and knows no more of a small region than the whole field did.
    """
    if region == WHOLE:
        return field
    height, width = field.shape[:2]
    x0, y0, x1, y1 = region
    wide, high = x1 - x0, y1 - y0
    # Pixel centres: column i of the result lies at (i + 0.5) / width of the region.
    back = np.array(
        [
            [wide, 0, x0 * width + 0.5 * wide - 0.5],
            [0, high, y0 * height + 0.5 * high - 0.5],
        ]
    )
    part = cv2.warpAffine(
        field,
        back,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(part / np.array([wide, high], np.float32), np.float32)


def flow_of_cuts(
    previous: Gray, current: Gray, region: Box, size: tuple[int, int], method: FlowMethod
) -> FlowField:
    """The flow inside a region, computed on the cuts of two pictures (H, W) of one size.

    The same region is cut out of both, so a region that moves makes no flow. ``size`` is (h, w) of
    the result, in whose pixels the flow is. This sees small motion of small people, and costs one
    computation for each region.
    """
    x, y, wide, high = pixel_rect(region, previous.shape[1], previous.shape[0])
    pictures = [
        np.asarray(
            cv2.resize(
                picture[y : y + high, x : x + wide],
                (size[1], size[0]),
                interpolation=cv2.INTER_AREA,
            ),
            np.uint8,
        )
        for picture in (previous, current)
    ]
    return method(*pictures)
