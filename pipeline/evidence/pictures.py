"""Pictures of an event's best moment: with its box and scores, and its motion as colours. Pure."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
from msgspec import UNSET

from pipeline import flow
from pipeline.arrays import FlowField, Frame, is_planar, picture_size
from pipeline.pictures import resized, small_bgr
from pipeline.public.records import Event
from pipeline.transport.messages import Box

MOTION_WIDTH = 320
STILL_PIXELS = 0.5
"""Motion below this is shown as none."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_MARK = (60, 220, 60)
_MARGIN = 0.1

Picture = npt.NDArray[np.uint8]
"""(H, W, 3) uint8 BGR."""


def as_bgr(frame: Frame) -> Picture:
    """A frame of either form in its own size."""
    return small_bgr(frame, picture_size(frame.shape)) if is_planar(frame) else frame


def snapshot(picture: Picture, event: Event) -> Picture:
    """The picture with the subject's box, and a line that says what was recognised."""
    drawn = picture.copy()
    height, width = drawn.shape[:2]
    scale = max(height, width) / 1000
    line = max(1, round(2 * scale))
    if event.top_box is not UNSET:
        left, top, right, bottom = _pixels(event.top_box, height, width)
        cv2.rectangle(drawn, (left, top), (right, bottom), _MARK, line + 1)
    who = "" if event.subject is UNSET else f" {event.subject}"
    _caption(drawn, f"{event.label} {event.top_score:.2f}{who}", scale, line)
    return drawn


def motion(before: Frame, after: Frame, event: Event) -> Picture:
    """The flow from one picture to a later one as colours, and the subject's box.

    Hue is the direction, brightness the speed; the fastest pixel is brightest.
    """
    height, width = picture_size(before.shape)
    small = round(height * MOTION_WIDTH / width), MOTION_WIDTH
    grays = [
        np.asarray(cv2.cvtColor(small_bgr(frame, small), cv2.COLOR_BGR2GRAY), np.uint8)
        for frame in (before, after)
    ]
    drawn = colours(flow.create("dis")(*grays))
    if event.top_box is not UNSET:
        left, top, right, bottom = _pixels(event.top_box, *small)
        cv2.rectangle(drawn, (left, top), (right, bottom), (255, 255, 255), 1)
    return drawn


def colours(field: FlowField) -> Picture:
    """A flow field as a picture."""
    speed, angle = cv2.cartToPolar(field[..., 0], field[..., 1], angleInDegrees=True)
    fastest = max(float(speed.max()), 1.0)
    hsv = np.zeros((*speed.shape, 3), np.uint8)
    hsv[..., 0] = np.asarray(angle) / 2  # OpenCV's hues go to 180
    hsv[..., 1] = 255
    hsv[..., 2] = np.where(speed < STILL_PIXELS, 0, np.clip(speed / fastest * 255, 0, 255))
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR), np.uint8)


def pixelate(picture: Picture, boxes: Sequence[Box]) -> None:
    """Make what is inside the boxes, and a little around them, unrecognisable, in place."""
    height, width = picture.shape[:2]
    for x0, y0, x1, y1 in boxes:
        grown = (x1 - x0) * _MARGIN, (y1 - y0) * _MARGIN
        box = x0 - grown[0], y0 - grown[1], x1 + grown[0], y1 + grown[1]
        left, top, right, bottom = _pixels(box, height, width)
        if right <= left or bottom <= top:
            continue
        part = picture[top:bottom, left:right]
        # A face is an eighth of a person or so: it becomes one cell.
        cell = max(4, (bottom - top) // 8)
        few = resized(part, (max(1, (bottom - top) // cell), max(1, (right - left) // cell)))
        size = (right - left, bottom - top)
        picture[top:bottom, left:right] = cv2.resize(few, size, interpolation=cv2.INTER_NEAREST)


def jpeg(picture: Picture) -> bytes:
    """The picture as JPEG; raises ValueError for one that can't be."""
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 90])
    if not done:
        raise ValueError("the picture can't be encoded")
    return data.tobytes()


def _pixels(box: Box, height: int, width: int) -> tuple[int, int, int, int]:
    x0, y0, x1, y1 = (min(max(side, 0.0), 1.0) for side in box)
    return round(x0 * width), round(y0 * height), round(x1 * width), round(y1 * height)


def _caption(picture: Picture, text: str, scale: float, line: int) -> None:
    """A line of text on a dark bar at the top; OpenCV's font knows ASCII only."""
    text = text.encode("ascii", "replace").decode()
    (width, height), base = cv2.getTextSize(text, _FONT, scale, line)
    bar = picture[: height + 2 * base, : width + 2 * base]
    bar[:] = bar // 4
    place = (base, height + base // 2 + 1)
    cv2.putText(picture, text, place, _FONT, scale, (255, 255, 255), line, cv2.LINE_AA)
