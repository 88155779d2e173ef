"""The event log's upkeep: reporting when it can't be written, and deleting old events."""

import logging
from collections import Counter
from collections.abc import Callable

from pipeline.clock import NS_PER_S, Clock
from pipeline.errors import EventLogError
from pipeline.public.event_log import DELETE_AT_ONCE, EventLog

EVERY_S = 10.0
_BETWEEN_S = 0.05
_DAY_S = 86_400.0
_MEGABYTE = 1_000_000

log = logging.getLogger(__name__)


class LogUpkeep:
    """The health and the retention of an event log.

    ``changed`` is called when the log's health changes. Events older than ``keep_days``, and the
    oldest ones of a log larger than ``keep_mb``, are deleted; None keeps them.
    """

    def __init__(
        self,
        events: EventLog,
        clock: Clock,
        counters: "Counter[str]",
        changed: Callable[[], None],
        *,
        keep_days: float | None = None,
        keep_mb: float | None = None,
    ) -> None:
        self._events = events
        self._clock = clock
        self._counters = counters
        self._changed = changed
        self._keep_s = None if keep_days is None else keep_days * _DAY_S
        self._keep_bytes = None if keep_mb is None else int(keep_mb * _MEGABYTE)
        self._due_ns = 0
        self.problem: str | None = None
        """Why the log can't be written; None while it can."""

    def failed(self, error: EventLogError) -> None:
        """An event couldn't be stored. Its sender keeps it and sends it again."""
        self._counters["log_failures"] += 1
        if self.problem is None:
            log.error("%s; events are kept in memory and tried again", error)
        before, self.problem = self.problem, str(error)
        if before != self.problem:
            self._changed()

    def succeeded(self) -> None:
        if self.problem is not None:
            self.problem = None
            log.warning("the event log %s can be written again", self._events.path)
            self._changed()

    def delete_old(self) -> float:
        """Delete some old events; returns the seconds until there may be more to delete.

        Where all events are kept, this still keeps the log's time.
        """
        now = self._clock.monotonic_ns()
        if now < self._due_ns:
            return (self._due_ns - now) / NS_PER_S
        try:
            count = self._events.delete_old(self._keep_s, self._keep_bytes)
        except EventLogError as error:
            # On a full disk even this needs room. If it is serious, the next event will tell.
            log.warning("%s; old events are kept for now", error)
            count = 0
        self._counters["events_forgotten"] += count
        pause_s = _BETWEEN_S if count == DELETE_AT_ONCE else EVERY_S
        self._due_ns = now + int(pause_s * NS_PER_S)
        return pause_s
