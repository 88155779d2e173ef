"""Sources without a network: files, folders, the demo camera, webcams, and what goes wrong."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pipeline.arrays import Frame, picture_size, planar_shape
from pipeline.clock import NS_PER_MS, NS_PER_S
from pipeline.errors import SourceError
from pipeline.pictures import small_bgr
from pipeline.sources import (
    Grab,
    Source,
    SourceOptions,
    create,
    redact,
)
from pipeline.sources.base import Pacer
from pipeline.sources.demo import DemoScene
from pipeline.sources.image_folder import natural_key
from testbed.clock import HandClock

LOSSLESS = SourceOptions(realtime=False)


def make(
    url: str | Path, options: SourceOptions = LOSSLESS, clock: HandClock | None = None
) -> Source:
    return create(str(url), camera="door", clock=clock or HandClock(), options=options)


def read_all(source: Source, limit: int = 10_000) -> list[tuple[Grab, Frame]]:
    source.open()
    frames: list[tuple[Grab, Frame]] = []
    while len(frames) < limit and (grab := source.grab()) is not None:
        frames.append((grab, source.retrieve()))
    source.close()
    return frames


def write_video(path: Path, frames: int = 12, size: tuple[int, int] = (48, 64)) -> Path:
    """A clip whose frame i is gray of level 10 + 15 i."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, size[::-1])
    for index in range(frames):
        writer.write(np.full((*size, 3), 10 + 15 * index, np.uint8))
    writer.release()
    return path


def write_images(folder: Path, names: list[str], size: tuple[int, int] = (30, 40)) -> Path:
    folder.mkdir(exist_ok=True)
    for index, name in enumerate(names):
        assert cv2.imwrite(str(folder / name), np.full((*size, 3), 20 * index, np.uint8))
    return folder


def clips(folder: str) -> list[Path]:
    root = os.environ.get("TWO_STREAM_DATA")
    if not root:
        pytest.skip("TWO_STREAM_DATA is not set: the real clips are not there")
    return sorted((Path(root) / folder).rglob("*.mp4"))


# --- files -----------------------------------------------------------------------------------


