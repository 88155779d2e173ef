"""The clock: frames become steps by their timestamps, whatever the camera's rate."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK, isoformat
from pipeline.steps.sampling import SETTLED_STEPS, Step, StepClock


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


@pytest.mark.slow
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


def on_grid(fps: float, start_ns: int, frames: int, clock: StepClock) -> list[tuple[int, Step]]:
    times = (start_ns + round(i * NS_PER_S / fps) for i in range(frames))
    return [(t, step) for t in times if (step := clock.step(t)) is not None]


@given(st.floats(24.0, 60.0), st.integers(0, 10 * NS_PER_S))
def test_steps_of_fast_cameras_on_one_grid_come_within_a_frame(fps: float, start: int) -> None:
    grid = 7 * NS_PER_S
    found = on_grid(fps, grid + start, 200, StepClock(10.0, grid))
    assert [step.index for _, step in found] == list(range(len(found)))
    assert all(0.5 <= step.elapsed_steps <= 1.5 + 10 / fps for _, step in found[1:])
    # A step lasts at least half a period: at 24 frames a second it takes eight to reach the grid.
    for at, _ in found[SETTLED_STEPS + 9 :]:
        # Of the frames nearest to a step the first is taken: within a frame of halfway.
        since_border = ((at - grid) * 10 / NS_PER_S + 0.5) % 1.0
        assert since_border <= 10 / fps + 1e-3 or since_border >= 1 - 1e-3


@given(st.floats(9.9, 10.1), st.integers(0, NS_PER_S), st.lists(st.integers(-20, 20)))
def test_a_camera_of_one_frame_a_step_has_them_all_wherever_the_grid_lies(
    fps: float, start: int, jitter_ms: list[int]
) -> None:
    clock = StepClock(10.0, grid_ns=0)
    jitter = [*jitter_ms, *[0] * 40][:40]
    times = [start + round(i * NS_PER_S / fps) + j * 1_000_000 for i, j in enumerate(jitter, 1)]
    found = [step for t in times if (step := clock.step(t)) is not None]
    assert len(found) >= len(times) - 1


def test_a_camera_that_gets_slow_leaves_the_grid() -> None:
    clock = StepClock(10.0, grid_ns=0)
    on_grid(30.0, 30_000_000, 60, clock)
    # Ten frames a second, each on the border between two steps.
    slow = [step for _, step in on_grid(10.0, 20 * NS_PER_S // 10 + 50_000_000, 40, clock)]
    jittered = 6 * NS_PER_S + 50_000_000
    late = [clock.step(jittered + i * NS_PER_S // 10 + (-1) ** i * 9_000_000) for i in range(40)]
    assert len(slow) >= 39
    assert sum(step is not None for step in late) >= 39


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
