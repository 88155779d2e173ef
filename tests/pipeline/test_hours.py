"""Hours of the day: time zones, midnight, and the days on which clocks are set."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pipeline.clock import NS_PER_S
from pipeline.config.hours import DAYS, Hours, Interval, interval, time_zone

ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC",
         "Pacific/Auckland", "Africa/Casablanca")  # fmt: skip
MINUTE = timedelta(minutes=1)


def ns(moment: datetime) -> int:
    return int(moment.timestamp()) * NS_PER_S


def at(zone: str, *when: int, fold: int = 0) -> int:
    return ns(datetime(*when, tzinfo=ZoneInfo(zone), fold=fold))  # type: ignore[arg-type,misc]


def on_the_wall(texts: list[str], local: datetime) -> bool:
    """What a person with a calendar and a clock on the wall would say."""
    now = local.replace(tzinfo=None, fold=0)
    for text in texts:
        *days, times = text.split()
        start, end = times.split("-")
        for back in (0, 1):
            day = now.date() - timedelta(days=back)
            if days and DAYS[day.weekday()] not in days[0].split(","):
                continue
            begins = datetime.combine(day, time.fromisoformat(start))
            whole = end == "24:00"
            ends = datetime.combine(day, time() if whole else time.fromisoformat(end))
            if ends <= begins:
                ends += timedelta(days=1)
            if begins <= now < ends:
                return True
    return False


@pytest.mark.slow
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_every_minute_of_a_year_is_as_a_clock_on_the_wall_says(zone: str) -> None:
    """Lord Howe's clocks are set by half an hour."""
    texts = ["22:00-06:00", "Sat,Sun 12:15-12:45", "Fri 12:00-24:00", "Sun 23:30-00:30"]
    hours = Hours.of(texts, zone)
    monday = datetime(2026, 11, 23)
    week = [on_the_wall(texts, monday + n * MINUTE) for n in range(7 * 24 * 60)]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    offsets = set()
    for quarter in range(365 * 24 * 4):
        local = (start + 15 * quarter * MINUTE).astimezone(ZoneInfo(zone))  # all change on one
        offsets.add(local.utcoffset())
        minute = local.weekday() * 1440 + local.hour * 60 + local.minute
        first = ns(local)
        for n in range(15):
            said = hours.hold(first + n * 60 * NS_PER_S)
            assert said == week[(minute + n) % len(week)], (zone, local, n)
    assert len(offsets) == 2


@pytest.mark.slow
@given(
    st.lists(st.sampled_from(DAYS), max_size=3, unique=True),
    st.times(),
    st.times(),
    st.sampled_from(ZONES),
    st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)),
)
@settings(max_examples=300, deadline=None)
def test_any_interval_in_any_zone_is_as_a_clock_on_the_wall_says(
    days: list[str], start: time, end: time, zone: str, moment: datetime
) -> None:
    text = f"{start:%H:%M}-{end:%H:%M}"
    assume(f"{start:%H:%M}" != f"{end:%H:%M}")
    text = f"{','.join(days)} {text}" if days else text
    local = moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone))
    assert Hours.of([text], zone).hold(ns(local)) == on_the_wall([text], local)


def held(hours: Hours, first: int, minutes: int) -> int:
    return sum(hours.hold(first + n * 60 * NS_PER_S) for n in range(minutes))


@pytest.mark.parametrize(
    ("day", "lasts"),
    [((2026, 3, 28), 7), ((2026, 10, 24), 9), ((2026, 6, 1), 8), ((2026, 12, 31), 8)],
)
def test_a_night_is_as_long_as_its_clocks_make_it(day: tuple[int, int, int], lasts: int) -> None:
    hours = Hours.of(["22:00-06:00"], "Europe/Berlin")
    noon = at("Europe/Berlin", *day, 12)
    assert held(hours, noon, 20 * 60) == 60 * lasts


