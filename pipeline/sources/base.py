"""The interface of every source of frames, its options, and what the sources share."""

from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.arrays import Frame
from pipeline.clock import NS_PER_S, Clock
from pipeline.sources.address import is_file, redact

__all__ = [
    "Grab",
    "MediaTime",
    "Pacer",
    "Source",
    "SourceOptions",
    "is_file",
    "redact",
]


@dataclass(frozen=True, slots=True)
class Grab:
    """A frame that was grabbed but not yet decoded.

    ``captured_ns`` is the clock's monotonic time. ``pts_ns`` is media time, which strictly
    increases (None where the source has none). ``discontinuity`` marks the first frame after a
    jump, as when a file starts again: motion must not be computed across it.
    """

    captured_ns: int
    pts_ns: int | None
    discontinuity: bool = False


@dataclass(frozen=True)
class SourceOptions:
    """How to open a source; the comments name the kinds of source that use each option."""

    transport: Literal["tcp", "udp"] = "tcp"  # RTSP
    open_timeout_s: float = 5.0  # network
    read_timeout_s: float = 5.0  # network
    loop: bool = False  # files, folders
    realtime: bool = True  # files, folders, demo: frames come at the rate of a camera
    fps: float | None = None  # folders (10), demo (30), webcam (its own)
    seed: int = 0  # demo
    width: int | None = None  # demo (640), webcam (its own)
    height: int | None = None  # demo (480), webcam (its own)
    origin_ns: int | None = None  # demo: monotonic time of media time 0; None is the first open

    def __post_init__(self) -> None:
        for name in ("open_timeout_s", "read_timeout_s", "fps", "width", "height"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")


class Source(Protocol):
    """A source of frames: open, then grab and retrieve in turn, then close.

    ``live`` sources don't wait for a slow reader; the others return every frame.
    """

    live: bool

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the first frame; known after :meth:`open`."""
        ...

    def open(self) -> None:
        """Connect and read a first frame; raises :class:`SourceError`."""
        ...

    def grab(self) -> Grab | None:
        """Advance to the next frame; None at the end of the stream.

        Raises :class:`SourceError` when the stream breaks or stalls.
        """
        ...

    def retrieve(self, out: Frame | None = None) -> Frame:
        """Decode the grabbed frame, (H, W, 3) uint8 BGR.

        When ``out`` has the frame's shape, the frame is written into it and ``out`` is returned.
        Otherwise the result is a new array, whose shape shows that the camera changed its size.
        """
        ...

    def close(self) -> None:
        """Release the device or connection; may be called twice."""
        ...


class MediaTime:
    """Turns a source's timestamps into media time: nanoseconds that strictly increase.

    Cameras and broken files send timestamps that don't increase, and a file that loops starts
    again at 0. Such a frame counts as one frame period after the one before it.
    """

    def __init__(self, nominal_period_ns: int) -> None:
        self._period_ns = nominal_period_ns
        self._raw_ns: int | None = None
        self._now_ns = 0
        self._jumped = False

    def jump(self) -> None:
        """Ignore the distance to the next timestamp, as when a file starts again."""
        self._jumped = True

    def advance(self, raw_ns: int) -> int:
        """Return the media time of the next frame, which the source stamped ``raw_ns``."""
        if self._raw_ns is None:
            self._now_ns = raw_ns
        else:
            elapsed_ns = raw_ns - self._raw_ns
            # The last distance that made sense is the best guess for one that doesn't.
            if not self._jumped and elapsed_ns > 0:
                self._period_ns = elapsed_ns
            self._now_ns += self._period_ns
        self._raw_ns, self._jumped = raw_ns, False
        return self._now_ns


class Pacer:
    """Delays frames until their media time is due, as a camera would send them.

    The schedule starts again at the current frame when the reader is more than a second late, or
    when two frames are more than two seconds apart. So late frames aren't followed by a rush, and
    no wait is so long that the stage appears to hang.
    """

    LATE_NS = NS_PER_S
    EARLY_NS = 2 * NS_PER_S

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._origin_ns: int | None = None

    def wait(self, pts_ns: int) -> int:
        """Sleep until ``pts_ns`` is due; returns the monotonic time then."""
        now_ns = self._clock.monotonic_ns()
        # Origin plus media time is when a frame is due.
        if self._origin_ns is None or not (
            -self.LATE_NS <= self._origin_ns + pts_ns - now_ns <= self.EARLY_NS
        ):
            self._origin_ns = now_ns - pts_ns
        # A sleep may end early, so look at the clock again.
        while (ahead_ns := self._origin_ns + pts_ns - now_ns) > 0:
            self._clock.sleep(ahead_ns / NS_PER_S)
            now_ns = self._clock.monotonic_ns()
        return now_ns
