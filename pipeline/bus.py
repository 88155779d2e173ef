"""Bus: ZeroMQ sockets for messages between the stages. The only importer of zmq but the client.

All internal sockets are ``ipc://`` in the run's private folder (mode 0700). Traps kept shut here:
subscriptions end with ``/`` (prefix match), nothing conflates (it breaks multipart), "newest wins"
is done by draining a socket and keeping the last (a high-water mark of 1 keeps the oldest), and a
lossless publisher waits until all its readers have subscribed (a publisher drops what nobody has
subscribed to yet).
"""

import errno
import logging
import os
import socket as socketlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import zmq
from zmq.utils import z85
from zmq.utils.monitor import parse_monitor_message

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK
from pipeline.errors import BusError
from pipeline.messages import (
    AnyMessage,
    BadMessage,
    Message,
    decode,
    decode_all,
    encode,
    encode_all,
)
from pipeline.topics import Topic

Taken = TypeVar("Taken")

log = logging.getLogger(__name__)

# Linux keeps a socket's path in 108 bytes, the end mark included.
MAX_IPC_PATH = 107
LIVE_QUEUE = 256
LINGER_MS = 1000
MAX_REQUEST_BYTES = 65_536
MAX_SUBSCRIPTION_BYTES = 1024
MAX_TOLD = 1000
"""Refused addresses that are remembered, so as not to be logged again."""
REBIND_NS = 2 * NS_PER_S
_POLLIN, _DONTWAIT, _EVENTS = int(zmq.POLLIN), int(zmq.DONTWAIT), int(zmq.EVENTS)
_OWN_PUBLIC = "own-public"
_FAILED_HANDSHAKES = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)


