"""Clips for tests and benchmarks: drawn here, or from the shared footage."""

import os
import struct
from pathlib import Path

import cv2
import numpy as np


def panning_clip(
    path: Path, seconds: float, fps: int = 20, size: tuple[int, int] = (240, 320)
) -> Path:
    """Write a clip of a texture that moves left for 1.5 s, rests, moves right for 1.5 s, rests."""
    height, width = size
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 255, (height // 8, width, 3), np.uint8)
    texture = cv2.resize(noise, (width * 8, height), interpolation=cv2.INTER_CUBIC)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (width, height))
    if not writer.isOpened():
        raise RuntimeError(f"OpenCV can't write {path}")
    offset = float(width * 4)
    for index in range(int(seconds * fps)):
        phase = (index / fps) % 5.0
        speed = 60.0 if phase < 1.5 else -60.0 if 2.5 <= phase < 4.0 else 0.0
        offset += speed / fps
        left = round(offset)
        writer.write(np.ascontiguousarray(texture[:, left : left + width]))
    writer.release()
    return path


def turned_clip(clip: Path, path: Path) -> Path:
    """Copy an MP4 file and note in it that its pictures stand on their side, as phones do."""
    data = bytearray(clip.read_bytes())
    place = data.index(b"tkhd") + 4 + 40  # the matrix in the track's header, version 0
    height = 240
    matrix = (0, 1 << 16, 0, -1 << 16, 0, 0, height << 16, 0, 1 << 30)
    data[place : place + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(data)
    return path


def still_clip(path: Path, fps: int = 20, size: tuple[int, int] = (240, 320)) -> Path:
    """Write the same textured picture for five seconds; ``path`` ends in ``.avi``.

    The codec is JPEG, so that each decoded frame is the same, bit for bit.
    """
    height, width = size
    noise = np.random.default_rng(3).integers(0, 255, (height // 8, width // 8, 3), np.uint8)
    picture = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (width, height))
    if not writer.isOpened():
        raise RuntimeError(f"OpenCV can't write {path}")
    for _ in range(5 * fps):
        writer.write(picture)
    writer.release()
    return path


def gesture_clips(scene: int = 3) -> list[Path | str]:
    """List real gestures of 640×480 in the folder that TWO_STREAM_DATA names.

    They were filmed in two scenes, 3 and 14.
    """
    return sorted((shared_data() / "vga").glob(f"*_{scene}.mp4"))


def shared_data() -> Path:
    """The folder that TWO_STREAM_DATA names."""
    folder = os.environ.get("TWO_STREAM_DATA")
    if not folder:
        raise SystemExit("TWO_STREAM_DATA is not set; it must name the folder of clips")
    return Path(folder)
