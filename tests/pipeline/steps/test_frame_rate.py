"""Cameras that send too few frames, and rates that fall and rise again."""

import pytest

from pipeline.clock import NS_PER_S
from pipeline.steps.frame_rate import FrameRate

STEP_HZ, GAP_S = 10.0, 0.6


def fed(rate: FrameRate, fps: float, seconds: float, start_s: float = 0.0) -> float:
    """Feed frames for some seconds; returns when the last one was."""
    at_s = start_s
    for index in range(max(1, round(fps * seconds))):
        at_s = start_s + (index + 1) / fps
        rate.note(round(at_s * NS_PER_S))
    return at_s


@pytest.mark.parametrize("fps", [4, 5, 10, 15, 30, 60])
def test_a_rate_that_will_do_is_nothing_to_tell(fps: float) -> None:
    rate = FrameRate(STEP_HZ, GAP_S)
    fed(rate, fps, 10)
    assert rate.trouble is None


@pytest.mark.parametrize(("fps", "says"), [(0.5, "0.5"), (1, "1"), (2, "2"), (3, "3")])
def test_a_rate_that_will_not_do_is_told_with_what_would(fps: float, says: str) -> None:
    rate = FrameRate(STEP_HZ, GAP_S)
    fed(rate, fps, 20)
    assert rate.trouble == (
        f"it sends {says} frames a second; actions need at least 3.3: raise the camera's frame rate"
    )


def test_a_rate_that_falls_is_told_and_so_is_its_rise() -> None:
    rate = FrameRate(STEP_HZ, GAP_S)
    at_s = fed(rate, 30, 10)
    assert rate.trouble is None
    at_s = fed(rate, 1, 6, at_s)
    assert rate.trouble is not None
    fed(rate, 15, 2, at_s)
    assert rate.trouble is None


def test_a_single_pause_is_no_rate() -> None:
    rate = FrameRate(STEP_HZ, GAP_S)
    at_s = fed(rate, 15, 5)
    fed(rate, 15, 5, at_s + 4)
    assert rate.trouble is None


def test_a_slow_pack_needs_fewer_frames_but_not_fewer_than_a_segment() -> None:
    rate = FrameRate(2.0, GAP_S)
    fed(rate, 2, 20)
    assert rate.trouble is None
    fed(rate, 1, 20, 20.0)
    assert rate.trouble is not None
