"""Where frames come from: one interface over files, folders, cameras and the built-in demo."""

import re
from pathlib import Path

from pipeline.arrays import Frame
from pipeline.clock import Clock
from pipeline.errors import SourceError, SourceErrorKind
from pipeline.sources.base import (
    Grab,
    Source,
    SourceOptions,
    redact,
)

__all__ = [
    "Frame",
    "Grab",
    "Source",
    "SourceError",
    "SourceErrorKind",
    "SourceOptions",
    "create",
    "redact",
]

# Each kind of source is imported when it is created, so that a caller that only redacts a URL, or
# needs another kind, does not wait for OpenCV and FFmpeg to load.
_NETWORK = ("rtsp", "rtsps", "http", "https")


def create(url: str, *, camera: str, clock: Clock, options: SourceOptions | None = None) -> Source:
    """Create the source that ``url`` names, not yet open; messages name its ``camera``.

    ``demo`` or ``demo:SEED``; ``0``, ``1``, ``/dev/video0`` (webcam); ``rtsp://``, ``rtsps://``,
    ``http://``, ``https://``; a folder of images; a video file. Raises :class:`SourceError` for
    another scheme, a bad seed or an empty string.
    """
    options = options or SourceOptions()
    if url == "demo" or url.startswith("demo:"):
        return _demo(url, camera, clock, options)
    if scheme := re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", url):
        if scheme[1].lower() not in _NETWORK:
            raise SourceError(
                f"camera {camera!r}: {redact(url)}: unknown scheme {scheme[1]!r}; must be one of "
                + ", ".join(f"{name}://" for name in _NETWORK),
                kind="unreadable",
                permanent=True,
            )
        from pipeline.sources.network import NetworkStream

        return NetworkStream(url, camera=camera, clock=clock, options=options)
    if re.fullmatch(r"\d+|/dev/video.+", url):
        from pipeline.sources.webcam import Webcam

        return Webcam(url, camera=camera, clock=clock, options=options)
    return _path(url, camera, clock, options)


def _demo(url: str, camera: str, clock: Clock, options: SourceOptions) -> Source:
    from pipeline.sources.demo_camera import DemoCamera

    seed = url.removeprefix("demo").removeprefix(":")
    if seed and not seed.isdecimal():
        raise SourceError(
            f"camera {camera!r}: {url}: the demo's seed must be a whole number, as in demo:7",
            kind="unreadable",
            permanent=True,
        )
    return DemoCamera(clock, options, int(seed) if seed else options.seed)


def _path(url: str, camera: str, clock: Clock, options: SourceOptions) -> Source:
    path = Path(url).expanduser()
    if not url:
        raise SourceError(
            f"camera {camera!r}: the source is empty: give a file, a folder, a URL, a webcam's "
            "number or demo",
            kind="not_found",
            permanent=True,
        )
    if path.is_dir():
        from pipeline.sources.image_folder import ImageFolder

        return ImageFolder(path, camera=camera, clock=clock, options=options)
    from pipeline.sources.video_file import VideoFile

    return VideoFile(path, camera=camera, clock=clock, options=options)
