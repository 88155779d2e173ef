"""The private folder of a run: its sockets, its default event log, and the lock of its owner."""

import fcntl
import os
import shutil
from pathlib import Path

from pipeline.transport.frame_ring import remove_stale
from pipeline.transport.run_identity import RunIdentity

_LOCK = "owner.lock"


def default_run_root() -> Path:
    """Where private run folders are made: the user's own runtime folder when there is one."""
    return Path(os.environ.get("XDG_RUNTIME_DIR") or os.environ.get("TMPDIR") or "/tmp")


class RunFolder:
    """Created with mode 0700 under ``root``, locked while its owner lives, removed at the end.

    The lock is released when the process ends, however it ends. A folder whose lock is free
    therefore belongs to a dead run: :meth:`remove_dead` removes it, and its shared memory.
    """

    def __init__(self, root: Path, run: RunIdentity) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self.path = root / run.prefix
        # Lock it before it has the name by which others find it: what they find unlocked is dead.
        unfinished = root / f".{run.prefix}"
        unfinished.mkdir(mode=0o700)
        self._lock = (unfinished / _LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if self.path.exists():
            shutil.rmtree(unfinished)
            raise FileExistsError(f"run folder {self.path} exists already")
        unfinished.rename(self.path)

    def close(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()

    @staticmethod
    def remove_dead(root: Path) -> list[str]:
        """Remove what dead runs of this user left; returns the names of those runs."""
        removed = []
        for lock_path in sorted(root.glob(f"two-stream-*/{_LOCK}")):
            folder = lock_path.parent
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            try:
                with lock_path.open("r+") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove_stale(folder.name)
                    shutil.rmtree(folder, ignore_errors=True)
            except OSError:
                continue  # its owner lives, or removed it just now
            removed.append(folder.name)
        return removed
