"""What the tests of the MQTT bridge share: a broker, a publish stage, a bridge, a subscriber."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline.public.event_log import read_since
from testbed.bridge import BridgeRun, wait_for
from testbed.broker import Broker, Subscriber, mosquitto
from testbed.program import scratch_folder
from testbed.publisher import Publisher
from tests.bridges.parts import LONG_S

needs_broker = pytest.mark.skipif(
    mosquitto() is None, reason="mosquitto is not installed (Debian: mosquitto)"
)


@dataclass
class World:
    """All of it, running."""

    folder: Path
    broker: Broker
    subscriber: Subscriber
    publisher: Publisher
    bridge: BridgeRun

    def wait(self, condition: Callable[[], object], what: str = "it") -> None:
        def said() -> str:
            topics = [f"{m.topic} {m.payload[:80]!r}" for m in self.subscriber.messages]
            return f"{what} didn't come\n{self.bridge.log()}\n" + "\n".join(topics)

        wait_for(condition, LONG_S, said)

    def events(self, camera: str = "door") -> list[dict[str, Any]]:
        return [json.loads(body) for body in self.subscriber.of(f"two-stream/{camera}/event")]

    def online(self) -> None:
        """Wait until the bridge says that the program is there."""
        self.wait(lambda: self.subscriber.of("two-stream/status")[-1:] == [b"online"], "online")

    def logged(self) -> set[int]:
        return {json.loads(body)["seq"] for body in read_since(self.publisher.log, 0)}

    def received(self) -> list[int]:
        """Numbers of the events of all cameras, in the order in which they came."""
        return [
            json.loads(message.payload)["seq"]
            for message in list(self.subscriber.messages)
            if message.topic.endswith("/event")
        ]


@contextmanager
def world(
    *,
    broker: dict[str, Any] | None = None,
    publisher: dict[str, Any] | None = None,
    login: tuple[str, str] | None = None,
    environment: dict[str, str] | None = None,
    **settings: Any,
) -> Iterator[World]:
    """A world; ``settings`` are those of the bridge beside its kind and broker."""
    with ExitStack() as stack:
        folder = stack.enter_context(scratch_folder())
        runs = stack.enter_context(Broker(folder / "broker", **(broker or {})))
        listens = stack.enter_context(Subscriber(runs.port, login=login))
        publishes = stack.enter_context(Publisher(folder, **(publisher or {})))
        bridge = BridgeRun(
            folder / "bridge",
            publishes.endpoints,
            {"kind": "mqtt", "broker": runs.address, "from": "oldest", **settings},
            environment=environment or {},
        )
        stack.enter_context(bridge)
        yield World(folder, runs, listens, publishes, bridge)


def in_order(numbers: list[int]) -> list[int]:
    """The numbers without those that came before: what a receiver keeps that removes duplicates."""
    return list(dict.fromkeys(numbers))