def test_an_hour_that_no_clock_shows_is_in_no_interval() -> None:
    skipped = Hours.of(["02:00-03:00"], "Europe/Berlin")
    assert held(skipped, at("Europe/Berlin", 2026, 3, 29, 0), 6 * 60) == 0
    assert held(skipped, at("Europe/Berlin", 2026, 10, 25, 0), 6 * 60) == 120


def test_days_are_those_on_which_an_interval_begins() -> None:
    hours = Hours.of(["Fri 22:00-06:00"], "Europe/Berlin")
    friday, saturday = (2026, 11, 27), (2026, 11, 28)
    assert hours.hold(at("Europe/Berlin", *friday, 22, 0))
    assert hours.hold(at("Europe/Berlin", *saturday, 5, 59))
    assert not hours.hold(at("Europe/Berlin", *saturday, 6, 0))
    assert not hours.hold(at("Europe/Berlin", *friday, 5, 0))
    assert not hours.hold(at("Europe/Berlin", *saturday, 23, 0))


def test_the_same_moment_is_another_time_elsewhere() -> None:
    moment = at("UTC", 2026, 11, 25, 22, 30)
    assert Hours.of(["22:00-23:00"], "UTC").hold(moment)
    assert not Hours.of(["22:00-23:00"], "Europe/Berlin").hold(moment)
    assert Hours.of(["Thu 07:00-08:00"], "Asia/Tokyo").hold(moment)


def test_the_end_is_no_longer_within() -> None:
    hours = Hours.of(["08:00-09:00"], "UTC")
    nine = at("UTC", 2026, 11, 25, 9)
    assert hours.hold(nine - 1)
    assert not hours.hold(nine)
    assert hours.hold(at("UTC", 2026, 11, 25, 8))
    assert not hours.hold(at("UTC", 2026, 11, 25, 8) - 1)


@pytest.mark.parametrize("wall_ns", [-(1 << 63), -1, 0, 1, 1 << 62, 1 << 80])
def test_a_clock_that_is_no_clock_breaks_nothing(wall_ns: int) -> None:
    hours = Hours.of(["22:00-06:00"], "Pacific/Kiritimati")
    assert isinstance(hours.hold(wall_ns), bool)
    assert hours.next_change(wall_ns) is not None


@pytest.mark.parametrize(
    ("texts", "now", "changes"),
    [
        (["22:00-06:00"], (2026, 11, 25, 21, 30), "2026-11-25 22:00 CET"),
        (["22:00-06:00"], (2026, 11, 25, 22, 0), "2026-11-26 06:00 CET"),
        (["Sat 10:00-12:00"], (2026, 11, 28, 12, 0), "2026-12-05 10:00 CET"),
        (["02:30-04:00"], (2026, 3, 29, 1, 0), "2026-03-29 03:00 CEST"),  # 2:30 is skipped
        (["Sun 02:15-02:45"], (2026, 3, 22, 3, 0), "2026-04-05 02:15 CEST"),  # two weeks
        (["00:00-24:00"], (2026, 11, 25, 12, 0), None),
        (["Mon-Sat 00:00-24:00", "Sun 00:00-24:00"], (2026, 11, 25, 12, 0), None),
    ],
)
def test_the_next_change(texts: list[str], now: tuple[int, ...], changes: str | None) -> None:
    found = Hours.of(texts, "Europe/Berlin").next_change(at("Europe/Berlin", *now))
    assert (None if found is None else f"{found:%Y-%m-%d %H:%M %Z}") == changes


minutes = st.integers(0, 24 * 60 - 1)
intervals = st.builds(
    Interval, st.frozensets(st.integers(0, 6), min_size=1), minutes, st.integers(1, 24 * 60)
).filter(lambda one: one.start != one.end)


@given(intervals)
def test_what_is_written_can_be_read(one: Interval) -> None:
    assert interval(str(one)) == one


