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


def isoformat(wall_ns: int) -> str:
    """``wall_ns`` as UTC with milliseconds: ``2026-11-22T10:00:00.120Z``."""
    moment = datetime.datetime.fromtimestamp(wall_ns // NS_PER_MS / 1000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
