"""Writes video files of any codec, form and stamps, for tests."""

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from pipeline.arrays import Frame

MS = Fraction(1, 1000)


def write_video(
    path: Path,
    pictures: Iterable[Frame],
    *,
    fps: float = 25,
    stamps_ms: Sequence[int] | None = None,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    rotation: int = 0,
    options: dict[str, str] | None = None,
) -> Path:
    """Write ``pictures`` (H, W, 3) uint8 BGR.

    ``stamps_ms`` replaces the frames' stamps in the file, in milliseconds and in the order of the
    frames; for these, and to be shown ``rotation`` degrees turned, a file has no B-frames.
    """
    packets: list[av.Packet[av.VideoStream]] = []
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=Fraction(fps).limit_denominator(1000))
        assert isinstance(stream, av.VideoStream)
        stream.options = {"bf": "0", **(options or {})}
        stream.pix_fmt = pixels
        for index, picture in enumerate(pictures):
            if index == 0:
                stream.height, stream.width = picture.shape[:2]
            frame = av.VideoFrame.from_ndarray(picture, "bgr24")
            frame.pts = index
            frame.time_base = 1 / Fraction(fps).limit_denominator(1000)
            packets += stream.encode(frame)
        packets += stream.encode(None)
        for index, packet in enumerate(packets):
            if stamps_ms is not None:
                packet.time_base = MS
                packet.pts = stamps_ms[index]
                packet.dts = index - len(packets)  # some forms want it to increase
            out.mux(packet)
    if rotation:
        _rotate(path, rotation)
    return path


def _rotate(path: Path, degrees: int) -> None:
    """Change the display matrix of an MP4 file (ISO/IEC 14496-12, tkhd)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40  # version and flags, times, id, …: the matrix lies behind
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix = [cosine << 16, sine << 16, 0, -sine << 16, cosine << 16, 0, 0, 0, 1 << 30]
    for index, value in enumerate(matrix):
        data[at + 4 * index : at + 4 * index + 4] = value.to_bytes(4, "big", signed=True)
    path.write_bytes(data)


def grays(count: int, size: tuple[int, int] = (48, 64)) -> Iterator[Frame]:
    """``count`` pictures that get lighter: picture i has the level 10 + 220 i / count."""
    for index in range(count):
        yield np.full((*size, 3), 10 + 220 * index // count, np.uint8)


def as_h264(clip: Path, path: Path) -> Path:
    """Write the frames of a clip as H.264, a key frame a second."""
    capture = cv2.VideoCapture(str(clip))
    fps = capture.get(cv2.CAP_PROP_FPS)

    def frames() -> Iterator[Frame]:
        while True:
            more, frame = capture.read()
            if not more:
                return
            yield np.asarray(frame, np.uint8)

    try:
        return write_video(path, frames(), fps=fps, options={"g": str(round(fps))})
    finally:
        capture.release()