class Bus:
    """One process's sockets: made here, polled here, closed here."""

    def __init__(self, folder: Path, lossless: bool) -> None:
        self._folder = folder
        # ZeroMQ's own queues are unbounded in lossless mode: the rings bound what is under way.
        self._queue = 0 if lossless else LIVE_QUEUE
        self._context = zmq.Context(io_threads=1)
        self._poller = zmq.Poller()
        self._callbacks: dict[object, Callable[[], None]] = {}
        self.rejected = 0

    def endpoint(self, name: str) -> str:
        """The address of a private socket; raises :class:`BusError` when it gets too long."""
        path = self._folder / f"{name.replace('/', '-')}.sock"
        if len(str(path).encode()) > MAX_IPC_PATH:
            raise BusError(
                f"socket path {path} is longer than {MAX_IPC_PATH} bytes; "
                "set runtime.run_dir to a shorter folder"
            )
        return f"ipc://{path}"

    def publisher(
        self, topic: Topic, instance: str, cameras: Iterable[str] = (), readers: int = 0
    ) -> "Publisher":
        """A socket that this process binds; lossless, it knows its subscribers.

        ``readers`` > 0: so many must have subscribed to each of ``cameras`` before it is ready.
        """
        # What PUB forgets at once, XPUB keeps until it is asked for, for ever if it never is.
        socket = self._socket(zmq.XPUB if readers else zmq.PUB)
        if readers:
            socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        bind(socket, self.endpoint(_name(topic, instance)))
        return Publisher(socket, topic, {topic.of(camera): readers for camera in cameras})

    def subscriber(
        self, topic: Topic, instances: Iterable[str], cameras: Iterable[str]
    ) -> "Subscriber":
        """One socket, connected to all ``instances`` that write the topic for ``cameras``."""
        socket = self._socket(zmq.SUB)
        # Its subscriptions count as unsent when the publisher has left before it.
        socket.setsockopt(zmq.LINGER, 0)
        for name in {topic.of(camera) for camera in cameras}:
            socket.setsockopt(zmq.SUBSCRIBE, name)
        for instance in instances:
            socket.connect(self.endpoint(_name(topic, instance)))
        return Subscriber(self, socket, topic)

    def push(self, topic: Topic) -> "Push":
        socket = self._socket(zmq.PUSH)
        socket.setsockopt(zmq.IMMEDIATE, 0)
        socket.connect(self.endpoint(topic.name))
        return Push(socket)

    def pull(self, topic: Topic) -> "Subscriber":
        socket = self._socket(zmq.PULL)
        bind(socket, self.endpoint(topic.name))
        return Subscriber(self, socket, topic)

    def dealer(self, topic: Topic, identity: str) -> "Dealer":
        socket = self._socket(zmq.DEALER)
        socket.setsockopt(zmq.IDENTITY, identity.encode())
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        socket.connect(self.endpoint(topic.name))
        return Dealer(self, socket, topic)

    def router(self, topic: Topic) -> "Router":
        socket = self._socket(zmq.ROUTER)
        # A restarted stage comes back under its own name while the old one's link still lingers.
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        bind(socket, self.endpoint(topic.name))
        return Router(self, socket, topic)

    def public_publisher(self, endpoint: str, gate: "Gate | None" = None) -> "PublicPublisher":
        """The PUB socket that subscribers connect to; a slow one loses messages, not we time.

        Our own processes hear it on a private endpoint too, which needs no key.
        """
        socket = self._context.socket(zmq.PUB)
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.setsockopt(zmq.SNDHWM, 10_000)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_SUBSCRIPTION_BYTES)
        bind(socket, self.endpoint(_OWN_PUBLIC))
        self._bind_public(socket, endpoint, gate)
        return PublicPublisher(socket)

    def public_router(self, endpoint: str, gate: "Gate | None" = None) -> "PublicRouter":
        """The ROUTER socket that clients send requests to, with REQ or DEALER."""
        socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.setsockopt(zmq.SNDHWM, LIVE_QUEUE)
        socket.setsockopt(zmq.RCVHWM, LIVE_QUEUE)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_REQUEST_BYTES)
        self._bind_public(socket, endpoint, gate)
        return PublicRouter(socket)

    def public_subscriber(self, names: Iterable[str]) -> "PublicSubscriber":
        """Listens to our own PUB socket, for what is shown on the terminal."""
        socket = self._context.socket(zmq.SUB)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, 50)
        for name in names:
            socket.setsockopt(zmq.SUBSCRIBE, f"{name}/".encode())
        socket.connect(self.endpoint(_OWN_PUBLIC))
        return PublicSubscriber(socket)

    def gate(self, pair: tuple[str, str], allowed: Callable[[str], str | None]) -> "Gate":
        """Public sockets made with it let in whoever proves a key for which ``allowed`` has a name.

        ``pair`` is the server's (public, secret) in Z85.
        """
        socket = self._context.socket(zmq.REP)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind("inproc://zeromq.zap.01")
        gate = Gate(socket, pair, allowed)
        self.watch(gate, gate.answer)
        return gate

    def _bind_public(self, socket: "zmq.Socket[bytes]", endpoint: str, gate: "Gate | None") -> None:
        if gate is not None:
            gate.guard(socket, endpoint)
            monitor = socket.get_monitor_socket(_FAILED_HANDSHAKES)
            self.watch(monitor, lambda: gate.see_failures(monitor))
        bind(socket, endpoint)

    def watch(self, what: object, callback: Callable[[], None]) -> None:
        """Call ``callback`` from :meth:`poll` whenever ``what`` can be read."""
        key = what.socket if isinstance(what, _Wrapped) else what
        self._poller.register(key, zmq.POLLIN)
        self._callbacks[key] = callback

    def unwatch(self, what: object) -> None:
        key = what.socket if isinstance(what, _Wrapped) else what
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

    def decode(self, data: bytes, topic: Topic, published: bool = False) -> list[AnyMessage]:
        """The message, or the ``published`` ones; what is none of the topic's is counted, logged
        and left out."""
        try:
            messages = decode_all(data) if published else [decode(data)]
        except BadMessage as error:
            self._reject(topic, str(error))
            return []
        for message in messages:
            if not isinstance(message, topic.types):
                self._reject(topic, f"a {type(message).__name__} does not belong here")
                return []
        return messages

    def _reject(self, topic: Topic, why: str) -> None:
        self.rejected += 1
        # The first, the second, the fourth, …: whoever sends nonsense must not fill the disk.
        if self.rejected & (self.rejected - 1) == 0:
            log.warning("topic %s: message %d refused: %s", topic.name, self.rejected, why)

    def _socket(self, kind: int) -> "zmq.Socket[bytes]":
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, LINGER_MS)
        socket.setsockopt(zmq.SNDHWM, self._queue)
        socket.setsockopt(zmq.RCVHWM, self._queue)
        socket.setsockopt(zmq.RECONNECT_IVL, 20)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 500)
        return socket

    def close(self) -> None:
        """Close all sockets; what was sent still goes out, for a second at most."""
        self._callbacks.clear()
        self._context.destroy()


