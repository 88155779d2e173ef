"""Bus: the sockets of one process, made as the table of topics says.

All internal sockets are ``ipc://`` in the run's private folder (mode 0700). Traps that are kept
shut here: subscriptions end with ``/`` (they are prefix matches); nothing conflates (it breaks
multipart), "newest wins" is done by draining a socket and keeping the last (a high-water mark of 1
keeps the oldest); a lossless publisher waits until all its readers have subscribed (a publisher
drops what has no subscriber yet).
"""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import zmq

from pipeline.errors import BusError
from pipeline.transport.messages import (
    AnyMessage,
    BadMessage,
    Message,
    decode,
    decode_all,
    encode,
    encode_all,
)
from pipeline.transport.public_sockets import (
    EVENT_QUEUE,
    MAX_REQUEST_BYTES,
    MAX_SUBSCRIPTION_BYTES,
    REQUEST_QUEUE,
    PublicPublisher,
    PublicRouter,
    PublicSubscriber,
)
from pipeline.transport.sockets import (
    LINGER_MS,
    MAX_IPC_PATH,
    Socket,
    Wrapped,
    bind,
    frames,
    multiparts,
    short_path,
)
from pipeline.transport.topics import Topic, Wire
from pipeline.transport.zap import ENDPOINT, FAILED_HANDSHAKES, Authenticator

_OWN_PUBLIC = "own-public"

log = logging.getLogger(__name__)


class TopicError(Exception):
    """A socket or a message that the table of topics doesn't allow: a mistake in the program."""


