"""The event log: SQLite in WAL mode. An event is here before it is on the wire.

``seq`` is given here, inside the transaction that stores the event, so it has no holes and is never
used twice, whoever is killed when.
"""

import contextlib
import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from pipeline.errors import EventLogError, os_reason
from pipeline.public import evidence_log
from pipeline.public.evidence_log import EvidenceLog, StoredEvidence
from pipeline.public.log_time import (
    UNSET_BEFORE_NS,
    LogTime,
    Look,
    Trust,
    later,
    look,
    says_something,
)
from pipeline.public.records import Event, event_from_json, to_json
from pipeline.transport.messages import EvidenceMade

_SCHEMA = """
CREATE TABLE IF NOT EXISTS events (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    camera TEXT NOT NULL,
    label TEXT NOT NULL,
    type TEXT NOT NULL,
    json BLOB NOT NULL,
    stored_ns INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX IF NOT EXISTS events_by_id ON events (id, seq);
CREATE TABLE IF NOT EXISTS open_events (
    id TEXT PRIMARY KEY,
    epoch TEXT NOT NULL,
    key TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS identity (
    hex TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS accepted (
    epoch TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS log_time (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    now_ns INTEGER NOT NULL,
    wall_ns INTEGER NOT NULL,
    ahead_ns INTEGER NOT NULL,
    steady_ns INTEGER NOT NULL,
    doubt_seq INTEGER NOT NULL
) STRICT;
PRAGMA user_version = 3;
"""
_VERSION = 3
# Version 1 has no stored_ns; the time of the migration takes its place.
_FROM_VERSION_1 = """
BEGIN IMMEDIATE;
ALTER TABLE events ADD COLUMN stored_ns INTEGER NOT NULL DEFAULT 0;
UPDATE events SET stored_ns = {now_ns};
PRAGMA user_version = 2;
COMMIT;
"""
# Version 2 stored wall times, which become log times: the newest event says what time it was. What
# an event can't have been stored at, it wasn't: then its clock was wrong.
_FROM_VERSION_2 = """
UPDATE events SET stored_ns = {now_ns} WHERE NOT stored_ns BETWEEN {set_ns} AND {now_ns};
"""
DELETE_AT_ONCE = 500
"""Most events that one call of :meth:`EventLog.delete_old` deletes: it must not hold up others."""
MAX_PATH = 507
"""Bytes of the path of a file that SQLite opens, with room for its journal's ending."""
_MAX_INTEGER = (1 << 63) - 1
_SAVE_NS = 600 * NS_PER_S
"""How often log time is stored without an event; each time takes a sync of the disk."""

log = logging.getLogger(__name__)


class Stored(NamedTuple):
    """An event and the very bytes that stand in the log."""

    event: Event
    json: bytes


