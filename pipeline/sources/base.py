"""The interface of every source of frames, its options, and what the sources share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.arrays import Frame
from pipeline.clock import NS_PER_S, Clock
from pipeline.sources.address import is_file, redact
from pipeline.sources.packet_roll import PacketRoll

__all__ = [
    "Decoder",
    "Grab",
    "Pacer",
    "Source",
    "SourceOptions",
    "is_file",
    "redact",
]

Decoder = Literal["software", "vaapi", "cuda", "videotoolbox"]


@dataclass(frozen=True, slots=True)
class Grab:
    """A frame that was grabbed but not yet decoded.

    ``captured_ns`` is the clock's monotonic time. ``pts_ns`` is media time, which strictly
    increases (None where the source has none). ``discontinuity`` marks the first frame after a
    jump, as when a file starts again: motion must not be computed across it. ``time_ns`` is when
    the picture was taken, by the camera's own stamp, on the machine's monotonic clock; None where
    only ``captured_ns`` is known.
    """

    captured_ns: int
    pts_ns: int | None
    discontinuity: bool = False
    time_ns: int | None = None

    @property
    def scene_ns(self) -> int:
        """When what the picture shows happened, on the monotonic clock."""
        return self.captured_ns if self.time_ns is None else self.time_ns

    def step_ns(self, ends: bool) -> int:
        """The time that steps are made of; ``ends`` is the source's :attr:`Source.ends`."""
        return self.pts_ns if ends and self.pts_ns is not None else self.scene_ns


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
    decoder: Decoder = "software"  # files, network
    loop_filter: bool = True  # files, network: False leaves H.264's loop filter out
    idle: Callable[[], None] | None = None  # network: called while the first frame is awaited
    roll: PacketRoll | None = None  # files, network: where packets are kept for clips

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
    def ends(self) -> bool:
        """Whether this is a file or film: it ends, and its steps are made of media time.

        Known after :meth:`open`.
        """
        ...

    @property
    def codec(self) -> str:
        """What the source sends, in a few words; known after :meth:`open`."""
        ...

    @property
    def trouble(self) -> str | None:
        """What is wrong with a source that goes on all the same; None if nothing is."""
        ...

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
        """The grabbed frame's picture, BGR or planes (:data:`pipeline.arrays.Frame`).

        When ``out`` has the frame's shape, the frame is written into it and ``out`` is returned.
        Otherwise the result is a new array, whose shape shows that the camera changed its size.
        """
        ...

    def close(self) -> None:
        """Release the device or connection; may be called twice."""
        ...


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
