"""Clips: packets as they came or encoded, from streams of every form."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from pipeline.arrays import Frame
from pipeline.evidence import elementary
from pipeline.evidence.clip import NoClip, decoded, write_clip
from pipeline.transport.messages import Piece, PieceForm

START_NS = 10**12
SIZE = (48, 64)
COUNT = 30


def moving(size: tuple[int, int] = SIZE) -> Iterator[np.ndarray[Any, Any]]:
    height, width = size
    for index in range(COUNT):
        picture = np.zeros((height, width, 3), np.uint8)
        picture[:, index : index + 12] = 220
        picture[index % height] = 128
        yield picture


def pieces_of(
    path: Path, codec: str, options: dict[str, str], form: str = "mp4"
) -> tuple[PieceForm, list[Piece]]:
    """The packets of a film that is made here, as a capture sends them."""
    with av.open(path, "w", format=form) as container:
        stream: Any = container.add_stream(codec, rate=10, options=options)
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        if codec == "mjpeg":
            stream.pix_fmt = "yuvj420p"
        for picture in moving():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))
    with av.open(path) as source:
        video = source.streams.video[0]
        base = video.time_base
        assert base is not None
        context = video.codec_context
        made = PieceForm(
            1, context.name, SIZE, (base.numerator, base.denominator),
            bytes(context.extradata or b""),
        )  # fmt: skip
        packets = [packet for packet in source.demux(video) if packet.size]
        return made, [
            Piece(
                number, START_NS + int((packet.pts or 0) * base * 10**9), packet.pts, packet.dts,
                packet.duration or 0, packet.is_keyframe, bytes(packet),
            )
            for number, packet in enumerate(packets)
        ]  # fmt: skip


def frames_of(path: Path) -> list[tuple[float, np.ndarray[Any, Any]]]:
    with av.open(path) as container:
        stream = container.streams.video[0]
        base = stream.time_base
        assert base is not None
        return [
            (float((frame.pts or 0) * base), frame.to_ndarray(format="gray"))
            for frame in container.decode(stream)
        ]


X264 = {"g": "10", "bf": "2", "x264-params": "log-level=none"}
X265 = {"x265-params": "keyint=10:bframes=2:log-level=none"}


@pytest.mark.parametrize(
    ("codec", "options", "form"),
    [
        ("libx264", X264, "mp4"),
        ("libx264", X264, "mpegts"),
        ("libx265", X265, "mp4"),
        ("libx265", X265, "mpegts"),
    ],
)
def test_packets_go_into_the_file_as_they_came(
    tmp_path: Path, codec: str, options: dict[str, str], form: str
) -> None:
    film = tmp_path / "film"
    made, pieces = pieces_of(film, codec, options, form)
    clip = write_clip(tmp_path / "clip.mp4", made, pieces)
    assert (clip.codec, clip.encoded, clip.size) == (made.codec, False, SIZE)
    assert (clip.last_ns - clip.first_ns) / 1e9 == pytest.approx((COUNT - 1) / 10, abs=0.001)
    before, after = frames_of(film), frames_of(tmp_path / "clip.mp4")
    assert len(after) == len(before) == COUNT
    for (at, gray), (then, again) in zip(before, after, strict=True):
        assert np.array_equal(gray, again)
        assert then - after[0][0] == pytest.approx(at - before[0][0], abs=0.001)


@pytest.mark.parametrize(
    ("codec", "options", "form"),
    [("mpeg4", {}, "mp4"), ("mjpeg", {}, "avi"), ("libvpx-vp9", {"cpu-used": "8"}, "webm")],
)
def test_what_browsers_do_not_play_is_encoded(
    tmp_path: Path, codec: str, options: dict[str, str], form: str
) -> None:
    made, pieces = pieces_of(tmp_path / "film", codec, options, form)
    clip = write_clip(tmp_path / "clip.mp4", made, pieces)
    assert (clip.codec, clip.encoded) == ("h264", True)
    before, after = frames_of(tmp_path / "film"), frames_of(tmp_path / "clip.mp4")
    assert len(after) == len(before)
    assert (
        max(
            float(np.abs(a[1].astype(int) - b[1]).mean())
            for a, b in zip(before, after, strict=True)
        )
        < 8
    )


@pytest.mark.parametrize("codec", ["bgr24", "yuv420p"])
def test_pictures_are_encoded(tmp_path: Path, codec: str) -> None:
    pictures = [
        picture if codec == "bgr24" else np.full((SIZE[0] * 3 // 2, SIZE[1]), 7 * at, np.uint8)
        for at, picture in enumerate(moving())
    ]
    form = PieceForm(1, codec, SIZE, (1, 10**9), b"")
    pieces = [
        Piece(at, START_NS + at * 10**8, None, None, 0, True, picture.tobytes())
        for at, picture in enumerate(pictures)
    ]
    clip = write_clip(tmp_path / "clip.mp4", form, pieces)
    assert (clip.first_ns, clip.last_ns) == (START_NS, START_NS + (COUNT - 1) * 10**8)
    assert len(frames_of(tmp_path / "clip.mp4")) == COUNT


def test_odd_sizes_are_encoded_too(tmp_path: Path) -> None:
    size = (47, 63)
    pieces = [
        Piece(at, START_NS + at * 10**8, None, None, 0, True, picture.tobytes())
        for at, picture in enumerate(moving(size))
    ]
    clip = write_clip(tmp_path / "clip.mp4", PieceForm(1, "bgr24", size, (1, 10**9), b""), pieces)
    assert clip.size == (46, 62)


def test_with_paint_everything_is_encoded(tmp_path: Path) -> None:
    made, pieces = pieces_of(tmp_path / "film", "libx264", X264)
    times = []

    def paint(frame: Frame, time_ns: int) -> Frame:
        times.append(time_ns)
        frame[:] = 128
        return frame

    clip = write_clip(tmp_path / "clip.mp4", made, pieces, paint)
    assert clip.encoded
    assert times == sorted(piece.time_ns for piece in pieces)
    assert frames_of(tmp_path / "clip.mp4")[0][1].std() < 2


@pytest.mark.parametrize("cut", [lambda p: p[1:9], lambda p: []])
def test_without_a_key_frame_there_is_no_clip(
    tmp_path: Path, cut: Callable[[list[Piece]], list[Piece]]
) -> None:
    made, pieces = pieces_of(tmp_path / "film", "libx264", X264)
    with pytest.raises(NoClip, match="key frame"):
        write_clip(tmp_path / "clip.mp4", made, cut(pieces))


def test_damaged_packets_are_left_out(tmp_path: Path) -> None:
    made, pieces = pieces_of(tmp_path / "film", "mpeg4", {})
    pieces[4] = Piece(4, pieces[4].time_ns, None, None, 0, False, b"\0\1nonsense")
    assert len(list(decoded(made, pieces))) >= COUNT - 2
    assert write_clip(tmp_path / "clip.mp4", made, pieces).encoded


def test_a_record_s_headers_come_behind_start_codes(tmp_path: Path) -> None:
    made, pieces = pieces_of(tmp_path / "film", "libx264", X264)
    assert elementary.is_record(made.extradata)
    units = elementary.headers("h264", made.extradata).split(elementary.START)[1:]
    assert [unit[0] & 31 for unit in units] == [7, 8]
    assert elementary.plain(pieces[0].data, made.extradata).startswith(elementary.START)
    assert elementary.plain(b"\0\0\0\1\x65", b"") == b"\0\0\0\1\x65"
