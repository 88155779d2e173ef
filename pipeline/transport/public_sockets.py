"""The sockets that other programs connect to. They carry JSON under public topics."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import zmq

from pipeline.transport.sockets import Wrapped, multiparts

EVENT_QUEUE = 10_000
"""Messages that wait for one slow subscriber; it loses what comes after, and sees it by ``seq``."""
REQUEST_QUEUE = 256
MAX_REQUEST_BYTES = 65_536
MAX_SUBSCRIPTION_BYTES = 1024

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PublicTopic:
    """A topic of the PUB socket: its name, the record it carries, and the levels after its name.

    Each level is a field of the record: ``PublicTopic("action", Event, ("camera", "label"))``
    carries events under ``action/<camera>/<label>/``.
    """

    name: str
    record: type[Any]
    levels: tuple[str, ...] = ()

    @property
    def pattern(self) -> str:
        """The topic with a placeholder for each level."""
        return "/".join([self.name, *(f"<{level}>" for level in self.levels), ""])

    def of(self, record: Any) -> str:
        """The topic of one record; raises TypeError for a record that doesn't belong here."""
        if not isinstance(record, self.record):
            raise TypeError(f"topic {self.name} carries {self.record}, not {type(record)}")
        return "/".join([self.name, *(getattr(record, level) for level in self.levels), ""])


class PublicPublisher(Wrapped):
    """Sends JSON under a public topic."""

    def send(self, topic: str, body: bytes) -> None:
        self.socket.send_multipart([topic.encode(), body])


class PublicSubscriber(Wrapped):
    """Receives JSON with its public topic."""

    def drain(self, limit: int = 10_000) -> list[tuple[str, bytes]]:
        """All that has arrived, as (topic, JSON)."""
        return [(parts[0].decode(), parts[-1]) for parts in multiparts(self.socket, limit)]


class PublicRouter(Wrapped):
    """Answers requests whose body is the last frame; the frames before it go back unchanged."""

    def serve(self, answer: Callable[[bytes], bytes], limit: int = 100) -> None:
        """Answer what has arrived. A client that does not take its answer loses it."""
        for parts in multiparts(self.socket, limit):
            reply = [*parts[:-1], answer(parts[-1])]
            try:
                self.socket.send_multipart(reply, zmq.DONTWAIT)
            except zmq.ZMQError as error:
                log.warning("a client did not take its answer: %s", error.strerror)
