"""A video stream that FFmpeg reads: packets, their stamps, and the frames decoded from them."""

import logging
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import av
import av.codec.hwaccel
import av.error
import av.logging
from av.codec.context import Flags
from av.stream import Disposition

from pipeline.clock import NS_PER_S, Clock
from pipeline.sources.base import Decoder
from pipeline.sources.packet_roll import PacketRoll, StreamForm

# FFmpeg prints URLs, and so passwords, to standard error when something fails.
av.logging.set_level(None)

FIRST_FRAME_S = 30.0
"""Longest wait for the first key frame: cameras that save bandwidth send one every 10 s or so."""
_STILL_FORMATS = ("image2", "image2pipe")
_UNSTAMPED_FORMATS = ("mpjpeg", "mjpeg")

Packet: TypeAlias = "av.Packet[av.VideoStream]"

log = logging.getLogger(__name__)


class NoVideo(Exception):
    """The stream can't be used; the text says what was found instead of video."""


@dataclass(frozen=True)
class StreamOptions:
    """How to open a stream."""

    open_timeout_s: float | None = None
    read_timeout_s: float | None = None
    format: str | None = None
    container: tuple[tuple[str, str], ...] = ()
    """FFmpeg's own options of the container and its protocols."""
    decoder: Decoder = "software"
    loop_filter: bool = True
    """False: leave H.264's and H.265's loop filter out, which is faster and less exact."""
    idle: Callable[[], None] | None = None
    """Called between packets while the first frame is awaited."""
    roll: PacketRoll | None = None
    """Where packets are kept."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A decoded frame; ``stamp_ns`` counts from the stream's start, None if it has no stamp."""

    frame: av.VideoFrame
    stamp_ns: int | None


