"""What Linux alone does for processes. Elsewhere, these functions do nothing."""

import contextlib
import ctypes
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_ARG_START = 48
"""Number of the field in ``/proc/PID/stat``; the next is the end (proc(5) counts from 1)."""


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, even where a call never returns."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def adopt_orphans(*, on: bool) -> bool:
    """Become the parent of descendants whose own parent ends; whether the kernel does that."""
    return _prctl(_PR_SET_CHILD_SUBREAPER, int(on))


def show_as(command_line: str) -> None:
    """Have ``ps`` and ``top`` show another command line for this process.

    It is cut to the room that the one which it was started with took.
    """
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):  # there may be no /proc
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()  # from the third on
        start, end = map(int, fields[_ARG_START - 3 : _ARG_START - 1])
        room = end - start - 1
        if room > 1:
            text = command_line.encode(errors="replace")[: room - 1].ljust(room, b"\0")
            # What doesn't end with 0 is taken as one text, up to its first 0.
            ctypes.memmove(start, text + b" ", room + 1)


def _prctl(option: int, value: int) -> bool:
    return sys.platform == "linux" and bool(ctypes.CDLL(None).prctl(option, value, 0, 0, 0) == 0)