class EventLog:
    """The one writer of a log file."""

    def __init__(self, path: Path, clock: Clock = SYSTEM_CLOCK) -> None:
        self.path = path
        _check_length(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = path.open("ab")
            self._claim()
            self._db = sqlite3.connect(path, isolation_level=None, timeout=5.0)
            # For a new file: space of deleted events is given back to the disk.
            self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
            self._db.execute("PRAGMA journal_mode = WAL")
            # In WAL mode FULL syncs each commit: what was published survives a power cut.
            self._db.execute("PRAGMA synchronous = FULL")
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version > _VERSION:
                raise EventLogError(f"event log {path}: written by a newer version ({version})")
            if version == 1:
                self._db.executescript(_FROM_VERSION_1.format(now_ns=clock.wall_ns()))
            self._db.executescript(_SCHEMA + evidence_log.SCHEMA)
            self.identity = self._identify()
            self._evidence = EvidenceLog(self._db, self.identity)
            self._time = _TimeKeeper(self._db, clock, path)
        except OSError as error:
            raise EventLogError(f"event log {path}: {os_reason(error)}") from None
        except sqlite3.Error as error:
            raise EventLogError(f"event log {path}: {error}") from None

    def _claim(self) -> None:
        """Be the only writer: two runs in one log would number each other's events."""
        # SQLite's own locks are of another kind (fcntl) and come and go; this one stays, and goes
        # with the process however it ends.
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise EventLogError(f"event log {self.path}: another run is writing it") from None

    def _identify(self) -> str:
        """The log's random identity, made with it: ``seq`` counts within one log."""
        with _Transaction(self._db):
            row = self._db.execute("SELECT hex FROM identity").fetchone()
            if row is None:
                row = (os.urandom(8).hex(),)
                self._db.execute("INSERT INTO identity VALUES (?)", row)
        return str(row[0])

    def last_seq(self) -> int:
        """The newest ``seq``; 0 when the log is empty."""
        with self._named_errors():
            row = self._db.execute("SELECT max(seq) FROM events").fetchone()
        return int(row[0] or 0)

    def accepted(self, epoch: str) -> int:
        """Number of the last transition of ``epoch`` that is in the log."""
        words = "SELECT number FROM accepted WHERE epoch = ?"
        with self._named_errors():
            row = self._db.execute(words, (epoch,)).fetchone()
        return int(row[0]) if row else 0

    def append(
        self, epoch: str, number: int, key: str, make: Callable[[int, str | None], Event]
    ) -> Stored:
        """Store the event that ``make(seq, id)`` builds, and that ``number`` was accepted.

        ``id`` is that of the open event of the same ``key``, None when this one opens it. One
        transaction; raises :class:`EventLogError`, and then nothing was stored.
        """
        with self._named_errors(), _Transaction(self._db):
            row = self._db.execute(
                "SELECT id FROM open_events WHERE epoch = ? AND key = ?", (epoch, key)
            ).fetchone()
            event = make(self.last_seq() + 1, row[0] if row else None)
            stored = self._store(event)
            if event.type == "end":
                self._db.execute("DELETE FROM open_events WHERE id = ?", (event.id,))
            elif row is None:
                self._db.execute("INSERT INTO open_events VALUES (?, ?, ?)", (event.id, epoch, key))
            self._accept(epoch, number)
        return stored

    def begin_epoch(
        self, epoch: str, make_end: Callable[[int, Event], Event], number: int = 0
    ) -> list[Stored]:
        """A new fusion process has started: end what its predecessors left open.

        ``make_end(seq, last)`` builds the end of the event whose last record is ``last``.
        """
        ended = []
        with self._named_errors(), _Transaction(self._db):
            rows = self._db.execute(
                "SELECT id FROM open_events WHERE epoch <> ?", (epoch,)
            ).fetchall()
            for (event_id,) in rows:
                ended.append(self._store(make_end(self.last_seq() + 1, self.last_of(event_id))))
            self._db.execute("DELETE FROM open_events WHERE epoch <> ?", (epoch,))
            self._db.execute("DELETE FROM accepted WHERE epoch <> ?", (epoch,))
            self._accept(epoch, number)
        return ended

    def delete_old(self, keep_s: float | None, keep_bytes: int | None) -> int:
        """Delete the oldest events: those stored longer ago, and those over the size.

        Ages are counted in log time (:mod:`pipeline.public.log_time`), so call this every few
        seconds, also where all events are kept. Deletes at most :data:`DELETE_AT_ONCE` and returns
        how many; call again when it returns that many. The newest event stays, because the numbers
        go on from it, and so do all events of an action that goes on.
        """
        conditions = []
        self._time.look(keep_s)
        if keep_s is not None:
            conditions.append(f"stored_ns < {self._time.now_ns() - int(keep_s * NS_PER_S)}")
        with self._named_errors():
            if keep_bytes is not None and self.size() > keep_bytes:
                conditions.append("true")
            if not conditions:
                return 0
            with _Transaction(self._db):
                count = self._db.execute(
                    "DELETE FROM events WHERE seq IN (SELECT seq FROM events "
                    f"WHERE ({' OR '.join(conditions)}) AND seq < (SELECT max(seq) FROM events) "
                    "AND id NOT IN (SELECT id FROM open_events) ORDER BY seq LIMIT ?)",
                    (DELETE_AT_ONCE,),
                ).rowcount
                if count:
                    self._evidence.delete_orphans()
            if count:
                # One page with every step of the statement; execute() takes one step only.
                self._db.executescript(f"PRAGMA incremental_vacuum({DELETE_AT_ONCE});")
        return count

    def size(self) -> int:
        """Bytes that the log's content takes in its file."""
        pages, free, size = (
            self._db.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def since(self, seq: int, limit: int) -> Iterator[tuple[int, bytes]]:
        """(seq, JSON) of the events after ``seq``, oldest first, at most ``limit``."""
        # SQLite's integers end here; a client may ask for anything.
        seq = max(0, min(seq, _MAX_INTEGER))
        with self._named_errors():
            yield from self._db.execute(
                "SELECT seq, json FROM events WHERE seq > ? ORDER BY seq LIMIT ?", (seq, limit)
            )

    def last_evidence(self) -> int:
        """The newest number of evidence; 0 when there is none."""
        with self._named_errors():
            return self._evidence.last_number()

    def append_evidence(self, made: EvidenceMade) -> StoredEvidence | None:
        """Store evidence; None when it is there already. Raises :class:`EventLogError`."""
        with self._named_errors(), _Transaction(self._db):
            return self._evidence.append(made)

    def evidence_since(self, number: int, limit: int) -> Iterator[tuple[int, bytes]]:
        """(number, JSON) of the evidence after ``number``, oldest first, at most ``limit``."""
        with self._named_errors():
            yield from self._evidence.since(max(0, min(number, _MAX_INTEGER)), limit)

    def open_events(self) -> list[bytes]:
        """The last record of each event that has started and not ended, as JSON."""
        with self._named_errors():
            rows = self._db.execute(
                "SELECT json FROM events WHERE seq IN "
                "(SELECT max(e.seq) FROM events e JOIN open_events o ON e.id = o.id GROUP BY e.id) "
                "ORDER BY seq"
            ).fetchall()
        return [bytes(row[0]) for row in rows]

    def close(self) -> None:
        # Only to be exact: the next run takes the time since the last save for time between runs.
        with suppress(sqlite3.Error):
            self._time.save()
        self._db.close()
        # Only now: closing any of a process's files of a path drops SQLite's locks on it.
        self._lock.close()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """SQLite's errors as :class:`EventLogError`, which names the file."""
        try:
            yield
        except sqlite3.Error as error:
            raise EventLogError(f"event log {self.path}: {error}") from None

    def _store(self, event: Event) -> Stored:
        stored = Stored(event, to_json(event))
        self._db.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                event.seq,
                event.id,
                event.camera,
                event.label,
                event.type,
                stored.json,
                self._time.now_ns(),
            ),
        )
        self._time.save()
        return stored

    def last_of(self, event_id: str) -> Event:
        """The last record of an event that has started and not ended."""
        row = self._db.execute(
            "SELECT json FROM events WHERE id = ? ORDER BY seq DESC LIMIT 1", (event_id,)
        ).fetchone()
        return event_from_json(row[0])

    def _accept(self, epoch: str, number: int) -> None:
        self._db.execute(
            "INSERT INTO accepted VALUES (?, ?) "
            "ON CONFLICT (epoch) DO UPDATE SET number = max(number, excluded.number)",
            (epoch, number),
        )


