"""The governor: less while steps are late, step by step; more again after, ever more carefully."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clock import NS_PER_S
from pipeline.decision.governor import (
    CALM_S,
    HURRY_S,
    LADDER,
    LONGEST_CALM_S,
    SETTLE_S,
    Governor,
)
from pipeline.transport.messages import Pace

TICK_S = 0.5


class Watch:
    """A governor that gets the lateness of steps twice a second."""

    def __init__(self) -> None:
        self.governor, self.now_s = Governor(target_ms=100.0), 0.0

    def run(self, seconds: float, late_ms: float, skipped: bool = False) -> list[float]:
        """Seconds into the run at which the pace changed."""
        began, changes = self.now_s, []
        while self.now_s - began < seconds:
            self.now_s += TICK_S
            if self.governor.observe(round(self.now_s * NS_PER_S), late_ms, skipped):
                changes.append(self.now_s - began)
        return changes


def test_the_ladder_leaves_out_appearance_then_care_then_steps() -> None:
    assert LADDER[0] == Pace(1, False, 1)
    for before, after in itertools.pairwise(LADDER):
        assert after.spatial_every >= before.spatial_every
        assert after.fast_flow >= before.fast_flow
        assert after.step_every >= before.step_every
        assert after != before
    first_fast = next(i for i, pace in enumerate(LADDER) if pace.fast_flow)
    first_fewer = next(i for i, pace in enumerate(LADDER) if pace.step_every > 1)
    assert 1 < first_fast < first_fewer


def test_lateness_that_lasts_goes_down_the_ladder_a_rung_at_a_time() -> None:
    watch = Watch()
    assert watch.run(HURRY_S, 500.0) == []
    changes = watch.run(60.0, 500.0)
    assert len(changes) == len(LADDER) - 1
    assert watch.governor.pace == LADDER[-1]
    gaps = [b - a for a, b in itertools.pairwise(changes)]
    assert min(gaps) >= SETTLE_S + HURRY_S


def test_a_moment_of_lateness_changes_nothing() -> None:
    watch = Watch()
    for _ in range(20):
        assert watch.run(HURRY_S - TICK_S, 500.0) == []
        assert watch.run(TICK_S, 90.0) == []


def test_skipped_steps_are_late_however_early_the_others_are() -> None:
    watch = Watch()
    assert watch.run(HURRY_S + 2 * TICK_S, 10.0, skipped=True)


def test_between_early_and_late_the_pace_stays() -> None:
    watch = Watch()
    watch.run(4.0, 500.0)
    assert watch.governor.level == 1
    assert watch.run(600.0, 80.0) == []


def test_it_goes_up_after_a_calm_and_tries_ever_more_rarely_what_proved_too_much() -> None:
    watch = Watch()
    watch.run(4.0, 500.0)
    calm = CALM_S
    for _ in range(8):
        (up,) = watch.run(SETTLE_S + calm + 2 * TICK_S, 20.0)
        assert up > calm
        assert watch.governor.level == 0
        watch.run(SETTLE_S + HURRY_S + 2 * TICK_S, 500.0)
        assert watch.governor.level == 1
        calm = min(2 * calm, LONGEST_CALM_S)
    # What was well for long is tried soon again.
    watch.run(SETTLE_S + calm + 2 * TICK_S, 20.0)
    watch.run(2 * CALM_S, 20.0)
    watch.run(HURRY_S + 2 * TICK_S, 500.0)
    assert watch.governor.level == 1
    assert watch.run(SETTLE_S + CALM_S + 2 * TICK_S, 20.0)


@pytest.mark.slow
@given(st.lists(st.tuples(st.floats(0, 1000), st.booleans()), max_size=300))
def test_the_level_is_always_on_the_ladder(seen: list[tuple[float, bool]]) -> None:
    governor = Governor(target_ms=100.0)
    for tick, (late_ms, skipped) in enumerate(seen):
        before = governor.level
        changed = governor.observe(tick * NS_PER_S, late_ms, skipped)
        assert 0 <= governor.level < len(LADDER)
        assert abs(governor.level - before) == int(changed)
