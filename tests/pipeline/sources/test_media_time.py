"""Media time: the place of a frame in its file, whatever its stamps."""

import itertools
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.sources.media_time import MediaTime
from pipeline.sources.video_file import LOOKAHEAD

Stamps = Sequence[int | None]


def placed(stamps: Stamps, period: int = 40) -> list[int]:
    """The media times of frames with these stamps, as a file's reader asks for them."""
    time = MediaTime(period)
    return [
        time.advance(stamp, stamps[index + 1 : index + 1 + LOOKAHEAD])
        for index, stamp in enumerate(stamps)
    ]


@given(st.lists(st.none() | st.integers(-(10**12), 10**12), min_size=2))
def test_it_strictly_increases_whatever_the_stamps(stamps: list[int | None]) -> None:
    assert all(a < b for a, b in itertools.pairwise(placed(stamps)))


@given(st.lists(st.integers(1, 10**9), min_size=1))
def test_good_stamps_are_left_alone(steps: list[int]) -> None:
    stamps = np.cumsum(steps).tolist()
    assert placed(stamps) == stamps


def test_stamps_that_repeat_in_pairs_do_not_run_away() -> None:
    assert placed([0, 0, 80, 80, 160, 160, 240, 240]) == [0, 40, 80, 120, 160, 200, 240, 280]
    film = [stamp for stamp in range(0, 80 * 500, 80) for _ in range(2)]
    assert abs(placed(film)[-1] - film[-1]) <= 80


def test_stamps_that_repeat_in_threes_and_more_share_the_gap() -> None:
    assert placed([0, 0, 0, 120, 120, 120])[:4] == [0, 40, 80, 120]
    assert placed([0, 0, 0, 0, 0, 200])[1:5] == [40, 80, 120, 160]


def test_frames_that_are_stamped_an_hour_ahead_stay_in_their_place() -> None:
    good: list[int | None] = list(range(0, 40 * 200, 40))
    for wrong in ([50], [50, 51, 52], [1], [0], [199], [20, 90]):
        stamps = list(good)
        for index in wrong:
            stamps[index] = 3_600_000 + 40 * index
        times = placed(stamps)
        if wrong != [199]:  # nothing follows the last frame, which would show that it is wrong
            assert abs(times[-1] - 40 * 199) <= 40, wrong
            assert all(abs(time - 40 * i) <= 80 for i, time in enumerate(times)), wrong


def test_stamps_that_go_back_for_one_frame() -> None:
    assert placed([0, 40, 80, 0, 160, 200]) == [0, 40, 80, 120, 160, 200]


def test_a_timeline_that_begins_again_goes_on() -> None:
    stamps = [*range(0, 4000, 40), *range(0, 4000, 40)]
    assert placed(stamps) == list(range(0, 8000, 40))


def test_missing_stamps_take_a_frame_period_or_share_the_gap() -> None:
    assert placed([None] * 4) == [0, 40, 80, 120]
    assert placed([0, None, None, 120, 160]) == [0, 40, 80, 120, 160]
    assert placed([5] * 4) == [5, 45, 85, 125]


def test_a_pause_between_good_stamps_is_believed() -> None:
    assert placed([0, 40, 80, 60_000, 60_040]) == [0, 40, 80, 60_000, 60_040]


def test_after_a_jump_the_next_frame_is_a_period_later() -> None:
    time = MediaTime(40)
    assert [time.advance(stamp) for stamp in (0, 40, 80)] == [0, 40, 80]
    time.jump()
    assert [time.advance(stamp) for stamp in (0, 40)] == [120, 160]
