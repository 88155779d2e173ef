"""Time: where it comes from.

Nothing else in ``pipeline`` asks the operating system for the time. What needs it takes a
:class:`Clock`, so that tests can pass one that they move by hand.
"""

import datetime
import time
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000


class Clock(Protocol):
    """The time that stages need."""

    def monotonic_ns(self) -> int:
        """Nanoseconds that never jump; comparable between processes of one machine."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since 1970; for public events only."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clock."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


SYSTEM_CLOCK = SystemClock()

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_MS = datetime.timedelta(milliseconds=1)
_FIRST = (datetime.datetime.min.replace(tzinfo=datetime.UTC) - _EPOCH) // _MS
_LAST = (datetime.datetime.max.replace(tzinfo=datetime.UTC) - _EPOCH) // _MS


def isoformat(wall_ns: int) -> str:
    """``wall_ns`` as UTC with milliseconds: ``2026-11-22T10:00:00.120Z``.

    Times outside the years 1 to 9999, which nothing but a wrong clock says, become the nearest.
    """
    since_1970 = min(max(_FIRST, wall_ns // NS_PER_MS), _LAST)
    moment = _EPOCH + datetime.timedelta(milliseconds=since_1970)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_isoformat(text: str) -> int:
    """Nanoseconds since 1970 of a time that :func:`isoformat` wrote; raises ValueError."""
    return (datetime.datetime.fromisoformat(text) - _EPOCH) // _MS * NS_PER_MS
