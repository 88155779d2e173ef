"""The clock: frames become steps by their timestamps, whatever the camera's rate."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK, Step, StepClock, isoformat


def steps_at(fps: float, step_hz: float, seconds: float = 4.0, start_ns: int = 0) -> list[Step]:
    clock = StepClock(step_hz)
    times = (start_ns + round(i * NS_PER_S / fps) for i in range(round(seconds * fps)))
    return [step for t in times if (step := clock.step(t)) is not None]


@pytest.mark.parametrize("fps", [10, 15, 24, 25, 29.97, 30, 50, 60])
def test_every_fast_camera_gives_every_step(fps: float) -> None:
    found = steps_at(fps, step_hz=10.0)
    assert [step.index for step in found] == list(range(len(found)))
    assert len(found) in (40, 41)
    assert all(step.skipped == 0 for step in found)


def test_a_slow_camera_skips_steps_and_says_so() -> None:
    found = steps_at(5.0, step_hz=10.0)
    assert [step.index for step in found] == list(range(0, 2 * len(found), 2))
    assert all(step.skipped == 1 and step.elapsed_steps == 2.0 for step in found[1:])


@given(
    st.lists(st.integers(0, NS_PER_S), min_size=1, max_size=60),
    st.floats(1.0, 60.0),
    st.integers(0, 10**15),
)
def test_steps_grow_and_account_for_all_time(pauses: list[int], step_hz: float, start: int) -> None:
    clock, now, taken = StepClock(step_hz), start, []
    for pause in pauses:
        now += pause
        step = clock.step(now)
        if step is not None:
            taken.append((now, step))
    assert taken[0][1] == Step(index=0, elapsed_steps=1.0, skipped=0)
    for (earlier, before), (later, after) in pairwise(taken):
        assert after.index == before.index + after.skipped + 1
        assert after.elapsed_steps == pytest.approx((later - earlier) * step_hz / NS_PER_S)
        assert after.elapsed_steps >= 0.5
    for at, step in taken:
        # A frame stands for the step that it is nearest to.
        assert abs((at - taken[0][0]) * step_hz / NS_PER_S - step.index) <= 0.5 + 1e-6


def test_time_that_goes_backwards_makes_no_step() -> None:
    clock = StepClock(10.0)
    assert clock.step(NS_PER_S) is not None
    assert clock.step(0) is None


def test_a_restart_counts_from_nought() -> None:
    clock = StepClock(10.0)
    clock.step(0)
    clock.step(NS_PER_S)
    clock.restart()
    assert clock.step(5 * NS_PER_S) == Step(index=0, elapsed_steps=1.0, skipped=0)


@pytest.mark.parametrize("step_hz", [0.0, -1.0, float("nan")])
def test_a_rate_that_is_none_is_refused(step_hz: float) -> None:
    with pytest.raises(ValueError, match="step_hz must be positive"):
        StepClock(step_hz)


def test_wall_time_is_written_in_utc_with_milliseconds() -> None:
    assert isoformat(1_795_341_600_120_999_999) == "2026-11-22T10:00:00.120Z"
    assert isoformat(0) == "1970-01-01T00:00:00.000Z"


@given(st.integers(0, 4_000_000_000_000))
def test_every_millisecond_is_written_as_itself(ms: int) -> None:
    assert isoformat(ms * 1_000_000)[-4:-1] == f"{ms % 1000:03d}"


def test_the_system_clock_is_the_machines() -> None:
    before = time.monotonic_ns(), time.time_ns()
    SYSTEM_CLOCK.sleep(0.01)
    assert SYSTEM_CLOCK.monotonic_ns() - before[0] >= 10_000_000
    assert SYSTEM_CLOCK.wall_ns() > before[1]
