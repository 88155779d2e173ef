"""One event per line on standard output: JSON, or text for people."""

import contextlib
import json
import logging
from collections.abc import Callable

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from pipeline.errors import EventLogError
from pipeline.public.event_line import event_line
from pipeline.public.event_log import newest_seq, read_since
from pipeline.public.records import ACTION, event_from_json
from pipeline.run.outputs.base import RunView
from pipeline.run.standard_streams import STDOUT, Outlet, encoding_of
from pipeline.transport.bus import Bus
from pipeline.transport.messages import BadMessage

log = logging.getLogger(__name__)


STUCK_S = 2.0
"""At the end: how long a live run waits for a reader that takes nothing."""
STOPPED_S = 0.5
"""The same once a signal has stopped the program."""
AT_ONCE = 1000
"""Events that are read from the log at a time."""


def as_json(body: bytes) -> str:
    return body.decode()


def as_text(body: bytes) -> str:
    return event_line(event_from_json(body)).plain


class EventLines:
    """Every event of this run, in order, none missing.

    The PUB socket brings the events. What it has dropped is read from the log, and so is what
    waits because nobody reads standard output. Once that can't be written at all, OSError is
    raised, and this output is over.
    """

    def __init__(
        self,
        bus: Bus,
        view: RunView,
        form: Callable[[bytes], str],
        outlet: Outlet | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._form = form
        self._clock = clock
        self._view = view
        self._outlet = outlet or Outlet(STDOUT)
        self._encoding = encoding_of(STDOUT)
        self._last = 0
        self._behind = False
        self._log = view.log_path
        # A file that is no log stops publish, which reports it.
        with contextlib.suppress(EventLogError):
            self._last = newest_seq(self._log)
        self._events = bus.public_subscriber([ACTION.name])
        bus.watch(self._events)

    def tick(self) -> None:
        for _topic, body in self._events.drain():
            try:
                seq = event_from_json(body).seq
            except BadMessage:
                continue
            if seq == self._last + 1 and not self._behind:
                self._behind = not self._write(seq, body)
            elif seq > self._last:
                self._behind = True
        if self._behind and self._outlet.ready():
            self._behind = not self._from_log()

    def close(self) -> None:
        """Print what is left. The reader of a lossless run may take as long as it needs."""
        last, since_ns = self._last, self._clock.monotonic_ns()
        while not (self._from_log() and self._outlet.flush()):
            self._outlet.ready(wait_s=0.1)
            now = self._clock.monotonic_ns()
            if self._last != last:
                last, since_ns = self._last, now
            stopped = self._view.stopped()
            patience_s = STOPPED_S if stopped else STUCK_S
            if (stopped or not self._view.config.lossless) and (
                now - since_ns > patience_s * NS_PER_S
            ):
                log.warning("standard output isn't read: the last events are not printed")
                break

    def _from_log(self) -> bool:
        """Print what the log has; False when the reader doesn't take all of it."""
        while True:
            try:
                bodies = read_since(self._log, self._last, AT_ONCE)
            except EventLogError as error:
                log.error("%s; its events are not shown", error)
                return True
            for body in bodies:
                if not self._write(event_from_json(body).seq, body):
                    return False
            if len(bodies) < AT_ONCE:
                return True

    def _write(self, seq: int, body: bytes) -> bool:
        """Print an event; False when the reader does not take it now."""
        line = self._form(body) + "\n"
        if not self._outlet.write(encoded(line, self._encoding, self._form is as_json)):
            return False
        self._last = seq
        return True


def encoded(line: str, encoding: str, is_json: bool) -> bytes:
    """A line in the encoding of the terminal; JSON stays JSON, text is spelt out."""
    try:
        return line.encode(encoding)
    except UnicodeEncodeError:
        if is_json:
            line = json.dumps(json.loads(line), separators=(",", ":")) + "\n"
        return line.encode(encoding, "backslashreplace")