class _TimeKeeper:
    """Log time on the system's clocks, and its row in the log."""

    def __init__(self, db: sqlite3.Connection, clock: Clock, path: Path) -> None:
        self._db, self._clock, self._path = db, clock, path
        self._last_seq = int(db.execute("SELECT max(seq) FROM events").fetchone()[0] or 0)
        self._at_ns = self._saved_ns = clock.monotonic_ns()
        self._believed_ns = 0
        row = db.execute(
            "SELECT now_ns, wall_ns, ahead_ns, steady_ns, doubt_seq FROM log_time"
        ).fetchone()
        self._time = LogTime(*row) if row else self._first()

    def _first(self) -> LogTime:
        """The time of a log that has none yet: a new one, or one of an earlier version."""
        wall_ns = self._clock.wall_ns()
        newest = self._db.execute(
            "SELECT stored_ns FROM events WHERE seq = ?", (self._last_seq,)
        ).fetchone()
        said = [wall_ns, *(newest or ())]
        now_ns = min(filter(says_something, said), default=UNSET_BEFORE_NS)
        time = LogTime(now_ns, now_ns if any(map(says_something, said)) else 0)
        with _Transaction(self._db):
            if newest is not None:
                self._db.execute(_FROM_VERSION_2.format(now_ns=now_ns, set_ns=UNSET_BEFORE_NS))
            self._write(time)
        return time

    def now_ns(self) -> int:
        return self._now().now_ns

    def _elapsed_ns(self) -> int:
        return self._clock.monotonic_ns() - self._at_ns

    def _now(self) -> LogTime:
        return later(self._time, self._elapsed_ns())

    def save(self) -> None:
        """Store log time, in the transaction that is open if there is one."""
        self._write(self._now())
        self._saved_ns = self._clock.monotonic_ns()

    def _write(self, time: LogTime) -> None:
        self._db.execute("REPLACE INTO log_time VALUES (1, ?, ?, ?, ?, ?)", time)

    def look(self, keep_s: float | None) -> None:
        """Look whether more time has passed than the monotonic clock knows: between two runs."""
        trust = Trust.of(keep_s)
        left = trust._replace(at_once_ns=trust.at_once_ns - self._believed_ns)
        now_ns, before = self._clock.monotonic_ns(), self._time
        found = look(before, now_ns - self._at_ns, self._clock.wall_ns(), left, self._last_seq)
        turned = bool(found.time.ahead_ns) != bool(before.ahead_ns)
        if turned or found.older_ns or now_ns - self._saved_ns >= _SAVE_NS:
            try:
                self._store(found)
            except sqlite3.Error:
                # On a full disk. Nothing is believed then; the next event will tell.
                return
            self._saved_ns = now_ns
        if found.older_ns and found.older_ns <= left.at_once_ns:
            self._believed_ns += found.older_ns
        self._time, self._at_ns = found.time, now_ns
        if turned and keep_s is not None:
            self._report(found, trust)

    def _store(self, found: Look) -> None:
        with _Transaction(self._db):
            if found.older_ns:
                # Log time has moved on; the events after these keep their age.
                self._db.execute(
                    "UPDATE events SET stored_ns = stored_ns + ? WHERE seq > ?",
                    (found.older_ns, found.up_to_seq),
                )
            self._write(found.time)

    def _report(self, found: Look, trust: Trust) -> None:
        if found.time.ahead_ns:
            log.warning(
                "event log %s: the clock is %s ahead of what the log knows; events.keep_days "
                "deletes nothing for that before the clock has kept to it for %s",
                self._path, _span(found.time.ahead_ns), _span(trust.patience_ns),
            )  # fmt: skip
        elif found.older_ns:
            log.warning(
                "event log %s: the clock has kept to it; events are %s older",
                self._path, _span(found.older_ns),
            )  # fmt: skip
        else:
            log.warning("event log %s: the clock went back; no event was deleted", self._path)


