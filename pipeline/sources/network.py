"""Cameras and films on the network: RTSP, MJPEG over HTTP, HLS, and whatever FFmpeg reads."""

import dataclasses

import av.error

from pipeline.arrays import Frame
from pipeline.clock import NS_PER_MS, NS_PER_S, Clock
from pipeline.errors import SourceError
from pipeline.sources.base import Grab, SourceOptions, redact
from pipeline.sources.camera_time import LEAP_NS, CameraTime, Release
from pipeline.sources.diagnosis import diagnose
from pipeline.sources.media_time import MediaTime
from pipeline.sources.pixels import upright_size, write
from pipeline.sources.stream import Decoded, NoVideo, VideoStream
from pipeline.sources.video_file import Player, file_options

CUT_SHORT_NS = 3 * NS_PER_S
"""A film that ends this long before its length was cut off."""
WAITED_NS = 8 * NS_PER_MS
"""A packet that took longer to come was not there yet when it was asked for."""
READ_AHEAD_NS = 2 * NS_PER_S
"""Longest look for the newest of the packets that lie ready at the start."""


class _Live:
    """A live stream: frames are timed by the camera's stamps, and let go when they are due."""

    def __init__(self, stream: VideoStream, clock: Clock) -> None:
        self._stream = stream
        stream.decode_at_once()
        self._clock = clock
        self._media = MediaTime(stream.period_ns)
        self._release = Release(hold_all=stream.format_name == "hls")
        self._current = stream.advance()
        if self._current is None:
            stream.close()
            raise NoVideo("it sends no frame that can be decoded")
        self._pending = True
        # A live playlist's server is ahead of the camera by as much as the playlist is long.
        known = stream.stamped and stream.format_name != "hls"
        late_ns = _newest_late_ns(stream, self._current, clock) if known else None
        self._time = CameraTime(late_ns)
        self.codec = f"{stream.codec_name} over {stream.format_name}"
        self.size = upright_size(self._current.frame)

    @property
    def trouble(self) -> str | None:
        return self._time.trouble if self._stream.stamped else None

    def next(self) -> Grab | None:
        """The next frame when it is due; None when the stream has ended."""
        if not self._pending:
            self._current = self._stream.advance()
        self._pending = False
        if self._current is None:
            return None
        arrived_ns = self._clock.monotonic_ns()
        if not self._stream.stamped:
            return Grab(arrived_ns, None)
        return self._timed(self._current, arrived_ns)

    def _timed(self, current: Decoded, arrived_ns: int) -> Grab:
        silent_ns = self._stream.waited_ns
        waited = silent_ns > WAITED_NS
        time_ns = self._time.place(current.stamp_ns, arrived_ns, waited=waited, silent_ns=silent_ns)
        if current.stamp_ns is not None and self._time.trouble is None:
            hold_ns = self._release.wait_ns(
                current.stamp_ns, arrived_ns, waited=waited, latest_ns=self._time.latest_ns
            )
            if hold_ns:
                self._clock.sleep(hold_ns / NS_PER_S)
                arrived_ns = self._clock.monotonic_ns()
        pts_ns = self._media.advance(current.stamp_ns)
        grab = Grab(arrived_ns, pts_ns, self._time.jumped, time_ns)
        self._stream.note_time(current.stamp_ns, grab.scene_ns)
        return grab

    def retrieve(self, out: Frame | None) -> Frame:
        assert self._current is not None
        return write(self._current.frame, out)

    def close(self) -> None:
        self._stream.close()


