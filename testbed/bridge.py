"""A bridge as a process of its own, as a user starts it."""

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

import yaml

from pipeline.run.linux import die_with_parent
from testbed.program import PROJECT


def wait_for(
    condition: Callable[[], object], seconds: float, what: str | Callable[[], str]
) -> None:
    """Poll until the condition holds; otherwise an AssertionError with ``what``."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            said = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {seconds:g} s: {said}")
        time.sleep(0.02)


@dataclass
class BridgeRun:
    """``python -m bridges`` with one bridge, whose files are in ``folder``."""

    folder: Path
    endpoints: tuple[str, str]
    settings: dict[str, Any]
    name: str = "home"
    arguments: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.kill()
        if kind is not None:
            print(self.log()[-6000:], file=sys.stderr)

    def start(self) -> None:
        events, replay = self.endpoints
        config = self.folder / "bridges.yaml"
        connect = {"events": events, "replay": replay}
        config.write_text(
            yaml.safe_dump({"connect": connect, "bridges": {self.name: self.settings}})
        )
        with (self.folder / "bridge.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "bridges", "-c", str(config), *self.arguments],
                cwd=PROJECT, env={**os.environ, **self.environment}, stdout=log, stderr=log,
                preexec_fn=die_with_parent,
            )  # fmt: skip

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """As a user does; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def log(self) -> str:
        """What it has written to standard error."""
        return (self.folder / "bridge.log").read_text(errors="replace")

    def wait_to_say(self, words: str, seconds: float = 30.0) -> None:
        wait_for(lambda: words in self.log(), seconds, lambda: f"{words!r} isn't in\n{self.log()}")
