"""Cameras as they are in the world: bursts, playlists, films, odd servers, wrong clocks.

Everything runs against a real server. docs/cameras.md lists the situations.
"""

import hashlib
import itertools
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK
from pipeline.errors import SourceError
from pipeline.sources import Grab, Source, SourceOptions, create, stream
from testbed.cameras import rtsp_server, self_signed
from testbed.footage import panning_clip
from testbed.line import RTP_HZ, line_to
from testbed.program import PROJECT, PipelineRun, default_ports
from testbed.resources import Starvation
from testbed.video_files import as_h264
from testbed.web_server import MjpegForm, live_playlist, mjpeg_in_form, then_silence, web_server

HALF_A_STEP_S = 0.06


@pytest.fixture(scope="module")
def panning_h264(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten seconds of a picture that moves left and right in turn, as H.264."""
    folder = tmp_path_factory.mktemp("h264")
    return as_h264(panning_clip(folder / "pan.avi", 10), folder / "pan.mp4")


def opened(url: str, **options: Any) -> Source:
    source = create(url, camera="door", clock=SYSTEM_CLOCK, options=SourceOptions(**options))
    source.open()
    return source


def read_for(source: Source, seconds: float) -> list[Grab]:
    grabs = []
    end = time.monotonic() + seconds
    while time.monotonic() < end and (grab := source.grab()) is not None:
        grabs.append(grab)
    return grabs


def starts(run: PipelineRun, camera: str) -> list[dict[str, Any]]:
    return [h.body for h in run.events(camera) if h.body["type"] == "start"]


def reasons(run: PipelineRun, camera: str) -> list[str]:
    return [h.body["reason"] for h in run.statuses(camera) if h.body["reason"]]


@pytest.mark.usefixtures("rtsp")
def test_a_relay_that_passes_data_on_in_lumps_loses_no_event(
    scratch: Path, tiny: Path, panning_h264: Path
) -> None:
    """The picture turns every 2.5 s: so many events come of it, in their order."""
    with (
        rtsp_server({"door": [panning_h264]}, size=(240, 320), fps=30) as server,
        line_to(server.port) as third,
        line_to(server.port) as half,
    ):
        third.every_s, half.every_s = 0.3, 0.5
        cameras = {
            "direct": {"source": server.url("door")},
            "third": {"source": third.url("door")},
            "half": {"source": half.url("door")},
        }
        with PipelineRun(scratch, {"model": str(tiny), "cameras": cameras}) as run:
            run.wait_for(lambda: all(len(starts(run, c)) >= 9 for c in cameras), 120, "9 events")
            for camera in cameras:
                # The first may have begun before the networks were loaded.
                events = starts(run, camera)[1:9]
                labels = [event["label"] for event in events]
                assert all(a != b for a, b in itertools.pairwise(labels)), labels
                media = [event["media_time"][0] for event in events]
                np.testing.assert_allclose(np.diff(media), 2.5, atol=0.35, err_msg=camera)
            assert not reasons(run, "half")


def test_a_stream_that_falls_silent_says_for_how_long(panning_h264: Path, tmp_path: Path) -> None:
    """Also where frames that were read ahead came out while it was silent."""
    stream = tmp_path / "live.ts"
    with av.open(str(panning_h264)) as film, av.open(str(stream), "w") as out:
        video = film.streams.video[0]
        copy = out.add_stream_from_template(video)
        for packet in film.demux(video):
            if packet.dts is not None:
                packet.stream = copy
                out.mux(packet)
    whole = stream.read_bytes()
    with then_silence(whole[: len(whole) // 2], "video/mp2t") as url:
        source = opened(url, read_timeout_s=1.0)
        with pytest.raises(SourceError, match=r"no frame for [12]\.\d s") as error:
            read_for(source, 30)
        source.close()
    assert error.value.kind == "stalled"


def read_on(url: str, seconds: float, read_timeout_s: float) -> list[tuple[bytes, float]]:
    """Read a camera, and open it again when it is lost: each frame's picture and time."""
    frames = []
    until = time.monotonic() + seconds
    source = create(
        url,
        camera="door",
        clock=SYSTEM_CLOCK,
        options=SourceOptions(open_timeout_s=1, read_timeout_s=read_timeout_s),
    )
    while time.monotonic() < until:
        with suppress(SourceError):
            source.open()
            while time.monotonic() < until and (grab := source.grab()) is not None:
                picture = hashlib.sha256(source.retrieve().tobytes()).digest()
                frames.append((picture, grab.scene_ns / NS_PER_S))
    source.close()
    return frames


def was_watched(times: npt.NDArray[np.float64], at: float) -> bool:
    """Whether pictures come close before and after ``at``. A busy machine leaves holes."""
    place = int(np.searchsorted(times, at))
    return 0 < place < len(times) and times[place] - times[place - 1] < 0.2


@pytest.mark.usefixtures("rtsp")
@pytest.mark.parametrize("read_timeout_s", [10.0, 1.0], ids=["same connection", "new connection"])
@pytest.mark.parametrize("every_s", [0.5, 1.0])
def test_a_cut_behind_a_relay_moves_no_time(
    panning_h264: Path, every_s: float, read_timeout_s: float
) -> None:
    """The times of its pictures are those of the camera on a good line."""
    with (
        rtsp_server({"door": [panning_h264]}, size=(240, 320), fps=30, shared=True) as server,
        line_to(server.port) as line,
        Starvation() as starvation,
        ThreadPoolExecutor(2) as readers,
    ):
        good = readers.submit(read_on, server.url("door"), 18, 10.0)
        line.every_s = every_s
        bad = readers.submit(read_on, line.url("door"), 16, read_timeout_s)
        time.sleep(5.3)
        line.fault = "cut"
        time.sleep(3.0)
        line.fault = ""
        times = defaultdict(list)
        for picture, at in good.result():
            times[picture].append(at)
        seen = np.sort([at for _, at in good.result()])
        apart = [
            min((at - other for other in times[picture]), key=abs)
            for picture, at in bad.result()
            if picture in times and was_watched(seen, at)
        ]
    assert len(apart) > 200
    # Each picture comes again after ten seconds; the camera rests for one at a time.
    assert np.percentile(np.abs(apart), 95) < 0.35 + starvation.worst_s


@pytest.mark.usefixtures("rtsp")
@pytest.mark.parametrize(
    ("misdate", "says"),
    [
        (lambda _: 0, "stand still"),
        (lambda stamp: 2 * stamp, "times the real pace"),
        (lambda stamp: -stamp, "go back"),
        (lambda stamp: stamp + (3600 * RTP_HZ if stamp > 8 * RTP_HZ else 0), "jumped by"),
    ],
    ids=["still", "fast", "backwards", "set"],
)
def test_a_camera_whose_clock_is_wrong_is_timed_by_arrival(
    scratch: Path, tiny: Path, panning_h264: Path, misdate: Callable[[int], int], says: str
) -> None:
    with (
        rtsp_server({"door": [panning_h264]}, size=(240, 320), fps=30) as server,
        line_to(server.port) as line,
    ):
        line.misdate = misdate
        settings = {"model": str(tiny), "cameras": {"door": {"source": line.url("door")}}}
        with PipelineRun(scratch, settings) as run:
            run.wait_for(lambda: any(says in text for text in reasons(run, "door")), 90, says)
            before = len(starts(run, "door"))
            run.wait_for(lambda: len(starts(run, "door")) >= before + 3, 60, "events go on")


@pytest.mark.usefixtures("rtsp")
def test_encrypted_streams_are_read_though_nobody_vouches_for_the_camera(
    scratch: Path, panning_h264: Path
) -> None:
    """Cameras sign their certificates themselves."""
    certificate = self_signed(scratch / "camera.pem")
    with rtsp_server(
        {"door": [panning_h264]}, size=(240, 320), login="ann:s3cret", certificate=certificate
    ) as server:
        assert server.scheme == "rtsps"
        source = opened(server.url("door"))
        assert len(read_for(source, 2)) > 30
        source.close()
        with pytest.raises(SourceError, match="refuses this user and password") as wrong:
            opened(server.url("door", "ann:wr0ng"))
        assert wrong.value.kind == "unauthorised"
        assert "wr0ng" not in str(wrong.value)
        plain = server.url("door").replace("rtsps://", "rtsp://")
        with pytest.raises(SourceError) as refused:
            opened(plain, open_timeout_s=2)
        assert "rtsps://" in str(refused.value)
    with web_server(panning_h264.parent, certificate) as address:
        source = opened(f"{address}/{panning_h264.name}")
        assert len(read_for(source, 2)) > 30
        source.close()


@pytest.mark.usefixtures("rtsp")
def test_a_camera_whose_key_frames_are_rare_is_waited_for(
    scratch: Path, tiny: Path, panning_h264: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first key frame comes after nine seconds, longer than any timeout."""
    with rtsp_server(
        {"door": [panning_h264]}, size=(240, 320), fps=30, key_every=1000, begin=30
    ) as server:
        url = server.url("door")
        with monkeypatch.context() as patch:
            patch.setattr(stream, "FIRST_FRAME_S", 1.5)
            with pytest.raises(SourceError, match=r"no key frame came in 2 s; set the camera"):
                opened(url)
        camera = {"source": url, "open_timeout_s": 1, "read_timeout_s": 1}
        settings = {"model": str(tiny), "cameras": {"door": camera}, "supervisor": {"hang_s": 1}}
        with PipelineRun(scratch, settings) as run:
            run.wait_for(lambda: run.events("door"), 60, "an event")
            states = {status.body["state"] for status in run.statuses("door")}
            assert states <= {"connecting", "online"}
            assert "killing" not in run.log()


@pytest.mark.usefixtures("rtsp")
def test_a_camera_that_is_too_slow_is_told_what_would_do(scratch: Path, tiny: Path) -> None:
    with rtsp_server({"door": ["test"]}, size=(120, 160), fps=1) as server:
        settings = {"model": str(tiny), "cameras": {"door": {"source": server.url("door")}}}
        with PipelineRun(scratch, settings) as run:
            run.wait_for(
                lambda: any("1 frames a second" in text for text in reasons(run, "door")),
                60,
                "the camera's rate",
            )


def test_a_live_playlist_plays_on_without_a_gap(scratch: Path, panning_h264: Path) -> None:
    folder = scratch / "live"
    folder.mkdir()
    with live_playlist(panning_h264, folder) as url:
        source = opened(url)
        assert not source.ends
        grabs = read_for(source, 15)
        source.close()
    captured = np.diff([grab.captured_ns for grab in grabs]) / NS_PER_S
    media = np.diff([grab.time_ns or 0 for grab in grabs]) / NS_PER_S
    assert sum(captured) == pytest.approx(sum(media), abs=1.5)
    assert max(media) < 0.2  # no frame is left out
    assert max(captured) < 1.5  # and none waits for its segment to be read


def test_a_film_by_url_plays_once_in_real_time(scratch: Path, tiny: Path, panning: Path) -> None:
    """The film is a minute long; five seconds of it must take five seconds."""
    with web_server(panning.parent) as address:
        source = opened(f"{address}/{panning.name}")
        assert source.ends
        grabs = read_for(source, 5)
        source.close()
        pts_s = [(grab.pts_ns or 0) / NS_PER_S for grab in grabs]
        assert pts_s[0] == 0
        assert 3 < pts_s[-1] < 6


def test_a_film_by_url_ends_and_so_does_the_run(
    scratch: Path, tiny: Path, panning_h264: Path
) -> None:
    with web_server(panning_h264.parent) as address:
        url = f"{address}/{panning_h264.name}"
        with PipelineRun(scratch, {"model": str(tiny), "cameras": {"a": {"source": url}}}) as run:
            assert run.process.wait(60) == 0
            run._reader.join(5)
            assert len([event for event in run.printed() if event["type"] == "start"]) >= 3


def test_a_film_by_url_loops_when_asked(scratch: Path) -> None:
    clip = panning_clip(scratch / "two.mp4", 2)
    with web_server(scratch) as address:
        source = opened(f"{address}/{clip.name}", loop=True)
        grabs = read_for(source, 5)
        source.close()
    assert sum(grab.discontinuity for grab in grabs) == 2
    assert (grabs[-1].pts_ns or 0) / NS_PER_S == pytest.approx(5, abs=1)


def test_a_film_goes_on_where_a_broken_connection_left_it(scratch: Path) -> None:
    clip = panning_clip(scratch / "film.mp4", 20)
    with web_server(scratch) as address:
        source = opened(f"{address}/{clip.name}")
        before = read_for(source, 3)
        source.close()
        source.open()  # as capture does after an error
        after = read_for(source, 1)
        source.close()
    left_s = (before[-1].pts_ns or 0) / NS_PER_S
    assert (after[0].pts_ns or 0) / NS_PER_S == pytest.approx(left_s, abs=0.2)


@pytest.mark.parametrize(
    "form",
    ["plain", "no first boundary", "image/jpg", "no part header", "no dashes", "no length", "bare"],
)
def test_mjpeg_that_browsers_accept(form: MjpegForm) -> None:
    levels = [20 + 25 * index for index in range(8)]
    pictures = [
        cv2.imencode(".jpg", np.full((48, 64, 3), level, np.uint8))[1].tobytes() for level in levels
    ]
    with mjpeg_in_form(form, pictures, 20) as url:
        source = opened(url)
        assert source.size == (48, 64)
        seen = []
        for _ in range(20):
            source.grab()
            seen.append(float(source.retrieve()[:48].mean()))
        source.close()
    steps = np.rint((np.array(seen[1:]) - seen[1]) / np.median(np.abs(np.diff(seen))))
    assert len(set(steps)) == 8  # every picture came


def test_a_still_picture_by_url_says_what_would_do(scratch: Path) -> None:
    cv2.imwrite(str(scratch / "now.jpg"), np.zeros((48, 64, 3), np.uint8))
    with (
        web_server(scratch) as address,
        pytest.raises(SourceError, match="a still picture; an action needs a stream"),
    ):
        opened(f"{address}/now.jpg")


def test_sound_without_video_is_named(scratch: Path) -> None:
    import av

    with av.open(str(scratch / "sound.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 8000
        for index in range(50):
            frame.pts = 1024 * index
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with web_server(scratch) as address:
        for url in (f"{address}/sound.mp4", str(scratch / "sound.mp4")):
            with pytest.raises(SourceError, match=r"it has no video \(found: audio aac\)"):
                opened(url)


@pytest.mark.usefixtures("rtsp")
def test_check_open_shows_what_cameras_send(scratch: Path, panning_h264: Path) -> None:
    with rtsp_server({"door": [panning_h264]}, size=(1080, 1920), fps=5) as server:
        cameras = {
            "door": {"source": server.url("door")},
            "film": {"source": str(panning_h264)},
            "gone": {"source": "rtsp://user:SECRET@127.0.0.1:1/x"},
        }
        path = scratch / "config.yaml"
        path.write_text(yaml.safe_dump({"cameras": cameras}))
        command = [sys.executable, str(PROJECT / "run_stream.py"), "-c", str(path)]
        with default_ports():
            done = subprocess.run(
                [*command, "--check", "--open"], capture_output=True, text=True, timeout=120
            )
    assert done.returncode == 3
    assert done.stdout == ""
    text = done.stderr
    assert "door: h264 over rtsp, 1920×1080, 5 frames a second, its own time stamps" in text
    assert "take the camera's second, smaller stream" in text
    assert "film: h264, 320×240, 20 frames a second" in text
    assert "camera 'gone': rtsp://user:***@127.0.0.1:1/x: nothing listens" in text
    assert "SECRET" not in text
    assert "Traceback" not in text
