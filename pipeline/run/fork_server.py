"""The fork server as the supervisor sees it: started, asked for stages, killed."""

import contextlib
import errno
import os
import select
import signal
import socket
import struct

from pipeline.run.fork_protocol import FORKED, READY
from pipeline.run.linux import adopt_orphans
from pipeline.run.process import start_module

ANSWER_S = 5.0
"""A fork server that is silent for longer is killed. It answers within some 20 ms."""
_ROOM = " " * 160
"""An argument that does nothing: a stage's command line takes its place (``linux.show_as``)."""


class ForkServerLost(Exception):
    """The fork server is dead, or has to be: no stage has come of the request."""


class Forked:
    """A :class:`~pipeline.run.process.Process` that the fork server made; it is our child."""

    def __init__(self, pid: int, stdin_fd: int) -> None:
        self.pid = pid
        self.stdin_fd = stdin_fd
        self._code: int | None = None

    def ended(self) -> int | None:
        if self._code is None:
            self._wait(os.WNOHANG)
        return self._code

    def kill(self) -> None:
        if self.ended() is None:
            os.kill(self.pid, signal.SIGKILL)

    def bury(self) -> int:
        if self._code is None:
            self._wait(0)
        os.close(self.stdin_fd)
        assert self._code is not None
        return self._code

    def _wait(self, options: int) -> None:
        try:
            pid, status = os.waitpid(self.pid, options)
        except ChildProcessError:  # the program was started with SIGCHLD ignored
            pid, status = self.pid, 0
        if pid:
            self._code = os.waitstatus_to_exitcode(status)


class ForkServer:
    """One process of ``fork_server_process``. At first it loads; then it is ready, until it dies.

    ``ready``: it takes a request. ``was_ready``: it has been ready at some time.
    Raises OSError where it can't be started.
    """

    def __init__(self) -> None:
        self.ready = self.was_ready = False
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                if not adopt_orphans(on=True):
                    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
                self._process = start_module("fork_server_process", _ROOM, theirs.fileno())
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """What can be read when it gets ready, and when it dies."""
        return self._socket.fileno()

    def receive(self) -> bool:
        """Take in what can be read; False: it has died."""
        with contextlib.suppress(OSError):
            self.ready = self._socket.recv(FORKED.size) == READY
            self.was_ready |= self.ready
            return self.ready
        self.ready = False
        return False

    def fork(self, stage: str) -> Forked:
        """Have it make the process of a stage, whose standard input is a pipe from us.

        Raises OSError where the system has no process left to give, and :class:`ForkServerLost`.
        """
        read, write = os.pipe()
        try:
            try:
                socket.send_fds(self._socket, [stage.encode()], [read])
            finally:
                os.close(read)
            error, pid, middle = FORKED.unpack(self._answer())
            self._await_ready(middle)
        except (OSError, struct.error) as problem:
            os.close(write)
            raise ForkServerLost from problem
        if error:
            os.close(write)
            raise OSError(error, os.strerror(error))
        return Forked(pid, write)

    def end(self) -> int:
        """Kill it if it lives; returns its exit code."""
        self.ready = False
        self._process.kill()
        code = self._process.wait()
        self._socket.close()
        return code

    def _await_ready(self, middle: int) -> None:
        """Wait until the process in the middle is gone: then the stage is our child."""
        self.ready = False
        with contextlib.suppress(OSError):
            self.ready = self._answer() == READY
        if not self.ready:
            self._process.kill()
            self._process.wait()
            if middle:  # it is our child since the fork server has gone
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(middle, 0)

    def _answer(self) -> bytes:
        """The next message; empty when no process is left that could send one."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        if not poll.poll(ANSWER_S * 1000):
            self._process.kill()
            if not poll.poll(ANSWER_S * 1000):
                raise TimeoutError
        return self._socket.recv(FORKED.size)
