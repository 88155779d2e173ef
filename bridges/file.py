"""`file`: each record a line of JSON, in a file that is durable before the cursor moves."""

import fcntl
import hashlib
import os
import re
import stat
from pathlib import Path

from bridges import durable
from bridges.file_settings import FileSettings
from bridges.receiver import Away, Place
from bridges.records import Record, State, json_of
from pipeline.clock import NS_PER_S
from pipeline.errors import ConfigError, os_reason

_TAIL_BYTES = 512 * 1024
"""So much of the end is read at the start: more than can be written between two cursors."""
_DAY_S = 86_400
_ASIDE = "moved or deleted while it was written"


class FileReceiver:
    """Writes JSON lines. What stands in the file already is not written a second time."""

    def __init__(self, settings: FileSettings, place: Place) -> None:
        self._path = settings.path
        self._most_bytes = int(settings.rotate_mb * 1e6) if settings.rotate_mb else None
        self._daily, self._keep = settings.rotate_daily, settings.keep_files
        self._clock = place.clock
        self._file: _LineFile | None = None
        self._cut: tuple[int, int] | None = None
        """(inode, size) of a file whose end can't be trusted; it is cut before it is used."""
        if self._path.exists() and not self._path.is_file():
            raise ConfigError(f"path: {self._path} isn't a file; name one, such as events.jsonl")
        if not self._path.parent.is_dir():
            place.warn(f"{self._path.parent} isn't there; the bridge waits until it is")

    def send(self, record: Record) -> None:
        line = json_of(record) + b"\n"
        try:
            file = self._file or self._opened()
            if file.has(line):
                return
            if self._is_full(file, len(line)):
                file = self._rotated(file)
            file.write(line)
        except OSError as error:
            self._drop()
            raise Away(f"{self._path}: {os_reason(error)}") from None

    def settle(self) -> None:
        try:
            if self._file is not None and not self._file.sync(self._path):
                raise OSError(0, _ASIDE)
        except OSError as error:
            self._drop()
            raise Away(f"{self._path}: {os_reason(error)}") from None

    def state(self, state: State) -> None:
        pass

    def idle(self) -> None:
        pass

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self) -> "_LineFile":
        is_new = not self._path.exists()
        file = _LineFile(self._path, self._cut)
        self._cut = None
        if not file.is_ours():
            file.close()
            raise OSError(0, "it holds something else than JSON lines; name another file")
        if file.size < _TAIL_BYTES and (full := self._full_files()):
            file.remember(full[-1][1])
        if is_new:
            durable.sync_folder(self._path.parent)
        self._file = file
        return file

    def _drop(self) -> None:
        """Close the file after a failure. What wasn't durable is cut off and written again."""
        if self._file is not None:
            self._cut = self._file.trusted()
            self._file.close()
            self._file = None

    def _is_full(self, file: "_LineFile", more: int) -> bool:
        if not file.size:
            return False
        if self._most_bytes is not None and file.size + more > self._most_bytes:
            return True
        today = self._clock.wall_ns() // NS_PER_S // _DAY_S
        return self._daily and today > file.day

    def _rotated(self, file: "_LineFile") -> "_LineFile":
        """Put the file aside, under the next number, and begin a new one."""
        if not file.sync(self._path):
            raise OSError(0, _ASIDE)
        full = self._full_files()
        number = full[-1][0] + 1 if full else 1
        os.rename(self._path, self._path.with_name(self._numbered(number)))
        file.close()
        self._file = None
        new = self._opened()
        for _, path in self._full_files()[: -self._keep] if self._keep else []:
            path.unlink(missing_ok=True)
        return new

    def _numbered(self, number: int) -> str:
        return f"{self._path.stem}.{number:06d}{self._path.suffix}"

    def _full_files(self) -> list[tuple[int, Path]]:
        """The files that were put aside, the oldest first."""
        stem, suffix = re.escape(self._path.stem), re.escape(self._path.suffix)
        pattern = re.compile(rf"{stem}\.([0-9]{{6,}}){suffix}")
        found = [
            (int(match[1]), path)
            for path in self._path.parent.iterdir()
            if (match := pattern.fullmatch(path.name))
        ]
        return sorted(found)


class _LineFile:
    """An open file of lines, of which this process is the one writer. Raises OSError."""

    def __init__(self, path: Path, cut: tuple[int, int] | None) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
        self._handle = os.open(path, flags, 0o640)
        try:
            self._claim()
            status = os.fstat(self._handle)
            if cut is not None and cut[0] == status.st_ino and cut[1] < status.st_size:
                os.ftruncate(self._handle, cut[1])
            self._inode = status.st_ino
            self.size = os.fstat(self._handle).st_size
            self._seen: set[bytes] = set()
            self._begin = os.pread(self._handle, 1, 0)
            self._repair()
            self._durable = self.size
            self.day = int(status.st_mtime) // _DAY_S
            # What an earlier process wrote may not be durable yet, and counts from now on.
            os.fsync(self._handle)
        except OSError:
            os.close(self._handle)
            raise

    def _claim(self) -> None:
        if not stat.S_ISREG(os.fstat(self._handle).st_mode):
            raise OSError(0, "it isn't a regular file")
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError(0, "another process writes it") from None

    def is_ours(self) -> bool:
        return self._begin in (b"", b"{")

    def _repair(self) -> None:
        """Cut off a line that a crash tore; its record comes again."""
        if not self.is_ours():
            return
        start = max(0, self.size - _TAIL_BYTES)
        tail = os.pread(self._handle, self.size - start, start)
        whole = tail.rfind(b"\n") + 1
        if whole < len(tail) and (whole or not start):
            self.size = start + whole
            os.ftruncate(self._handle, self.size)
        self._note(tail[:whole])

    def _note(self, lines: bytes) -> None:
        self._seen.update(map(_hash, lines.splitlines(keepends=True)))

    def remember(self, path: Path) -> None:
        """Take in the end of the file before this one."""
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            self._note(file.read(_TAIL_BYTES))

    def has(self, line: bytes) -> bool:
        """Whether the line stands at the file's end already, as it was when it was opened."""
        return bool(self._seen) and _hash(line) in self._seen

    def write(self, line: bytes) -> None:
        before = self.size
        if not before:
            self.day = -1
        durable.write_all(self._handle, line)
        self.size += len(line)
        if self.day < 0:
            self.day = int(os.fstat(self._handle).st_mtime) // _DAY_S

    def sync(self, path: Path) -> bool:
        """Make it durable; False: the path doesn't lead to this file any more."""
        if self.size != self._durable:
            os.fsync(self._handle)
            self._durable = self.size
        try:
            return os.stat(path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def trusted(self) -> tuple[int, int]:
        """(inode, size up to which everything is durable)."""
        return self._inode, self._durable

    def close(self) -> None:
        os.close(self._handle)


def _hash(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=12).digest()
