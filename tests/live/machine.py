"""Small machines for a test: little shared memory, a file system that can't be written."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest


def with_mounts(*commands: str) -> tuple[str, ...]:
    """A command that runs another one with mounts of its own; skips where none can be had."""
    script = " && ".join(commands)
    for unshare in (["unshare", "-m"], ["unshare", "-rm"]):
        with contextlib.suppress(FileNotFoundError):
            if not subprocess.run([*unshare, "sh", "-c", script], capture_output=True).returncode:
                return (*unshare, "sh", "-c", f'{script} && exec "$@"', "sh")
    pytest.skip("this user may not mount anything, not even for itself")


def small_shm(size: str) -> tuple[str, ...]:
    """A command that runs another one with a /dev/shm of ``size``, such as ``4m``."""
    return with_mounts(f"mount -t tmpfs -o size={size} tmpfs /dev/shm")


def read_only(folder: Path) -> tuple[str, ...]:
    """A command for which ``folder`` is on a file system that can't be written."""
    return with_mounts(
        f"mount --bind '{folder}' '{folder}'", f"mount -o remount,ro,bind '{folder}'"
    )


def limited(*limits: str) -> tuple[str, ...]:
    """A command that runs another one with limits as prlimit takes them: ``--nofile=64``."""
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit is missing (util-linux)")
    return ("prlimit", *limits)


def as_nobody(*before: str) -> Sequence[str]:
    """A command that runs another one as a user without any rights; root alone can do that."""
    if os.getuid():
        pytest.skip("only root can run something as another user")
    return (*before, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
