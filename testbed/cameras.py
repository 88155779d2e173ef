"""Starts real camera servers for a test and stops them after it.

::

    with rtsp_server({"door": [clip], "bars": ["test"]}) as server:
        open_somehow(server.url("door"))
"""

import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SYSTEM_PYTHON = "/usr/bin/python3"
HERE = Path(__file__).parent
START_DEADLINE_S = 60.0

Streams = Mapping[str, Sequence[Path | str]]


def has_rtsp_server() -> bool:
    """Whether the system's Python has the modules that :mod:`rtsp_server` needs."""
    check = (
        "import gi; gi.require_version('GstRtspServer', '1.0');"
        "from gi.repository import Gst, GstRtspServer; Gst.init(None);"
        "assert Gst.ElementFactory.find('x264enc') and Gst.ElementFactory.find('avdec_h264')"
    )
    if not Path(SYSTEM_PYTHON).exists():
        return False
    return subprocess.run([SYSTEM_PYTHON, "-c", check], capture_output=True).returncode == 0


def self_signed(path: Path) -> Path:
    """Write a certificate for 127.0.0.1 that nobody vouches for, with its key, as cameras have."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1", "-keyout", str(path), "-out", f"{path}.cert"]
    subprocess.run(command, check=True, capture_output=True)
    with path.open("a") as file:
        file.write(Path(f"{path}.cert").read_text())
    return path


@dataclass
class Server:
    """A running camera server."""

    scheme: str
    port: int
    login: str
    process: subprocess.Popen[str]

    def url(self, stream: str, login: str | None = None) -> str:
        """The stream's URL, with this server's login or another (``user:password``)."""
        login = self.login if login is None else login
        return f"{self.scheme}://{login + '@' if login else ''}127.0.0.1:{self.port}/{stream}"

    def pause(self) -> None:
        """Stop answering but keep connections open, like a camera that hangs."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End at once, like a camera that loses its power."""
        self.process.kill()
        self.process.wait()


@contextmanager
def rtsp_server(
    streams: Streams,
    *,
    port: int = 0,
    login: str = "",
    digest: bool = False,
    certificate: Path | None = None,
    size: tuple[int, int] = (480, 640),
    fps: int = 30,
    key_every: int = 30,
    begin: int = 0,
    shared: bool = False,
) -> Iterator[Server]:
    """Serve H.264 over RTSP (TCP and UDP); ``size`` is (h, w), ``login`` is ``user:password``.

    The server requires the login by the basic scheme, or with ``digest`` by the digest scheme. With
    a ``certificate`` (PEM, with its key) and a login it speaks RTSPS. A
    clip is a file, or ``"test"`` for a test pattern. Port 0 means any free port. There is a key
    frame every ``key_every`` frames, and a client hears the frame ``begin`` first. ``shared``: all
    clients of a stream get the same frame at the same time; otherwise each begins with the first.
    """
    command = [SYSTEM_PYTHON, str(HERE / "rtsp_server.py"), *(["--digest"] if digest else [])]
    command += ["--key-every", str(key_every), "--begin", str(begin)]
    command += ["--shared"] if shared else []
    if certificate is not None:
        command += ["--certificate", str(certificate)]
    yield from _serve("rtsps" if certificate else "rtsp", command, streams, port, login, size, fps)


@contextmanager
def http_mjpeg_server(
    streams: Streams,
    *,
    port: int = 0,
    login: str = "",
    size: tuple[int, int] = (480, 640),
    fps: int = 30,
) -> Iterator[Server]:
    """Serve MJPEG over HTTP; otherwise as :func:`rtsp_server`, without the test pattern."""
    command = [sys.executable, str(HERE / "http_mjpeg_server.py")]
    yield from _serve("http", command, streams, port, login, size, fps)


def _serve(
    scheme: str,
    command: list[str],
    streams: Streams,
    port: int,
    login: str,
    size: tuple[int, int],
    fps: int,
) -> Iterator[Server]:
    height, width = size
    user, _, password = login.partition(":")
    arguments = [f"{name}={','.join(map(str, clips))}" for name, clips in streams.items()]
    arguments += ["--port", str(port), "--user", user, "--password", password]
    arguments += ["--width", str(width), "--height", str(height), "--fps", str(fps)]
    process = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
    try:
        yield Server(scheme, _wait_until_ready(process), login, process)
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _wait_until_ready(process: subprocess.Popen[str]) -> int:
    """Return the port that the server reports; raises RuntimeError when it dies or is too slow."""
    assert process.stdout is not None
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline:
        # select, because readline alone would block beyond the deadline.
        readable, _, _ = select.select([process.stdout], [], [], 0.2)
        if readable:
            line = process.stdout.readline()
            if line.startswith("ready "):
                return int(line.split()[1])
            if not line:
                raise RuntimeError(f"{process.args!r} ended with exit code {process.wait()}")
    process.kill()
    raise RuntimeError(f"{process.args!r} wasn't ready within {START_DEADLINE_S:g} s")
