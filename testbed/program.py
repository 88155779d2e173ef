"""Runs the real program and receives its messages, for benchmarks and live tests."""

import fcntl
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
import yaml
import zmq

PROJECT = Path(__file__).resolve().parent.parent
# An environment variable of the program, which its stages inherit: it shows whose stages they are.
_MARK = "TWO_STREAM_HARNESS"


@dataclass
class Heard:
    """A public message, and when it was received."""

    topic: str
    body: dict[str, Any]
    at: float
    """``time.monotonic()``, the same clock as for ``captured_ns``."""


@dataclass
class PipelineRun:
    """``run_stream.py`` as a process of its own, and a plain SUB socket that receives its messages.

    ``settings`` is the config as plain data. Public endpoints and the run folder are in ``folder``
    unless ``settings`` has others; a ``run_dir`` of None leaves it out. ``wrapper`` is a command
    that executes the program in its own place, such as ``prlimit --nofile=64``. Leaving the context
    stops the program.
    """

    folder: Path
    settings: dict[str, Any]
    arguments: tuple[str, ...] = ()
    wrapper: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.runs = self.folder / "runs"
        publish: dict[str, Any] = {
            "events": self._ipc("events"),
            "replay": self._ipc("replay"),
            "scores": True,
        }
        publish |= self.settings.get("publish", {})
        self.endpoints = publish
        runtime = {"run_dir": str(self.runs), **self.settings.get("runtime", {})}
        self.runs = Path(runtime["run_dir"] or self.folder / "runs")
        config = {**self.settings, "publish": publish, "runtime": runtime}
        path = self.folder / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        self._errors = (self.folder / "stderr.txt").open("wb")
        self._stop_listening = threading.Event()
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        program = [sys.executable, str(PROJECT / "run_stream.py"), "-c", str(path), "--json"]
        self.process = subprocess.Popen(
            [*self.wrapper, *program, *self.arguments],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, _MARK: str(self.folder), **self.environment},
        )
        self._known_run = ""
        self._lines: queue.Queue[bytes] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._stop_listening.set()
        self._listener.join(5)
        self._reader.join(5)
        self._errors.close()
        if kind is not None:
            print(self.log()[-6000:], file=sys.stderr)

    def _ipc(self, name: str) -> str:
        return f"ipc://{self.folder}/{name}"

    def _listen(self) -> None:
        context = zmq.Context()
        socket = context.socket(zmq.SUB)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        socket.setsockopt(zmq.RECONNECT_IVL, 10)  # ms: a file may be over within a second
        socket.connect(self.endpoints["events"])
        while not self._stop_listening.is_set():
            if socket.poll(50):
                topic, body = socket.recv_multipart()
                self.heard.append(Heard(topic.decode(), json.loads(body), time.monotonic()))
        context.destroy(linger=0)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)

    def log(self) -> str:
        """What the program has written to standard error so far."""
        return (self.folder / "stderr.txt").read_text(errors="replace")

    def printed(self) -> list[dict[str, Any]]:
        """Events printed on standard output since the last call."""
        lines = []
        while not self._lines.empty():
            lines.append(json.loads(self._lines.get()))
        return lines

    def events(self, camera: str | None = None) -> list[Heard]:
        return [
            h
            for h in list(self.heard)
            if h.topic.startswith("action/") and camera in (None, h.body["camera"])
        ]

    def scores(self, camera: str) -> list[Heard]:
        return [h for h in list(self.heard) if h.topic == f"score/{camera}/"]

    def statuses(self, camera: str) -> list[Heard]:
        return [h for h in list(self.heard) if h.topic == f"status/{camera}/"]

    def wait_for(self, condition: Callable[[], object], seconds: float, what: str) -> None:
        """Wait until ``condition`` holds; otherwise raise an AssertionError that names ``what``."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} did not come within {seconds:g} s\n{self.log()}")
            # Ask once more: the last message may have arrived just before the end.
            if self.process.poll() is not None and not condition():
                raise AssertionError(
                    f"the program ended ({self.process.returncode}) before {what}\n{self.log()}"
                )
            time.sleep(0.02)

    def stages(self) -> dict[str, int]:
        """Process ids of the running stages, by name."""
        found = {}
        for child in psutil.Process(self.process.pid).children():
            try:
                command, status = child.cmdline(), child.status()
            except psutil.NoSuchProcess:
                continue
            if "pipeline.run.stage_process" in command and status != psutil.STATUS_ZOMBIE:
                found[command[-1]] = child.pid
        return found

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal and wait for the end; returns (exit code, seconds)."""
        began = time.monotonic()
        self.process.send_signal(number)
        code = self.process.wait(30)
        self._reader.join(5)
        return code, time.monotonic() - began

    def remains(self) -> list[str]:
        """What this run left behind: run folders, segments of shared memory, processes."""
        left = [str(path) for path in self.runs.glob("*")]
        runs = {path.name for path in self.runs.glob("*")} | {self._known_run}
        left += [p.name for p in Path("/dev/shm").glob("two-stream-*") if p.name[:23] in runs]
        left += [
            " ".join(process.info["cmdline"])
            for process in psutil.process_iter(["cmdline", "environ"])
            if "pipeline.run.stage_process" in (process.info["cmdline"] or [])
            and (process.info["environ"] or {}).get(_MARK) == str(self.folder)
        ]
        return left

    def remember_run(self) -> str:
        """Store the run's name while it lives, so that :meth:`remains` can find its segments."""
        self._known_run = next(path.name for path in self.runs.glob("two-stream-*"))
        return self._known_run


@contextmanager
def default_ports() -> Iterator[None]:
    """Have the program's default ports for oneself: tests run side by side."""
    with (Path(tempfile.gettempdir()) / "two-stream-default-ports.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder with a short name, because the length of socket paths is limited."""
    with tempfile.TemporaryDirectory(prefix="ts-", dir="/tmp") as name:
        yield Path(name)
