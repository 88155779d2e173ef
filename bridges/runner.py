"""The loop of a bridge: take a record, send it, have it acknowledged, move the cursor.

At least once, in order: the cursor moves only over what the receiver has acknowledged. What was
acknowledged after the cursor was last stored is sent again after a crash. The event log is the
spool, so memory is bounded however long a receiver is away.
"""

import logging
from collections import deque
from collections.abc import Callable

from bridges.backoff import Backoff
from bridges.cursor import Cursor, Position
from bridges.dead_letters import DeadLetters
from bridges.feed import Feed
from bridges.lag import Lag
from bridges.measures import Measures
from bridges.receiver import Away, Receiver, Refused
from bridges.records import Record, key_of, kind_of
from bridges.settings import BridgeSettings
from pipeline.clock import NS_PER_S, Clock
from pipeline.errors import os_reason
from pipeline.run.log_lines import EACH

MOST_UNSETTLED = 64
"""Records that are sent before all of them must be acknowledged and the cursor is stored."""
LONGEST_UNSETTLED_S = 0.25
IDLE_S = 0.2

log = logging.getLogger(__name__)


class Runner:
    """Runs one bridge until it is told to stop."""

    def __init__(
        self,
        settings: BridgeSettings,
        feed: Feed,
        receiver: Receiver,
        cursor: Cursor,
        dead: DeadLetters,
        measures: Measures,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._feed, self._receiver = feed, receiver
        self._cursor, self._dead = cursor, dead
        self._measures, self._clock = measures, clock
        self._lag = Lag(clock)
        self._backoff = Backoff(settings.retry_max_s)
        self._position = cursor.position
        self._again: deque[Record] = deque()
        """Taken from the feed, and to be sent (again)."""
        self._unsettled: list[tuple[Record, bool]] = []
        """What was sent (false: left out, or refused), and isn't yet acknowledged and in the
        cursor."""
        self._unstored = False
        """The cursor could not be stored; nothing more is sent before it is."""
        self._since_ns = 0
        self._away: str | None = ""
        """Why the receiver is away; None: it is there; "": nothing is known yet."""
        self._program: str | None = None
        self._forgotten = 0

    def run(self, stopping: Callable[[], bool]) -> None:
        """Returns when it was told to stop; what is acknowledged by then is in the cursor."""
        while not stopping():
            try:
                self._turn()
            except Away as away:
                self._wait(away, stopping)
        try:
            self._settle()
        except Away as away:
            log.warning("stopped while the receiver is away: %s", away)

    def _turn(self) -> None:
        """One record, or a moment without one."""
        self._report()
        if self._unstored:
            self._settle()
        self._send_states()
        record = self._again.popleft() if self._again else self._feed.next(self._patience_s())
        self._remember_start(record)
        if record is not None:
            self._take(record)
        # Nothing more is at hand, or enough: make it last.
        elif self._unsettled:
            self._settle()
        else:
            self._receiver.idle()
            self._is_there("nothing to send" if self._away == "" else "going on")
        if self._is_enough():
            self._settle()

    def _patience_s(self) -> float:
        return 0.0 if self._unsettled else IDLE_S

    def _is_enough(self) -> bool:
        waited_ns = self._clock.monotonic_ns() - self._since_ns
        is_old = bool(self._unsettled) and waited_ns >= LONGEST_UNSETTLED_S * NS_PER_S
        return is_old or len(self._unsettled) >= MOST_UNSETTLED

    def _remember_start(self, record: Record | None) -> None:
        """A new bridge stores where it begins before anything else: from there on it owes all."""
        start = self._feed.start
        if self._position is None and start is not None:
            try:
                self._store(start)
            except Away:
                self._again.extend([] if record is None else [record])
                raise

    def _take(self, record: Record) -> None:
        if not self._unsettled:
            self._since_ns = self._clock.monotonic_ns()
        is_sent = self._settings.wants(record)
        if is_sent:
            try:
                self._receiver.send(record)
            except Away:
                self._again.appendleft(record)
                self._settle()  # what was sent before may be safe
                raise
            except Refused as refused:
                self._bury(record, refused)
                is_sent = False
        else:
            self._measures.skipped.inc()
        self._unsettled.append((record, is_sent))

    def _bury(self, record: Record, refused: Refused) -> None:
        try:
            self._dead.add(record, str(refused))
        except OSError as error:
            self._again.appendleft(record)
            raise Away(f"dead letters {self._dead.path}: {os_reason(error)}") from None
        self._measures.refused.inc()
        log.error(
            "%s was refused for good: %s; it is in %s",
            key_of(record), refused, self._dead.path,
        )  # fmt: skip

    def _settle(self) -> None:
        """Have all acknowledged that was sent, and store that."""
        try:
            self._receiver.settle()
        except Away:
            # All of it once more, before what comes after it.
            self._again.extendleft(record for record, _ in reversed(self._unsettled))
            self._unsettled.clear()
            raise
        position = self._position
        for record, _ in self._unsettled:
            if position is None or position.log != record.log:
                position = self._cursor.known().get(record.log, Position(record.log, 0))
            position = position.after(record)
        if position is not None and position != self._position:
            self._store(position)
        for record, is_sent in self._unsettled:
            if is_sent:
                self._measures.sent[kind_of(record)].inc()
        if self._unsettled:
            self._is_there("going on" if self._away else "what is sent is acknowledged")
        self._unsettled.clear()

    def _store(self, position: Position) -> None:
        try:
            self._cursor.move(position)
        except OSError as error:
            # Going on would only add to what is sent twice after a crash.
            self._unstored = True
            raise Away(f"cursor {self._cursor.path}: {os_reason(error)}") from None
        self._position, self._unstored = position, False

    def _send_states(self) -> None:
        """The newest state of each camera and of the program; one that fails comes again."""
        for state in self._feed.news():
            self._receiver.state(state)

    def _is_there(self, words: str) -> None:
        self._backoff.reset()
        if self._away is not None:
            self._away = None
            self._measures.connected.set(1)
            log.info("%s", words, extra=EACH)

    def _wait(self, away: Away, stopping: Callable[[], bool]) -> None:
        """Pause before the next try. The feed goes on, without taking records."""
        if stopping():
            return
        self._measures.retries.inc()
        self._measures.connected.set(0)
        # All states again: how much of them the other side kept is not known.
        self._feed.everything()
        if self._away != str(away):
            self._away = str(away)
            log.warning("waiting: %s", away)
        pause_ns = int(self._backoff.pause_s(away.retry_after_s) * NS_PER_S)
        until_ns = self._clock.monotonic_ns() + pause_ns
        while not stopping() and (left := until_ns - self._clock.monotonic_ns()) > 0:
            self._feed.attend(min(IDLE_S, left / NS_PER_S))
            self._report()

    def _report(self) -> None:
        """Bring the figures up to date, and say what has changed."""
        feed, measures = self._feed, self._measures
        if feed.program != self._program:
            is_online = feed.program == "online"
            if is_online:
                log.info("the program answers", extra=EACH)
            else:
                words = (
                    "the program doesn't answer at %s; does it run, and may this bridge connect?"
                )
                log.warning(words, feed.where, extra=EACH)
            self._program = feed.program
            measures.program.set(int(is_online))
        if feed.forgotten > self._forgotten:
            count = feed.forgotten - self._forgotten
            self._forgotten = feed.forgotten
            measures.forgotten.inc(count)
            log.error(
                "the event log had deleted %d events before they could be sent; see "
                "events.keep_days and events.keep_mb",
                count,
            )  # fmt: skip
        unsettled = self._unsettled[0][0] if self._unsettled else None
        owed = unsettled or next(iter(self._again), None)
        position = self._position
        behind = max(0, feed.newest_seq - position.seq) if position is not None else 0
        measures.lag_events.set(behind)
        measures.lag_seconds.set(self._lag.seconds(behind or len(self._again), owed))
