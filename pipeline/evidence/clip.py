"""A clip: what a camera sent, or pictures of it, as an MP4 that browsers play.

Pure but for the file that is written. H.264 and H.265 go into the file as they came; all else is
encoded to H.264, and so is what must be painted over.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

from pipeline.arrays import Frame, planar_shape
from pipeline.evidence import elementary
from pipeline.sources.pixels import write as picture_of
from pipeline.transport.messages import Piece, PieceForm

AS_THEY_CAME = ("h264", "hevc")
PICTURES = ("bgr24", "yuv420p")
LAST_NS = 40_000_000
"""How long the last picture is shown, where nothing says it."""
_NS = Fraction(1, 1_000_000_000)
_MILLI = Fraction(1, 90_000)

Paint = Callable[[Frame, int], Frame]
"""Paints over a picture, given its time in ns; may do so in place."""


class NoClip(Exception):
    """There is no clip in these pieces; the text says why."""


@dataclass(frozen=True, slots=True)
class Clip:
    """What a written clip is."""

    first_ns: int
    """When its first picture was taken, monotonic."""
    last_ns: int
    codec: str
    encoded: bool
    size: tuple[int, int]


def decoded(form: PieceForm, pieces: Sequence[Piece]) -> Iterator[tuple[int, Frame]]:
    """(time in ns, picture) of each piece, in order of time; damaged packets are left out."""
    for time_ns, picture in shown(form, pieces):
        yield time_ns, picture()


def shown(form: PieceForm, pieces: Sequence[Piece]) -> Iterator[tuple[int, Callable[[], Frame]]]:
    """As :func:`decoded`, but pictures are only made when they are asked for."""
    if form.codec in PICTURES:
        for piece in pieces:
            yield piece.time_ns, partial(_picture, form, piece.data)
        return
    codec = av.CodecContext.create(form.codec, "r")
    assert isinstance(codec, av.VideoCodecContext)
    codec.thread_count = 1
    if form.extradata:
        codec.extradata = form.extradata
    packets = [_timed(piece) for piece in pieces]
    for packet in [*packets, None]:
        try:
            for frame in codec.decode(packet):
                yield int(frame.pts or 0), partial(picture_of, frame)
        except av.error.FFmpegError:
            continue


def write_clip(
    path: Path, form: PieceForm, pieces: Sequence[Piece], paint: Paint | None = None
) -> Clip:
    """Write a clip of ``pieces`` to ``path``. With ``paint`` it is decoded, painted and encoded.

    Raises :class:`NoClip`, :class:`av.error.FFmpegError` and OSError.
    """
    begin = next((at for at, piece in enumerate(pieces) if piece.key), None)
    if begin is None:
        raise NoClip("no key frame came in time")
    pieces = pieces[begin:]
    # A seekable file of its own, so that what shows the whole length comes first in it.
    with av.open(path, "w", format="mp4", options={"movflags": "faststart"}) as container:
        if form.codec in AS_THEY_CAME and paint is None:
            return _copied(container, form, pieces)
        return _encoded(container, form, pieces, paint)


def _copied(
    container: av.container.OutputContainer, form: PieceForm, pieces: Sequence[Piece]
) -> Clip:
    """Put packets into the file as they are."""
    first = elementary.headers(form.codec, form.extradata)
    first += elementary.plain(pieces[0].data, form.extradata)
    with av.open(io.BytesIO(first * 2), format=form.codec) as source:
        like = source.streams.video[0]
        stream = container.add_stream_from_template(like)
        if form.codec == "hevc":
            # Safari plays H.265 by this name only.
            stream.codec_context.codec_tag = "hvc1"
        size = (like.height, like.width)
        origin = min(piece.time_ns for piece in pieces)
        for piece, dts in zip(pieces, _decode_times(pieces), strict=True):
            packet = av.Packet(elementary.plain(piece.data, form.extradata))
            packet.stream = stream
            packet.time_base = _NS
            packet.pts, packet.dts = piece.time_ns - origin, dts - origin
            packet.is_keyframe = piece.key
            container.mux(packet)
    times = [piece.time_ns for piece in pieces]
    return Clip(min(times), max(times), form.codec, False, size)


def _decode_times(pieces: Sequence[Piece]) -> list[int]:
    """When each packet must be decoded: in order, and none later than it is shown.

    The times at which packets are shown, sorted, and moved back as far as that takes.
    """
    shown = [piece.time_ns for piece in pieces]
    ordered = sorted(shown)
    late = max((d - s for d, s in zip(ordered, shown, strict=True)), default=0)
    times, before = [], -(1 << 62)
    for time in ordered:
        before = max(time - late, before + 1)
        times.append(before)
    return times


def _encoded(
    container: av.container.OutputContainer,
    form: PieceForm,
    pieces: Sequence[Piece],
    paint: Paint | None,
) -> Clip:
    """Decode, paint over if need be, and encode."""
    encoder = Encoder(container)
    for time_ns, frame in decoded(form, pieces):
        encoder.add(time_ns, frame if paint is None else paint(frame, time_ns))
    if encoder.size is None:
        raise NoClip("no picture could be decoded")
    encoder.finish()
    return Clip(encoder.first_ns, encoder.last_ns, "h264", True, encoder.size)


class Encoder:
    """Encodes pictures to H.264 into a container, each at its time."""

    def __init__(self, container: av.container.OutputContainer, crf: int = 26) -> None:
        """``crf`` is libx264's: 18 looks like the original, 28 is small."""
        self._container, self._crf = container, crf
        self._stream: av.VideoStream | None = None
        self.first_ns = self.last_ns = 0

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width) of the clip; None before the first picture."""
        return None if self._stream is None else (self._stream.height, self._stream.width)

    def add(self, time_ns: int, frame: Frame) -> None:
        """Encode a picture; one that isn't later than the last is left out."""
        image = _av_frame(frame)
        if self._stream is None:
            self._stream = _h264(self._container, image.width, image.height, self._crf)
            self.first_ns = time_ns
        elif time_ns <= self.last_ns:
            return
        self.last_ns = time_ns
        image.pts, image.time_base = _ticks(time_ns - self.first_ns), _MILLI
        self._container.mux(self._stream.encode(image))

    def finish(self) -> None:
        """Write what the encoder still holds."""
        if self._stream is not None:
            self._container.mux(self._stream.encode(None))