def _newest_late_ns(stream: VideoStream, first: Decoded, clock: Clock) -> int | None:
    """How long after its stamp the newest frame came that lies ready; None if that isn't known.

    The first may be old: servers keep frames since the last key frame, relays since the last lump.
    """
    began_ns = clock.monotonic_ns()
    stamp_ns, alone = first.stamp_ns, 0
    least_ns = None if stamp_ns is None else began_ns - stamp_ns
    for next_ns, arrived_ns, waited_ns in stream.read_ahead():
        if next_ns is not None:
            if stamp_ns is not None and abs(next_ns - stamp_ns) > LEAP_NS:
                break  # the stamps are no use, or frames are missing
            stamp_ns, late_ns = next_ns, arrived_ns - next_ns
            least_ns = late_ns if least_ns is None else min(least_ns, late_ns)
        # A busy machine halts amid a lump, too; but not for long, and not for each frame.
        alone = alone + 1 if waited_ns > max(WAITED_NS, stream.period_ns // 2) else 0
        lump_is_over = alone == 3 or waited_ns > 3 * stream.period_ns
        if lump_is_over or arrived_ns - began_ns > READ_AHEAD_NS:
            break
    return least_ns


class NetworkStream:
    """A camera or a film on the network.

    A stream that states its length is a film: it plays in real time, once unless it loops.
    """

    live = True

    def __init__(self, url: str, *, camera: str, clock: Clock, options: SourceOptions) -> None:
        self._url = url
        self._rtsp = url.lower().startswith(("rtsp://", "rtsps://"))
        self._where = f"camera {camera!r}: {redact(url)}"
        self._clock = clock
        self._options = options
        self._playing: _Live | Player | None = None
        self._duration_ns = 0
        self._place_ns = 0
        """Where the film is, so that it goes on there after a broken connection."""

    @property
    def size(self) -> tuple[int, int]:
        return (0, 0) if self._playing is None else self._playing.size

    @property
    def codec(self) -> str:
        return "" if self._playing is None else self._playing.codec

    @property
    def ends(self) -> bool:
        return isinstance(self._playing, Player)

    @property
    def trouble(self) -> str | None:
        return self._playing.trouble if isinstance(self._playing, _Live) else None

    def open(self) -> None:
        self.close()
        began_ns = self._clock.monotonic_ns()
        try:
            self._playing = self._start()
        except NoVideo as error:
            raise SourceError(f"{self._where}: {error}", kind="unreadable") from None
        except av.error.FFmpegError as error:
            waited_s = (self._clock.monotonic_ns() - began_ns) / NS_PER_S
            kind, reason = diagnose(self._url, error, waited_s, self._options.open_timeout_s)
            raise SourceError(f"{self._where}: {reason}", kind=kind) from None

    def grab(self) -> Grab | None:
        playing = self._playing
        if playing is None:
            raise RuntimeError(f"{self._where}: not open")
        began_ns = self._clock.monotonic_ns()
        try:
            grab = self._film(playing) if isinstance(playing, Player) else playing.next()
        except NoVideo as error:
            raise SourceError(f"{self._where}: {error}", kind="unreadable") from None
        except av.error.FFmpegError as error:
            waited_s = (self._clock.monotonic_ns() - began_ns) / NS_PER_S
            raise self._broken(error, waited_s) from None
        if grab is None and not self.ends:
            waited_s = (self._clock.monotonic_ns() - began_ns) / NS_PER_S
            raise self._broken(None, waited_s)
        return grab

    def retrieve(self, out: Frame | None = None) -> Frame:
        if self._playing is None:
            raise RuntimeError(f"{self._where}: not open")
        return self._playing.retrieve(out)

    def close(self) -> None:
        if self._playing is not None:
            self._playing.close()
            self._playing = None

    def _film(self, player: Player) -> Grab | None:
        due, discontinuity = player.next(), False
        if due is None and self._place_ns + CUT_SHORT_NS < self._duration_ns:
            raise av.error.EOFError(0, "it ended before its end")
        if due is None and self._options.loop:
            player.again(self._stream())
            due, discontinuity = player.next(), True
        if due is None:
            self._place_ns = 0
            return None
        self._place_ns = due[1]
        return Grab(*due, discontinuity)

    def _start(self) -> "_Live | Player":
        """Open the stream; if FFmpeg can't find its form, look for JPEG pictures in it.

        Browsers accept MJPEG whose parts have no boundary, no header or another type; FFmpeg's
        reader of parts doesn't, but its reader of bare JPEG pictures does.
        """
        try:
            return self._played(self._stream())
        except av.error.InvalidDataError:
            if self._rtsp:
                raise
            return self._played(self._stream("mjpeg"))

    def _played(self, stream: VideoStream) -> "_Live | Player":
        if stream.still:
            stream.close()
            raise NoVideo(
                "it is a still picture; an action needs a stream: look for the camera's RTSP or "
                "MJPEG address"
            )
        if self._rtsp or stream.duration_ns is None:
            return _Live(stream, self._clock)
        self._duration_ns = stream.duration_ns
        return Player(stream, self._clock, realtime=True, place_ns=self._place_ns)

    def _stream(self, form: str | None = None) -> VideoStream:
        """Open the stream. A live one is decoded at once, with 0.1 s for reordered packets.

        FFmpeg must not read frames to measure their rate, which would cost a second. ``fflags
        nobuffer`` is not used: it discards the frames that were read to find the size, and with
        them the key frame.
        """
        flags = [("fpsprobesize", "0")]
        if form is not None:
            flags += [("probesize", "5000")]  # bare pictures tell all in the first
        if self._rtsp:
            flags += [("rtsp_transport", self._options.transport), ("max_delay", "100000")]
        options = dataclasses.replace(
            file_options(self._options),
            open_timeout_s=self._options.open_timeout_s,
            read_timeout_s=self._options.read_timeout_s,
            idle=self._options.idle,
            format=form,
            container=tuple(flags),
        )
        return VideoStream(self._url, self._clock, options)

    def _broken(self, error: Exception | None, waited_s: float) -> SourceError:
        timeout_s = self._options.read_timeout_s
        if isinstance(error, av.error.ExitError | av.error.TimeoutError):
            # It may have waited before: frames that were read ahead came out meanwhile.
            waited_s = max(waited_s, timeout_s)
        if waited_s >= 0.9 * timeout_s:
            return SourceError(f"{self._where}: no frame for {waited_s:.1f} s", kind="stalled")
        reason = getattr(error, "strerror", None)
        ended = "the connection ended" + (f" ({reason})" if reason else "")
        return SourceError(f"{self._where}: {ended}", kind="unreachable")
