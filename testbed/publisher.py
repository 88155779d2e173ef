"""The real publish stage in a process of its own, fed with actions without any camera.

Bridges and clients see what a program publishes: its sockets, its log, its numbers. The process can
be killed and started again on its log.
"""

import contextlib
import itertools
import json
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from pipeline.clock import SYSTEM_CLOCK
from pipeline.config import Config, validate
from pipeline.run.linux import die_with_parent
from pipeline.stages.base import Context
from pipeline.stages.link import SupervisorLink
from pipeline.stages.outbox import Outbox
from pipeline.stages.publish import Publish
from pipeline.topology import StageSpec
from pipeline.transport import topics
from pipeline.transport.bus import Bus
from pipeline.transport.messages import CameraStatus, EvidenceMade, Transition
from pipeline.transport.run_identity import RunIdentity
from testbed.program import PROJECT
from testbed.samples import transition

START_S = 60.0


@dataclass
class Publisher:
    """Publishes in ``folder``: sockets ``events`` and ``replay``, the log ``events.sqlite``.

    ``every_s``: actions by themselves, each camera's label starting and ending in turn; None: only
    what :meth:`act` says.
    """

    folder: Path
    cameras: tuple[str, ...] = ("door", "yard")
    every_s: float | None = None
    events: dict[str, Any] = field(default_factory=dict)
    """More keys of the config's ``events``."""
    log_name: str = "events.sqlite"

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def endpoints(self) -> tuple[str, str]:
        return f"ipc://{self.folder}/events", f"ipc://{self.folder}/replay"

    @property
    def log(self) -> Path:
        return self.folder / self.log_name

    def start(self) -> None:
        command = [sys.executable, "-m", "testbed.publisher"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=PROJECT
        )
        self._tell(
            {
                "folder": str(self.folder), "cameras": self.cameras, "every_s": self.every_s,
                "events": {**self.events, "log": str(self.log)},
            }
        )  # fmt: skip

    def act(self, kind: str, camera: str = "door", label: str = "left", number: int = 1) -> None:
        """An action starts, goes on or ends; returns when that is in the log."""
        self._tell({"type": kind, "camera": camera, "label": label, "number": number})

    def status(self, camera: str, state: str) -> None:
        self._tell({"status": camera, "state": state})

    def evidence(self, **fields: Any) -> None:
        """A piece of evidence, as :class:`pipeline.transport.messages.EvidenceMade` has it."""
        self._tell({"evidence": {"camera": "door", "label": "left", **fields}})

    def kill(self) -> None:
        """At once, and nothing is put in order."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _tell(self, words: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(words).encode() + b"\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer == b"done\n", f"the publisher said {answer!r}"


class _Feed:
    """The cameras' side: what fusion and capture would send."""

    def __init__(self, folder: Path, cameras: tuple[str, ...]) -> None:
        self._bus = Bus(folder, lossless=False)
        dealer = self._bus.dealer(topics.TRANSITION, "fusion")
        self._bus.watch(dealer)
        self._outbox = Outbox(dealer, SYSTEM_CLOCK)
        self._status = self._bus.push(topics.STATUS)
        self._evidence = self._bus.dealer(topics.EVIDENCE, "evidence")
        for camera in cameras:
            self.say(camera, "online")
        self.settle()

    def say(self, camera: str, state: str) -> None:
        message = {
            "camera": camera, "state": state, "reason": None, "segment": 0, "size": None,
            "at_ns": SYSTEM_CLOCK.monotonic_ns(),
        }  # fmt: skip
        self._status.send(msgspec.convert(message, CameraStatus))

    def show(self, made: EvidenceMade) -> None:
        self._evidence.send(made)
        while not self._evidence.drain():
            self._bus.poll(0.02)

    def act(self, one: Transition) -> None:
        now_ns = SYSTEM_CLOCK.monotonic_ns()
        change = msgspec.structs.replace(
            one.change, start_ns=now_ns, end_ns=now_ns if one.change.type == "end" else None
        )
        self._outbox.send(msgspec.structs.replace(one, change=change, captured_ns=now_ns))

    def settle(self) -> None:
        while not self._outbox.empty:
            self._outbox.work()
            self._bus.poll(0.02)

    def go_on(self, cameras: tuple[str, ...], every_s: float) -> None:
        """Actions for ever: start, update, end."""
        for number in itertools.count(1):
            for kind in ("start", "update", "end"):
                for camera in cameras:
                    self.act(transition(kind, number, camera))
                until = time.monotonic() + every_s
                if every_s == 0:
                    self.settle()  # as fast as publish stores them
                while (left := until - time.monotonic()) > 0:
                    self._outbox.work()
                    self._bus.poll(min(left, 0.02))


def _publish(folder: Path, config: Config, cameras: tuple[str, ...], ready: Any) -> None:
    bus = Bus(folder, lossless=False)
    spec = StageSpec("publish", "", cameras)
    context = Context(
        spec=spec, config=config, run=RunIdentity.new(), run_dir=folder, bus=bus,
        link=SupervisorLink(bus, spec.name, SYSTEM_CLOCK, 1000.0), clock=SYSTEM_CLOCK,
        origin_ns=0, first_number=0, counters=Counter(),
    )  # fmt: skip
    stage = Publish(context)
    ready.set()
    while True:
        wait = stage.work()
        bus.poll(0.05 if wait is None else min(wait, 0.05))


def main() -> None:
    """Does what the lines on standard input say, and answers each with ``done``."""
    die_with_parent()
    first = json.loads(sys.stdin.readline())
    folder, cameras = Path(first["folder"]), tuple(first["cameras"])
    config = validate(
        {
            "cameras": {camera: {} for camera in cameras},
            "model": str(PROJECT / "models" / "gestures"),
            "events": first["events"],
            "publish": {"events": f"ipc://{folder}/events", "replay": f"ipc://{folder}/replay"},
        }
    )
    ready = threading.Event()
    threading.Thread(target=_publish, args=(folder, config, cameras, ready), daemon=True).start()
    if not ready.wait(START_S):
        raise SystemExit("publish did not start")
    feed = _Feed(folder, cameras)
    print("done", flush=True)
    if first["every_s"] is not None:
        feed.go_on(cameras, first["every_s"])
    for line in sys.stdin:
        said = json.loads(line)
        if "status" in said:
            feed.say(said["status"], said["state"])
        elif "evidence" in said:
            feed.show(msgspec.convert(said["evidence"], EvidenceMade))
        else:
            feed.act(transition(said["type"], said["number"], said["camera"], said["label"]))
            feed.settle()
        print("done", flush=True)


if __name__ == "__main__":
    main()
