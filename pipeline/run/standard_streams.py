"""Standard input, output and error as they are in the world: closed, full, stuck, not UTF-8."""

import contextlib
import os
import select
import socket
import stat
import sys
import threading
from collections.abc import Iterator

STDOUT, STDERR = 1, 2
_PIPE_BUF = 4096
"""Bytes that a pipe which can be written takes at once."""


def open_missing_streams() -> list[str]:
    """Put /dev/null in the place of each standard stream that the program was started without.

    Returns their names, such as ``stdout``.

    Otherwise the next file or socket that is opened would get its number, and what is meant for
    the terminal would go there.
    """
    missing = []
    for number, name, mode in ((0, "stdin", "r"), (STDOUT, "stdout", "w"), (STDERR, "stderr", "w")):
        if getattr(sys, name) is not None:
            continue
        missing.append(name)
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue  # a library has taken the number since
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
        os.set_inheritable(number, True)
        setattr(sys, name, os.fdopen(number, mode, closefd=False, encoding="utf-8"))
    return missing


def say(line: str) -> None:
    """Write a line to standard error, if that can be written."""
    data = f"{line}\n".encode(encoding_of(STDERR), "backslashreplace")
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(STDERR, data) :]


def show(line: str) -> None:
    """Write a line to standard output, and wait until it is taken; raises OSError."""
    data = f"{line}\n".encode(encoding_of(STDOUT), "backslashreplace")
    while data:
        data = data[os.write(STDOUT, data) :]


def encoding_of(number: int) -> str:
    """The encoding of standard output or error."""
    stream = sys.stdout if number == STDOUT else sys.stderr
    return getattr(stream, "encoding", None) or "utf-8"


class Outlet:
    """Writes to a file descriptor, and never waits for who reads there.

    What can't be written at all raises OSError. All threads may use it.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._own = _reopened(number)
        self._socket = _as_socket(number)
        self._pending = b""
        self._lock = threading.Lock()

    def write(self, data: bytes) -> bool:
        """Take in ``data`` whole; False: not now, the reader is behind."""
        with self._lock:
            if not self._flush():
                return False
            left = self._written(data)
            self._pending = left
            if left == data and data:
                self._pending = b""
                return False
            return True

    def flush(self, wait_s: float = 0.0) -> bool:
        """Write what is left of the last data; whether all of it is written.

        Waits once, for ``wait_s`` at most, until the reader takes more.
        """
        with self._lock:
            if self._flush() or not wait_s:
                return not self._pending
            self._writable(wait_s)
            return self._flush()

    def ready(self, wait_s: float = 0.0) -> bool:
        """Whether more would be taken in; waits for it for ``wait_s`` at most."""
        return self._writable(wait_s) and self.flush()

    def close(self) -> None:
        """Close what was opened here. The descriptor itself stays open."""
        if self._own is not None:
            os.close(self._own)
        if self._socket is not None:
            self._socket.close()

    def _flush(self) -> bool:
        if self._pending:
            self._pending = self._written(self._pending)
        return not self._pending

    def _written(self, data: bytes) -> bytes:
        """Write what can be written now; returns the rest."""
        while data:
            try:
                count = self._write_once(data)
            except BlockingIOError:
                break
            if not count:
                break
            data = data[count:]
        return data

    def _write_once(self, data: bytes) -> int:
        if self._socket is not None:
            return self._socket.send(data, socket.MSG_DONTWAIT)
        if self._own is not None:
            return os.write(self._own, data)
        # It is blocking, and must stay so for those who share it; few bytes fit if any do.
        return os.write(self._number, data[:_PIPE_BUF]) if self._writable(0.0) else 0

    def _writable(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._number, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))


class OutletText:
    """A text file, as far as rich needs one, in front of an :class:`Outlet`.

    Text that the reader does not take soon is left out, and so is all text once a write has failed:
    :attr:`failure` then says why.
    """

    WAIT_S = 0.3

    def __init__(self, outlet: Outlet, number: int) -> None:
        self.encoding = encoding_of(number)
        self.failure: str | None = None
        self._outlet = outlet
        self._number = number
        self._text: list[str] = []

    def write(self, text: str) -> int:
        self._text.append(text)
        return len(text)

    def flush(self) -> None:
        text, self._text = "".join(self._text), []
        if self.failure is not None:
            return
        try:
            if self._outlet.flush(self.WAIT_S) and self._outlet.write(
                text.encode(self.encoding, "backslashreplace")
            ):
                self._outlet.flush(self.WAIT_S)
        except OSError as error:
            self.failure = error.strerror or str(error)

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def fileno(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[str]:
        return iter(())


def _reopened(number: int) -> int | None:
    """A description of our own of the same pipe or terminal, which does not block.

    To set O_NONBLOCK on the one that was inherited would set it for the shell as well.
    """
    with contextlib.suppress(OSError):
        mode = os.fstat(number).st_mode
        if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            return os.open(f"/proc/self/fd/{number}", flags)
    return None


def _as_socket(number: int) -> socket.socket | None:
    """Standard error of a systemd service is a socket."""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.fstat(number).st_mode):
            return socket.socket(fileno=os.dup(number))
    return None
