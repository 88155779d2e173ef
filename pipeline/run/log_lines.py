"""Log lines: written without waiting for the reader, and summed up where they would be a flood."""

import logging
import sys
import threading
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from pipeline.errors import in_one_line
from pipeline.run.standard_streams import STDERR, Outlet, encoding_of

PERIOD_S = 60.0
AS_THEY_ARE = 5
"""Lines of one kind that a period may have before the others are summed up."""
MAX_KINDS = 2000

EACH = {"each": True}
"""``log.info(…, extra=EACH)``: never summed up, because something else limits the number."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Kind:
    since_ns: int
    count: int
    quiet: bool = False
    """The period before had too many: this one shows nothing but its sum."""
    last: logging.LogRecord | None = None
    """The newest line that wasn't shown."""
    hidden: int = 0


class LogRates:
    """Lets :data:`AS_THEY_ARE` lines of a kind through in each period, and sums up the others.

    Lines are of one kind when the same statement logs them about the same thing: its text before
    formatting, and its first argument if that is a string, mostly a camera's name.
    """

    def __init__(self) -> None:
        self._kinds: dict[tuple[str, str, str], _Kind] = {}
        self._due_ns = 0

    def admits(self, record: logging.LogRecord, now_ns: int) -> bool:
        """Whether the line is shown now."""
        if record.levelno <= logging.DEBUG or getattr(record, "each", False):
            return True
        first = record.args[0] if isinstance(record.args, tuple) and record.args else ""
        key = (record.name, str(record.msg), first if isinstance(first, str) else "")
        kind = self._kinds.get(key)
        if kind is None:
            if len(self._kinds) >= MAX_KINDS:
                return True
            kind = self._kinds[key] = _Kind(now_ns, 0)
            self._due_ns = min(self._due_ns or now_ns, now_ns + int(PERIOD_S * NS_PER_S))
        kind.count += 1
        if not kind.quiet and kind.count <= AS_THEY_ARE:
            return True
        kind.last = record
        kind.hidden += 1
        return False

    def sums(self, now_ns: int, *, all_of_them: bool = False) -> Iterator[logging.LogRecord]:
        """A line for each kind whose period is over and had more lines than were shown."""
        if now_ns < self._due_ns and not all_of_them:
            return
        period_ns = int(PERIOD_S * NS_PER_S)
        for key, kind in list(self._kinds.items()):
            if now_ns - kind.since_ns < period_ns and not all_of_them:
                continue
            if kind.last is None:
                del self._kinds[key]  # quiet again; the next one is shown
                continue
            yield _sum(kind, now_ns)
            self._kinds[key] = _Kind(now_ns, 0, quiet=True)
        self._due_ns = min((k.since_ns + period_ns for k in self._kinds.values()), default=0)


def _sum(kind: _Kind, now_ns: int) -> logging.LogRecord:
    record = kind.last
    assert record is not None
    seconds = max(1, round((now_ns - kind.since_ns) / NS_PER_S))
    text = f"{record.getMessage()} … {kind.hidden} times in {seconds} s"
    if kind.hidden == 1:
        text = record.getMessage()
    fields = {**record.__dict__, "msg": text, "args": None}
    return logging.makeLogRecord(fields)


class LineHandler(logging.Handler):
    """Writes log lines to standard error; what nobody reads or can be stored is left out.

    A program that waited for its log to be read would stand still with it.
    """

    def __init__(self, clock: Clock = SYSTEM_CLOCK, number: int = STDERR) -> None:
        super().__init__()
        self._clock = clock
        self._outlet = Outlet(number)
        self._encoding = encoding_of(STDERR)
        self._rates = LogRates()
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Show the line, or count it."""
        self.turn()
        if self._rates.admits(record, self._clock.monotonic_ns()):
            self._write(record)

    def turn(self) -> None:
        """Write the sums that are due."""
        with self._acquired():
            for record in self._rates.sums(self._clock.monotonic_ns()):
                self._write(record)

    def close(self) -> None:
        with self._acquired():
            for record in self._rates.sums(self._clock.monotonic_ns(), all_of_them=True):
                self._write(record)
        super().close()

    def _acquired(self) -> Any:
        return self.lock if self.lock is not None else threading.Lock()

    def _write(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except (TypeError, ValueError, KeyError) as error:  # arguments that don't fit the text
            line = f"{record.levelname} {record.msg!r} can't be formatted: {error}"
        if self._lost:
            line = f"{line} ({self._lost} lines before this one were lost: nobody read them)"
        try:
            taken = self._outlet.write(f"{line}\n".encode(self._encoding, "backslashreplace"))
        except OSError:
            taken = False
        self._lost = 0 if taken else self._lost + 1


def turn_log() -> None:
    """Have the sums of log lines written that are due; call it now and then."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LineHandler):
            handler.turn()


def log_uncaught() -> None:
    """Have an exception that nothing catches logged as one line, in threads too.

    Its traceback is logged at level DEBUG.
    """

    def uncaught(
        _kind: type[BaseException], error: BaseException, _trace: TracebackType | None
    ) -> None:
        log_crash(log, "stopped by an unexpected error", error)

    def in_thread(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is not None:
            name = arguments.thread.name if arguments.thread is not None else "?"
            log_crash(log, f"thread {name} ended by an unexpected error", arguments.exc_value)

    def unraisable(arguments: Any) -> None:
        if arguments.exc_value is not None:
            log_crash(log, "an error where none can be passed on", arguments.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = uncaught, in_thread, unraisable


def log_crash(to: logging.Logger, what: str, error: BaseException) -> None:
    """Log an unexpected exception: one line with where it came from, the traceback at DEBUG."""
    to.error("%s: %s", what, in_one_line(error))
    to.debug("%s", "".join(traceback.format_exception(error)))
