"""What publish does for its event log besides writing: saying when that fails, and forgetting."""

import logging
from collections.abc import Callable

from pipeline.clock import NS_PER_S
from pipeline.config import EventConfig
from pipeline.errors import EventLogError
from pipeline.event_log import FORGET_AT_ONCE, EventLog
from pipeline.stages.base import Context

EVERY_S = 10.0
_BETWEEN_S = 0.05
_DAY_S = 86_400.0
_MEGABYTE = 1_000_000

log = logging.getLogger(__name__)


class LogKeeping:
    """The health of an event log, told by ``say`` when it changes, and its retention."""

    def __init__(self, context: Context, events: EventLog, say: Callable[[], None]) -> None:
        self._context = context
        self._events = events
        self._say = say
        self._forget_ns = 0
        self.problem: str | None = None
        """Why the log can't be written; None while it can."""

    def failed(self, error: EventLogError) -> None:
        """An event couldn't be stored; whoever sent it keeps it and sends it again."""
        self._context.counters["log_failures"] += 1
        if self.problem is None:
            log.error("%s; what happens is kept in memory and tried again", error)
        before, self.problem = self.problem, str(error)
        if before != self.problem:
            self._say()

    def succeeded(self) -> None:
        if self.problem is not None:
            self.problem = None
            log.warning("the event log %s is written again", self._events.path)
            self._say()

    def forget(self) -> float | None:
        """Take old events out, some at a time; seconds until there may be more to take."""
        config: EventConfig = self._context.config.events
        if config.keep_days is None and config.keep_mb is None:
            return None
        now = self._context.clock.monotonic_ns()
        if now < self._forget_ns:
            return (self._forget_ns - now) / NS_PER_S
        keep_s = None if config.keep_days is None else config.keep_days * _DAY_S
        keep_bytes = None if config.keep_mb is None else int(config.keep_mb * _MEGABYTE)
        try:
            count = self._events.forget(keep_s, keep_bytes)
        except EventLogError as error:
            # On a full disk even this needs room. Storing an event will tell, if it is serious.
            log.warning("%s; old events stay for now", error)
            count = 0
        self._context.counters["events_forgotten"] += count
        pause_s = _BETWEEN_S if count == FORGET_AT_ONCE else EVERY_S
        self._forget_ns = now + int(pause_s * NS_PER_S)
        return pause_s
