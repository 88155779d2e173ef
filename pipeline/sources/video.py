"""Sources that OpenCV reads: video files, network cameras, webcams."""

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import Frame
from pipeline.clock import NS_PER_MS, NS_PER_S, Clock
from pipeline.errors import SourceError
from pipeline.sources.base import (
    Grab,
    MediaTime,
    Pacer,
    SourceOptions,
    redact,
)
from pipeline.sources.diagnosis import diagnose

_FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_environment_lock = threading.Lock()
# FFmpeg and OpenCV print URLs, and so passwords, to standard error when something fails: silence
# both, unless the user has set a level. FFmpeg's is read once, at its first use in the process; -8
# is AV_LOG_QUIET.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
if "OPENCV_LOG_LEVEL" not in os.environ:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@contextmanager
def _ffmpeg_options(options: str) -> Iterator[None]:
    """Set FFmpeg's options while a capture opens: OpenCV reads them from the environment only."""
    # The environment belongs to the whole process, so captures open one after the other.
    with _environment_lock:
        if _FFMPEG_OPTIONS in os.environ:  # the user's own options take precedence
            yield
            return
        os.environ[_FFMPEG_OPTIONS] = options
        try:
            yield
        finally:
            del os.environ[_FFMPEG_OPTIONS]


class _Capture:
    """A cv2.VideoCapture that has read its first frame, so that its size is certain.

    ``opened``: OpenCV found a stream. ``alive``: it also decoded a frame.
    """

    def __init__(self, what: str | int | bytes, backend: int, parameters: Sequence[int]) -> None:
        self.size = (0, 0)
        # A str that isn't UTF-8 would end the process. Bytes work, but OpenCV's stubs omit them.
        self._capture = cv2.VideoCapture(what, backend, parameters)  # type: ignore[arg-type]
        self._pending = False
        self.opened = self._capture.isOpened()
        self.alive = False
        # The first frame was grabbed here, so the first advance() must not grab again.
        if self.opened and self._capture.grab():
            self._pending, self._pending_ns = True, self._position_ns()
            if (frame := self.retrieve(None)) is not None:
                self.alive = True
                self.size = (frame.shape[0], frame.shape[1])

    @property
    def period_ns(self) -> int:
        """The nominal frame period; 1/25 s where the stream doesn't state a plausible one."""
        fps = self._capture.get(cv2.CAP_PROP_FPS)  # 0 where unknown, 90000 where it is a clock rate
        return round(NS_PER_S / (fps if 0.1 < fps < 1000 else 25.0))

    def advance(self) -> int | None:
        """Step to the next frame and return its timestamp in nanoseconds; None at the end."""
        if self._pending:
            self._pending = False
            return self._pending_ns
        return self._position_ns() if self._capture.grab() else None

    def retrieve(self, out: Frame | None) -> Frame | None:
        """The grabbed frame, in ``out`` if shape and strides fit; None if it can't be decoded."""
        decoded, frame = self._capture.retrieve(out)
        if not decoded:
            return None
        return out if out is not None and frame is out else np.asarray(frame, np.uint8)

    def release(self) -> None:
        self._capture.release()

    def _position_ns(self) -> int:
        return round(self._capture.get(cv2.CAP_PROP_POS_MSEC) * NS_PER_MS)


class _OpenCVSource:
    """What the three kinds of source share: one capture, its size, its frames."""

    def __init__(self, *, camera: str, clock: Clock, options: SourceOptions) -> None:
        self._camera = camera
        self._clock = clock
        self._options = options
        self._capture: _Capture | None = None
        self._size = (0, 0)
        self._time = MediaTime(0)

    @property
    def size(self) -> tuple[int, int]:
        return self._size

    def retrieve(self, out: Frame | None = None) -> Frame:
        frame = self._opened().retrieve(out)
        if frame is None:  # for example, a webcam's JPEG arrived damaged
            raise SourceError(
                f"camera {self._camera!r}: a frame can't be decoded", kind="unreadable"
            )
        return frame

    def close(self) -> None:
        if self._capture is not None:
            self._capture.release()
            self._capture = None

    def _opened(self) -> _Capture:
        if self._capture is None:
            raise RuntimeError(f"camera {self._camera!r}: not open")
        return self._capture

    def _adopt(self, capture: _Capture) -> None:
        """Read from ``capture`` from now on; media time starts again."""
        self._capture = capture
        self._size = capture.size
        self._time = MediaTime(capture.period_ns)

    def _adopt_next(self, capture: _Capture) -> None:
        """Read from ``capture`` from now on; media time continues."""
        self._capture = capture
        self._size = capture.size
        self._time.jump()


class VideoFile(_OpenCVSource):
    """A video file. In real time, a frame comes when its timestamp is due."""

    def __init__(self, path: Path, *, camera: str, clock: Clock, options: SourceOptions) -> None:
        super().__init__(camera=camera, clock=clock, options=options)
        self.live = options.realtime
        self._path = path
        self._pacer = Pacer(clock)

    def open(self) -> None:
        self.close()
        self._adopt(self._read_file())
        self._pacer = Pacer(self._clock)

    def grab(self) -> Grab | None:
        raw_ns = self._opened().advance()
        discontinuity = False
        if raw_ns is None and self._options.loop:
            self.close()
            self._adopt_next(self._read_file())
            raw_ns, discontinuity = self._opened().advance(), True
        if raw_ns is None:
            return None
        pts_ns = self._time.advance(raw_ns)
        now_ns = self._pacer.wait(pts_ns) if self.live else self._clock.monotonic_ns()
        return Grab(now_ns, pts_ns, discontinuity)

    def _read_file(self) -> _Capture:
        where = f"camera {self._camera!r}: file {self._path}"
        try:
            # Opening a pipe that nobody writes to would block for ever.
            if self._path.exists() and not self._path.is_file():
                raise SourceError(
                    f"{where}: it isn't a regular file", kind="unreadable", permanent=True
                )
            with self._path.open("rb") as file:
                empty = not file.read(1)
        except FileNotFoundError:
            raise SourceError(
                f"{where}: it doesn't exist", kind="not_found", permanent=True
            ) from None
        except OSError as error:
            reason = error.strerror
            raise SourceError(f"{where}: {reason}", kind="unreadable", permanent=True) from None
        if empty:
            raise SourceError(f"{where}: it is empty", kind="unreadable", permanent=True)
        # Absolute, so that FFmpeg can't take a name for a protocol ("concat:…").
        path = os.fsencode(self._path.resolve())
        capture = _Capture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        if not capture.alive:
            capture.release()
            problem = "has no frame that can be decoded" if capture.opened else "is not a video"
            raise SourceError(f"{where}: it {problem}", kind="unreadable", permanent=True)
        return capture