def _h264(
    container: av.container.OutputContainer, width: int, height: int, crf: int
) -> av.VideoStream:
    options = {"preset": "veryfast", "crf": str(crf)}
    stream = container.add_stream("libx264", rate=30, options=options)
    stream.width, stream.height = width - width % 2, height - height % 2
    stream.pix_fmt = "yuv420p"
    stream.time_base = stream.codec_context.time_base = _MILLI
    stream.codec_context.thread_count = 1
    return stream


def _ticks(ns: int) -> int:
    return ns * _MILLI.denominator // _NS.denominator


def _timed(piece: Piece) -> Any:
    """A packet whose stamp is the time at which the picture was taken."""
    packet = av.Packet(piece.data)
    packet.pts = packet.dts = piece.time_ns
    packet.time_base = _NS
    packet.is_keyframe = piece.key
    return packet


def _picture(form: PieceForm, data: bytes) -> Frame:
    height, width = form.size
    shape = planar_shape(height, width) if form.codec == "yuv420p" else (height, width, 3)
    return np.frombuffer(data, np.uint8).reshape(shape).copy()


def _av_frame(frame: Frame) -> av.VideoFrame:
    """A frame of either form as one that encoders take, of even size."""
    if frame.shape[2] == 1:
        return av.VideoFrame.from_ndarray(frame[..., 0], format="yuv420p")
    height, width = frame.shape[0] & ~1, frame.shape[1] & ~1
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(frame[:height, :width]), format="bgr24")
