"""Dead letters: the records that a receiver will never take, kept for people to look at."""

import os
from pathlib import Path

import msgspec

from bridges import durable
from bridges.records import Record, key_of, kind_of
from pipeline.clock import Clock, isoformat


class DeadLetters:
    """A file of JSON lines, made with the first of them; nobody else may read it."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self._clock = clock

    def add(self, record: Record, reason: str) -> None:
        """Store a record durably; raises OSError."""
        line = msgspec.json.encode(
            {
                "time": isoformat(self._clock.wall_ns()),
                "key": key_of(record),
                "kind": kind_of(record),
                "reason": reason,
                "record": record,
            }
        )
        is_new = not self.path.exists()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        handle = os.open(self.path, flags, 0o600)
        try:
            end = os.lseek(handle, 0, os.SEEK_END)
            # After a crash the last line may be a part of one; the record comes again.
            torn = end > 0 and os.pread(handle, 1, end - 1) != b"\n"
            durable.write_all(handle, (b"\n" if torn else b"") + line + b"\n")
            os.fsync(handle)
        finally:
            os.close(handle)
        if is_new:
            durable.sync_folder(self.path.parent)
