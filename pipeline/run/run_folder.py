"""The private folder of a run: its sockets, its default event log, and the lock of its owner."""

import contextlib
import fcntl
import logging
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import StartupError, os_reason
from pipeline.transport.frame_ring import remove_stale
from pipeline.transport.run_identity import RunIdentity
from pipeline.transport.sockets import short_path

_LOCK = "owner.lock"
MAX_PATH = 490
"""Bytes of a run folder's path. SQLite opens no file whose path has more than 511."""

log = logging.getLogger(__name__)


def make_run_folder(configured: Path | None, run: RunIdentity) -> "RunFolder":
    """The folder of a run: in ``configured`` if that is given, else in the first that will do.

    These are the user's own runtime folder (XDG_RUNTIME_DIR), TMPDIR, /tmp and /var/tmp. What dead
    runs have left there is removed. Raises :class:`StartupError` where no folder can be made.
    """
    if configured is not None:
        try:
            return _made(configured, run)
        except OSError as error:
            raise StartupError(
                f"runtime.run_dir: no folder can be made in {configured}: {os_reason(error)}"
            ) from None
    reasons = []
    for origin, root in _default_roots():
        where = f"{origin} {root}" if origin else str(root)
        try:
            _check_root(root, own=origin == "XDG_RUNTIME_DIR")
            made = _made(root, run, create=False)
        except OSError as error:
            reasons.append(f"{where}: {os_reason(error)}")
            continue
        for reason in reasons:
            log.warning("no run folder in %s; it is in %s instead", reason, root)
        return made
    raise StartupError(
        f"no folder can be made for the run ({'; '.join(reasons)}); "
        "set runtime.run_dir to a folder that this user can write"
    )


def _default_roots() -> Iterator[tuple[str, Path]]:
    for name in ("XDG_RUNTIME_DIR", "TMPDIR"):
        if value := os.environ.get(name):
            yield name, Path(value)
    yield from (("", Path("/tmp")), ("", Path("/var/tmp")))


def _check_root(root: Path, *, own: bool) -> None:
    """Raise OSError where a variable of the environment names something unsuitable."""
    if not root.is_absolute():
        raise OSError(None, "it is no absolute path")
    if not root.exists():
        raise OSError(None, "it doesn't exist")
    if not root.is_dir():
        raise OSError(None, "it is no folder")
    if own and root.stat().st_uid != os.getuid():
        raise OSError(None, "it belongs to another user")


def _made(root: Path, run: RunIdentity, *, create: bool = True) -> "RunFolder":
    if create:
        root.mkdir(parents=True, exist_ok=True)
    length = len(os.fsencode(root / run.prefix))
    if length > MAX_PATH:
        raise OSError(None, f"its path has {length} bytes; at most {MAX_PATH} are possible")
    for name in RunFolder.remove_dead(root):
        log.info("removed what the dead run %s had left", name)
    return RunFolder(root, run)


class RunFolder:
    """Created with mode 0700 under ``root``, locked while its owner lives, removed at the end.

    The lock is released when the process ends, however it ends. A folder whose lock is free
    therefore belongs to a dead run: :meth:`remove_dead` removes it, and its shared memory. Raises
    OSError where the folder, its lock or a socket in it can't be made.
    """

    def __init__(self, root: Path, run: RunIdentity) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.path = root / run.prefix
        # Lock it before it has the name by which others find it: what they find unlocked is dead.
        unfinished = root / f".{run.prefix}"
        unfinished.mkdir(mode=0o700)
        with contextlib.ExitStack() as undo:
            undo.callback(shutil.rmtree, unfinished, ignore_errors=True)
            self._lock = undo.enter_context((unfinished / _LOCK).open("w"))
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _try_socket(unfinished)
            if self.path.exists():
                raise FileExistsError(f"run folder {self.path} exists already")
            unfinished.rename(self.path)
            undo.pop_all()

    def close(self) -> None:
        """Remove the folder and all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()

    @staticmethod
    def remove_dead(root: Path) -> list[str]:
        """Remove what dead runs of this user left; returns the names of those runs."""
        removed = []
        for lock_path in sorted(root.glob(f"two-stream-*/{_LOCK}")):
            folder = lock_path.parent
            try:
                if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                    continue
                with lock_path.open("r+") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove_stale(folder.name)
                    shutil.rmtree(folder, ignore_errors=True)
            except OSError:
                continue  # its owner lives, or removed it just now
            removed.append(folder.name)
        return removed


def _try_socket(folder: Path) -> None:
    """Raise OSError where the file system of ``folder`` holds no sockets."""
    path = folder / "try.sock"
    with short_path(folder) as short, socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind(f"{short}/{path.name}")
        except OSError as error:
            raise OSError(error.errno, f"it holds no sockets ({os_reason(error)})") from None
    path.unlink()