@given(
    st.lists(intervals, min_size=1, max_size=3),
    st.sampled_from(ZONES),
    st.integers(1_600_000_000, 2_000_000_000),
)
@settings(max_examples=20, deadline=None)
def test_until_the_next_change_nothing_changes(
    found: list[Interval], zone: str, second: int
) -> None:
    hours = Hours(tuple(found), time_zone(zone))
    change = hours.next_change(second * NS_PER_S)
    now = hours.hold(second * NS_PER_S)
    until = second + 16 * 86_400 if change is None else int(change.timestamp())
    for moment in range(second, until, 601):
        assert hours.hold(moment * NS_PER_S) == now
    if change is not None:
        assert hours.hold(until * NS_PER_S) != now
        assert hours.hold((until - 1) * NS_PER_S) == now


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("22:00-06:00", "22:00-06:00"),
        (" 8:00 - 9:30 ", "08:00-09:30"),
        ("22:00–06:00", "22:00-06:00"),
        ("Mon-Fri 22:00-06:00", "Mon-Fri 22:00-06:00"),
        ("mon - fri 22:00-06:00", "Mon-Fri 22:00-06:00"),
        ("Saturday, Sunday 00:00-24:00", "Sat-Sun 00:00-24:00"),
        ("Sat Sun 00:00-24:00", "Sat-Sun 00:00-24:00"),
        ("Fri-Mon 10:00-11:00", "Fri-Mon 10:00-11:00"),
        ("Sun,Tue,Wed 10:00-11:00", "Tue-Wed,Sun 10:00-11:00"),
        ("Mon-Sun 10:00-11:00", "10:00-11:00"),
    ],
)
def test_hours_as_people_write_them(text: str, means: str) -> None:
    assert str(interval(text)) == means


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("22-6", "22 is no time of day; write 22:00-06:00"),
        ("22:00", "'22:00' is no interval of time; write 22:00-06:00"),
        ("", "it is no interval of time"),
        ("22.00-06.00", "22.00 is no time of day"),
        ("10pm-6am", "10pm is no time of day"),
        ("22:00-25:00", "there is no time 25:00; times go from 00:00 to 24:00"),
        ("22:60-23:00", "there is no time 22:60"),
        ("24:00-06:00", "begins at 24:00; write 00:00"),
        ("22:00-22:00", "begins when it ends; the whole day is 00:00-24:00"),
        ("Mo 22:00-06:00", "Mo is no day of the week; days are Mon, Tue"),
        ("Mon-Fry 22:00-06:00", "Fry is no day of the week"),
        ("22:00-06:00 Mon", "is no interval of time"),
        ("22:00-06:00, 08:00-09:00", "is no interval of time"),
        ("rtsp://me:hunter2@host/", "."),
    ],
)
def test_what_is_no_interval_is_named(text: str, says: str) -> None:
    with pytest.raises(ValueError, match="^" if says == "." else ".") as caught:
        interval(text)
    assert says in str(caught.value) + "."
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Europe/Berln", "there is no time zone Europe/Berln; did you mean Europe/Berlin?"),
        ("europe/berlin", "did you mean Europe/Berlin?"),
        ("Berlin", "did you mean Europe/Berlin?"),
        ("utc", "did you mean UTC?"),
        ("UTC+2", "there is no time zone UTC+2"),
        ("Europe", "there is no time zone Europe"),
        ("localtime", "there is no time zone localtime"),
        ("", "such as Europe/Berlin"),
        ("../../etc/passwd", "such as Europe/Berlin"),
        ("/etc/passwd", "such as Europe/Berlin"),
        ("New York", "such as Europe/Berlin"),
        ("a" * 5000, "there is no time zone"),
    ],
)
def test_what_is_no_time_zone_is_named(name: str, says: str) -> None:
    with pytest.raises(ValueError, match="time zone") as caught:
        time_zone(name)
    assert says in str(caught.value)