class NetworkCamera(_OpenCVSource):
    """A camera on the network: RTSP, MJPEG over HTTP, or another stream that FFmpeg reads."""

    live = True
    # Timestamps that go back, or forward by more than this, are a jump of the camera's clock.
    _JUMP_NS = 2 * NS_PER_S

    def __init__(self, url: str, *, camera: str, clock: Clock, options: SourceOptions) -> None:
        super().__init__(camera=camera, clock=clock, options=options)
        self._url = url
        self._rtsp = url.lower().startswith(("rtsp://", "rtsps://"))
        self._where = f"camera {camera!r}: {redact(url)}"
        self._last_raw_ns: int | None = None

    def open(self) -> None:
        self.close()
        options = self._options
        parameters = [
            *(cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, round(options.open_timeout_s * 1000)),
            *(cv2.CAP_PROP_READ_TIMEOUT_MSEC, round(options.read_timeout_s * 1000)),
            *(cv2.CAP_PROP_N_THREADS, 1),
        ]
        with _ffmpeg_options(self._flags()):
            capture = _Capture(self._url, cv2.CAP_FFMPEG, parameters)
        if not capture.alive:
            capture.release()
            kind, reason = diagnose(self._url, options.open_timeout_s)
            raise SourceError(f"{self._where}: {reason}", kind=kind)
        self._adopt(capture)
        self._last_raw_ns = None

    def grab(self) -> Grab:
        started_ns = self._clock.monotonic_ns()
        raw_ns = self._opened().advance()
        now_ns = self._clock.monotonic_ns()
        if raw_ns is None:
            waited_s = (now_ns - started_ns) / NS_PER_S
            # OpenCV gives no reason; a wait as long as the timeout means that the camera is silent.
            if waited_s >= 0.9 * self._options.read_timeout_s:
                raise SourceError(f"{self._where}: no frame for {waited_s:.1f} s", kind="stalled")
            raise SourceError(f"{self._where}: the connection ended", kind="unreachable")
        if not self._rtsp:  # FFmpeg invents timestamps for MJPEG
            return Grab(now_ns, None)
        jumped = self._last_raw_ns is not None and not (
            0 <= raw_ns - self._last_raw_ns <= self._JUMP_NS
        )
        if jumped:
            self._time.jump()
        self._last_raw_ns = raw_ns
        return Grab(now_ns, self._time.advance(raw_ns), jumped)

    def _flags(self) -> str:
        """FFmpeg's options: decode at once, and wait at most 0.1 s for reordered packets.

        FFmpeg must not read frames to measure their rate, which would cost a second. ``fflags
        nobuffer`` is not used: it discards the frames that were read to find the size, and with
        them the key frame.
        """
        flags = ["flags;low_delay", "fpsprobesize;0"]
        if self._rtsp:
            flags += [f"rtsp_transport;{self._options.transport}", "max_delay;100000"]
        return "|".join(flags)


class Webcam(_OpenCVSource):
    """A camera of this machine, through Video4Linux: a number, or a path such as /dev/video0."""

    live = True

    def __init__(self, device: str, *, camera: str, clock: Clock, options: SourceOptions) -> None:
        super().__init__(camera=camera, clock=clock, options=options)
        self._path = Path(f"/dev/video{device}") if device.isdecimal() else Path(device)

    def open(self) -> None:
        self.close()
        where = f"camera {self._camera!r}: webcam {self._path}"
        if not self._path.exists():
            there = ", ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "no webcam"
            raise SourceError(
                f"{where}: it doesn't exist (this machine has {there})", kind="not_found"
            )
        if not os.access(self._path, os.R_OK | os.W_OK):
            raise SourceError(
                f"{where}: permission denied (is this user in the group 'video'?)",
                kind="unreadable",
            )
        capture = _Capture(str(self._path), cv2.CAP_V4L2, self._parameters())
        if not capture.alive:
            capture.release()
            raise SourceError(
                f"{where}: it sends no frames; another program may be using it", kind="unreadable"
            )
        self._adopt(capture)

    def grab(self) -> Grab:
        if self._opened().advance() is None:
            raise SourceError(
                f"camera {self._camera!r}: webcam {self._path}: it stopped sending frames",
                kind="stalled",
            )
        return Grab(self._clock.monotonic_ns(), None)

    def _parameters(self) -> list[int]:
        """Property and value in turn; the driver decides on those that no option sets."""
        wanted = (
            (cv2.CAP_PROP_FRAME_WIDTH, self._options.width),
            (cv2.CAP_PROP_FRAME_HEIGHT, self._options.height),
            (cv2.CAP_PROP_FPS, self._options.fps),
        )
        return [number for key, value in wanted if value for number in (key, round(value))]
