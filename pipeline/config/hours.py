"""Hours of the day in a time zone: ``Mon-Fri 22:00-06:00`` in ``Europe/Berlin``. Pure.

A moment is within an interval by what a clock on the wall of that zone shows. So where clocks go
forward, an hour that none shows is in no interval; where they go back, an hour counts twice. An
interval whose end is before its start reaches into the next day, and its days are those on which
it begins.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from pipeline.clock import NS_PER_S
from pipeline.config.suggestion import did_you_mean

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_FULL = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_NUMBERS = {name.casefold(): n for names in (DAYS, _FULL) for n, name in enumerate(names)}
_DAY_MINUTES = 24 * 60
_MINUTE = timedelta(minutes=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_S = 250_000_000_000
"""A wall clock that is past the year 9800 is no clock; the calendar ends soon after."""
_LOOK_AHEAD_DAYS = 16
"""An interval comes once a week; where clocks go forward it may miss a turn."""
_PLAIN = re.compile(r"[\w :.,+-]{1,40}")
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*")
_HOW = "write 22:00-06:00, or with days Mon-Fri 22:00-06:00"
_DASHES = str.maketrans("–—−", "---")


@dataclass(frozen=True, slots=True)
class Interval:
    """From ``start`` to before ``end``, minutes of a day; on the days it begins on, Monday is 0."""

    days: frozenset[int]
    start: int
    end: int

    def holds(self, day: int, minute: int) -> bool:
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        evening = day in self.days and minute >= self.start
        return evening or ((day - 1) % 7 in self.days and minute < self.end)

    def __str__(self) -> str:
        return f"{_days_text(self.days)}{_clock(self.start)}-{_clock(self.end)}"


@dataclass(frozen=True, slots=True)
class Hours:
    """Some intervals in a time zone."""

    intervals: tuple[Interval, ...]
    zone: ZoneInfo

    @classmethod
    def of(cls, texts: Sequence[str], zone: str) -> "Hours":
        """Raises ValueError that says what is wrong."""
        return cls(tuple(map(interval, texts)), time_zone(zone))

    def hold(self, wall_ns: int) -> bool:
        """Whether a moment, in nanoseconds since 1970, is within them."""
        return self._hold(_moment(wall_ns))

    def next_change(self, wall_ns: int) -> datetime | None:
        """When they next begin or end, to the minute and in their zone; None: never."""
        moment = _moment(wall_ns).replace(second=0, microsecond=0)
        now = self._hold(moment)
        for _ in range(_LOOK_AHEAD_DAYS * _DAY_MINUTES):
            moment += _MINUTE
            if self._hold(moment) != now:
                return moment.astimezone(self.zone)
        return None

    def _hold(self, moment: datetime) -> bool:
        local = moment.astimezone(self.zone)
        day, minute = local.weekday(), local.hour * 60 + local.minute
        return any(one.holds(day, minute) for one in self.intervals)

    def __str__(self) -> str:
        return f"{', '.join(map(str, self.intervals))} {self.zone.key}"


def _moment(wall_ns: int) -> datetime:
    seconds = min(max(86_400, wall_ns // NS_PER_S), _LAST_S)
    return _EPOCH + timedelta(seconds=seconds)


def interval(text: str) -> Interval:
    """``[days] HH:MM-HH:MM``; raises ValueError that says what is wrong."""
    plain = " ".join(text.translate(_DASHES).split())
    shown = f"{plain!r}" if _PLAIN.fullmatch(plain) else "it"
    match = re.fullmatch(r"(?:(\D*?) )?(\S+?) ?- ?(\S+)", plain)
    if match is None:
        raise ValueError(f"{shown} is no interval of time; {_HOW}")
    days, start, end = match.groups()
    first, last = _minute(start, plain), _minute(end, plain)
    if first == _DAY_MINUTES:
        raise ValueError(f"{shown} begins at 24:00; write 00:00")
    if first == last:
        raise ValueError(f"{shown} begins when it ends; the whole day is 00:00-24:00")
    return Interval(_days(days), first, last)


def _minute(text: str, whole: str) -> int:
    shown = text if _PLAIN.fullmatch(text) else "a part of it"
    match = re.fullmatch(r"([0-9]{1,2}):([0-9]{2})", text)
    if match is None:
        raise ValueError(f"{shown} is no time of day; {_HOW}")
    hour, minute = int(match[1]), int(match[2])
    if minute > 59 or hour > 24 or (hour == 24 and minute):
        raise ValueError(f"there is no time {shown}; times go from 00:00 to 24:00")
    return hour * 60 + minute


def _days(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    found: set[int] = set()
    # Between days a comma or a space, or both; around the dash of a span there may be spaces.
    for part in re.split(r"[, ]+", re.sub(r" ?- ?", "-", text.strip(" ,"))):
        first, dash, last = part.partition("-")
        one = _day(first)
        found |= {(one + n) % 7 for n in range((_day(last) - one) % 7 + 1)} if dash else {one}
    return frozenset(found)


def _day(text: str) -> int:
    number = _NUMBERS.get(text.casefold().rstrip("."))
    if number is None:
        shown = text if re.fullmatch(r"\w{1,20}", text) else "a part of it"
        raise ValueError(f"{shown} is no day of the week; days are {', '.join(DAYS)}")
    return number


def _days_text(days: frozenset[int]) -> str:
    """``Mon-Fri `` and so on; nothing for all days."""
    if len(days) == 7:
        return ""
    begins = [day for day in sorted(days) if (day - 1) % 7 not in days]
    spans = []
    for first in begins:
        last = first
        while (last + 1) % 7 in days:
            last = (last + 1) % 7
        spans.append(DAYS[first] + ("" if last == first else f"-{DAYS[last]}"))
    return ",".join(spans) + " "


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"


@lru_cache
def time_zone(name: str) -> ZoneInfo:
    """The zone of an IANA name; raises ValueError that says what is wrong."""
    wrong = "it must be the name of a time zone, such as Europe/Berlin or America/New_York or UTC"
    if not _ZONE.fullmatch(name):
        raise ValueError(wrong)
    try:
        # Not "localtime", which is another zone on each machine.
        if name != "localtime":
            return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        pass
    known = available_timezones() - {"localtime"}
    by_city = {one.rpartition("/")[2].casefold(): one for one in sorted(known)}
    city = by_city.get(name.casefold().replace(" ", "_"))
    likely = f"; did you mean {city}?" if city else did_you_mean(name, known)
    raise ValueError(f"there is no time zone {name}{likely or f'; {wrong}'}")


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _normal(texts: list[str]) -> list[str]:
    if not texts:
        raise ValueError("it is empty; leave the key out for any time, or give hours")
    return [str(interval(text)) for text in texts]


def _zone_name(name: str) -> str:
    return time_zone(name).key


HoursSetting = Annotated[
    list[str],
    BeforeValidator(_listed),
    AfterValidator(_normal),
    WithJsonSchema({"type": ["string", "array"], "minItems": 1, "items": {"type": "string"}}),
]
"""Intervals in a config; one may stand without a list around it."""
ZoneSetting = Annotated[str, AfterValidator(_zone_name)]
"""The name of a time zone in a config."""