class Bus:
    """One process's sockets: made here, polled here, closed here.

    ``member`` is the kind of stage, or ``supervisor``; it may open only the sockets that the table
    gives it. None may open all, for tests.
    """

    def __init__(self, folder: Path, lossless: bool, member: str | None = None) -> None:
        self._folder = folder
        self._lossless = lossless
        self._member = member
        self._closing = contextlib.ExitStack()
        self._short: str | None = None
        self._context = zmq.Context(io_threads=1)
        self._poller = zmq.Poller()
        self._callbacks: dict[object, Callable[[], None]] = {}
        self.rejected = 0
        """Messages that came in and were none of their topic's."""
        self.dropped = 0
        """Messages that could not be sent because the queue was full."""

    def endpoint(self, name: str) -> str:
        """The address of a private socket in this process.

        Raises :class:`BusError` when it gets too long.
        """
        file = f"{name.replace('/', '-')}.sock"
        path = f"{self._folder}/{file}"
        if len(os.fsencode(path)) > MAX_IPC_PATH:
            if self._short is None:
                self._short = self._closing.enter_context(short_path(self._folder))
            path = f"{self._short}/{file}"
        if len(os.fsencode(path)) > MAX_IPC_PATH:
            raise BusError(
                f"socket path {path} is longer than {MAX_IPC_PATH} bytes, and there is no /proc to "
                "shorten it; set runtime.run_dir to a shorter folder"
            )
        return f"ipc://{path}"

    def publisher(
        self,
        topic: Topic,
        instance: str,
        cameras: Iterable[str] = (),
        readers: int | Mapping[str, int] | None = None,
    ) -> "Publisher":
        """The socket on which this process publishes a topic for ``cameras``.

        Lossless, all of the table's readers must subscribe before it is ready; ``readers`` says
        another number, of all cameras or of each.
        """
        self._check(topic, Wire.PUBLISH, topic.writers)
        if readers is None:
            readers = len(topic.readers) if self._lossless else 0
        awaited: dict[bytes, int] = {}
        for camera in cameras if readers else ():
            name, count = topic.of(camera), readers if isinstance(readers, int) else readers[camera]
            awaited[name] = max(count, awaited.get(name, 0))
        # XPUB queues subscriptions until they are read; PUB does not.
        socket = self._socket(zmq.XPUB if awaited else zmq.PUB, topic)
        if awaited:
            socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        bind(socket, self.endpoint(_name(topic, instance)))
        return Publisher(socket, topic, awaited)

    def subscriber(
        self, topic: Topic, instances: Iterable[str], cameras: Iterable[str]
    ) -> "Subscriber":
        """One socket, connected to all ``instances`` that write the topic for ``cameras``."""
        self._check(topic, Wire.PUBLISH, topic.readers)
        socket = self._socket(zmq.SUB, topic)
        # Its subscriptions count as unsent when the publisher has left before it.
        socket.setsockopt(zmq.LINGER, 0)
        for name in {topic.of(camera) for camera in cameras}:
            socket.setsockopt(zmq.SUBSCRIBE, name)
        for instance in instances:
            socket.connect(self.endpoint(_name(topic, instance)))
        return Subscriber(self, socket, topic)

    def push(self, topic: Topic) -> "Push":
        """The socket on which this process sends to a topic's one reader."""
        self._check(topic, Wire.COLLECT, topic.writers)
        socket = self._socket(zmq.PUSH, topic)
        socket.setsockopt(zmq.IMMEDIATE, 0)
        socket.connect(self.endpoint(topic.name))
        return Push(self, socket, topic)

    def pull(self, topic: Topic) -> "Subscriber":
        """The socket on which the one reader of a topic receives."""
        self._check(topic, Wire.COLLECT, topic.readers)
        socket = self._socket(zmq.PULL, topic)
        bind(socket, self.endpoint(topic.name))
        return Subscriber(self, socket, topic)

    def dealer(self, topic: Topic, identity: str) -> "Dealer":
        """A writer's end of a dialogue; the reader knows it as ``identity``."""
        self._check(topic, Wire.DIALOGUE, topic.writers)
        socket = self._socket(zmq.DEALER, topic)
        socket.setsockopt(zmq.IDENTITY, identity.encode())
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.connect(self.endpoint(topic.name))
        return Dealer(self, socket, topic)

    def router(self, topic: Topic) -> "Router":
        """The reader's end of a dialogue with many writers."""
        self._check(topic, Wire.DIALOGUE, topic.readers)
        socket = self._socket(zmq.ROUTER, topic)
        # A restarted stage comes back under its own name while the old link still lingers.
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        bind(socket, self.endpoint(topic.name))
        return Router(self, socket, topic)

    def public_publisher(self, endpoint: str, keys: Authenticator | None = None) -> PublicPublisher:
        """The PUB socket that subscribers connect to. A slow subscriber loses messages.

        Our own processes receive on a private endpoint, which needs no key.
        """
        socket = self._public_socket(zmq.PUB, EVENT_QUEUE, MAX_SUBSCRIPTION_BYTES)
        bind(socket, self.endpoint(_OWN_PUBLIC))
        self._bind_public(socket, endpoint, keys)
        return PublicPublisher(socket)

    def public_router(self, endpoint: str, keys: Authenticator | None = None) -> PublicRouter:
        """The ROUTER socket that clients send requests to, with REQ or DEALER."""
        socket = self._public_socket(zmq.ROUTER, REQUEST_QUEUE, MAX_REQUEST_BYTES)
        self._bind_public(socket, endpoint, keys)
        return PublicRouter(socket)

    def public_subscriber(self, names: Iterable[str]) -> PublicSubscriber:
        """Listens to our own PUB socket, for what is shown on the terminal."""
        socket = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        for name in names:
            socket.setsockopt(zmq.SUBSCRIBE, f"{name}/".encode())
        socket.connect(self.endpoint(_OWN_PUBLIC))
        return PublicSubscriber(socket)

    def authenticator(
        self, pair: tuple[str, str], name_of: Callable[[str], str | None]
    ) -> Authenticator:
        """Public sockets made with it accept only clients that :class:`Authenticator` accepts."""
        socket = self._context.socket(zmq.REP)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind(ENDPOINT)
        keys = Authenticator(socket, pair, name_of)
        self.watch(keys, keys.answer)
        return keys

    def watch(self, what: object, callback: Callable[[], None] = lambda: None) -> None:
        """Have :meth:`poll` wake up, and call ``callback``, whenever ``what`` can be read."""
        key = what.socket if isinstance(what, Wrapped) else what
        self._poller.register(key, zmq.POLLIN)
        self._callbacks[key] = callback

    def unwatch(self, what: object) -> None:
        key = what.socket if isinstance(what, Wrapped) else what
        self._poller.unregister(key)
        self._callbacks.pop(key, None)

    def poll(self, timeout_s: float | None) -> bool:
        """Sleep until something can be read or the time is up; True when there was something."""
        timeout_ms = None if timeout_s is None else max(0, round(timeout_s * 1000 + 0.499))
        ready = self._poller.poll(timeout_ms)
        for key, _ in ready:
            callback = self._callbacks.get(key)
            if callback is not None:
                callback()
        return bool(ready)

    def decode(
        self, data: bytes, topic: Topic, types: tuple[type[Message], ...], published: bool = False
    ) -> list[AnyMessage]:
        """The message in ``data``, or the ``published`` ones.

        What is no message of ``types`` is counted, logged and left out.
        """
        try:
            messages = decode_all(data) if published else [decode(data, topic.max_bytes)]
        except BadMessage as error:
            self._reject(topic, str(error))
            return []
        for message in messages:
            if not isinstance(message, types):
                self._reject(topic, f"a {type(message).__name__} does not belong here")
                return []
        return messages

    def close(self) -> None:
        """Close all sockets. What was sent still goes out, within a second."""
        self._callbacks.clear()
        self._context.destroy()
        self._closing.close()

    def _check(self, topic: Topic, wire: Wire, members: tuple[str, ...]) -> None:
        if topic.wire is not wire:
            raise TopicError(f"topic {topic.name} travels by {topic.wire.value}, not {wire.value}")
        if self._member is not None and self._member not in members:
            raise TopicError(f"topic {topic.name}: {self._member} is none of {members}")

    def _reject(self, topic: Topic, why: str) -> None:
        self.rejected += 1
        # The first, the second, the fourth, …: a sender of nonsense must not fill the disk.
        if self.rejected & (self.rejected - 1) == 0:
            log.warning("topic %s: message %d refused: %s", topic.name, self.rejected, why)

    def _socket(self, kind: int, topic: Topic) -> Socket:
        socket = self._context.socket(kind)
        # ZeroMQ takes 0 for "no limit".
        queue = 0 if self._lossless else topic.queue
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.setsockopt(zmq.SNDHWM, queue)
        socket.setsockopt(zmq.RCVHWM, queue)
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        return socket

    def _public_socket(self, kind: int, queue: int, max_bytes: int) -> Socket:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.setsockopt(zmq.SNDHWM, queue)
        socket.setsockopt(zmq.RCVHWM, queue)
        socket.setsockopt(zmq.MAXMSGSIZE, max_bytes)
        return socket

    def _bind_public(self, socket: Socket, endpoint: str, keys: Authenticator | None) -> None:
        if keys is not None:
            keys.guard(socket, endpoint)
            monitor = socket.get_monitor_socket(FAILED_HANDSHAKES)
            self.watch(monitor, lambda: keys.see_failures(monitor))
        bind(socket, endpoint)


