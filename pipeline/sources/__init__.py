"""Where frames come from: one interface over files, folders, cameras and the built-in demo."""

from pathlib import Path

from pipeline.arrays import Frame
from pipeline.clock import Clock
from pipeline.errors import SourceError, SourceErrorKind
from pipeline.sources.address import is_file, kind, parse, problem, redact
from pipeline.sources.base import Grab, Source, SourceOptions

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
# needs another kind, does not wait for OpenCV to load.


def create(url: str, *, camera: str, clock: Clock, options: SourceOptions | None = None) -> Source:
    """Create the source that ``url`` names, not yet open; messages name its ``camera``.

    ``demo`` or ``demo:SEED``; ``0``, ``1``, ``/dev/video0`` (webcam); ``rtsp://``, ``rtsps://``,
    ``http://``, ``https://``; a folder of images; a video file. Raises :class:`SourceError` for
    a text that can be none of these (:func:`pipeline.sources.address.problem`).
    """
    options = options or SourceOptions()
    if reason := problem(url):
        where = redact(url) or "the source"
        raise SourceError(
            f"camera {camera!r}: {where}: {reason}",
            kind="unreadable" if url else "not_found",
            permanent=True,
        )
    url, what = (url, "file") if is_file(url) else (url.strip(), kind(url))
    if what == "demo":
        from pipeline.sources.demo_camera import DemoCamera

        seed = url.removeprefix("demo").removeprefix(":")
        return DemoCamera(clock, options, int(seed) if seed else options.seed)
    if address := parse(url):
        from pipeline.sources.video import NetworkCamera

        return NetworkCamera(address.url, camera=camera, clock=clock, options=options)
    if what == "webcam":
        from pipeline.sources.video import Webcam

        return Webcam(url, camera=camera, clock=clock, options=options)
    return _path(url, camera, clock, options)


def _path(url: str, camera: str, clock: Clock, options: SourceOptions) -> Source:
    path = Path(url).expanduser()
    if path.is_dir():
        from pipeline.sources.image_folder import ImageFolder

        return ImageFolder(path, camera=camera, clock=clock, options=options)
    from pipeline.sources.video import VideoFile

    return VideoFile(path, camera=camera, clock=clock, options=options)
