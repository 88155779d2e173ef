"""Intervals and calibration against values that are known or can be worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluate.statistics import calibration, mean, most_expected, ratio, spread, wilson


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    # Brown, Cai and DasGupta (2001) and the formula worked by hand.
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (1, 1, 0.2065, 1.0)],
)
def test_wilsons_interval(part: int, whole: int, low: float, high: float) -> None:
    assert wilson(part, whole) == pytest.approx((low, high), abs=1e-4)


@given(whole=st.integers(1, 500), data=st.data())
def test_the_interval_holds_the_share_and_stays_in_bounds(whole: int, data: st.DataObject) -> None:
    part = data.draw(st.integers(0, whole))
    interval = wilson(part, whole)
    assert interval is not None
    low, high = interval
    assert 0.0 <= low <= round(part / whole, 4) <= high <= 1.0


# Half the chi-squared quantile: Garwood's exact bound, one-sided.
@pytest.mark.parametrize(("count", "most"), [(0, 2.9957), (1, 4.7439), (2, 6.2958), (10, 16.9622)])
def test_the_rate_that_a_count_rules_out(count: int, most: float) -> None:
    assert most_expected(count) == pytest.approx(most, abs=1e-4)


def test_many_alarms_have_a_bound_close_above_them() -> None:
    bound = most_expected(10_000)
    assert bound == pytest.approx(10_000 + 1.645 * math.sqrt(10_000), rel=1e-3)
    with pytest.raises(ValueError, match="negative"):
        most_expected(-1)


def test_calibration_error_is_the_mean_gap_weighted_by_clips() -> None:
    # Three at 0.9 of which all are right, one at 0.5 that is wrong.
    found = calibration(np.array([0.9, 0.9, 0.9, 0.5]), np.array([True, True, True, False]), bins=5)
    assert found.error == pytest.approx(0.75 * 0.1 + 0.25 * 0.5)
    assert [row.clips for row in found.bins] == [0, 0, 1, 0, 3]
    assert (found.bins[4].confidence, found.bins[4].accuracy) == (0.9, 1.0)
    assert (found.bins[0].confidence, found.bins[0].accuracy) == (None, None)


def test_bins_hold_their_upper_edge_and_nothing_is_lost() -> None:
    confidence = np.array([0.0, 0.2, 0.2000001, 1.0])
    found = calibration(confidence, np.ones(4, np.bool_), bins=5)
    assert [row.clips for row in found.bins] == [2, 1, 0, 0, 1]
    assert calibration(np.empty(0), np.empty(0, np.bool_)).error is None


def test_nothing_of_nothing_is_none() -> None:
    assert ratio(0, 0) is None
    assert wilson(0, 0) is None
    assert mean([None]) is None
    assert mean([0.5, None, 1.0]) == 0.75
    assert spread([]) == {"median": None, "p90": None}
    assert spread([1.0, 3.0]) == {"median": 2.0, "p90": 2.8}
