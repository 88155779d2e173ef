"""What all sockets share: binding with the reason in words, and draining."""

import errno
import os
import socket as socketlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import zmq

from pipeline.errors import BusError

LINGER_MS = 1000
Socket = zmq.Socket[bytes]

_Received = TypeVar("_Received")
_POLLIN, _DONTWAIT, _EVENTS = int(zmq.POLLIN), int(zmq.DONTWAIT), int(zmq.EVENTS)


class Wrapped:
    """A ZeroMQ socket behind an interface of its own; the bus can watch it."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket


def bind(socket: Socket, endpoint: str) -> None:
    """Bind, or raise :class:`BusError` with the reason in words."""
    # ZeroMQ would take the path away from the process that listens there.
    if endpoint.startswith("ipc://") and _is_served(endpoint.removeprefix("ipc://")):
        raise BusError(f"can't bind {endpoint}: already in use")
    if "[" in endpoint:
        socket.setsockopt(zmq.IPV6, 1)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        reason = "already in use" if error.errno == zmq.EADDRINUSE else error.strerror
        raise BusError(f"can't bind {endpoint}: {reason}") from None


def check_bind(endpoint: str) -> None:
    """Raise :class:`BusError` if :func:`bind` would; for ``--check`` and before a start.

    Nothing listens meanwhile. A client that waits for this program would otherwise meet a socket
    of another kind, or one without keys, and ZeroMQ never connects again after such a meeting.
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
        return  # perhaps an interface's name, which only ZeroMQ resolves
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


def _is_served(path: str) -> bool:
    with socketlib.socket(socketlib.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def frames(socket: Socket, limit: int) -> Iterable[bytes]:
    """What has arrived, where each message is one frame."""
    return _drained(socket, socket.recv, limit)


def multiparts(socket: Socket, limit: int) -> Iterable[Sequence[bytes]]:
    """What has arrived, where messages have several frames."""
    return _drained(socket, socket.recv_multipart, limit)


def _drained(
    socket: Socket, receive: Callable[[int], _Received], limit: int
) -> Iterator[_Received]:
    # To ask first costs a tenth of what ZeroMQ's "again" costs as an exception. Plain numbers
    # instead of pyzmq's enumerations make four messages a quarter cheaper.
    for _ in range(limit):
        if not int(socket.getsockopt(_EVENTS)) & _POLLIN:
            return
        yield receive(_DONTWAIT)
