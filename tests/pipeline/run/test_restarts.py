"""Restarts: growing pauses, a budget, and which stages the run continues without."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clock import NS_PER_S
from pipeline.run.restarts import (
    FIRST_BACKOFF_S,
    MAX_BACKOFF_S,
    SUSPENSION_S,
    GiveUp,
    Restart,
    Restarts,
    Suspend,
)
from testbed.clock import HandClock


def died(restarts: Restarts, clock: HandClock, dispensable: bool = False) -> object:
    return restarts.died(clock.now_ns, dispensable=dispensable)


def test_pauses_double_up_to_the_longest() -> None:
    restarts, clock = Restarts(10, 1000.0), HandClock()
    pauses = []
    for _ in range(10):
        verdict = died(restarts, clock)
        assert isinstance(verdict, Restart)
        pauses.append(verdict.after_s)
        clock.sleep(verdict.after_s)
    assert pauses == [min(FIRST_BACKOFF_S * 2**n, MAX_BACKOFF_S) for n in range(10)]
    assert restarts.total == 10


def test_the_budget_is_of_the_last_while_only() -> None:
    restarts, clock = Restarts(2, 60.0), HandClock()
    assert isinstance(died(restarts, clock), Restart)
    clock.sleep(59)
    assert isinstance(died(restarts, clock), Restart)
    assert died(restarts, clock) == GiveUp("2 restarts within 60 s")
    clock.sleep(2)
    # The first restart is more than a minute ago.
    assert isinstance(died(restarts, clock), Restart)


def test_a_stage_that_the_run_can_do_without_is_suspended_and_starts_afresh() -> None:
    restarts, clock = Restarts(1, 60.0), HandClock()
    died(restarts, clock, dispensable=True)
    suspended = died(restarts, clock, dispensable=True)
    assert suspended == Suspend(SUSPENSION_S, "1 restarts within 60 s")
    assert died(restarts, clock, dispensable=True) == Restart(FIRST_BACKOFF_S)
    assert restarts.total == 2


@pytest.mark.parametrize("dispensable", [False, True])
def test_a_lossless_stage_is_never_started_again(dispensable: bool) -> None:
    restarts = Restarts(5, 60.0, lossless=True)
    verdict = died(restarts, HandClock(), dispensable)
    assert isinstance(verdict, GiveUp)
    assert "lossless" in verdict.reason
    assert restarts.total == 0


def test_no_restart_may_be_allowed() -> None:
    assert died(Restarts(0, 60.0), HandClock()) == GiveUp("0 restarts within 60 s")


@given(st.lists(st.floats(0, 100), max_size=40), st.integers(0, 5))
def test_there_are_never_more_restarts_in_the_window_than_allowed(
    pauses: list[float], allowed: int
) -> None:
    restarts, now_ns, at = Restarts(allowed, 60.0), 0, []
    for pause in pauses:
        now_ns += round(pause * NS_PER_S)
        if isinstance(restarts.died(now_ns, dispensable=False), Restart):
            at.append(now_ns)
        recent = [one for one in at if now_ns - one <= 60 * NS_PER_S]
        assert len(recent) <= allowed
