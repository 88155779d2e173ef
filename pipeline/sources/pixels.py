"""From decoded video frames to arrays: planes stay planes, everything else becomes BGR."""

import av
import av.video.reformatter
import cv2
import numpy as np

from pipeline.arrays import Frame, Gray, planar_shape, planes

_JPEG_RANGE = 2
"""AVCOL_RANGE_JPEG: levels 0..255."""
_FULL_RANGE = frozenset({"yuvj420p", "yuvj422p", "yuvj444p", "yuvj440p", "yuvj411p"})
_LEVELS = np.arange(256, dtype=np.float32)
_LIMITED_LUMA = np.rint(_LEVELS * (219 / 255) + 16).astype(np.uint8)
_LIMITED_CHROMA = np.rint((_LEVELS - 128) * (224 / 255) + 128).astype(np.uint8)


def upright_size(frame: av.VideoFrame) -> tuple[int, int]:
    """(height, width) of the picture when it is turned upright."""
    sideways = _quarter_turns(frame) % 2
    return (frame.width, frame.height) if sideways else (frame.height, frame.width)


def write(frame: av.VideoFrame, out: Frame | None = None) -> Frame:
    """The picture of a decoded frame, turned upright; see :data:`pipeline.arrays.Frame`.

    YUV pictures of even size come as planes, others as BGR. The result is ``out`` where that has
    the right shape, and otherwise a new array.
    """
    turns = _quarter_turns(frame)
    if not _has_planes(frame):
        return _bgr(frame, turns, out)
    shape = planar_shape(*upright_size(frame))
    target = out if out is not None and out.shape == shape else np.empty(shape, np.uint8)
    full_range = frame.format.name in _FULL_RANGE or frame.color_range == _JPEG_RANGE
    if frame.format.name not in ("yuv420p", "yuvj420p"):
        frame = frame.reformat(format="yuv420p", dst_color_range="MPEG", threads=1)
        full_range = False
    for index, (plane, place) in enumerate(zip(frame.planes, planes(target), strict=True)):
        pixels = _pixels(plane)
        if full_range:
            pixels = np.asarray(cv2.LUT(pixels, _LIMITED_CHROMA if index else _LIMITED_LUMA))
        np.copyto(place, np.rot90(pixels, turns) if turns else pixels)
    return target


def _quarter_turns(frame: av.VideoFrame) -> int:
    """How many quarter turns to the left show a frame as it is meant to be shown."""
    return round((frame.rotation or 0) / 90) % 4


def _has_planes(frame: av.VideoFrame) -> bool:
    """Whether a frame is kept as planes: it is YUV, and its size can be halved."""
    components = frame.format.components
    yuv = len(components) >= 3 and not frame.format.is_rgb
    return yuv and frame.width % 2 == 0 and frame.height % 2 == 0


def _pixels(plane: av.video.plane.VideoPlane) -> Gray:
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return np.asarray(rows[: plane.height, : plane.width])


def _bgr(frame: av.VideoFrame, turns: int, out: Frame | None) -> Frame:
    pixels = np.rot90(frame.to_ndarray(format="bgr24"), turns)
    if out is None or out.shape != pixels.shape:
        return np.ascontiguousarray(pixels)
    np.copyto(out, pixels)
    return out