def _name(topic: Topic, instance: str) -> str:
    return f"{topic.name}.{instance}" if instance else topic.name


def bind(socket: "zmq.Socket[bytes]", endpoint: str) -> None:
    """Bind or raise :class:`BusError` with the reason in words."""
    # ZeroMQ would take the path away from whoever listens there.
    if endpoint.startswith("ipc://") and _is_served(endpoint.removeprefix("ipc://")):
        raise BusError(f"can't bind {endpoint}: already in use")
    if "[" in endpoint:
        socket.setsockopt(zmq.IPV6, 1)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        reason = "already in use" if error.errno == zmq.EADDRINUSE else error.strerror
        raise BusError(f"can't bind {endpoint}: {reason}") from None


def _is_served(path: str) -> bool:
    with socketlib.socket(socketlib.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def new_key_pair() -> tuple[str, str]:
    """(public, secret) of a new Curve25519 pair, in Z85."""
    public, secret = zmq.curve_keypair()
    return public.decode(), secret.decode()


def check_bind(endpoint: str) -> None:
    """Raise :class:`BusError` if :func:`bind` would; for ``--check`` and before a start.

    Nobody can connect meanwhile. A client that is waiting for this program to come back would meet
    a socket of another kind, or without keys, and ZeroMQ never tries again after such a meeting.
    """
    scheme, _, address = endpoint.partition("://")
    if scheme == "ipc":
        _check_path(endpoint, address)
        return
    host, _, port = address.rpartition(":")
    try:
        family, kind, _, _, where = socketlib.getaddrinfo(
            "0.0.0.0" if host == "*" else host.strip("[]"), port, type=socketlib.SOCK_STREAM
        )[0]
    except socketlib.gaierror:
        return  # an interface's name, perhaps; who binds it will see
    with socketlib.socket(family, kind) as probe:
        probe.setsockopt(socketlib.SOL_SOCKET, socketlib.SO_REUSEADDR, 1)
        try:
            probe.bind(where)
        except OSError as error:
            reason = "already in use" if error.errno == errno.EADDRINUSE else error.strerror
            raise BusError(f"can't bind {endpoint}: {reason}") from None


def _check_path(endpoint: str, path: str) -> None:
    if _is_served(path):
        raise BusError(f"can't bind {endpoint}: already in use")
    folder = Path(path).parent
    if not path.startswith("@") and not os.access(folder, os.W_OK | os.X_OK):
        what = "can't be written" if folder.is_dir() else "doesn't exist"
        raise BusError(f"can't bind {endpoint}: the folder {folder} {what}")


class _Wrapped:
    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        self.socket = socket


class Publisher(_Wrapped):
    """Sends messages to whoever subscribed."""

    def __init__(
        self, socket: "zmq.Socket[bytes]", topic: Topic, awaited: dict[bytes, int]
    ) -> None:
        super().__init__(socket)
        self._topic = topic
        self._awaited = awaited if socket.type == zmq.XPUB else {}

    def send(self, camera: str, *messages: Message) -> None:
        """Send a camera's messages, or together those of several where the topic is of such."""
        # Topic and body in one frame: half of what two cost to send and to receive.
        self.socket.send(self._topic.of(camera) + encode_all(messages))

    def ready(self) -> bool:
        """Whether as many subscriptions have come in as were asked for."""
        if not self._awaited:
            return True
        for word in _frames(self.socket, 1000):
            topic = word[1:]
            if topic in self._awaited:  # a reader of many cameras asks every writer for all of them
                self._awaited[topic] -= 1 if word[:1] == b"\x01" else -1
        return max(self._awaited.values()) <= 0


class Subscriber(_Wrapped):
    """Receives the messages of a topic."""

    def __init__(self, bus: Bus, socket: "zmq.Socket[bytes]", topic: Topic) -> None:
        super().__init__(socket)
        self._bus = bus
        self._topic = topic
        self._published = socket.type == zmq.SUB
        self._name_end = len(topic.name) + 1

    def drain(self, limit: int = 10_000) -> list[AnyMessage]:
        """All that has arrived, oldest first."""
        messages: list[AnyMessage] = []
        for frame in _frames(self.socket, limit):
            # What was published begins with its topic, "name/camera/".
            body = frame[frame.find(b"/", self._name_end) + 1 :] if self._published else frame
            messages += self._bus.decode(body, self._topic, self._published)
        return messages


class Push(_Wrapped):
    """Sends messages that are few and small; drops when the other side is long gone."""

    def __init__(self, socket: "zmq.Socket[bytes]") -> None:
        super().__init__(socket)
        self.dropped = 0

    def send(self, message: Message) -> None:
        try:
            self.socket.send(encode(message), zmq.DONTWAIT)
        except zmq.Again:
            self.dropped += 1


class Dealer(Subscriber):
    """One end of a two-way link; the other end knows it by its name."""

    def send(self, message: Message) -> None:
        try:
            self.socket.send(encode(message), zmq.DONTWAIT)
        except zmq.Again:
            log.warning("topic %s: the other side does not listen", self._topic.name)


class PublicPublisher(_Wrapped):
    """Sends JSON under a public topic."""

    def send(self, topic: str, body: bytes) -> None:
        self.socket.send_multipart([topic.encode(), body])


class PublicSubscriber(_Wrapped):
    """Receives JSON with its public topic."""

    def drain(self, limit: int = 10_000) -> list[tuple[str, bytes]]:
        """All that has arrived, as (topic, JSON)."""
        return [(parts[0].decode(), parts[-1]) for parts in _received(self.socket, limit)]


class PublicRouter(_Wrapped):
    """Answers requests whose body is the last frame; what stands before it goes back unchanged."""

    def serve(self, answer: Callable[[bytes], bytes], limit: int = 100) -> None:
        """Answer what has arrived; a client that does not take its answer loses it."""
        for parts in _received(self.socket, limit):
            reply = [*parts[:-1], answer(parts[-1])]
            try:
                self.socket.send_multipart(reply, zmq.DONTWAIT)
            except zmq.ZMQError as error:
                log.warning("a client did not take its answer: %s", error.strerror)


class Gate(_Wrapped):
    """Who may come in: CurveZMQ for the wire, ZAP (https://rfc.zeromq.org/spec/27) for the names.

    Whoever is refused is logged once, and counted each time.
    """

    def __init__(
        self,
        socket: "zmq.Socket[bytes]",
        pair: tuple[str, str],
        allowed: Callable[[str], str | None],
    ) -> None:
        super().__init__(socket)
        self._public, self._secret = (key.encode() for key in pair)
        self._allowed = allowed
        self._guarded: list[tuple[zmq.Socket[bytes], str]] = []
        self._told: set[str] = set()
        self.refused = 0

    def guard(self, socket: "zmq.Socket[bytes]", endpoint: str) -> None:
        """Ask for keys on what ``socket`` binds from now on, which is ``endpoint``."""
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_PUBLICKEY, self._public)
        socket.setsockopt(zmq.CURVE_SECRETKEY, self._secret)
        socket.setsockopt(zmq.ZAP_DOMAIN, b"public")
        self._guarded.append((socket, endpoint))

    def answer(self) -> None:
        """Say of each who knocks whether it may come in."""
        for parts in _received(self.socket, 100):
            version, request, _domain, address, _identity, mechanism, *credentials = parts
            name = None
            if mechanism == b"CURVE" and len(credentials) == 1 and len(credentials[0]) == 32:
                name = self._allowed(z85.encode(credentials[0]).decode())
            if name is None:
                self._refuse(address.decode(errors="replace"), "its key isn't known here")
            status = (b"200", b"OK") if name else (b"400", b"unknown key")
            user = (name or "").encode()
            self.socket.send_multipart([version, request, *status, user, b""])

    def see_failures(self, monitor: "zmq.Socket[bytes]") -> None:
        """Those who did not get so far as to show a key."""
        for parts in _received(monitor, 100):
            if parse_monitor_message(list(parts))["event"] != zmq.EVENT_HANDSHAKE_FAILED_AUTH:
                self._refuse("", "it has no key, or takes this server for another")

    def turn_out(self) -> None:
        """Close all connections; who still may comes back by itself within a moment."""
        for socket, endpoint in self._guarded:
            socket.unbind(endpoint)
            deadline = SYSTEM_CLOCK.monotonic_ns() + REBIND_NS
            while True:  # ZeroMQ lets go of an address in its own time
                try:
                    bind(socket, endpoint)
                    break
                except BusError:
                    if SYSTEM_CLOCK.monotonic_ns() > deadline:
                        raise
                    SYSTEM_CLOCK.sleep(0.01)

    def _refuse(self, address: str, why: str) -> None:
        self.refused += 1
        who = f"{address}: {why}"
        if who not in self._told and len(self._told) < MAX_TOLD:
            self._told.add(who)
            log.warning("a client %s was refused: %s", f"at {address}" if address else "", why)


