"""What all sockets share: binding with the reason in words, and draining."""

import contextlib
import errno
import os
import socket as socketlib
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import zmq

from pipeline.errors import BusError

LINGER_MS = 1000
# Linux keeps a socket's path in 108 bytes, the terminating zero included.
MAX_IPC_PATH = 107
Socket = zmq.Socket[bytes]

_Received = TypeVar("_Received")
_POLLIN, _DONTWAIT, _EVENTS = int(zmq.POLLIN), int(zmq.DONTWAIT), int(zmq.EVENTS)


class Wrapped:
    """A ZeroMQ socket behind an interface of its own; the bus can watch it."""

    def __init__(self, socket: Socket) -> None:
        self.socket = socket


def bind(socket: Socket, endpoint: str) -> None:
    """Bind, or raise :class:`BusError` with the reason in words."""
    if endpoint.startswith("ipc://"):
        _check_path(endpoint, endpoint.removeprefix("ipc://"))
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
    """Raise :class:`BusError` where no socket can be made at ``path``."""
    length = len(os.fsencode(path))
    if length > MAX_IPC_PATH:
        raise BusError(
            f"can't bind {endpoint}: its path has {length} bytes; "
            f"the path of a socket has at most {MAX_IPC_PATH}"
        )
    # ZeroMQ would take the path away from the process that listens there.
    if _is_served(path):
        raise BusError(f"can't bind {endpoint}: already in use")
    if path.startswith("@"):
        return
    # It would also remove whatever is there.
    if os.path.lexists(path) and not stat.S_ISSOCK(os.lstat(path).st_mode):
        what = "folder" if Path(path).is_dir() else "file"
        raise BusError(f"can't bind {endpoint}: {path} is a {what}")
    folder = Path(path).parent
    if not os.access(folder, os.W_OK | os.X_OK):
        what = "can't be written" if folder.is_dir() else "doesn't exist"
        raise BusError(f"can't bind {endpoint}: the folder {folder} {what}")


@contextlib.contextmanager
def short_path(folder: Path) -> Iterator[str]:
    """A short path of a folder, however long its own is; it leads there until the block ends."""
    try:
        number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield str(folder)
        return
    try:
        short = f"/proc/self/fd/{number}"
        yield short if os.path.isdir(short) else str(folder)
    finally:
        os.close(number)


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