def test_a_file_gives_each_frame_once_in_order(tmp_path: Path) -> None:
    frames = read_all(make(write_video(tmp_path / "a.mp4")))
    levels = [float(small_bgr(frame, (48, 64)).mean()) for _, frame in frames]
    np.testing.assert_allclose(levels, 10 + 15 * np.arange(12), atol=4)
    pts = [grab.pts_ns for grab, _ in frames]
    assert pts == [index * NS_PER_S // 10 for index in range(12)]
    assert not any(grab.discontinuity for grab, _ in frames)


def test_a_file_whose_name_is_no_text_is_read(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.mp4"))
    write_video(tmp_path / "a.mp4", frames=3).rename(path)
    assert len(read_all(make(path))) == 3


def test_the_end_stays_the_end(tmp_path: Path) -> None:
    source = make(write_video(tmp_path / "a.mp4", frames=2))
    source.open()
    assert [source.grab() is None for _ in range(5)] == [False, False, True, True, True]


def test_a_file_is_read_the_same_twice() -> None:
    clip = clips("vga")[0]
    first, second = read_all(make(clip)), read_all(make(clip))
    assert [g.pts_ns for g, _ in first] == [g.pts_ns for g, _ in second]
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(first, second, strict=True))


@pytest.mark.slow
def test_timestamps_are_the_files_own() -> None:
    """Against PyAV, on real clips, several of which have a variable frame rate."""
    av = pytest.importorskip("av")
    variable = 0
    chosen = [c for c in clips("gestures") if c.stem in ("square_2", "caret_4", "left_6", "up_7")]
    for clip in chosen:
        with av.open(str(clip)) as container:
            expected = np.array([frame.time for frame in container.decode(video=0)])
        pts = np.array([grab.pts_ns for grab, _ in read_all(make(clip))]) / NS_PER_S
        np.testing.assert_allclose(pts - pts[0], expected - expected[0], atol=1e-6)
        steps = np.diff(expected)
        variable += bool(steps.max() > 1.5 * steps.min())
    assert variable == 3


def test_frames_are_written_into_the_given_array(tmp_path: Path) -> None:
    source = make(write_video(tmp_path / "a.mp4"))
    source.open()
    ring = np.zeros((2, *planar_shape(*source.size)), np.uint8)
    slot = ring[1]
    source.grab()
    source.grab()
    assert source.retrieve(slot) is slot
    assert small_bgr(ring[1], source.size).mean() == pytest.approx(25, abs=4)
    assert not ring[0].any()


@pytest.mark.parametrize("kind", ["file", "folder", "demo"])
def test_an_array_that_does_not_fit_is_left_alone(tmp_path: Path, kind: str) -> None:
    if kind == "file":
        source = make(write_video(tmp_path / "a.mp4"))
    elif kind == "folder":
        source = make(write_images(tmp_path / "images", ["a.png"]))
    else:
        source = make("demo", SourceOptions(realtime=False, width=64, height=48))
    source.open()
    source.grab()
    out = np.full((10, 10, 3), 7, np.uint8)
    frame = source.retrieve(out)
    assert picture_size(frame.shape) == source.size
    assert not np.shares_memory(frame, out)
    assert (out == 7).all()


def test_a_loop_goes_on_in_time_and_says_where_it_wraps(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=4)
    frames = read_all(make(path, SourceOptions(realtime=False, loop=True)), limit=10)
    assert [grab.pts_ns for grab, _ in frames] == [i * NS_PER_S // 10 for i in range(10)]
    assert [i for i, (grab, _) in enumerate(frames) if grab.discontinuity] == [4, 8]
    assert frames[4][1].mean() == pytest.approx(frames[0][1].mean())


def test_a_loop_over_a_file_that_vanishes_ends_with_an_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", frames=2)
    source = make(path, SourceOptions(realtime=False, loop=True))
    source.open()
    source.grab()
    source.grab()
    path.unlink()
    with pytest.raises(SourceError, match=r"a\.mp4: it doesn't exist"):
        source.grab()


def test_real_time_keeps_the_files_pace(tmp_path: Path) -> None:
    clock = HandClock()
    source = make(write_video(tmp_path / "a.mp4"), SourceOptions(), clock)
    assert source.live
    frames = read_all(source)
    captured = [grab.captured_ns for grab, _ in frames]
    assert np.diff(captured).tolist() == pytest.approx([0.1 * NS_PER_S] * 11, abs=1000)


def test_lossless_does_not_wait(tmp_path: Path) -> None:
    clock = HandClock()
    source = make(write_video(tmp_path / "a.mp4"), LOSSLESS, clock)
    assert not source.live
    read_all(source)
    assert clock.slept_s == []


def test_what_a_truncated_file_still_holds_is_delivered(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    whole = tmp_path / "whole.mkv"
    noise = np.random.default_rng(1).integers(0, 255, (20, 48, 64, 3), dtype=np.uint8)
    with av.open(str(whole), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.bit_rate = 64, 48, 2_000_000
        for image in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    data = whole.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) // 2])
    frames = read_all(make(cut))
    assert 3 <= len(frames) <= 12


def text(path: Path) -> None:
    path.write_text("this is not a video\n" * 100)


def headless(path: Path) -> None:
    data = write_video(path).read_bytes()
    path.write_bytes(data[: len(data) // 2])  # OpenCV's mp4 has its index at the end


@pytest.mark.parametrize(
    ("spoil", "kind", "says"),
    [
        (lambda path: None, "not_found", "it doesn't exist"),
        (lambda path: path.touch(), "unreadable", "it is empty"),
        (os.mkfifo, "unreadable", "it isn't a regular file"),
        (text, "unreadable", "it is not a video"),
        (headless, "unreadable", "it is not a video"),
    ],
    ids=["missing", "empty", "pipe", "text", "headless"],
)
def test_a_bad_file_is_one_clear_line(
    tmp_path: Path, spoil: Callable[[Path], None], kind: str, says: str
) -> None:
    path = tmp_path / "clip.mp4"
    spoil(path)
    with pytest.raises(SourceError) as caught:
        make(path).open()
    assert str(caught.value) == f"camera 'door': file {path}: {says}"
    assert (caught.value.kind, caught.value.permanent) == (kind, True)


@contextmanager
def without_privileges() -> Iterator[None]:
    """As a user for whom permissions hold: root may read everything."""
    if os.geteuid() != 0:
        yield
        return
    nobody = 65534
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_missing_permission_is_said(kind: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        path = folder / "a.mp4"
        if kind == "file":
            write_video(path)
        else:
            path.mkdir()
        path.chmod(0)
        make(path)  # imports what it needs while this user can still read the standard library
        try:
            with (
                without_privileges(),
                pytest.raises(SourceError, match=r"a\.mp4: Permission denied") as caught,
            ):
                make(path).open()
            assert caught.value.kind == "unreadable"
        finally:
            path.chmod(0o700)


def test_a_name_that_looks_like_a_protocol_is_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", frames=3).rename(tmp_path / "concat:a.mp4")
    assert len(read_all(make("concat:a.mp4"))) == 3


# --- folders of images -------------------------------------------------------------------------


def test_images_come_in_natural_order(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", ["frame2.png", "frame10.png", "frame1.png"])
    (folder / "notes.txt").write_text("not an image")
    frames = read_all(make(folder))
    assert [int(frame[0, 0, 0]) for _, frame in frames] == [40, 0, 20]
    assert [grab.pts_ns for grab, _ in frames] == [0, 100 * NS_PER_MS, 200 * NS_PER_MS]


@given(st.lists(st.integers(0, 10**6), min_size=1, unique=True))
def test_natural_order_is_numeric(numbers: list[int]) -> None:
    names = sorted((f"frame{n}.png" for n in numbers), key=natural_key)
    assert names == [f"frame{n}.png" for n in sorted(numbers)]


def test_an_unreadable_image_is_skipped_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_images(tmp_path / "images", ["1.png", "2.png", "3.png", "4.png"])
    (folder / "2.png").write_bytes(b"not a png")
    (folder / "3.png").write_bytes(b"")
    frames = read_all(make(folder))
    assert [int(frame[0, 0, 0]) for _, frame in frames] == [0, 60]
    assert [record.args for record in caplog.records] == [
        ("door", folder / "2.png"),
        ("door", folder / "3.png"),
    ]


def test_what_only_seems_to_lie_in_a_folder_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Links out of the folder, and files that return bytes for ever or none at all."""
    elsewhere = write_images(tmp_path / "elsewhere", ["secret.png"])
    folder = write_images(tmp_path / "images", ["1.png", "9.png"])
    (folder / "2.png").symlink_to(elsewhere / "secret.png")
    (folder / "3.png").symlink_to("/dev/zero")
    (folder / "4.png").symlink_to(folder / "9.png")
    (folder / "5.png").symlink_to(folder / "5.png")
    os.mkfifo(folder / "6.png")
    (tmp_path / "link").symlink_to(folder)
    frames = read_all(make(tmp_path / "link"))
    assert [int(frame[0, 0, 0]) for _, frame in frames] == [0, 20, 20]
    assert "skipped 4 images that aren't files inside it: 2.png, 3.png, 5.png" in caplog.text


def test_images_may_change_size(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "images", ["1.png"], (30, 40))
    assert cv2.imwrite(str(folder / "2.png"), np.zeros((60, 80, 3), np.uint8))
    source = make(folder)
    source.open()
    out = np.empty((*source.size, 3), np.uint8)
    source.grab()
    assert source.retrieve(out) is out
    source.grab()
    assert source.retrieve(out).shape == (60, 80, 3)


def test_a_folder_loops_and_keeps_pace(tmp_path: Path) -> None:
    clock = HandClock()
    folder = write_images(tmp_path / "images", ["1.png", "2.png"])
    source = make(folder, SourceOptions(loop=True, fps=4.0), clock)
    frames = read_all(source, limit=5)
    assert [grab.discontinuity for grab, _ in frames] == [False, False, True, False, True]
    assert np.diff([grab.captured_ns for grab, _ in frames]).tolist() == [NS_PER_S // 4] * 4


@pytest.mark.parametrize(
    ("files", "kind", "says"),
    [
        ({}, "not_found", "it holds no images"),
        ({"a.txt": b"x"}, "not_found", "it holds no images"),
        ({"a.png": b"x", "b.jpg": b""}, "unreadable", "none of its 2 images can be read"),
    ],
)
def test_a_bad_folder_is_one_clear_line(
    tmp_path: Path, files: dict[str, bytes], kind: str, says: str
) -> None:
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError) as caught:
        make(tmp_path).open()
    assert str(caught.value).startswith(f"camera 'door': folder {tmp_path}: {says}")
    assert (caught.value.kind, caught.value.permanent) == (kind, True)


# --- the demo camera ---------------------------------------------------------------------------


def test_the_demo_camera_keeps_its_rate_and_shows_the_script() -> None:
    clock = HandClock()
    source = make("demo:9", SourceOptions(fps=25.0, width=160, height=120), clock)
    started_ns = clock.now_ns
    frames = read_all(source, limit=10)
    for index, (grab, frame) in enumerate(frames):
        assert grab.captured_ns == pytest.approx(started_ns + index * NS_PER_S / 25, abs=2)
        assert grab.pts_ns == round(index * NS_PER_S / 25)
        np.testing.assert_array_equal(frame, DemoScene(9, 160, 120).render(index / 25))


def test_a_late_reader_of_the_demo_gets_the_newest_frame() -> None:
    clock = HandClock()
    source = make("demo", SourceOptions(fps=10.0, width=64, height=48), clock)
    source.open()
    source.grab()
    clock.now_ns += 730 * NS_PER_MS
    grab = source.grab()
    assert grab is not None
    assert grab.pts_ns == 700 * NS_PER_MS
    assert grab.captured_ns == clock.now_ns
    following = source.grab()
    assert following is not None
    assert following.pts_ns == 800 * NS_PER_MS


def test_a_restarted_demo_goes_on_where_the_clock_is() -> None:
    clock = HandClock()
    origin_ns = clock.now_ns - 100 * NS_PER_S
    options = SourceOptions(fps=10.0, width=64, height=48, origin_ns=origin_ns)
    source = make("demo:3", options, clock)
    source.open()
    grab = source.grab()
    assert grab is not None
    assert grab.pts_ns == 100 * NS_PER_S
    np.testing.assert_array_equal(source.retrieve(), DemoScene(3, 64, 48).render(100.0))


def test_the_lossless_demo_gives_every_frame_without_waiting() -> None:
    clock = HandClock()
    source = make("demo", SourceOptions(realtime=False, width=64, height=48), clock)
    assert not source.live
    pts = [grab.pts_ns for grab, _ in read_all(source, limit=40)]
    assert pts == [round(index * NS_PER_S / 30) for index in range(40)]
    assert clock.slept_s == []


# --- what a URL may be -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "says"),
    [
        (
            "ftp://u:secret@host/a",
            "ftp://u:***@host/a: unknown scheme 'ftp'; must be one of rtsp://",
        ),
        ("demo:x", "demo:x: the demo's seed must be a whole number"),
        ("", "the source: it is empty"),
    ],
)
def test_what_no_source_reads_is_refused(url: str, says: str) -> None:
    with pytest.raises(SourceError) as caught:
        make(url)
    assert f"camera 'door': {says}" in str(caught.value)
    assert caught.value.permanent


@pytest.mark.parametrize("url", ["97", "/dev/video97"])
def test_a_webcam_that_is_not_there(url: str) -> None:
    with pytest.raises(SourceError, match="webcam /dev/video97: it doesn't exist") as caught:
        make(url).open()
    assert (caught.value.kind, caught.value.permanent) == ("not_found", False)


@pytest.mark.parametrize("field", ["fps", "width", "open_timeout_s"])
def test_options_must_be_positive(field: str) -> None:
    with pytest.raises(ValueError, match=f"{field} must be positive, got 0"):
        SourceOptions(**{field: 0})  # type: ignore[arg-type]


# --- passwords ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://user:pw@host/cam", "rtsp://user:***@host/cam"),
        ("rtsp://user:p@ss@host:554/cam", "rtsp://user:***@host:554/cam"),
        ("rtsp://user:a/b@host/cam", "rtsp://user:***@host/cam"),
        # Without a password the user may be a key.
        ("rtsp://user:@host/cam", "rtsp://***@host/cam"),
        ("RTSPS://:pw@host/", "RTSPS://:***@host/"),
        ("rtsp://host/at@home", "rtsp://***@home"),
        ("rtsp://[::1]:554/at@home", "rtsp://[::1]:554/at@home"),
        # Either a port and a path, or a password: it is taken for the worse.
        ("rtsp://admin:1234/56@host/cam", "rtsp://admin:***@host/cam"),
        ("rtsp://:000?@host:554/", "rtsp://:***@host:554/"),
        ("rtsp://user@host/cam", "rtsp://***@host/cam"),
        ("http://host/video?user=me&pwd=secret&size=2", "http://host/video?user=me&pwd=***&size=2"),
        ("http://host/v?api_key=se_cret", "http://host/v?api_key=***"),
        (
            "rtsp://host/user=admin_password=tl_J_channel=1_stream=0",
            "rtsp://host/user=admin_password=***_channel=1_stream=0",
        ),
        ("/home/me/a@b.mp4", "/home/me/a@b.mp4"),
        ("demo:7", "demo:7"),
    ],
)
def test_redaction(url: str, shown: str) -> None:
    assert redact(url) == shown


PRINTABLE = st.characters(min_codepoint=33, max_codepoint=126)


@given(
    user=st.text(st.characters(categories=["Ll", "Nd"], max_codepoint=126), max_size=8),
    password=st.text(PRINTABLE, min_size=4, max_size=30),
    path=st.text(st.characters(categories=["Ll", "Nd"], max_codepoint=126), max_size=8),
)
def test_no_password_is_ever_shown(user: str, password: str, path: str) -> None:
    rest = f"rtsp://{user}:***@camera.example:554/{path}"
    assume(password not in rest)
    shown = redact(f"rtsp://{user}:{password}@camera.example:554/{path}")
    assert password not in shown


@pytest.mark.slow
def test_nothing_prints_the_password_of_a_camera_that_is_not_there() -> None:
    """FFmpeg and OpenCV print URLs when something fails, unless they are silenced."""
    script = (
        "import logging, sys; logging.basicConfig(level=0)\n"
        "from pipeline.clock import SystemClock\n"
        "from pipeline.sources import SourceError, create\n"
        "for url in sys.argv[1:]:\n"
        "    try: create(url, camera='door', clock=SystemClock()).open()\n"
        "    except SourceError as error: print(error, repr(error), error.args)\n"
    )
    urls = ["rtsp://u:MARKED@127.0.0.1:9/x", "http://u:MARKED@127.0.0.1:9/x", "ftp://u:MARKED@h/"]
    root = Path(__file__).parents[3]
    command = [sys.executable, "-c", script, *urls]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("u:***@") >= 3
    assert "MARKED" not in done.stdout + done.stderr
    assert done.stderr == ""


# --- time ----------------------------------------------------------------------------------------


def test_a_late_reader_of_a_file_moves_the_schedule() -> None:
    clock = HandClock()
    pacer = Pacer(clock)
    start_ns = pacer.wait(0)
    clock.now_ns += 3 * NS_PER_S
    assert pacer.wait(NS_PER_S // 10) == start_ns + 3 * NS_PER_S
    assert pacer.wait(2 * NS_PER_S // 10) == start_ns + 3 * NS_PER_S + NS_PER_S // 10


def test_a_long_gap_in_a_file_is_not_sat_out() -> None:
    clock = HandClock()
    pacer = Pacer(clock)
    pacer.wait(0)
    pacer.wait(3600 * NS_PER_S)
    assert sum(clock.slept_s) == 0
