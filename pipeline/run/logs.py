"""The program's log on standard error, as text or as one JSON object a line.

All times are UTC, as in events. A record stays one record: in text, its further lines are
indented; in JSON, they are inside a string. A stage's records name the stage.
"""

import atexit
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Mapping
from typing import Any, Literal

from pipeline.clock import isoformat
from pipeline.run.log_lines import LineHandler, log_uncaught
from pipeline.run.standard_streams import open_missing_streams, say
from pipeline.topology import StageSpec

LogForm = Literal["text", "json"]

LONGEST_BYTES = 4096
"""Of a JSON line. A pipe takes this much at once (PIPE_BUF), so that stages' lines don't mix."""

# Messages quote what cameras send. An escape sequence must not reach a terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_RECORD = b'{"time": '
_LONGEST_RAW = 1 << 16
_END_OF_PUMP = b"\x00end of log\x00\n"

log = logging.getLogger(__name__)


def start(level: int | str, form: LogForm, spec: StageSpec | None = None) -> None:
    """Log what this process says from ``level`` on; ``spec`` is the stage that it runs.

    Whatever reaches no ``except`` becomes a record, and so do the warnings of libraries. The
    program itself, which has no ``spec``, also turns into records what it and its stages write
    to standard error without the log.
    """
    open_missing_streams()
    if form == "json" and spec is None:
        _Pump().start()
    handler = LineHandler()
    handler.setFormatter(JsonForm(spec) if form == "json" else TextForm(spec))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    log_uncaught()


def fail(error: Exception, form: LogForm) -> None:
    """Say why the program ends; one line for each line of the error."""
    for line in str(error).splitlines():
        if form == "json":
            log.error("%s", line)
        else:
            say(f"error: {line}")


def form() -> LogForm:
    """The form that :func:`start` was given."""
    handlers = logging.getLogger().handlers
    return "json" if any(isinstance(h.formatter, JsonForm) for h in handlers) else "text"


class TextForm(logging.Formatter):
    """``2026-11-22T10:00:00.120Z INFO capture:door message``."""

    def __init__(self, spec: StageSpec | None = None) -> None:
        super().__init__()
        self._stage = f" {spec.name}" if spec is not None else ""

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage().rstrip()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        text = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text).replace("\n", "\n    ")
        return f"{_time(record)} {record.levelname}{self._stage} {text}"


class JsonForm(logging.Formatter):
    """``{"time": …, "level": …, "stage": …, "camera": …, "logger": …, "message": …}``.

    ``stage``, ``camera`` and ``worker`` are those of the metrics. ``camera`` is there where one is
    meant, and ``exception`` where there was one.
    """

    def __init__(self, spec: StageSpec | None = None) -> None:
        super().__init__()
        self._place = {"stage": "supervisor"} if spec is None else {"stage": spec.kind}
        if spec is not None and spec.kind == "flow":
            self._place["worker"] = spec.instance
        self._camera = spec.instance if spec is not None and spec.kind == "capture" else None

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, str] = {"time": _time(record), "level": record.levelname, **self._place}
        camera = self._camera or _camera_of(record)
        if camera is not None:
            fields["camera"] = camera
        fields |= {"logger": record.name, "message": record.getMessage().rstrip()}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return _line(fields)


def _camera_of(record: logging.LogRecord) -> str | None:
    """The camera that a record is about, whose message then begins with ``camera %s``."""
    if isinstance(record.msg, str) and record.msg.startswith("camera %s"):
        return str(record.args[0]) if isinstance(record.args, tuple) and record.args else None
    return None


def _line(fields: Mapping[str, str]) -> str:
    """JSON of at most :data:`LONGEST_BYTES`, in ASCII. What is cut loses its middle."""
    line = json.dumps(fields)
    room = LONGEST_BYTES
    while len(line) >= LONGEST_BYTES:
        room //= 2
        line = json.dumps({name: _cut(text, room) for name, text in fields.items()})
    return line


def _cut(text: str, room: int) -> str:
    half = room // 2
    return text if len(text) <= room else f"{text[:half]} … {text[-half:]}"


def _time(record: logging.LogRecord) -> str:
    return isoformat(int(record.created * 1e9))


class _Pump:
    """Stands between standard error and its reader, so that each line there is a JSON object.

    Libraries in C write to standard error themselves, and so does a process that is aborted. This
    process and its stages write into a pipe; a thread passes records on as they are, and makes a
    record of each other line.
    """

    def __init__(self) -> None:
        self._out = os.dup(sys.stderr.fileno())
        self._read, write = os.pipe()
        os.dup2(write, sys.stderr.fileno())
        os.close(write)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        atexit.register(self._close)

    def _run(self) -> None:
        with os.fdopen(self._read, "rb") as lines:
            while line := lines.readline(_LONGEST_RAW):
                over = line.endswith(_END_OF_PUMP)
                line = line.removesuffix(_END_OF_PUMP)
                # What was written without a line's end stands before the next record.
                begin = max(0, line.find(_RECORD))
                for part in (line[:begin], line[begin:]):
                    self._write(part if _is_record(part) else self._made_of(part))
                if over:
                    return

    @staticmethod
    def _made_of(line: bytes) -> bytes:
        """A record of what some process wrote; which one is not known."""
        text = line.decode(errors="replace").rstrip()
        if not text:
            return b""
        now = _time(logging.makeLogRecord({}))
        fields = {"time": now, "level": "WARNING", "logger": "stderr", "message": text}
        return _line(fields).encode() + b"\n"

    def _write(self, line: bytes) -> None:
        try:
            while line:
                line = line[os.write(self._out, line) :]
        except OSError:
            # Nobody reads the log. Go on reading: those who write it must not have to wait.
            return

    def _close(self) -> None:
        """Pass on what has been written, and give standard error back."""
        sys.stderr.flush()
        os.write(sys.stderr.fileno(), _END_OF_PUMP)
        self._thread.join(2)
        os.dup2(self._out, sys.stderr.fileno())


def _is_record(line: bytes) -> bool:
    if not line.startswith(_RECORD):
        return False
    try:
        found: Any = json.loads(line)
    except ValueError:
        return False
    return isinstance(found, dict)
