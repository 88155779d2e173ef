"""Cameras of this machine, read by OpenCV."""

import os
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import Frame
from pipeline.clock import Clock
from pipeline.errors import SourceError
from pipeline.sources.base import Grab, SourceOptions

# OpenCV prints to standard error when a device fails; the errors raised here say it.
if "OPENCV_LOG_LEVEL" not in os.environ:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


class Webcam:
    """A camera of this machine, through Video4Linux: a number, or a path such as /dev/video0."""

    live = True
    ends = False
    trouble = None

    def __init__(self, device: str, *, camera: str, clock: Clock, options: SourceOptions) -> None:
        self._path = Path(f"/dev/video{device}") if device.isdecimal() else Path(device)
        self._where = f"camera {camera!r}: webcam {self._path}"
        self._clock = clock
        self._options = options
        self._capture: cv2.VideoCapture | None = None
        self._size = (0, 0)
        self._grabbed = False

    @property
    def codec(self) -> str:
        code = round(self._capture.get(cv2.CAP_PROP_FOURCC)) if self._capture is not None else 0
        letters = code.to_bytes(4, "little", signed=False).decode("ascii", "replace")
        return letters.strip("\0 ") or "webcam"

    @property
    def size(self) -> tuple[int, int]:
        return self._size

    def open(self) -> None:
        self.close()
        if not self._path.exists():
            there = ", ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "no webcam"
            raise SourceError(
                f"{self._where}: it doesn't exist (this machine has {there})", kind="not_found"
            )
        if not os.access(self._path, os.R_OK | os.W_OK):
            raise SourceError(
                f"{self._where}: permission denied (is this user in the group 'video'?)",
                kind="unreadable",
            )
        self._capture = cv2.VideoCapture(str(self._path), cv2.CAP_V4L2, self._parameters())
        # Only a first frame tells the size for certain; the next grab returns it.
        self._grabbed = self._capture.isOpened() and self._capture.grab()
        decoded, frame = self._capture.retrieve() if self._grabbed else (False, None)
        if not decoded or frame is None:
            self.close()
            raise SourceError(
                f"{self._where}: it sends no frames; another program may be using it",
                kind="unreadable",
            )
        self._size = (frame.shape[0], frame.shape[1])

    def grab(self) -> Grab:
        if self._capture is None:
            raise RuntimeError(f"{self._where}: not open")
        grabbed, self._grabbed = self._grabbed, False
        if not grabbed and not self._capture.grab():
            raise SourceError(f"{self._where}: it stopped sending frames", kind="stalled")
        return Grab(self._clock.monotonic_ns(), None)

    def retrieve(self, out: Frame | None = None) -> Frame:
        if self._capture is None:
            raise RuntimeError(f"{self._where}: not open")
        decoded, frame = self._capture.retrieve(out)
        if not decoded:
            raise SourceError(f"{self._where}: a frame can't be decoded", kind="unreadable")
        return out if out is not None and frame is out else np.asarray(frame, np.uint8)

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _parameters(self) -> list[int]:
        """Property and value in turn; the driver decides on those that no option sets."""
        wanted = (
            (cv2.CAP_PROP_FRAME_WIDTH, self._options.width),
            (cv2.CAP_PROP_FRAME_HEIGHT, self._options.height),
            (cv2.CAP_PROP_FPS, self._options.fps),
        )
        return [number for key, value in wanted if value for number in (key, round(value))]
