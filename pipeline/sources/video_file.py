"""Video files. In real time, a frame comes when its stamp is due."""

from pathlib import Path

import av.error

from pipeline.arrays import Frame
from pipeline.clock import Clock
from pipeline.errors import SourceError
from pipeline.sources.base import Grab, Pacer, SourceOptions
from pipeline.sources.media_time import MediaTime
from pipeline.sources.pixels import upright_size, write
from pipeline.sources.stream import Decoded, NoVideo, StreamOptions, VideoStream

LOOKAHEAD = 32
"""Packets read ahead: their stamps tell good ones from bad (:class:`MediaTime`)."""


class Player:
    """Plays a stream that ends: frames in order, with their place in the file."""

    def __init__(
        self, stream: VideoStream, clock: Clock, *, realtime: bool, place_ns: int = 0
    ) -> None:
        """Read the first frame at ``place_ns`` or later."""
        self._stream = stream
        stream.lookahead = LOOKAHEAD
        self._clock = clock
        self._pacer = Pacer(clock) if realtime else None
        self._time = MediaTime(stream.period_ns)
        self._current: Decoded | None = None
        if place_ns > 0:
            stream.seek(place_ns)
        self._first = self._next()
        while self._first is not None and self._first[1] < place_ns:
            self._first = self._next()
        if self._first is None and place_ns == 0:
            stream.close()
            raise NoVideo("it has no frame that can be decoded")
        self.codec = stream.codec_name
        self.size = stream.size if self._first is None else upright_size(self._first[0].frame)

    def again(self, stream: VideoStream) -> None:
        """Go on with the beginning of ``stream``; media time continues."""
        self._stream.close()
        self._stream = stream
        stream.lookahead = LOOKAHEAD
        self._time.jump()

    def next(self) -> tuple[int, int] | None:
        """(monotonic time, media time) of the next frame when it is due; None at the end."""
        following, self._first = self._first or self._next(), None
        if following is None:
            return None
        self._current, pts_ns = following
        now_ns = self._clock.monotonic_ns()
        due_ns = now_ns if self._pacer is None else self._pacer.wait(pts_ns)
        self._stream.note_time(self._current.stamp_ns, due_ns)
        return due_ns, pts_ns

    def retrieve(self, out: Frame | None) -> Frame:
        assert self._current is not None
        return write(self._current.frame, out)

    def close(self) -> None:
        self._stream.close()

    def _next(self) -> tuple[Decoded, int] | None:
        """The next frame, and its media time."""
        decoded = self._stream.advance()
        if decoded is None:
            return None
        return decoded, self._time.advance(decoded.stamp_ns, self._stream.later_stamps())


class VideoFile:
    """A video file of this machine."""

    ends = True
    trouble = None

    def __init__(self, path: Path, *, camera: str, clock: Clock, options: SourceOptions) -> None:
        self.live = options.realtime
        self._where = f"camera {camera!r}: file {path}"
        self._path = path
        self._clock = clock
        self._options = options
        self._player: Player | None = None
        self._size = (0, 0)

    @property
    def codec(self) -> str:
        return "" if self._player is None else self._player.codec

    @property
    def size(self) -> tuple[int, int]:
        return self._size

    def open(self, place_ns: int = 0) -> None:
        """Open the file, and go to the first frame at ``place_ns`` or later."""
        self.close()
        stream = self._opened()
        try:
            self._player = Player(stream, self._clock, realtime=self.live, place_ns=place_ns)
        except NoVideo as error:
            raise self._unreadable(str(error)) from None
        self._size = self._player.size

    def grab(self) -> Grab | None:
        if self._player is None:
            raise RuntimeError(f"{self._where}: not open")
        due, discontinuity = self._player.next(), False
        if due is None and self._options.loop:
            self._player.again(self._opened())
            due, discontinuity = self._player.next(), True
        return None if due is None else Grab(*due, discontinuity)

    def retrieve(self, out: Frame | None = None) -> Frame:
        if self._player is None:
            raise RuntimeError(f"{self._where}: not open")
        return self._player.retrieve(out)

    def close(self) -> None:
        if self._player is not None:
            self._player.close()
            self._player = None

    def _opened(self) -> VideoStream:
        self._check()
        # Absolute, so that FFmpeg can't take a name for a protocol ("concat:…").
        url = f"file:{self._path.resolve()}"
        try:
            return VideoStream(url, self._clock, file_options(self._options))
        except NoVideo as error:
            raise self._unreadable(str(error)) from None
        except av.error.FFmpegError as error:
            unknown = isinstance(error, av.error.InvalidDataError)
            reason = "it is not a video" if unknown else f"it can't be opened: {error.strerror}"
            raise self._unreadable(reason) from None

    def _check(self) -> None:
        """Raise :class:`SourceError` unless there is a file with something in it."""
        try:
            # Opening a pipe that nobody writes to would block for ever.
            if self._path.exists() and not self._path.is_file():
                raise self._unreadable("it isn't a regular file")
            with self._path.open("rb") as file:
                if not file.read(1):
                    raise self._unreadable("it is empty")
        except FileNotFoundError:
            reason = "it doesn't exist"
            raise SourceError(
                f"{self._where}: {reason}", kind="not_found", permanent=True, reason=reason
            ) from None
        except OSError as error:
            raise self._unreadable(error.strerror or str(error)) from None

    def _unreadable(self, reason: str) -> SourceError:
        return SourceError(
            f"{self._where}: {reason}", kind="unreadable", permanent=True, reason=reason
        )


def file_options(options: SourceOptions) -> StreamOptions:
    return StreamOptions(
        decoder=options.decoder, loop_filter=options.loop_filter, roll=options.roll
    )
