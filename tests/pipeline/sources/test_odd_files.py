"""Files as they are in the world: forms of pixels, turned pictures, strange stamps.

Live, lossless, evaluation and training read them by the same code, and agree to the frame.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.arrays import Frame, is_planar, picture_size
from pipeline.clock import NS_PER_MS
from pipeline.errors import SourceError
from pipeline.evaluate.recogniser import file_frames
from pipeline.pictures import small_bgr
from pipeline.sources import Source, SourceOptions, create
from testbed.clock import HandClock
from testbed.video_files import grays, write_video
from training.data import video_frames


def opened(path: Path, *, loop_filter: bool = True) -> Source:
    options = SourceOptions(realtime=False, loop_filter=loop_filter)
    source = create(str(path), camera="door", clock=HandClock(), options=options)
    source.open()
    return source


def media_ms(path: Path) -> list[float]:
    source = opened(path)
    times = []
    while (grab := source.grab()) is not None:
        times.append((grab.pts_ns or 0) / NS_PER_MS)
    source.close()
    return times


def scene(size: tuple[int, int]) -> Frame:
    """A picture without symmetry: a bright corner and a coloured edge."""
    picture = np.full((*size, 3), 40, np.uint8)
    picture[: size[0] // 4, : size[1] // 4] = 230
    picture[-size[0] // 4 :, :] = (200, 60, 60)
    return picture


@pytest.mark.parametrize(
    ("name", "codec", "pixels", "planar"),
    [
        ("a.mp4", "libx264", "yuv420p", True),
        ("a.mp4", "libx264", "yuv422p", True),
        ("a.mp4", "libx264", "yuv444p", True),
        ("a.avi", "mjpeg", "yuvj420p", True),
        ("a.avi", "mjpeg", "yuvj422p", True),
        ("a.mkv", "ffv1", "yuv420p10le", True),
        ("a.mkv", "ffv1", "gray", False),
        ("a.avi", "rawvideo", "bgr24", False),
        ("a.mkv", "ffv1", "bgr0", False),
    ],
)
def test_every_form_of_pixels_gives_the_same_picture(
    tmp_path: Path, name: str, codec: str, pixels: str, planar: bool
) -> None:
    picture = scene((96, 128))
    path = write_video(tmp_path / name, [picture] * 3, codec=codec, pixels=pixels)
    source = opened(path)
    source.grab()
    frame = source.retrieve()
    assert is_planar(frame) == planar
    assert source.size == picture_size(frame.shape) == (96, 128)
    expected = picture
    if pixels == "gray":
        expected = np.repeat(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)[:, :, None], 3, 2)
    # Encoders lose a little, most where colours meet.
    difference = np.abs(small_bgr(frame, (48, 64)).astype(int) - small_bgr(expected, (48, 64)))
    assert np.median(difference) <= 3
    assert difference.mean() < 6


@pytest.mark.parametrize("size", [(95, 128), (96, 127), (95, 127)])
def test_an_odd_size_is_read_as_it_is(tmp_path: Path, size: tuple[int, int]) -> None:
    path = write_video(tmp_path / "a.mkv", [scene(size)] * 2, codec="ffv1", pixels="yuv420p")
    source = opened(path)
    source.grab()
    assert source.size == size
    assert source.retrieve().shape == (*size, 3)


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_film_is_shown_upright_as_by_players(tmp_path: Path, rotation: int) -> None:
    path = write_video(tmp_path / "a.mp4", [scene((96, 128))] * 3, rotation=rotation)
    # OpenCV turns films as players do.
    expected = np.asarray(cv2.VideoCapture(str(path)).read()[1], np.uint8)
    source = opened(path)
    source.grab()
    frame = source.retrieve()
    assert source.size == expected.shape[:2]
    assert picture_size(frame.shape) == expected.shape[:2]
    difference = np.abs(small_bgr(frame, (48, 48)).astype(int) - small_bgr(expected, (48, 48)))
    assert difference.mean() < 4


def stamped(path: Path, stamps: Sequence[int]) -> Path:
    return write_video(path, grays(len(stamps)), stamps_ms=stamps)


@pytest.mark.parametrize("name", ["film.mkv", "film.mp4"])
def test_stamps_that_repeat_in_pairs_are_the_place_in_the_film(tmp_path: Path, name: str) -> None:
    stamps = [80 * (index // 2) for index in range(100)]
    times = media_ms(stamped(tmp_path / name, stamps))
    assert len(times) == 100
    assert max(abs(time - 40 * index) for index, time in enumerate(times)) <= 80


def test_a_frame_that_is_stamped_an_hour_ahead_stays_in_its_place(tmp_path: Path) -> None:
    stamps = [40 * index for index in range(200)]
    stamps[90] += 3_600_000
    times = media_ms(stamped(tmp_path / "film.mkv", stamps))
    assert times[-1] == pytest.approx(40 * 199, abs=80)


def test_everybody_gives_a_frame_the_same_time(tmp_path: Path) -> None:
    stamps = [40 * index for index in range(60)]
    stamps[20] += 3_600_000
    stamps[31] = stamps[30]
    path = stamped(tmp_path / "film.mkv", stamps)
    lossless = media_ms(path)
    live = create(str(path), camera="door", clock=HandClock(), options=SourceOptions())
    live.open()
    live_times = [(grab.pts_ns or 0) / NS_PER_MS for grab in iter(live.grab, None)]
    evaluated = [timed.pts_ns / NS_PER_MS for timed in file_frames(path)]
    trained = [time_ns / NS_PER_MS for time_ns, _ in video_frames(path)]
    assert lossless == live_times == evaluated == trained
    tail = [time_ns / NS_PER_MS for time_ns, _ in video_frames(path, start_s=1.6)]
    assert tail == pytest.approx([time - 1600 for time in lossless if time >= 1600])


def test_a_damaged_packet_costs_its_frames_only(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.avi", grays(50), codec="mjpeg", pixels="yuvj420p")
    data = bytearray(path.read_bytes())
    middle = data.index(b"00dc", len(data) // 2) + 8
    data[middle : middle + 60] = bytes(60)
    path.write_bytes(data)
    assert 45 <= len(media_ms(path)) <= 50


def test_without_the_loop_filter_pictures_are_a_little_different(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 255, (8, 96, 128, 3), np.uint8)
    pictures = [np.asarray(cv2.GaussianBlur(image, (0, 0), 2), np.uint8) for image in noise]
    path = write_video(tmp_path / "a.mp4", pictures, options={"crf": "35"})
    exact, fast = opened(path), opened(path, loop_filter=False)
    differences = []
    for _ in pictures:
        exact.grab(), fast.grab()
        a, b = exact.retrieve(), fast.retrieve()
        differences.append(float(np.abs(a.astype(int) - b).mean()))
    assert 0 < np.mean(differences) < 10


def test_a_codec_that_is_unknown_is_named(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", grays(20))
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(SourceError, match=r"its video codec is zzzz, which .* can't decode"):
        opened(path)


def test_a_decoder_that_is_not_here_falls_back_to_software(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_video(tmp_path / "a.mp4", grays(5))
    source = create(
        str(path), camera="door", clock=HandClock(),
        options=SourceOptions(realtime=False, decoder="videotoolbox"),
    )  # fmt: skip
    source.open()
    assert sum(1 for _ in iter(source.grab, None)) == 5
    assert "decoding in software" in caplog.text