def _span(ns: int) -> str:
    hours = ns / (3600 * NS_PER_S)
    return f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.1f} hours"


def log_path(run_folder: Path, configured: Path | None) -> Path:
    """The event log's file: the configured one, else one in the run's folder."""
    return configured or run_folder / "events.sqlite"


def _check_length(path: Path) -> None:
    length = len(os.fsencode(os.path.abspath(path)))
    if length > MAX_PATH:
        raise EventLogError(
            f"event log {path}: its path has {length} bytes; SQLite opens at most {MAX_PATH}"
        )


def read_since(path: Path, seq: int, limit: int = -1) -> list[bytes]:
    """JSON of the events after ``seq``, from a log whose writer may be gone; -1: of all of them.

    Empty when the file does not exist, or its writer has not made the tables yet.
    Raises :class:`EventLogError` for a file that is no event log.
    """
    words = "SELECT json FROM events WHERE seq > ? ORDER BY seq LIMIT ?"
    return [bytes(row[0]) for row in _read(path, words, (seq, limit))]


def newest_seq(path: Path) -> int:
    """The newest ``seq`` of such a log; 0 when there is none. Raises :class:`EventLogError`."""
    return int(next(iter(_read(path, "SELECT max(seq) FROM events", ())), (0,))[0] or 0)


def _read(path: Path, words: str, values: tuple[int, ...]) -> list[tuple[Any, ...]]:
    if not path.is_file():
        return []
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=5.0)) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'events'").fetchone():
                return []
            return db.execute(words, values).fetchall()
    except sqlite3.Error as error:
        raise EventLogError(f"event log {path}: {error}") from None


class _Transaction:
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK on any error."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._db.execute("COMMIT")
        finally:
            # A full disk can fail the commit and leave the transaction open, or end it unasked.
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
