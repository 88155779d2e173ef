"""The file of reviews, beside the event log. Nothing in it is ever changed: reviews are added."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import msgspec

from pipeline.errors import ReviewError
from pipeline.reviews.records import Review

_SCHEMA = """
CREATE TABLE IF NOT EXISTS reviews (number INTEGER PRIMARY KEY, json BLOB NOT NULL) STRICT
"""


def path_beside(log: Path) -> Path:
    """Where the reviews of a log are: ``events.sqlite`` has ``events.reviews``."""
    return log.with_suffix(".reviews")


class ReviewStore:
    """Reads and appends reviews. Raises :class:`ReviewError`, which names the file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, reviews: Iterable[Review]) -> int:
        """Append reviews, all of them or none; returns how many."""
        rows = [(msgspec.json.encode(review),) for review in reviews]
        try:
            with closing(self._open()) as db, db:
                db.execute("PRAGMA synchronous = FULL")
                db.executemany("INSERT INTO reviews (json) VALUES (?)", rows)
        except sqlite3.Error as error:
            raise ReviewError(f"{self.path}: {error}") from None
        return len(rows)

    def all(self) -> list[Review]:
        """Every review, in the order in which they were made."""
        if not self.path.exists():
            return []
        try:
            with closing(self._open()) as db:
                rows = db.execute("SELECT json FROM reviews ORDER BY number").fetchall()
            return [msgspec.json.decode(row, type=Review) for (row,) in rows]
        except (sqlite3.Error, msgspec.DecodeError) as error:
            raise ReviewError(f"{self.path}: {error}") from None

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=5.0)
        try:
            db.execute(_SCHEMA)
        except sqlite3.Error:
            db.close()
            raise
        return db