def _name(topic: Topic, instance: str) -> str:
    return f"{topic.name}.{instance}" if instance else topic.name


def _require(topic: Topic, types: tuple[type[Message], ...], messages: Sequence[Message]) -> None:
    """Raise :class:`TopicError` for a message that the table doesn't let travel here."""
    for message in messages:
        if not isinstance(message, types):
            raise TopicError(f"topic {topic.name} does not carry a {type(message).__name__}")


class Publisher(Wrapped):
    """Sends messages to all who subscribed."""

    def __init__(self, socket: Socket, topic: Topic, awaited: dict[bytes, int]) -> None:
        super().__init__(socket)
        self._topic = topic
        self._awaited = awaited if socket.type == zmq.XPUB else {}

    def send(self, camera: str, *messages: Message) -> None:
        """Send a camera's messages; for a ``together`` topic, messages of several cameras."""
        _require(self._topic, self._topic.types, messages)
        # Topic and body in one frame: half of what two cost to send and to receive.
        self.socket.send(self._topic.of(camera) + encode_all(messages))

    def ready(self) -> bool:
        """Whether as many readers have subscribed as were asked for."""
        if not self._awaited:
            return True
        for subscription in frames(self.socket, 1000):
            topic = subscription[1:]
            if topic in self._awaited:  # a reader of many cameras asks every writer for all of them
                self._awaited[topic] -= 1 if subscription[:1] == b"\x01" else -1
        return max(self._awaited.values()) <= 0


class Subscriber(Wrapped):
    """Receives the messages of a topic."""

    def __init__(self, bus: Bus, socket: Socket, topic: Topic) -> None:
        super().__init__(socket)
        self._bus = bus
        self._topic = topic
        self._types = topic.types
        self._published = socket.type == zmq.SUB
        self._name_end = len(topic.name) + 1

    def drain(self, limit: int = 10_000) -> list[AnyMessage]:
        """All that has arrived, oldest first."""
        messages: list[AnyMessage] = []
        for frame in frames(self.socket, limit):
            # What was published begins with its topic, "name/camera/".
            body = frame[frame.find(b"/", self._name_end) + 1 :] if self._published else frame
            messages += self._bus.decode(body, self._topic, self._types, self._published)
        return messages


class Push(Wrapped):
    """Sends messages that are few and small; drops them when the reader is long gone."""

    def __init__(self, bus: Bus, socket: Socket, topic: Topic) -> None:
        super().__init__(socket)
        self._bus = bus
        self._topic = topic

    def send(self, message: Message) -> None:
        _require(self._topic, self._topic.types, [message])
        try:
            self.socket.send(encode(message), zmq.DONTWAIT)
        except zmq.Again:
            self._bus.dropped += 1


class Dealer(Subscriber):
    """A writer's end of a dialogue. Receives the reader's answers."""

    def __init__(self, bus: Bus, socket: Socket, topic: Topic) -> None:
        super().__init__(bus, socket, topic)
        self._types = topic.answers

    def send(self, message: Message) -> None:
        _require(self._topic, self._topic.types, [message])
        try:
            self.socket.send(encode(message), zmq.DONTWAIT)
        except zmq.Again:
            self._bus.dropped += 1
            log.warning("topic %s: the other side does not receive", self._topic.name)


class Router(Wrapped):
    """The reader's end of a dialogue. Knows each writer by its name."""

    def __init__(self, bus: Bus, socket: Socket, topic: Topic) -> None:
        super().__init__(socket)
        self._bus = bus
        self._topic = topic

    def drain(self, limit: int = 10_000) -> list[tuple[str, AnyMessage]]:
        """All that has arrived, as (name of the sender, message)."""
        messages: list[tuple[str, AnyMessage]] = []
        for parts in multiparts(self.socket, limit):
            sender = parts[0].decode(errors="replace")
            received = self._bus.decode(parts[-1], self._topic, self._topic.types)
            messages += [(sender, message) for message in received]
        return messages

    def send(self, to: str, message: Message) -> None:
        _require(self._topic, self._topic.answers, [message])
        try:
            self.socket.send_multipart([to.encode(), encode(message)], zmq.DONTWAIT)
        except zmq.ZMQError as error:
            log.warning("topic %s: %s can't be reached: %s", self._topic.name, to, error.strerror)
