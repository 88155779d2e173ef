"""Log lines: a flood is summed up, and a reader that is behind holds nobody up."""

import logging
import os
from collections.abc import Iterator

import pytest

from pipeline.clock import NS_PER_S
from pipeline.run.log_lines import AS_THEY_ARE, EACH, MAX_KINDS, PERIOD_S, LineHandler, log_crash
from testbed.clock import HandClock


class Log:
    """A logger whose lines go into a pipe."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        self.handler = LineHandler(self.clock, self.writer)
        self.handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        self.logger = logging.Logger("a")
        self.logger.addHandler(self.handler)

    def lines(self) -> list[str]:
        """What was written since the last call."""
        try:
            return os.read(self.reader, 1 << 20).decode().splitlines()
        except BlockingIOError:
            return []

    def pass_time(self, seconds: float) -> None:
        self.clock.now_ns += int(seconds * NS_PER_S)
        self.handler.turn()


@pytest.fixture
def log() -> Iterator[Log]:
    made = Log()
    yield made
    made.handler.close()
    os.close(made.writer)


def test_few_lines_are_shown_as_they_are(log: Log) -> None:
    for number in range(AS_THEY_ARE):
        log.logger.info("camera %s: image %d can't be read", "door", number)
    assert len(log.lines()) == AS_THEY_ARE
    log.pass_time(PERIOD_S + 1)
    assert log.lines() == []


def test_many_are_summed_up_each_period_until_they_are_few(log: Log) -> None:
    for number in range(AS_THEY_ARE + 240):
        log.logger.warning("camera %s: image %d can't be read", "door", number)
    assert len(log.lines()) == AS_THEY_ARE
    log.pass_time(PERIOD_S)
    assert log.lines() == ["WARNING camera door: image 244 can't be read … 240 times in 60 s"]
    for number in range(7):
        log.logger.warning("camera %s: image %d can't be read", "door", number)
    assert log.lines() == []
    log.pass_time(PERIOD_S)
    assert log.lines() == ["WARNING camera door: image 6 can't be read … 7 times in 60 s"]
    log.pass_time(PERIOD_S)
    log.logger.warning("camera %s: image %d can't be read", "door", 8)
    assert log.lines() == ["WARNING camera door: image 8 can't be read"]


def test_a_flood_of_one_camera_hides_nothing_of_another(log: Log) -> None:
    for _ in range(100):
        log.logger.info("camera %s is offline", "door")
    log.logger.info("camera %s is offline", "yard")
    log.logger.info("another line")
    assert log.lines()[AS_THEY_ARE:] == ["INFO camera yard is offline", "INFO another line"]


def test_what_flaps_shows_its_newest_state_in_the_sum(log: Log) -> None:
    for number in range(120):
        log.logger.info("camera %s is %s", "door", "offline" if number % 2 else "online")
    log.lines()
    log.pass_time(PERIOD_S)
    assert log.lines() == [f"INFO camera door is offline … {120 - AS_THEY_ARE} times in 60 s"]


def test_the_end_shows_what_was_hidden(log: Log) -> None:
    for _ in range(50):
        log.logger.info("camera %s is offline", "door")
    log.lines()
    log.clock.now_ns += 10 * NS_PER_S
    log.handler.close()
    assert log.lines() == [f"INFO camera door is offline … {50 - AS_THEY_ARE} times in 10 s"]


def test_what_has_a_limit_of_its_own_is_always_shown(log: Log) -> None:
    log.logger.setLevel(logging.DEBUG)
    for _ in range(50):
        log.logger.info("%s is ready", "fusion", extra=EACH)
        log.logger.debug("detail")
    assert len(log.lines()) == 100


def test_memory_is_bounded(log: Log) -> None:
    for number in range(2 * MAX_KINDS):
        log.logger.info("from %s", str(number))
        log.lines()
    assert len(log.handler._rates._kinds) == MAX_KINDS


def test_lines_that_nobody_reads_are_counted(log: Log) -> None:
    for number in range(2000):
        log.logger.info("%s", f"{number} " + "x" * 100, extra=EACH)
    read = log.lines()
    assert 0 < len(read) < 2000
    log.logger.info("next")
    assert log.lines() == [
        f"INFO next ({2000 - len(read)} lines before this one were lost: nobody read them)"
    ]


@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
def test_a_crash_is_one_line_and_its_traceback_is_for_debugging(log: Log, level: int) -> None:
    def work() -> None:
        raise ValueError("door\nyard")

    log.logger.setLevel(level)
    try:
        work()
    except ValueError as error:
        log_crash(log.logger, "stopped", error)
    shown = log.lines()
    assert shown[0].startswith("ERROR stopped: ValueError: door yard (test_log_lines.py:")
    assert "in work < test_log_lines.py:" in shown[0]
    assert (len(shown) > 1) == (level == logging.DEBUG)


def test_a_log_statement_that_is_wrong_ends_nothing(log: Log) -> None:
    log.logger.info("%d of %d", 1)
    assert "can't be formatted" in log.lines()[0]
