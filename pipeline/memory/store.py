"""The folder of a memory: one SQLite file for each camera, with a row for each stretch of steps."""

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pipeline.clock import Clock
from pipeline.errors import FeatureMemoryError
from pipeline.memory.stretch import decoded, encoded, networks
from pipeline.public.row_ages import RowAges
from pipeline.steps.join import DecidedStep

SUFFIX = ".features"
_DAY_S, _MEGABYTE = 86_400, 1_000_000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS stretches (
    number INTEGER PRIMARY KEY,
    first_ns INTEGER NOT NULL,
    last_ns INTEGER NOT NULL,
    steps INTEGER NOT NULL,
    offset_ns INTEGER NOT NULL,
    media INTEGER NOT NULL,
    networks TEXT NOT NULL,
    made_ns INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    data BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS by_time ON stretches (first_ns);
"""
_OPEN = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
"""


class Stretch(NamedTuple):
    """Steps of one camera that follow each other, and when they were.

    Times are nanoseconds of the time of day. ``offset_ns`` leads there from the steps' own, which
    are those of a file where ``media`` is true.
    """

    first_ns: int
    last_ns: int
    offset_ns: int
    media: bool
    steps: list[DecidedStep]


class Kept(NamedTuple):
    """What a memory has of a camera."""

    first_ns: int
    last_ns: int
    stretches: int
    steps: int
    bytes: int
    networks: frozenset[str]


class MemoryWriter:
    """Appends to one camera's memory, and deletes what is too old or too much.

    Ages are counted by a time that never jumps (:mod:`pipeline.public.log_time`). Raises OSError
    and sqlite3.Error where the disk doesn't take it; what was written before stays.
    """

    def __init__(self, folder: Path, camera: str, days: float, mb: float, clock: Clock) -> None:
        self.path = folder / f"{camera}{SUFFIX}"
        self._keep_ns = int(days * _DAY_S * 1e9)
        self._most = int(mb * _MEGABYTE)
        self._clock = clock
        self._open: tuple[sqlite3.Connection, RowAges] | None = None

    def append(self, steps: Sequence[DecidedStep], offset_ns: int, *, media: bool) -> int:
        """Append a stretch of steps; returns its bytes. ``media``: times are those of a file."""
        data = encoded(steps)
        first, last = (step.moment.time_ns(media) + offset_ns for step in (steps[0], steps[-1]))
        names = " ".join(sorted(networks(steps)))
        db, ages = self._database()
        row = (first, last, len(steps), offset_ns, media, names, ages.now_ns, len(data), data)
        db.execute("INSERT INTO stretches VALUES (NULL, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        return len(data)

    def delete_old(self) -> int:
        """Delete what is too old or too much; returns the bytes that are left. Keeps the time."""
        db, ages = self._database()
        ages.look()
        db.execute("DELETE FROM stretches WHERE made_ns < ?", (ages.now_ns - self._keep_ns,))
        total = self._bytes(db)
        while total > self._most:
            db.execute(
                "DELETE FROM stretches WHERE number IN "
                "(SELECT number FROM stretches ORDER BY number LIMIT 20)"
            )
            total = self._bytes(db)
        db.execute("PRAGMA incremental_vacuum").fetchall()
        return total

    def close(self) -> None:
        if self._open is not None:
            self._open[0].close()
            self._open = None

    @staticmethod
    def _bytes(db: sqlite3.Connection) -> int:
        total: int = db.execute("SELECT coalesce(sum(bytes), 0) FROM stretches").fetchone()[0]
        return total

    def _database(self) -> tuple[sqlite3.Connection, RowAges]:
        if self._open is not None and not self.path.exists():
            self.close()  # somebody has deleted it
        if self._open is None:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            db = sqlite3.connect(self.path, isolation_level=None, timeout=5.0)
            try:
                db.executescript(_OPEN + _SCHEMA)
                self._open = db, RowAges(db, "stretches", self._keep_ns, self._clock)
            except sqlite3.Error:
                db.close()
                raise
        return self._open


class MemoryReader:
    """Reads a memory, also while a program writes it. Raises :class:`FeatureMemoryError`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        if not folder.is_dir():
            raise FeatureMemoryError(f"{folder}: no such folder; a config names it: memory.folder")

    def cameras(self) -> list[str]:
        """The cameras that it knows."""
        return sorted(path.name.removesuffix(SUFFIX) for path in self._folder.glob(f"*{SUFFIX}"))

    def kept(self, camera: str) -> Kept | None:
        """What it has of a camera; None: nothing."""
        with self._read(camera) as db:
            row = db.execute(
                "SELECT min(first_ns), max(last_ns), count(*), coalesce(sum(steps), 0), "
                "coalesce(sum(bytes), 0) FROM stretches"
            ).fetchone()
            if row[0] is None:
                return None
            names = db.execute("SELECT DISTINCT networks FROM stretches").fetchall()
            first, last, stretches, steps, size = row
            known = frozenset(name for (text,) in names for name in text.split())
            return Kept(first, last, stretches, steps, size, known)

    def stretches(
        self, camera: str, since_ns: int = 0, until_ns: int = 1 << 62
    ) -> Iterator[Stretch]:
        """The stretches that have steps from ``since_ns`` to ``until_ns``, in order of time."""
        with self._read(camera) as db:
            rows = db.execute(
                "SELECT number, first_ns, last_ns, offset_ns, media, data FROM stretches "
                "WHERE last_ns >= ? AND first_ns <= ? ORDER BY first_ns, number",
                (since_ns, until_ns),
            )
            for number, first, last, offset, media, data in rows:
                try:
                    yield Stretch(first, last, offset, bool(media), decoded(data))
                except FeatureMemoryError as error:
                    where = f"{self._path(camera)}: stretch {number}"
                    raise FeatureMemoryError(f"{where}: {error}") from None

    def _path(self, camera: str) -> Path:
        return self._folder / f"{camera}{SUFFIX}"

    @contextlib.contextmanager
    def _read(self, camera: str) -> Iterator[sqlite3.Connection]:
        path = self._path(camera)
        if not path.exists():
            known = ", ".join(self.cameras()) or "none"
            raise FeatureMemoryError(f"{path}: no such file; the cameras there are: {known}")
        try:
            with contextlib.closing(sqlite3.connect(path, timeout=5.0)) as db:
                db.execute("PRAGMA query_only = ON")
                yield db
        except sqlite3.Error as error:
            raise FeatureMemoryError(f"{path}: {error}") from None
