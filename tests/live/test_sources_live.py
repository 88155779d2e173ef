"""Network sources against real servers: RTSP over TCP and UDP, MJPEG over HTTP."""

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from pipeline.arrays import planar_shape
from pipeline.clock import NS_PER_S, SystemClock
from pipeline.errors import SourceError
from pipeline.pictures import small_bgr
from pipeline.sources import (
    Grab,
    Source,
    SourceOptions,
    create,
)
from testbed.cameras import (
    Server,
    has_rtsp_server,
    http_mjpeg_server,
    rtsp_server,
)

LOGIN = "viewer:MARKED"
QUICK = SourceOptions(open_timeout_s=3.0, read_timeout_s=1.5)
SIZE = (120, 160)
STEPS = 16

needs_rtsp = pytest.mark.skipif(
    not has_rtsp_server(), reason="the system's Python has no GStreamer RTSP server"
)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frame i is grey of level 10 + 14 (i mod 16)."""
    path = tmp_path_factory.mktemp("clips") / "ramp.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25.0, SIZE[::-1])
    for index in range(2 * STEPS):
        writer.write(np.full((*SIZE, 3), 10 + 14 * (index % STEPS), np.uint8))
    writer.release()
    return path


@pytest.fixture(scope="module")
def rtsp(clip: Path) -> Iterator[Server]:
    with rtsp_server({"door": [clip], "bars": ["test"]}, login=LOGIN, size=SIZE, fps=25) as server:
        yield server


@pytest.fixture(scope="module")
def mjpeg(clip: Path) -> Iterator[Server]:
    with http_mjpeg_server({"door": [clip]}, login=LOGIN, size=SIZE, fps=25) as server:
        yield server


def opened(url: str, options: SourceOptions = QUICK) -> Source:
    source = create(url, camera="door", clock=SystemClock(), options=options)
    source.open()
    return source


def read(source: Source, count: int) -> tuple[list[Grab], list[float]]:
    """Grabs and the mean level of each frame, read into one array."""
    out = np.empty(planar_shape(*source.size), np.uint8)
    grabs, levels = [], []
    for _ in range(count):
        grab = source.grab()
        assert grab is not None
        assert source.retrieve(out) is out
        grabs.append(grab)
        levels.append(float(small_bgr(out, SIZE).mean()))
    return grabs, levels


def check_ramp(levels: list[float]) -> None:
    """Every frame of the looped ramp came, in order."""
    steps = np.rint((np.array(levels) - 10) / 14).astype(int)
    assert (np.diff(steps) % STEPS == 1).all(), levels


@needs_rtsp
@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_rtsp_frames_come_whole_and_in_time(rtsp: Server, transport: str) -> None:
    options = SourceOptions(transport=transport, open_timeout_s=3.0, read_timeout_s=1.5)  # type: ignore[arg-type]
    source = opened(rtsp.url("door"), options)
    assert source.live
    assert source.size == SIZE
    assert bool(psutil.Process().net_connections("udp4")) == (transport == "udp")
    grabs, levels = read(source, 100)
    source.close()
    check_ramp(levels[20:])
    pts = np.array([grab.pts_ns for grab in grabs], dtype=np.int64)
    assert (np.diff(pts) > 0).all()
    np.testing.assert_allclose(np.diff(pts[20:]), NS_PER_S / 25, atol=2e6)
    captured = np.array([grab.captured_ns for grab in grabs])
    assert np.median(np.diff(captured[20:])) == pytest.approx(NS_PER_S / 25, rel=0.2)


@needs_rtsp
def test_rtsp_opens_without_measuring_the_rate(rtsp: Server) -> None:
    started = time.monotonic()
    source = opened(rtsp.url("bars"))
    source.grab()
    source.close()
    assert time.monotonic() - started < 2.0


@needs_rtsp
@pytest.mark.parametrize("digest", [False, True], ids=["basic", "digest"])
def test_rtsp_says_what_is_wrong(digest: bool) -> None:
    with rtsp_server({"bars": ["test"]}, login=LOGIN, digest=digest, size=SIZE) as server:
        opened(server.url("bars")).close()
        cases = [
            (server.url("bars", login="viewer:wrong"), "unauthorised", "refuses this user"),
            (server.url("bars", login=""), "unauthorised", "asks for a user and password"),
            (server.url("nothing"), "not_found", "has no such stream"),
        ]
        for url, kind, says in cases:
            with pytest.raises(SourceError, match=says) as caught:
                opened(url)
            assert (caught.value.kind, caught.value.permanent) == (kind, False)
            assert "MARKED" not in str(caught.value)
            assert "wrong" not in str(caught.value)


@needs_rtsp
def test_rtsp_server_that_dies_and_one_that_hangs() -> None:
    with rtsp_server({"bars": ["test"]}, size=SIZE) as server:
        source = opened(server.url("bars"))
        read(source, 5)
        server.pause()
        started = time.monotonic()
        with pytest.raises(SourceError, match=r"no frame for \d\.\d s") as caught:
            read(source, 1000)
        assert caught.value.kind == "stalled"
        assert 1.0 < time.monotonic() - started < 6.0
        source.close()
        server.resume()
        source = opened(server.url("bars"))
        read(source, 5)
        server.kill()
        started = time.monotonic()
        with pytest.raises(SourceError) as caught:
            read(source, 1000)
        assert caught.value.kind in ("unreachable", "stalled")
        assert not caught.value.permanent
        assert time.monotonic() - started < 6.0
        source.close()
        with pytest.raises(SourceError, match="connection refused") as caught:
            source.open()
        assert caught.value.kind == "unreachable"


def test_mjpeg_over_http(mjpeg: Server) -> None:
    source = opened(mjpeg.url("door"))
    assert source.size == SIZE
    grabs, levels = read(source, 60)
    source.close()
    check_ramp(levels[1:])
    assert all(grab.pts_ns is None for grab in grabs)
    captured = np.array([grab.captured_ns for grab in grabs])
    assert np.median(np.diff(captured)) == pytest.approx(NS_PER_S / 25, rel=0.2)


def test_http_says_what_is_wrong(mjpeg: Server) -> None:
    cases = [
        (mjpeg.url("door", login="viewer:wrong"), "unauthorised"),
        (mjpeg.url("nothing"), "not_found"),
    ]
    for url, kind in cases:
        with pytest.raises(SourceError) as caught:
            opened(url)
        assert caught.value.kind == kind
        assert "wrong" not in str(caught.value)


def test_mjpeg_server_that_hangs(clip: Path) -> None:
    with http_mjpeg_server({"door": [clip]}, size=SIZE) as server:
        source = opened(server.url("door"))
        read(source, 5)
        server.pause()
        with pytest.raises(SourceError) as caught:
            read(source, 1000)
        assert caught.value.kind == "stalled"
        server.resume()
        source.close()


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_accepts_and_says_nothing(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        options = SourceOptions(open_timeout_s=1.0, read_timeout_s=1.0)
        started = time.monotonic()
        with pytest.raises(SourceError, match="didn't answer within 1 s") as caught:
            opened(f"{scheme}://127.0.0.1:{port}/x", options)
        assert caught.value.kind == "unreachable"
        assert time.monotonic() - started < 8.0


@contextmanager
def answering(answer: Callable[[socket.socket], object]) -> Iterator[int]:
    """Run a server that does this with each connection and closes it; yields its port."""

    def serve(server: socket.socket) -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
    thread.join(timeout=5.0)
    assert not thread.is_alive()


@pytest.mark.parametrize("scheme", ["rtsp", "http"])
def test_a_server_that_speaks_something_else(scheme: str) -> None:
    with answering(
        lambda connection: connection.sendall(b"220 mail.example ready\r\n\r\n")
    ) as port:
        with pytest.raises(SourceError) as caught:
            opened(f"{scheme}://u:MARKED@127.0.0.1:{port}/x")
        assert caught.value.kind == ("unreachable" if scheme == "rtsp" else "unreadable")
        assert "MARKED" not in str(caught.value)


def test_a_server_that_hangs_up_is_said_to_do_so() -> None:
    with answering(lambda connection: connection.recv(4096)) as port:
        with pytest.raises(SourceError, match="doesn't answer in RTSP") as caught:
            opened(f"rtsp://127.0.0.1:{port}/x")
        assert caught.value.kind == "unreachable"


def test_nothing_prints_the_password(mjpeg: Server, request: pytest.FixtureRequest) -> None:
    """Streams that open, that are refused and that break: nothing reaches stdout or stderr."""
    urls = [mjpeg.url("door"), mjpeg.url("nothing")]
    if has_rtsp_server():
        rtsp = request.getfixturevalue("rtsp")
        urls += [rtsp.url("door"), rtsp.url("nothing"), rtsp.url("door", login="v:MARKED2")]
    script = (
        "import logging, sys; logging.basicConfig(level=0)\n"
        "from pipeline.clock import SystemClock\n"
        "from pipeline.sources import SourceError, create\n"
        "for url in sys.argv[1:]:\n"
        "    try:\n"
        "        source = create(url, camera='door', clock=SystemClock())\n"
        "        source.open()\n"
        "        for _ in range(10): source.grab(); source.retrieve()\n"
        "        source.close(); print('read')\n"
        "    except SourceError as error: print(error, repr(error))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *urls],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("read\n") == (2 if len(urls) > 2 else 1)
    assert "MARKED" not in done.stdout + done.stderr
