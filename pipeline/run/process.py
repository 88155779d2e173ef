"""The process of a stage, as whoever starts it has it; and how one is started directly."""

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Protocol

from pipeline.program import import_path
from pipeline.run.signals import terminal_held_back
from pipeline.run.standard_streams import STDERR

# One thread for every numeric library in a stage: many processes share few cores.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)


class Process(Protocol):
    """A child of this process. Exit codes are negative for the signal that killed it."""

    @property
    def pid(self) -> int: ...

    @property
    def stdin_fd(self) -> int:
        """Our end of its standard input."""

    def ended(self) -> int | None:
        """Its exit code once it has ended."""

    def kill(self) -> None: ...

    def bury(self) -> int:
        """Wait for its end, close our end of its standard input, and return its exit code."""


class Started:
    """A :class:`Process` that is a program of its own."""

    def __init__(self, popen: "subprocess.Popen[bytes]") -> None:
        assert popen.stdin is not None
        self._popen = popen
        self._stdin = popen.stdin

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def stdin_fd(self) -> int:
        return self._stdin.fileno()

    def ended(self) -> int | None:
        return self._popen.poll()

    def kill(self) -> None:
        self._popen.kill()

    def bury(self) -> int:
        code = self._popen.wait()
        self._stdin.close()
        return code


def start_directly(stage: str) -> Started:
    """Start the process of a stage, which then imports all that it needs.

    Raises OSError where the system has no process left to give.
    """
    return Started(start_module("stage_process", stage, stdin=subprocess.PIPE))


def start_module(module: str, argument: str, stdin: int) -> "subprocess.Popen[bytes]":
    """Start a module of this package as a process that gets nothing from the terminal.

    Its standard output is our standard error. Raises OSError.
    """
    return _start([f"{__package__}.{module}", argument], stdin)


def start_beside(package: str, *arguments: str, stdout: int = STDERR) -> "subprocess.Popen[bytes]":
    """Start a package beside the pipeline's as a process of the same kind. Raises OSError."""
    return _start([package, *arguments], subprocess.DEVNULL, stdout)


def _start(words: Sequence[str], stdin: int, stdout: int = STDERR) -> "subprocess.Popen[bytes]":
    with terminal_held_back():
        return subprocess.Popen(
            # -P: a module of the same name in the user's folder is not ours.
            [sys.executable, "-P", "-m", *words],
            stdin=stdin,
            stdout=stdout,
            bufsize=0,
            env=_environment(),
        )


def how_ended(code: int) -> str:
    """An exit code in words."""
    return f"killed by signal {-code}" if code < 0 else f"exit code {code}"


def _environment() -> dict[str, str]:
    environment = {**os.environ, **dict.fromkeys(_THREAD_VARIABLES, "1")}
    if path := import_path(os.environ.get("PYTHONPATH", "")):
        environment["PYTHONPATH"] = path
    return environment
