"""The search for the largest number of cameras that a loop holds."""

import pytest

from benchmarks.peers import Trial, most_cameras
from benchmarks.peers.bare import Due


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 8, 11, 23])
def test_the_largest_number_that_holds_is_found(limit: int) -> None:
    tried = []

    def loop(cameras: int) -> Trial:
        tried.append(cameras)
        good = cameras <= limit
        return Trial(cameras, [10.0 if good else 6.0] * cameras, [20.0, 90.0], 1.0)

    cameras, trials = most_cameras(loop, 10.0, most=24)
    assert cameras == limit
    assert [trial.cameras for trial in trials] == tried
    assert len(tried) <= 10


def test_a_loop_that_holds_not_even_one_camera_gets_the_part_that_it_works_off() -> None:
    cameras, _ = most_cameras(lambda n: Trial(n, [7.5] * n, [40.0, 90.0], 1.0), 30.0)
    assert cameras == 0.25


def test_frames_that_are_late_or_missed_do_not_hold() -> None:
    assert Trial(1, [10.0], [20.0, 199.0], 1.0).holds(10.0)
    assert not Trial(1, [10.0], [20.0, 201.0], 1.0).holds(10.0)
    assert not Trial(2, [10.0, 9.7], [20.0, 30.0], 1.0).holds(10.0)
    assert not Trial(1, [0.0], [], 1.0).holds(10.0)


def test_frames_are_due_once_a_step_or_always() -> None:
    due, always = Due(10.0), Due(0.0)
    times = [i / 30 + 0.001 for i in range(30)]
    assert sum(map(due, times)) == 10
    assert all(map(always, times))
