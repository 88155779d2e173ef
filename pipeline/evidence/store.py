"""The folder of evidence: files that are whole or not there, and how long they are kept."""

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from pipeline.clock import NS_PER_S, Clock, isoformat
from pipeline.public.row_ages import RowAges
from pipeline.transport.messages import EvidenceMade

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    path TEXT PRIMARY KEY,
    made_ns INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    record BLOB NOT NULL
) STRICT;
"""
_DAY_NS = 86_400 * NS_PER_S
_GIGABYTE = 1_000_000_000
INDEX = "index.sqlite"
UNFINISHED = ".part"
_CHUNK = 1 << 20


class EvidenceStore:
    """Puts files into the folder, and deletes them when they are old.

    Only files that it made, and that are in its index, are ever deleted. Their ages are counted as
    those of events are (:mod:`pipeline.public.log_time`): a clock that jumps deletes nothing. One
    thread uses it.
    """

    def __init__(
        self, folder: Path, keep_days: float | None, keep_gb: float | None, clock: Clock
    ) -> None:
        self.folder = folder.absolute()
        self._clock = clock
        self._keep_ns = None if keep_days is None else int(keep_days * _DAY_NS)
        self._keep_bytes = None if keep_gb is None else int(keep_gb * _GIGABYTE)
        self._open: tuple[sqlite3.Connection, RowAges] | None = None

    def put(
        self, made: EvidenceMade, suffix: str, write: Callable[[Path], dict[str, Any]]
    ) -> EvidenceMade:
        """Write a file beside its place, then move it there; returns the record with its name.

        ``write(path)`` writes the file, and returns fields of the record. Raises OSError,
        sqlite3.Error, and what ``write`` raises; then there is no file.
        """
        day = isoformat(self._clock.wall_ns())[:10]
        path = self.folder / made.camera / day / f"{made.id}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f".{path.name}{UNFINISHED}")
        try:
            fields = write(aside)
            sha256, size = _synced(aside)
            done = msgspec.structs.replace(
                made, state="ready", path=str(path), sha256=sha256, bytes=size, **fields
            )
            # First in the index: no file is there that nobody would ever delete.
            db, ages = self._index()
            row = (str(path), ages.now_ns, size, msgspec.json.encode(done))
            db.execute("INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)", row)
            aside.replace(path)
        finally:
            with contextlib.suppress(OSError):
                aside.unlink(missing_ok=True)
        _sync_folder(path.parent)
        return done

    def delete_old(self) -> Iterator[EvidenceMade]:
        """Delete what is too old or too much; yields a record for each file that is gone.

        Call it every minute or so, also where nothing is deleted: it keeps the time.
        """
        if not (self.folder / INDEX).exists():
            return
        db, ages = self._index()
        ages.look()
        if self._keep_ns is not None:
            rows = db.execute(
                "SELECT path, record FROM files WHERE made_ns < ?",
                (ages.now_ns - self._keep_ns,),
            ).fetchall()
            for path, record in rows:
                yield self._deleted(path, record, "it was older than evidence.keep_days")
        if self._keep_bytes is None:
            return
        total = db.execute("SELECT coalesce(sum(bytes), 0) FROM files").fetchone()[0]
        rows = db.execute("SELECT path, bytes, record FROM files ORDER BY made_ns, path").fetchall()
        for path, size, record in rows:
            if total <= self._keep_bytes:
                return
            total -= size
            yield self._deleted(path, record, "the folder held more than evidence.keep_gb")

    def clean(self) -> None:
        """Remove what a program that was killed has left unfinished."""
        for path in self.folder.glob(f"*/*/.*{UNFINISHED}"):
            with contextlib.suppress(OSError):
                path.unlink()

    def close(self) -> None:
        if self._open is not None:
            self._open[0].close()
            self._open = None

    def _deleted(self, path: str, record: bytes, reason: str) -> EvidenceMade:
        Path(path).unlink(missing_ok=True)
        # Days and cameras without files go too.
        for folder in list(Path(path).parents)[:2]:
            with contextlib.suppress(OSError):
                folder.rmdir()
        self._index()[0].execute("DELETE FROM files WHERE path = ?", (path,))
        made = msgspec.json.decode(record, type=EvidenceMade)
        return msgspec.structs.replace(made, state="removed", reason=reason)

    def _index(self) -> tuple[sqlite3.Connection, RowAges]:
        """The index and its time; made anew where the folder has vanished meanwhile."""
        path = self.folder / INDEX
        if self._open is not None and not path.exists():
            self.close()
        if self._open is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(path, isolation_level=None, timeout=5.0)
            db.execute("PRAGMA journal_mode = WAL")
            # A row that a power cut takes costs a file that is kept too long, and no more.
            db.execute("PRAGMA synchronous = NORMAL")
            db.executescript(_SCHEMA)
            self._open = db, RowAges(db, "files", self._keep_ns, self._clock)
        return self._open


def _synced(path: Path) -> tuple[str, int]:
    """Hash and size of a file whose content is on the disk."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
        os.fsync(file.fileno())
        return digest.hexdigest(), file.tell()


def _sync_folder(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
