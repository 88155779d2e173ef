"""One event per line on standard output: JSON, or text for people."""

import contextlib
import logging
import sys
from collections.abc import Callable
from typing import TextIO

from pipeline.errors import EventLogError
from pipeline.public.event_line import event_line
from pipeline.public.event_log import read_since
from pipeline.public.records import ACTION, event_from_json
from pipeline.run.outputs.base import RunView
from pipeline.transport.bus import Bus
from pipeline.transport.messages import BadMessage

log = logging.getLogger(__name__)


def as_json(body: bytes) -> str:
    return body.decode()


def as_text(body: bytes) -> str:
    return event_line(event_from_json(body)).plain


class EventLines:
    """Every event of this run, in order, none missing.

    The PUB socket brings the events. What it has dropped is read from the log.
    """

    def __init__(
        self, bus: Bus, view: RunView, form: Callable[[bytes], str], stream: TextIO = sys.stdout
    ) -> None:
        self._form = form
        self._stream = stream
        self._last = 0
        self._closed = False
        self._log = view.log_path
        # A file that is no log stops publish, which reports it.
        with contextlib.suppress(EventLogError):
            self._last = _last_seq(read_since(self._log, 0))
        self._events = bus.public_subscriber([ACTION.name])
        bus.watch(self._events)

    def tick(self) -> None:
        for _topic, body in self._events.drain():
            try:
                seq = event_from_json(body).seq
            except BadMessage:
                continue
            if seq == self._last + 1:
                self._write(seq, body)
            elif seq > self._last:
                self._from_log()

    def close(self) -> None:
        self._from_log()

    def _from_log(self) -> None:
        try:
            bodies = read_since(self._log, self._last)
        except EventLogError as error:
            log.error("%s; its events are not shown", error)
            return
        for body in bodies:
            self._write(event_from_json(body).seq, body)

    def _write(self, seq: int, body: bytes) -> None:
        self._last = seq
        if self._closed:
            return
        try:
            self._stream.write(self._form(body) + "\n")
            self._stream.flush()
        except BrokenPipeError:
            # The reader has left (`| head`). The pipeline goes on for its other subscribers.
            self._closed = True


def _last_seq(bodies: list[bytes]) -> int:
    return event_from_json(bodies[-1]).seq if bodies else 0
