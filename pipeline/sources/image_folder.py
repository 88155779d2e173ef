"""A folder of images as a stream, in natural order (frame2 before frame10)."""

import logging
import re
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import Frame
from pipeline.clock import NS_PER_S, Clock
from pipeline.errors import SourceError
from pipeline.sources.base import Grab, Pacer, SourceOptions

log = logging.getLogger(__name__)

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})


def natural_key(name: str) -> list[tuple[int, str]]:
    """A sort key that compares the numbers in names by their value."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"(\d+)", name.lower())
        if part
    ]


def _read(path: Path) -> Frame | None:
    """The image (H, W, 3) uint8 BGR, or None when it can't be read."""
    try:
        image = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error):  # cv2.error: no bytes, or more pixels than OpenCV allows
        return None
    return None if image is None else np.asarray(image, np.uint8)


def _belongs(path: Path, folder: Path) -> bool:
    """Whether ``path`` is a regular file inside ``folder``, a resolved path.

    A link may lead out of the folder, and to read a pipe or a device may never end.
    """
    try:
        return path.is_file() and path.resolve().is_relative_to(folder)
    except OSError:
        return False


class ImageFolder:
    """A folder of images; frame i has media time i / fps.

    Unreadable images, and links that lead out of the folder, are skipped and logged.
    """

    ends = True
    trouble = None
    codec = "images"

    def __init__(self, folder: Path, *, camera: str, clock: Clock, options: SourceOptions) -> None:
        self.live = options.realtime
        self._folder = folder
        self._camera = camera
        self._clock = clock
        self._loop = options.loop
        self._period_ns = round(NS_PER_S / (options.fps or 10.0))
        self._pacer = Pacer(clock)
        self._paths: list[Path] = []
        self._position = 0
        self._index = -1
        self._first: Frame | None = None
        self._current: Frame | None = None
        self._size = (0, 0)

    @property
    def size(self) -> tuple[int, int]:
        return self._size

    def open(self) -> None:
        self.close()
        where = f"camera {self._camera!r}: folder {self._folder}"
        try:
            images = [p for p in self._folder.iterdir() if p.suffix.lower() in SUFFIXES]
            entries = [p for p in images if _belongs(p, self._folder.resolve())]
        except FileNotFoundError:
            raise SourceError(
                f"{where}: it doesn't exist", kind="not_found", permanent=True
            ) from None
        except OSError as error:
            reason = error.strerror
            raise SourceError(f"{where}: {reason}", kind="unreadable", permanent=True) from None
        if len(images) > len(entries):
            outside = ", ".join(sorted(p.name for p in set(images) - set(entries))[:3])
            log.warning(
                "%s: skipped %d images that aren't files inside it: %s",
                where, len(images) - len(entries), outside,
            )  # fmt: skip
        if not entries:
            kinds = " ".join(sorted(SUFFIXES))
            raise SourceError(
                f"{where}: it holds no images ({kinds})", kind="not_found", permanent=True
            )
        self._paths = sorted(entries, key=lambda path: natural_key(path.name))
        self._first = self._next_readable()
        if self._first is None:
            raise SourceError(
                f"{where}: none of its {len(entries)} images can be read",
                kind="unreadable",
                permanent=True,
            )
        self._size = self._first.shape[:2]

    def grab(self) -> Grab | None:
        discontinuity = False
        # open() has read the first image already, to know its size.
        frame, self._first = self._first, None
        if frame is None:
            frame = self._next_readable()
        if frame is None and self._loop:
            self._position, discontinuity = 0, True
            frame = self._next_readable()
        if frame is None:
            return None
        self._current = frame
        self._index += 1
        pts_ns = self._index * self._period_ns
        now_ns = self._pacer.wait(pts_ns) if self.live else self._clock.monotonic_ns()
        return Grab(now_ns, pts_ns, discontinuity)

    def retrieve(self, out: Frame | None = None) -> Frame:
        """As in :class:`Source`. Images are decoded on grab, so ``out`` costs a copy."""
        if self._current is None:
            raise RuntimeError("image folder: retrieve before grab")
        if out is not None and out.shape == self._current.shape:
            np.copyto(out, self._current)
            return out
        return self._current

    def close(self) -> None:
        self._pacer = Pacer(self._clock)
        self._paths = []
        self._position, self._index = 0, -1
        self._first = self._current = None
        self._size = (0, 0)

    def _next_readable(self) -> Frame | None:
        while self._position < len(self._paths):
            path = self._paths[self._position]
            self._position += 1
            if (frame := _read(path)) is not None:
                return frame
            log.warning("camera %r: image %s can't be read; skipped", self._camera, path)
        return None
