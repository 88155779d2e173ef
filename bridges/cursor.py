"""The cursor: up to where the receiver has everything. A small file that survives every crash.

It remembers the place in several logs, newest last: who runs another config for a day and then
returns gets nothing twice.
"""

import fcntl
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from bridges import durable
from bridges.records import Record
from pipeline.errors import TwoStreamError, os_reason
from pipeline.public.records import Event

FORMAT = "two-stream bridge cursor 1"
MOST_LOGS = 16
_MAX_BYTES = 100_000


class CursorError(TwoStreamError):
    """A cursor that can't be used; names the file and says what to do."""


class Position(NamedTuple):
    """All up to here has been sent: events up to ``seq``, evidence up to ``evidence``."""

    log: str
    seq: int
    evidence: int = 0

    def after(self, record: Record) -> "Position":
        """The position once ``record`` has been sent as well."""
        here = self if record.log == self.log else Position(record.log, 0)
        if isinstance(record, Event):
            return here._replace(seq=record.seq)
        return here._replace(evidence=record.number)


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    format: str
    bridge: str
    positions: list[Position]
    check: str

    def computed(self) -> str:
        """What ``check`` must be: a flipped bit must not move the cursor."""
        whole = [self.format, self.bridge, *map(list, self.positions)]
        return hashlib.sha256(msgspec.json.encode(whole)).hexdigest()[:16]


class Cursor:
    """The one owner of a cursor file. Raises :class:`CursorError` when there can't be one."""

    def __init__(self, path: Path, bridge: str) -> None:
        self.path = path
        self._bridge = bridge
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = path.with_name(f"{path.name}.lock").open("ab")
        except OSError as error:
            raise self._unusable(error) from None
        self._claim()
        try:
            self._positions = self._read()
        except BaseException:
            self._lock.close()
            raise

    @property
    def position(self) -> Position | None:
        """None: nothing is known yet; the bridge has never met a program."""
        return next(reversed(self._positions.values()), None)

    def known(self) -> dict[str, Position]:
        """The position in each log that is remembered."""
        return dict(self._positions)

    def move(self, position: Position) -> None:
        """Store the position durably; raises OSError, and then the old one stands."""
        positions = {name: p for name, p in self._positions.items() if name != position.log}
        positions[position.log] = position
        while len(positions) > MOST_LOGS:
            del positions[next(iter(positions))]
        content = _Content(FORMAT, self._bridge, list(positions.values()), "")
        content.check = content.computed()
        durable.write(self.path, msgspec.json.encode(content) + b"\n")
        self._positions = positions

    def close(self) -> None:
        self._lock.close()

    def _claim(self) -> None:
        """Be the only one: two processes of a bridge would send everything twice."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise CursorError(
                f"cursor {self.path}: another process runs the bridge {self._bridge}; stop it "
                "first, or give this one another name"
            ) from None

    def _read(self) -> dict[str, Position]:
        try:
            with self.path.open("rb") as file:
                data = file.read(_MAX_BYTES)
                writable = os.access(self.path.parent, os.W_OK)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise self._unusable(error) from None
        if not writable:
            raise CursorError(f"cursor {self.path}: its folder can't be written; {_ELSEWHERE}")
        try:
            content = msgspec.json.decode(data, type=_Content)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self._damaged("it isn't a bridge's cursor, or only a part of one") from None
        if content.format != FORMAT:
            raise self._damaged("another version of the program wrote it")
        if content.check != content.computed():
            raise self._damaged("its content doesn't fit its checksum")
        if content.bridge != self._bridge:
            raise self._damaged(f"it is the cursor of the bridge {content.bridge!r}")
        return {position.log: position for position in content.positions}

    def _damaged(self, what: str) -> CursorError:
        return CursorError(
            f"cursor {self.path}: {what}. Put a good copy there; or delete it, and the bridge "
            f"{self._bridge} begins anew: with what comes next, or with `from: oldest` at the "
            "oldest event in the log, and then sends again what it has sent"
        )

    def _unusable(self, error: OSError) -> CursorError:
        return CursorError(f"cursor {self.path}: {os_reason(error)}; {_ELSEWHERE}")


_ELSEWHERE = "let `cursor` name a file in a folder that can be written and is kept"
