"""The cameras as the supervisor keeps them: when they end the run, and with which exit code."""

from typing import Any

import pytest

from pipeline.clock import NS_PER_S
from pipeline.config import validate
from pipeline.errors import EXIT_NO_SOURCE, EXIT_OK
from pipeline.run.camera_board import CameraBoard
from pipeline.transport.messages import CameraState, CameraStatus
from testbed.clock import HandClock

SIZE = (240, 320)


def board(*cameras: str, **supervisor: Any) -> CameraBoard:
    return timed_board(*cameras, **supervisor)[0]


def timed_board(*cameras: str, **supervisor: Any) -> tuple[CameraBoard, HandClock]:
    config = validate({"cameras": {name: {} for name in cameras}, "supervisor": supervisor})
    clock = HandClock()
    return CameraBoard(config, clock, lambda _: None), clock


def note(
    cameras: CameraBoard, camera: str, state: CameraState, size: tuple[int, int] | None = None
) -> None:
    cameras.note(CameraStatus(camera=camera, state=state, reason=None, at_ns=1, size=size))


def test_a_camera_that_is_open_and_has_no_room_for_frames_has_not_worked() -> None:
    cameras, clock = timed_board("door", first_source_s=30)
    note(cameras, "door", "online")
    note(cameras, "door", "offline")
    clock.sleep(29)
    assert cameras.verdict(29, at_end=False) is None
    clock.sleep(2)
    assert cameras.verdict(31, at_end=False) == EXIT_NO_SOURCE
    assert cameras.verdict(5, at_end=True) == EXIT_NO_SOURCE
    note(cameras, "door", "online", SIZE)
    assert cameras.verdict(31, at_end=True) is None


def test_a_machine_that_starts_late_is_not_the_fault_of_the_sources() -> None:
    cameras, clock = timed_board("door", first_source_s=30)
    clock.sleep(100)
    assert cameras.verdict(100, at_end=False) is None
    note(cameras, "door", "connecting")
    clock.sleep(29)
    assert cameras.verdict(129, at_end=False) is None
    clock.sleep(2)
    assert cameras.verdict(131, at_end=False) == EXIT_NO_SOURCE


def test_a_run_that_is_too_short_for_its_cameras_is_no_failure() -> None:
    cameras = board("door", "yard")
    note(cameras, "door", "offline")
    note(cameras, "yard", "connecting")
    assert cameras.verdict(1, at_end=True) is None


@pytest.mark.parametrize(("worked", "code"), [(True, EXIT_OK), (False, EXIT_NO_SOURCE)])
def test_when_all_are_over_it_counts_whether_one_has_worked(worked: bool, code: int) -> None:
    cameras = board("door", "yard", first_source_s=0)
    note(cameras, "door", "failed")
    assert cameras.verdict(1000, at_end=False) is None
    if worked:
        note(cameras, "yard", "online", SIZE)
    note(cameras, "yard", "ended")
    assert cameras.verdict(1, at_end=False) == code


def test_what_capture_reported_while_it_was_taken_for_stalled_counts() -> None:
    """Its report was on its way when the supervisor reported for it; then it came."""
    cameras, clock = timed_board("door")
    note(cameras, "door", "online", SIZE)
    clock.sleep(60)
    cameras.see_silence("door", 2.1, ready=True)
    assert cameras.states.get("door").state == "stalled"  # type: ignore[union-attr]
    reported_ns = clock.monotonic_ns() - NS_PER_S
    clock.sleep(1)
    cameras.see_silence("door", 0.0, ready=True)
    assert cameras.states.get("door").state == "online"  # type: ignore[union-attr]
    cameras.note(CameraStatus(camera="door", state="offline", reason="no room", at_ns=reported_ns))
    assert cameras.states.get("door").state == "offline"  # type: ignore[union-attr]
