"""Quarantine: pauses that grow, one camera at a time, and that end."""

import logging
from collections import Counter

import pytest

from pipeline.clock import NS_PER_S
from pipeline.stages.base import Stopped
from pipeline.stages.quarantine import FIRST_S, LONGEST_S, WELL_S, Quarantine
from pipeline.transport.messages import Quarantined
from testbed.clock import HandClock


class Stage:
    """A quarantine on a clock that the test moves, and what it reports."""

    def __init__(self, lossless: bool = False) -> None:
        self.clock = HandClock()
        self.counters: Counter[str] = Counter()
        self.reports: list[tuple[str, str | None]] = []
        self.quarantine = Quarantine(
            "spatial", self.clock, self.counters, self._publish, lossless=lossless
        )

    def _publish(self, message: Quarantined) -> None:
        assert message.stage == "spatial"
        self.reports.append((message.camera, message.reason))

    def fail(self, camera: str, error: Exception | None = None) -> None:
        with self.quarantine.guard(camera):
            raise error or ValueError("no")

    def pause_of(self, camera: str) -> float:
        """Fail once, then let time pass until the camera is tried again."""
        self.fail(camera)
        began = self.clock.now_ns
        while self.quarantine.holds(camera):
            self.clock.sleep(0.5)
        return (self.clock.now_ns - began) / NS_PER_S


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


def test_a_failure_puts_its_camera_aside_and_no_other() -> None:
    stage = Stage()
    stage.fail("door")
    assert stage.quarantine.holds("door")
    assert not stage.quarantine.holds("hall")
    assert stage.reports == [("door", "ValueError: no")]
    assert stage.counters["quarantines/door"] == 1


def test_pauses_double_up_to_the_longest_and_start_anew_after_a_good_while() -> None:
    stage = Stage()
    pauses = [stage.pause_of("door") for _ in range(8)]
    assert pauses == [min(FIRST_S * 2**n, LONGEST_S) for n in range(8)]
    stage.clock.sleep(WELL_S + 1)
    assert stage.pause_of("door") == FIRST_S


def test_the_end_of_a_pause_is_told_once() -> None:
    stage = Stage()
    stage.pause_of("door")
    assert not stage.quarantine.holds("door")
    assert stage.reports == [("door", "ValueError: no"), ("door", None)]


def test_a_lossless_stage_fails_and_a_stop_is_no_failure() -> None:
    with pytest.raises(ValueError, match="no"):
        Stage(lossless=True).fail("door")
    stage = Stage()
    with pytest.raises(Stopped):
        stage.fail("door", Stopped())
    assert not stage.quarantine.holds("door")
