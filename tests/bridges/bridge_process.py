"""A bridge as a process, and event logs that are filled without a camera."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import yaml

from pipeline.public.event_log import EventLog
from pipeline.public.records import Event
from pipeline.transport.messages import EvidenceMade
from testbed.program import PROJECT
from testbed.samples import event as an_event


def fill(path: Path, count: int, *, kind: str = "end", **fields: Any) -> str:
    """Append events to the log at ``path``; returns the log's identity."""
    log = EventLog(path)
    try:
        for number in range(1, count + 1):

            def make(seq: int, _known: str | None) -> Event:
                one = an_event(seq, kind, f"door-{seq}")
                return msgspec.structs.replace(one, log=log.identity, **fields)

            log.append("epoch", log.accepted("epoch") + 1, f"key{log.last_seq()}.{number}", make)
        return log.identity
    finally:
        log.close()


def add_evidence(log_path: Path, seq: int, **fields: Any) -> None:
    """Append a snapshot of event ``seq`` to the log at ``log_path``."""
    values: dict[str, Any] = {
        "id": f"door-{seq}", "seq": seq, "camera": "door", "label": "left", "kind": "snapshot",
        "state": "ready", "path": "/nowhere/1.jpg", "media_type": "image/jpeg",
    }  # fmt: skip
    log = EventLog(log_path)
    try:
        assert log.append_evidence(EvidenceMade(**values | fields)) is not None
    finally:
        log.close()


@dataclass
class BridgeProcess:
    """``python -m bridges`` with one bridge, in ``folder``, connected to what publishes there."""

    folder: Path
    settings: dict[str, Any]
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.config = self.folder / "bridges.yaml"
        connect = {name: f"ipc://{self.folder}/{name}" for name in ("events", "replay")}
        whole = {"connect": connect, "bridges": {"one": self.settings}}
        self.config.write_text(yaml.safe_dump(whole))
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.kill()
        if kind is not None:
            print(self.log()[-4000:], file=sys.stderr)

    def start(self) -> None:
        command = [sys.executable, "-m", "bridges", "-c", str(self.config), *self.arguments]
        with (self.folder / "bridge.log").open("ab") as errors:
            self.process = subprocess.Popen(
                command, stderr=errors, cwd=PROJECT, env={**os.environ, **self.environment}
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def log(self) -> str:
        return (self.folder / "bridge.log").read_text(errors="replace")


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come within {seconds:g} s"
        time.sleep(0.02)
