"""The evidence in the event log: a table of its own, with numbers of its own.

Events keep their ``seq`` without holes for clients that know nothing of evidence.
"""

import sqlite3
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from pipeline.public.records import Evidence, to_json
from pipeline.transport.messages import EvidenceMade

# An older program opens a log with this table and leaves it alone.
SCHEMA = """
CREATE TABLE IF NOT EXISTS evidence (
    number INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    seq INTEGER NOT NULL,
    json BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS evidence_by_seq ON evidence (seq);
"""


class StoredEvidence(NamedTuple):
    """Evidence and the very bytes that stand in the log."""

    evidence: Evidence
    json: bytes


class EvidenceLog:
    """Reads and writes the evidence of an open log. Errors are SQLite's own."""

    def __init__(self, db: sqlite3.Connection, log: str) -> None:
        self._db, self._log = db, log

    def last_number(self) -> int:
        """The newest number; 0 when there is no evidence."""
        row = self._db.execute("SELECT max(number) FROM evidence").fetchone()
        return int(row[0] or 0)

    def append(self, made: EvidenceMade) -> StoredEvidence | None:
        """Store it under the next number; None when it is there already."""
        known = self._db.execute("SELECT 1 FROM evidence WHERE key = ?", (made.key,)).fetchone()
        if known is not None:
            return None
        fields = msgspec.structs.asdict(made)
        evidence = Evidence(number=self.last_number() + 1, log=self._log, **fields)
        stored = StoredEvidence(evidence, to_json(evidence))
        row = (evidence.number, made.key, evidence.seq, stored.json)
        self._db.execute("INSERT INTO evidence VALUES (?, ?, ?, ?)", row)
        return stored

    def since(self, number: int, limit: int) -> Iterator[tuple[int, bytes]]:
        """(number, JSON) of the evidence after ``number``, oldest first, at most ``limit``."""
        yield from self._db.execute(
            "SELECT number, json FROM evidence WHERE number > ? ORDER BY number LIMIT ?",
            (number, limit),
        )

    def delete_orphans(self) -> None:
        """Delete the evidence of events that were deleted; the newest stays for its number."""
        self._db.execute(
            "DELETE FROM evidence WHERE seq < (SELECT min(seq) FROM events) "
            "AND number < (SELECT max(number) FROM evidence)"
        )
