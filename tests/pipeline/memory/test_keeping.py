"""Which steps are kept: those around motion, and no others."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arrays import STILL
from pipeline.memory.keeping import Keeper, MotionGate, moving_share

BOUND = 6.0


def field(pixels: float, cells: int) -> np.ndarray:
    """A field in which so many of 100×100 cells move to the right by so many pixels."""
    flow = np.full((100, 100, 2), STILL, np.uint8)
    flow.reshape(-1, 2)[:cells, 0] = round(STILL + pixels / BOUND * (255 - STILL))
    return flow


def test_the_share_of_cells_that_move() -> None:
    assert moving_share([], BOUND) == 0.0
    assert moving_share([field(1.0, 0)], BOUND) == 0.0
    assert moving_share([field(1.0, 250)], BOUND) == 0.025
    assert moving_share([field(-1.0, 250)], BOUND) == 0.025
    assert moving_share([field(0.1, 250)], BOUND) == 0.0  # noise
    assert moving_share([field(1.0, 10), field(1.0, 30)], BOUND) == 0.003


@pytest.mark.parametrize("noise", [0.0, 0.002, 0.008])
def test_noise_is_learned_and_a_hand_is_seen_over_it(noise: float) -> None:
    gate = MotionGate()
    chance = np.random.default_rng(3)
    seen = [gate.moves(noise * chance.uniform(0.5, 1.3)) for _ in range(6000)]
    assert not any(seen[3000:])
    hand = max(0.003, 4 * noise)
    assert any(gate.moves(hand) for _ in range(3))


def test_a_crowded_street_never_becomes_noise() -> None:
    gate = MotionGate()
    assert not any(gate.moves(0.05) for _ in range(2))
    assert all(gate.moves(0.05) for _ in range(100_000))


@pytest.mark.parametrize("every", [10, 20, 40])
@pytest.mark.parametrize("lasts", [1, 2])
def test_key_pictures_are_no_motion(every: int, lasts: int) -> None:
    gate = MotionGate()
    assert not any(gate.moves(0.05 if number % every < lasts else 0.0) for number in range(6000))


def test_motion_that_comes_in_each_other_picture_is_motion() -> None:
    gate = MotionGate()
    assert all([gate.moves(0.05 * (number % 2)) for number in range(6000)][5:])


@given(st.lists(st.booleans(), max_size=200), st.integers(0, 12), st.integers(0, 12))
def test_what_is_near_motion_is_kept_once_and_in_order(
    moves: list[bool], before: int, after: int
) -> None:
    keeper: Keeper[int] = Keeper(before, after)
    kept = [item for number, one in enumerate(moves) for item in keeper.push(number, one)]
    # What comes before a motion is kept when it comes.
    wanted = [
        number
        for number in range(len(moves))
        if any(moves[max(0, number - after) : number + before + 1])
    ]
    assert kept == wanted


def test_it_says_when_something_was_left_out() -> None:
    keeper: Keeper[int] = Keeper(2, 1)
    for number in range(2):
        assert keeper.push(number, moves=False) == []
    assert not keeper.dropped
    keeper.push(2, moves=False)
    assert keeper.dropped
