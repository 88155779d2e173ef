"""Log time: what a wall clock says that jumps, and what becomes of the events in the log.

The clock of these tests is two clocks: one that never jumps, and one that the test sets.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pipeline.clock import NS_PER_S
from pipeline.public.event_log import EventLog, read_since
from pipeline.public.records import Event, event_from_json
from pipeline.public.retention import LogUpkeep
from testbed.samples import event

HOUR_S, DAY_S = 3600.0, 86_400.0
MONTHS_S = 120 * DAY_S
APRIL_2026_S = 1_775_000_000.0
KEEP_DAYS = 90.0


class TwoClocks:
    """Both clocks go by :meth:`sleep`; only the wall clock :meth:`jump`\\ s."""

    def __init__(self, wall_s: float = APRIL_2026_S) -> None:
        self._running_ns = 7 * NS_PER_S
        self._wall_ns = round(wall_s * NS_PER_S)

    def monotonic_ns(self) -> int:
        return self._running_ns

    def wall_ns(self) -> int:
        return self._wall_ns

    def sleep(self, seconds: float) -> None:
        self._running_ns += round(seconds * NS_PER_S)
        self._wall_ns += round(seconds * NS_PER_S)

    def jump(self, seconds: float) -> None:
        self._wall_ns += round(seconds * NS_PER_S)

    def reboot(self, wall_s: float) -> None:
        self._running_ns, self._wall_ns = NS_PER_S, round(wall_s * NS_PER_S)

    @property
    def wall_s(self) -> float:
        return self._wall_ns / NS_PER_S


def _made(kind: str, seq: int, known: str | None) -> Event:
    return event(seq, kind, known or f"door-{seq}")


class Machine:
    """A log with its upkeep, on a machine whose clock the test sets. Each run has its own epoch."""

    def __init__(self, path: Path, wall_s: float = APRIL_2026_S, keep_mb: float | None = None):
        self.clock, self.path, self._keep_mb = TwoClocks(wall_s), path, keep_mb
        self._runs = 0
        self.start()

    def start(self, keep_days: float | None = KEEP_DAYS) -> None:
        self._runs += 1
        self.log = EventLog(self.path, self.clock)
        # These tests kill nothing, and syncs of the disk would take most of their time.
        self.log._db.execute("PRAGMA synchronous = OFF")
        self._accepted = 0
        self.counters: Counter[str] = Counter()
        self._upkeep = LogUpkeep(
            self.log, self.clock, self.counters, lambda: None,
            keep_days=keep_days, keep_mb=self._keep_mb,
        )  # fmt: skip

    def stop(self) -> None:
        self.log.close()

    def store(self, count: int = 1) -> None:
        for _ in range(count):
            for kind in ("start", "end"):
                self._accepted += 1
                key = f"door/{(self._accepted + 1) // 2}"
                made = partial(_made, kind)
                self.log.append(f"epoch-{self._runs}", self._accepted, key, made)

    def run(self, seconds: float, every_s: float = 600.0) -> None:
        """Let time pass; the stage looks after its log in between."""
        self._upkeep.delete_old()
        while seconds > 0:
            part = min(every_s, seconds)
            self.clock.sleep(part)
            seconds -= part
            while self._upkeep.delete_old() < 1.0:
                self.clock.sleep(0.05)

    @property
    def seqs(self) -> list[int]:
        return [event_from_json(body).seq for body in read_since(self.path, 0)]


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    made = Machine(tmp_path / "events.sqlite")
    yield made
    made.stop()


def test_a_clock_that_jumps_for_a_moment_deletes_nothing(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    machine.store(20)
    machine.run(HOUR_S)
    for jump_s in (MONTHS_S, 10 * 365 * DAY_S, 150 * 365 * DAY_S, 300 * 365 * DAY_S):
        machine.clock.jump(jump_s)
        machine.run(20.0, every_s=10.0)
        machine.store()
        machine.clock.jump(-jump_s)
        machine.run(HOUR_S)
    assert machine.seqs == list(range(1, 49))
    assert "the clock is 120 days ahead of what the log knows" in caplog.text
    # What a clock says of the year 2326 isn't even doubted.
    assert caplog.text.count("the clock went back; no event was deleted") == 3
    assert not machine.counters["events_forgotten"]


@pytest.mark.slow
def test_events_of_a_wrong_time_get_as_old_as_the_others(machine: Machine) -> None:
    machine.store()
    machine.clock.jump(MONTHS_S)
    machine.store()
    machine.clock.jump(-2 * MONTHS_S)
    machine.store()
    machine.clock.jump(MONTHS_S)
    machine.run(89 * DAY_S, every_s=HOUR_S)
    assert machine.seqs == [1, 2, 3, 4, 5, 6]
    machine.store()
    machine.run(2 * DAY_S, every_s=HOUR_S)
    assert machine.seqs == [7, 8]


@pytest.mark.slow
def test_time_that_passed_while_running_ages_events_whatever_the_clock_says(
    machine: Machine,
) -> None:
    machine.store(3)
    machine.clock.jump(-MONTHS_S)
    machine.run(91 * DAY_S, every_s=HOUR_S)
    assert machine.seqs == [6]


def test_a_clock_that_is_ahead_at_the_start_deletes_nothing_until_it_is_set(
    machine: Machine,
) -> None:
    machine.store(5)
    machine.stop()
    now_s = machine.clock.wall_s + HOUR_S
    machine.clock.reboot(now_s + MONTHS_S)
    machine.start()
    machine.run(3 * HOUR_S)
    machine.store()
    machine.clock.jump(-MONTHS_S)
    machine.run(30 * DAY_S, every_s=HOUR_S)
    assert machine.seqs == list(range(1, 13))


@pytest.mark.parametrize("boots_s", [0.0, 5.0, 1_500_000_000.0])
def test_a_machine_that_boots_in_1970_loses_nothing(tmp_path: Path, boots_s: float) -> None:
    """Like a Raspberry Pi: no battery, and NTP comes late or never."""
    machine = Machine(tmp_path / "log", wall_s=boots_s)
    machine.store()
    machine.run(10.0)
    machine.clock.jump(APRIL_2026_S)
    machine.store()
    machine.run(2 * DAY_S)
    for reached_at_all in (False, True, False, True):
        machine.stop()
        real_s = machine.clock.wall_s + 60.0
        machine.clock.reboot(boots_s)
        machine.start()
        machine.store()
        machine.run(HOUR_S)
        if reached_at_all:
            machine.clock.jump(real_s - boots_s)
            machine.store()
            machine.run(2 * DAY_S)
    assert machine.seqs == list(range(1, 17))
    machine.stop()


@pytest.mark.slow
def test_time_between_runs_is_believed_when_the_clock_kept_to_it(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    """The machine was off for four months, and that is true."""
    machine.store(3)
    machine.stop()
    machine.clock.reboot(machine.clock.wall_s + MONTHS_S)
    machine.start()
    machine.store(2)
    machine.run(23 * HOUR_S)
    assert machine.seqs == list(range(1, 11))
    machine.run(2 * HOUR_S)
    assert machine.seqs == [7, 8, 9, 10]
    assert "the clock has kept to it; events are 120 days older" in caplog.text
    # Those of this run are two days old, not months.
    machine.run(88 * DAY_S, every_s=HOUR_S)
    assert machine.seqs == [7, 8, 9, 10]
    machine.run(2 * DAY_S)
    assert machine.seqs == [10]


@pytest.mark.slow
def test_nights_between_runs_count_at_once(machine: Machine) -> None:
    for _ in range(100):
        machine.store()
        machine.run(600.0)
        machine.stop()
        machine.clock.reboot(machine.clock.wall_s + DAY_S - 600.0)
        machine.start()
    machine.run(60.0)
    assert machine.seqs == list(range(23, 201))


@pytest.mark.slow
def test_weekends_count_after_some_days_of_work(machine: Machine) -> None:
    """Eight hours a day on five days a week, and the events of no day go too early."""
    day_of: dict[int, int] = {}
    for day in range(140):
        if day % 7 < 5:
            machine.store()
            day_of[machine.seqs[-1]] = day
            machine.run(8 * HOUR_S)
        machine.stop()
        off_s = 16 * HOUR_S if day % 7 < 5 else DAY_S
        machine.clock.reboot(machine.clock.wall_s + off_s)
        machine.start()
    oldest = min(day_of[seq] for seq in machine.seqs if seq in day_of)
    # Due is day 50; the last weekends may be doubted still.
    assert 40 <= oldest <= 50


@pytest.mark.slow
def test_a_clock_that_walks_away_takes_no_more_than_a_day(machine: Machine) -> None:
    machine.run(80 * DAY_S, every_s=DAY_S)
    machine.store(3)
    machine.stop()
    machine.start()
    for _ in range(200):
        machine.clock.jump(20 * HOUR_S)
        machine.run(60.0)
    machine.clock.jump(-200 * 20 * HOUR_S)
    machine.run(88 * DAY_S, every_s=HOUR_S)
    assert machine.seqs == list(range(1, 7))
    machine.run(2 * DAY_S, every_s=HOUR_S)
    assert machine.seqs == [6]


@pytest.mark.slow
def test_a_log_that_is_too_large_shrinks_whatever_the_clock_says(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "log", keep_mb=0.06)
    machine.store(200)
    size = machine.log.size()
    machine.clock.jump(-APRIL_2026_S)
    machine.run(60.0)
    assert machine.log.size() <= 60_000 < size
    machine.clock.jump(2 * APRIL_2026_S)
    machine.store(200)
    machine.run(60.0)
    assert machine.log.size() <= 60_000
    assert machine.seqs[-1] == 800
    machine.stop()


@pytest.mark.slow
def test_a_log_of_the_second_version_keeps_what_a_wrong_clock_stamped(tmp_path: Path) -> None:
    """Its stamps are wall times: of 1970, of the future, and right ones."""
    machine = Machine(tmp_path / "log")
    machine.store(4)
    db = machine.log._db
    for seq, stored_s in ((3, 5.0), (4, APRIL_2026_S + MONTHS_S), (5, APRIL_2026_S - 80 * DAY_S)):
        db.execute("UPDATE events SET stored_ns = ? WHERE seq = ?", (int(stored_s * 1e9), seq))
    db.executescript("DROP TABLE log_time; PRAGMA user_version = 2;")
    machine.stop()
    machine.clock.sleep(60.0)
    machine.start()
    machine.run(9 * DAY_S)
    assert machine.seqs == list(range(1, 9))
    machine.run(2 * DAY_S)
    assert machine.seqs == [1, 2, 3, 4, 6, 7, 8]
    machine.run(80 * DAY_S, every_s=HOUR_S)
    assert machine.seqs == [8]
    machine.stop()


def test_log_time_goes_on_where_nothing_is_deleted(machine: Machine) -> None:
    """Without keep_days, time is kept all the same: somebody may set it later."""
    machine.stop()
    machine.start(keep_days=None)
    machine.store()
    machine.run(HOUR_S)
    machine.stop()
    machine.clock.reboot(machine.clock.wall_s + MONTHS_S)
    machine.start(keep_days=None)
    machine.run(2 * DAY_S)
    machine.store()
    machine.stop()
    machine.start()
    machine.run(60.0)
    assert machine.seqs == [3, 4]


def test_short_keeping_works_too(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "log")
    machine.stop()
    machine.start(keep_days=10.0 / DAY_S)
    machine.store(3)
    machine.run(30.0, every_s=5.0)
    assert machine.seqs == [6]
    machine.clock.jump(MONTHS_S)
    machine.store()
    machine.run(5.0, every_s=1.0)
    assert machine.seqs == [6, 7, 8] or machine.seqs == [7, 8]
    machine.stop()