class Router(_Wrapped):
    """The end of a two-way link that many others connect to."""

    def __init__(self, bus: Bus, socket: "zmq.Socket[bytes]", topic: Topic) -> None:
        super().__init__(socket)
        self._bus = bus
        self._topic = topic

    def drain(self, limit: int = 10_000) -> list[tuple[str, AnyMessage]]:
        """All that has arrived, as (name of the sender, message)."""
        messages: list[tuple[str, AnyMessage]] = []
        for parts in _received(self.socket, limit):
            sender = parts[0].decode(errors="replace")
            messages += [(sender, one) for one in self._bus.decode(parts[-1], self._topic)]
        return messages

    def send(self, to: str, message: Message) -> None:
        try:
            self.socket.send_multipart([to.encode(), encode(message)], zmq.DONTWAIT)
        except zmq.ZMQError as error:
            log.warning("topic %s: %s can't be reached: %s", self._topic.name, to, error.strerror)


def _frames(socket: "zmq.Socket[bytes]", limit: int) -> Iterable[bytes]:
    """What has arrived of messages that are one frame each."""
    return _drained(socket, socket.recv, limit)


def _received(socket: "zmq.Socket[bytes]", limit: int) -> Iterable[Sequence[bytes]]:
    """What has arrived of messages of several frames."""
    return _drained(socket, socket.recv_multipart, limit)


def _drained(
    socket: "zmq.Socket[bytes]", take: Callable[[int], Taken], limit: int
) -> Iterator[Taken]:
    # To ask costs a tenth of what ZeroMQ's "again" costs as an exception; with plain numbers in
    # place of pyzmq's enumerations, four messages cost a quarter less.
    for _ in range(limit):
        if not int(socket.getsockopt(_EVENTS)) & _POLLIN:
            return
        yield take(_DONTWAIT)