class VideoStream:
    """The first video stream of a file or a server, decoded on one thread.

    Raises :class:`av.error.FFmpegError` where FFmpeg fails, and :class:`NoVideo`.
    """

    def __init__(self, url: str, clock: Clock, options: StreamOptions) -> None:
        self._clock = clock
        self._options = options
        timeout = (options.open_timeout_s, options.read_timeout_s)
        self._container = av.open(
            url,
            format=options.format,
            options=dict(options.container),
            timeout=timeout if options.open_timeout_s else None,
            hwaccel=_hardware(options.decoder),
            metadata_errors="replace",
        )
        with ExitStack() as unless_good:
            unless_good.callback(self._container.close)
            self._stream = _video_stream(self._container)
            if getattr(self._stream, "codec_context", None) is None:
                raise NoVideo(
                    f"its video codec is {_unknown_codec(url, options)}, which this build of "
                    "FFmpeg can't decode; set the camera to H.264"
                )
            self._prepare(self._stream.codec_context)
            self._packets = self._container.demux(self._stream)
            unless_good.pop_all()
        base = self._stream.time_base or Fraction(1, NS_PER_S)
        self._start = self._stream.start_time or 0
        # Nanoseconds of a stamp's unit, as a fraction: whole numbers are much faster than Fraction.
        self._unit_ns, self._unit_parts = base.numerator * NS_PER_S, base.denominator
        self._roll = options.roll
        if self._roll is not None:
            self._roll.begin(self._form(base))
        self._ahead: deque[Packet] = deque()
        self._decoded: deque[av.VideoFrame] = deque()
        self._drained = False
        self._failure: av.error.FFmpegError | None = None
        self._over = self._begun = False
        self.lookahead = 0
        """How many packets to read ahead for :meth:`later_stamps`."""
        self.damaged = 0
        """Packets that couldn't be decoded."""
        self.waited_ns = 0
        """How long the last :meth:`advance` waited for packets."""

    def _prepare(self, codec: av.VideoCodecContext) -> None:
        codec.thread_count = 1
        codec.thread_type = "NONE"
        if not self._options.loop_filter:
            codec.options = {**codec.options, "skip_loop_filter": "all"}

    def decode_at_once(self) -> None:
        """Give each frame out when its packet is there, not after the next; call before reading."""
        self._stream.codec_context.flags |= Flags.low_delay

    @property
    def duration_ns(self) -> int | None:
        """How long the stream lasts; None if it says nothing, as live streams do."""
        duration = self._container.duration
        return duration * 1000 if duration is not None and duration > 0 else None

    @property
    def format_name(self) -> str:
        return self._container.format.name

    @property
    def codec_name(self) -> str:
        return self._stream.codec_context.name

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) as the stream says, before it is turned upright."""
        return self._stream.codec_context.height, self._stream.codec_context.width

    @property
    def rate(self) -> float | None:
        """Frames a second as the stream says; None if it says nothing plausible."""
        rate = self._stream.average_rate or self._stream.guessed_rate
        return float(rate) if rate is not None and 0 < rate < 1000 else None

    @property
    def period_ns(self) -> int:
        """The nominal frame period; 1/25 s where the stream states no plausible one."""
        return round(NS_PER_S / (self.rate or 25.0))

    @property
    def stamped(self) -> bool:
        """Whether stamps come from the sender; for MJPEG FFmpeg makes them up."""
        return self.format_name not in _UNSTAMPED_FORMATS

    @property
    def still(self) -> bool:
        """Whether this is one picture and no stream."""
        return self.format_name in _STILL_FORMATS or self.format_name.endswith("_pipe")

    def advance(self) -> Decoded | None:
        """The next frame in order of display; None at the end.

        Raises :class:`NoVideo` when packets come from a server, and no frame, for as long as the
        read timeout; the first key frame may take :data:`FIRST_FRAME_S`.
        """
        self.waited_ns = 0
        damaged, began_ns = self.damaged, 0
        while not self._decoded:
            if self._over:
                return None
            self._decode(self._next_packet())
            if self._options.read_timeout_s and not self._decoded:
                began_ns = began_ns or self._clock.monotonic_ns()
                waited_s = (self._clock.monotonic_ns() - began_ns) / NS_PER_S
                self._check_patience(waited_s, self.damaged > damaged)
        self._begun = True
        frame = self._decoded.popleft()
        return Decoded(frame, self._since_start(frame.pts))

    def _check_patience(self, waited_s: float, damaged: bool) -> None:
        """Raise :class:`NoVideo` if packets without a frame have come for too long."""
        assert self._options.read_timeout_s is not None
        if self._begun or damaged:
            if waited_s > 0.8 * self._options.read_timeout_s:
                raise NoVideo(f"no frame could be decoded for {waited_s:.1f} s")
        elif waited_s > FIRST_FRAME_S:
            raise NoVideo(
                f"no key frame came in {waited_s:.0f} s; set the camera to one every 2 s or so"
            )
        elif self._options.idle is not None:
            self._options.idle()

    def later_stamps(self) -> Iterator[int | None]:
        """The stamps of the frames and packets that were read ahead."""
        yield from (self._since_start(frame.pts) for frame in self._decoded)
        yield from (self._since_start(packet.pts) for packet in self._ahead)

    def read_ahead(self) -> Iterator[tuple[int | None, int, int]]:
        """Read packets before they are needed: their stamps, when they came, how long that took.

        An error is raised when the packets before it have been decoded.
        """
        while not self._drained:
            before_ns = self.waited_ns
            try:
                self._read()
            except av.error.FFmpegError as error:
                self._failure = error
                return
            if not self._drained:
                stamp_ns = self._since_start(self._ahead[-1].pts)
                yield stamp_ns, self._clock.monotonic_ns(), self.waited_ns - before_ns

    def seek(self, place_ns: int) -> None:
        """Go on at the last key frame up to ``place_ns``."""
        base = self._stream.time_base
        start = self._stream.start_time or 0
        assert base is not None
        self._container.seek(int(place_ns / NS_PER_S / base) + start, stream=self._stream)
        self._stream.codec_context.flush_buffers()
        self._packets = self._container.demux(self._stream)
        self._ahead.clear()
        self._decoded.clear()
        self._drained = self._over = False

    def close(self) -> None:
        self._decoded.clear()
        self._ahead.clear()
        self._container.close()

    def _next_packet(self) -> "Packet | None":
        """The next packet; None to drain the decoder at the end."""
        while not self._drained and self._failure is None and len(self._ahead) <= self.lookahead:
            self._read()
        if self._failure is not None and not self._ahead:
            raise self._failure
        return self._ahead.popleft() if self._ahead else None

    def _read(self) -> None:
        """Read one packet ahead."""
        began_ns = self._clock.monotonic_ns()
        packet = next(self._packets, None)
        self.waited_ns += self._clock.monotonic_ns() - began_ns
        if packet is None or packet.size == 0:  # PyAV ends with an empty packet
            self._drained = True
            return
        self._ahead.append(packet)
        if self._roll is not None:
            stamp_ns = self._since_start(packet.pts)
            self._roll.add(packet, stamp_ns, self._clock.monotonic_ns())

    def note_time(self, stamp_ns: int | None, time_ns: int) -> None:
        """The frame of this stamp was taken at ``time_ns`` on the machine's clock."""
        if self._roll is not None and stamp_ns is not None:
            self._roll.offset_ns = time_ns - stamp_ns

    def _form(self, base: Fraction) -> StreamForm:
        codec = self._stream.codec_context
        return StreamForm(
            opened_ns=self._clock.monotonic_ns(),
            codec=codec.name,
            size=self.size,
            time_base=(base.numerator, base.denominator),
            extradata=bytes(codec.extradata or b""),
        )

    def _decode(self, packet: "Packet | None") -> None:
        try:
            frames: Sequence[av.VideoFrame] = self._stream.codec_context.decode(packet)
            self._decoded.extend(frames)
        except av.error.EOFError:
            self._over = True
        except av.error.FFmpegError:
            self.damaged += 1
        if packet is None:
            self._over = True

    def _since_start(self, stamp: int | None) -> int | None:
        if stamp is None:
            return None
        return (stamp - self._start) * self._unit_ns // self._unit_parts


