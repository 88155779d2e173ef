"""The ages of a table's rows, by a time that never jumps (:mod:`pipeline.public.log_time`)."""

import sqlite3

from pipeline.clock import NS_PER_S, Clock
from pipeline.public.log_time import UNSET_BEFORE_NS, LogTime, Trust, later, look, says_something

_SCHEMA = """
CREATE TABLE IF NOT EXISTS time (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    now_ns INTEGER NOT NULL,
    wall_ns INTEGER NOT NULL,
    ahead_ns INTEGER NOT NULL,
    steady_ns INTEGER NOT NULL,
    doubt_row INTEGER NOT NULL
) STRICT
"""


class RowAges:
    """Keeps the time of one database, and corrects the column ``made_ns`` of one table of it.

    ``table`` is a name in the program's own source. Rows are kept for ``keep_ns``; None: for ever.
    """

    def __init__(
        self, db: sqlite3.Connection, table: str, keep_ns: int | None, clock: Clock
    ) -> None:
        """Go on with the database's time, or begin with what the clock says."""
        self._db, self._table, self._clock = db, table, clock
        self._trust = Trust.of(None if keep_ns is None else keep_ns / NS_PER_S)
        self._believed_ns = 0
        db.execute(_SCHEMA)
        wall_ns = clock.wall_ns()
        first = LogTime(wall_ns, wall_ns) if says_something(wall_ns) else LogTime(UNSET_BEFORE_NS)
        row = db.execute("SELECT now_ns, wall_ns, ahead_ns, steady_ns, doubt_row FROM time")
        self._time = LogTime(*(row.fetchone() or first))
        self._at_ns = clock.monotonic_ns()
        last = f"SELECT coalesce(max(rowid), 0) FROM {table}"
        self._last_row: int = db.execute(last).fetchone()[0]
        self._save()

    @property
    def now_ns(self) -> int:
        """What ``made_ns`` of a new row is."""
        return later(self._time, self._clock.monotonic_ns() - self._at_ns).now_ns

    def look(self) -> None:
        """Look whether more time has passed than the monotonic clock knows: between two runs.

        Call it every minute or so.
        """
        left = self._trust._replace(at_once_ns=self._trust.at_once_ns - self._believed_ns)
        now_ns = self._clock.monotonic_ns()
        elapsed_ns, wall_ns = now_ns - self._at_ns, self._clock.wall_ns()
        found = look(self._time, elapsed_ns, wall_ns, left, self._last_row)
        if found.older_ns:
            self._db.execute(
                f"UPDATE {self._table} SET made_ns = made_ns + ? WHERE rowid > ?",
                (found.older_ns, found.up_to_seq),
            )
            if found.older_ns <= left.at_once_ns:
                self._believed_ns += found.older_ns
        self._time, self._at_ns = found.time, now_ns
        self._save()

    def _save(self) -> None:
        self._db.execute("REPLACE INTO time VALUES (1, ?, ?, ?, ?, ?)", self._time)
