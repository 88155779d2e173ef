"""A real MQTT broker for tests: mosquitto on a free port, killed and started again at will."""

import shutil
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from pipeline.run.linux import die_with_parent
from testbed.program import free_port

START_S = 20.0
_PLACES = "/usr/sbin:/usr/local/sbin"


def mosquitto() -> str | None:
    """The path of the broker's program; None where it isn't installed (Debian: mosquitto)."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=_PLACES)


@dataclass
class Broker:
    """A broker with its own folder and port, and nothing else of the machine's."""

    folder: Path
    lines: tuple[str, ...] = ("allow_anonymous true",)
    """Of its config, beside the port."""
    persistent: bool = False
    """Keep subscriptions and what is retained over a crash, as far as mosquitto can."""
    port: int = 0

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Returns when it takes connections."""
        config = self.folder / "mosquitto.conf"
        lines = [f"listener {self.port} 127.0.0.1", *self.lines, "max_queued_messages 0"]
        if self.persistent:
            lines += [
                "persistence true", f"persistence_location {self.folder}/",
                "autosave_interval 1", "autosave_on_changes true",
            ]  # fmt: skip
        # As root it would become another user, who can't read the folder.
        lines.append("user root")
        config.write_text("\n".join(lines) + "\n")
        program = mosquitto()
        assert program is not None
        deadline = time.monotonic() + START_S
        while True:
            with (self.folder / "mosquitto.log").open("ab") as log:
                self.process = subprocess.Popen(
                    [program, "-c", str(config)], stdout=log, stderr=log, preexec_fn=die_with_parent
                )
            if self._answers(deadline):
                return
            assert time.monotonic() < deadline, self.log()

    def _answers(self, deadline: float) -> bool:
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return True
        return False

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def log(self) -> str:
        return (self.folder / "mosquitto.log").read_text(errors="replace")

    @property
    def address(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"


@dataclass(frozen=True)
class Message:
    """A message as a subscriber got it."""

    topic: str
    payload: bytes
    retained: bool
    qos: int


@dataclass
class Subscriber:
    """Receives what a broker carries, with a session of its own that survives both sides' ends."""

    port: int
    topics: tuple[str, ...] = ("#",)
    name: str = "subscriber"
    login: tuple[str, str] | None = None
    messages: list[Message] = field(default_factory=list)

    def __enter__(self) -> Self:
        client = paho.Client(
            CallbackAPIVersion.VERSION2, self.name, clean_session=False,
            protocol=MQTTProtocolVersion.MQTTv311,
        )  # fmt: skip
        self._client = client
        self._subscribed = threading.Event()
        client.connect_timeout = 2
        client.on_connect = lambda c, *_: c.subscribe([(topic, 1) for topic in self.topics])
        client.on_subscribe = lambda *_: self._subscribed.set()
        client.on_disconnect = lambda *_: self._subscribed.clear()
        client.on_message = lambda _c, _d, m: self.messages.append(
            Message(m.topic, bytes(m.payload), m.retain, m.qos)
        )
        if self.login is not None:
            client.username_pw_set(*self.login)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._subscribed.wait(START_S), "no subscription"
        return self

    def _run(self) -> None:
        # Faster than paho's own loop, whose shortest pause is a second.
        while not self._over.is_set():
            try:
                self._client.connect("127.0.0.1", self.port, 10)
                while not self._over.is_set() and self._client.loop(0.05) == 0:
                    pass
            except OSError:
                time.sleep(0.02)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(10)
        self._client.disconnect()

    @property
    def is_subscribed(self) -> bool:
        return self._subscribed.is_set()

    def of(self, topic: str) -> list[bytes]:
        """The payloads of a topic, in the order in which they came."""
        return [message.payload for message in list(self.messages) if message.topic == topic]

    def publish(self, topic: str, payload: str, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=1, retain=retain)

    def retained(self, topic: str) -> bytes | None:
        """What the broker retains for a topic now; None: nothing."""
        # A second connection, because a broker repeats it to new subscriptions alone.
        with Subscriber(self.port, (topic,), f"{self.name}-{time.monotonic_ns()}", self.login) as s:
            until = time.monotonic() + 0.5
            while time.monotonic() < until and not s.messages:
                time.sleep(0.01)
            return s.messages[0].payload if s.messages else None
