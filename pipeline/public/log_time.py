"""Log time: the time by which the ages of events are counted. It never jumps. Pure.

Wall clocks jump: NTP corrects them, somebody mistypes a year, and a small computer without a
battery boots in 1970. An event that was deleted because of that is gone. So while the program
runs, log time goes with the monotonic clock alone. Only the time between two runs must come from
the wall clock, and the wall clock is doubted before it is believed:

* Time that makes events at most a tenth of ``keep_days`` older, and at most a day, is believed at
  once. A run believes no more than that at once, however often the clock jumps.
* More is believed when the clock has stayed ahead for a tenth of ``keep_days`` of running time, an
  hour at least and a day at most. If it goes back, nothing has happened.

The wait costs only some room: old events stay a little longer.
"""

from typing import NamedTuple

from pipeline.clock import NS_PER_S

UNSET_BEFORE_NS = 1_735_689_600 * NS_PER_S
"""2025-01-01. A wall clock that reads less was never set, and says nothing."""
ABSURD_FROM_NS = 7_258_118_400 * NS_PER_S
"""2200-01-01. A wall clock that reads more says nothing either."""
NOTICED_NS = 60 * NS_PER_S
"""A lead below this is drift."""
_HOUR_NS = 3600 * NS_PER_S
_DAY_NS = 24 * _HOUR_NS


def says_something(wall_ns: int) -> bool:
    """Whether a wall clock was set at all, as far as one can tell from what it reads."""
    return UNSET_BEFORE_NS <= wall_ns < ABSURD_FROM_NS


class LogTime(NamedTuple):
    """Log time, and how far the wall clock is believed; the log stores it. In nanoseconds.

    * ``now_ns``: log time. It began as the wall time at which the log was made.
    * ``wall_ns``: what the wall clock reads, as far as it is believed; 0 if it was never set.
    * ``ahead_ns``: how far the wall clock has been ahead of that at least; 0 without a doubt.
    * ``steady_ns``: for how long it has been ahead.
    * ``doubt_seq``: the newest event of the runs before the doubt began.
    """

    now_ns: int
    wall_ns: int = 0
    ahead_ns: int = 0
    steady_ns: int = 0
    doubt_seq: int = 0


class Trust(NamedTuple):
    """How far a wall clock that is ahead is believed at once, and how long it is doubted beyond."""

    at_once_ns: int
    patience_ns: int

    @classmethod
    def of(cls, keep_s: float | None) -> "Trust":
        """For events that are kept for ``keep_s``; None: for ever."""
        tenth = _DAY_NS if keep_s is None else int(keep_s * NS_PER_S) // 10
        return cls(min(tenth, _DAY_NS), min(max(tenth, _HOUR_NS), _DAY_NS))


class Look(NamedTuple):
    """What a look at the wall clock found.

    ``older_ns``: the events up to ``up_to_seq`` are older by so much than was known.
    """

    time: LogTime
    older_ns: int = 0
    up_to_seq: int = 0


def later(time: LogTime, elapsed_ns: int) -> LogTime:
    """Log time after ``elapsed_ns`` more of the monotonic clock."""
    wall_ns = time.wall_ns + elapsed_ns if time.wall_ns else 0
    return time._replace(now_ns=time.now_ns + elapsed_ns, wall_ns=wall_ns)


def look(time: LogTime, elapsed_ns: int, wall_ns: int, trust: Trust, last_seq: int) -> Look:
    """Log time ``elapsed_ns`` later, when the wall clock reads ``wall_ns``.

    ``last_seq`` is the newest event of earlier runs. Events of this run never get older by what the
    wall clock says: their ages are known from the monotonic clock.
    """
    time = later(time, elapsed_ns)
    certain = time._replace(ahead_ns=0, steady_ns=0)
    if not says_something(wall_ns):
        return Look(certain)
    if not time.wall_ns:
        return Look(certain._replace(wall_ns=wall_ns))
    ahead = wall_ns - time.wall_ns
    if ahead < NOTICED_NS:
        return Look(certain)
    since = time.doubt_seq if time.ahead_ns else last_seq
    if ahead <= trust.at_once_ns:
        return _believed(certain, ahead, since)
    doubted = time._replace(ahead_ns=ahead, steady_ns=0, doubt_seq=since)
    # It went back by a part: that part was wrong, so the rest is doubted anew.
    if not time.ahead_ns or ahead < time.ahead_ns - NOTICED_NS:
        return Look(doubted)
    # Only the smallest lead of the whole time is believed.
    doubted = doubted._replace(
        ahead_ns=min(ahead, time.ahead_ns), steady_ns=time.steady_ns + elapsed_ns
    )
    if doubted.steady_ns < trust.patience_ns:
        return Look(doubted)
    return _believed(certain, doubted.ahead_ns, since)


def _believed(time: LogTime, lead_ns: int, up_to_seq: int) -> Look:
    time = time._replace(now_ns=time.now_ns + lead_ns, wall_ns=time.wall_ns + lead_ns)
    return Look(time, lead_ns, up_to_seq)
