"""Reads an event log that another process writes."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from pipeline.public.records import Event, Evidence, event_from_json, evidence_from_json

_MOST = 500


class LogReader:
    """Events and evidence of a log, as they stand there now.

    Before the log exists, and while it can't be read, there is nothing in it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None

    def is_readable(self) -> bool:
        """Whether the log is there: SQLite can't read one that its writer has not opened."""
        return bool(self._rows("SELECT count(*) FROM events", ()))

    def events_since(self, seq: int) -> list[Event]:
        """The events after ``seq``, oldest first, at most some hundred."""
        rows = self._rows(
            "SELECT json FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (seq, _MOST)
        )
        return [event_from_json(row[0]) for row in rows]

    def events(self) -> Iterator[Event]:
        """All events, oldest first."""
        seq = 0
        while events := self.events_since(seq):
            yield from events
            seq = events[-1].seq

    def last_seq(self) -> int:
        """The newest ``seq``; 0 when there is none."""
        rows = self._rows("SELECT max(seq) FROM events", ())
        return int(rows[0][0] or 0) if rows else 0

    def evidence_from(self, seq: int) -> list[Evidence]:
        """The evidence of the events from ``seq`` on."""
        rows = self._rows("SELECT json FROM evidence WHERE seq >= ? ORDER BY number", (seq,))
        return [evidence_from_json(row[0]) for row in rows]

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _rows(self, words: str, values: tuple[int, ...]) -> list[tuple[bytes]]:
        try:
            if self._db is None:
                uri = f"{self._path.absolute().as_uri()}?mode=ro"
                self._db = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=1.0)
            return self._db.execute(words, values).fetchall()
        except sqlite3.Error:
            self.close()
            return []