def _hardware(decoder: Decoder) -> av.codec.hwaccel.HWAccel | None:
    """The hardware that decodes, where it was asked for and this build of FFmpeg knows it."""
    if decoder == "software":
        return None
    known = av.codec.hwaccel.hwdevices_available()
    if decoder not in known:
        log.warning(
            "this build of FFmpeg can't decode by %s (it knows %s); decoding in software",
            decoder, ", ".join(known) or "no hardware",
        )  # fmt: skip
        return None
    try:
        accelerator = av.codec.hwaccel.HWAccel(decoder, allow_software_fallback=True)
        # Opening the device here tells what would otherwise fail silently.
        accelerator.create(av.Codec("h264", "r"))
        return accelerator
    except (av.error.FFmpegError, NotImplementedError, RuntimeError, OSError) as error:
        reason = getattr(error, "strerror", None) or error
        log.warning("%s can't decode here (%s); decoding in software", decoder, reason)
        return None


def _video_stream(container: av.container.InputContainer) -> av.VideoStream:
    """The first video stream that isn't a cover picture; raises :class:`NoVideo`."""
    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            continue
        return stream
    found = sorted({_described(stream) for stream in container.streams})
    raise NoVideo(f"it has no video (found: {', '.join(found)})" if found else "it is not a video")


def _unknown_codec(url: str, options: StreamOptions) -> str:
    """What FFmpeg calls a codec that it has no decoder for: only its log says it."""
    av.logging.set_level(av.logging.WARNING)
    try:
        with av.logging.Capture() as lines:
            timeout = options.open_timeout_s
            av.open(url, options=dict(options.container), timeout=timeout).close()
    except av.error.FFmpegError:
        return "unknown"
    finally:
        av.logging.set_level(None)
    for _, _, line in lines:
        # "Video: none (zzzz / 0x7A7A7A7A), …" or "Video: vvc, …"
        if found := re.search(r"Video: (\w+)(?: \(([^ /)]+))?", line):
            return found[2] or found[1] if found[1] == "none" else found[1]
    return "unknown"


def _described(stream: av.stream.Stream) -> str:
    codec = getattr(stream, "codec_context", None)
    return f"{stream.type} {codec.name}" if codec is not None else stream.type
