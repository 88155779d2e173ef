"""The exact assignment, against trying everything."""

from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.people.assignment import pair

COSTS = st.tuples(st.integers(0, 4), st.integers(0, 4)).flatmap(
    lambda shape: arrays(
        np.float64, shape, elements=st.one_of(st.integers(0, 9).map(float), st.just(np.inf))
    )
)


def total(cost: npt.NDArray[np.float64], pairs: list[tuple[int, int]], alone: float) -> float:
    return float(sum(cost[one] for one in pairs) + alone * (len(cost) - len(pairs)))


def cheapest(cost: npt.NDArray[np.float64], alone: float) -> float:
    rows, columns = cost.shape
    places = [*range(columns), *[-1] * rows]
    return min(
        sum(alone if place < 0 else cost[row, place] for row, place in enumerate(chosen))
        for chosen in set(permutations(places, rows))
    )


@pytest.mark.slow
@given(COSTS, st.sampled_from([0.0, 3.5, 100.0]))
def test_no_other_pairing_is_cheaper(cost: npt.NDArray[np.float64], alone: float) -> None:
    pairs = pair(cost, alone)
    rows, columns = [row for row, _ in pairs], [column for _, column in pairs]
    assert rows == sorted(set(rows))
    assert len(set(columns)) == len(columns)
    assert all(np.isfinite(cost[one]) for one in pairs)
    assert total(cost, pairs, alone) == pytest.approx(cheapest(cost, alone))


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nothing_pairs_with_nothing(shape: tuple[int, int]) -> None:
    assert pair(np.zeros(shape), 1.0) == []


def test_a_crowd_is_paired() -> None:
    rng = np.random.default_rng(0)
    order = rng.permutation(64)
    cost = rng.uniform(5, 10, (64, 64))
    cost[np.arange(64), order] = 1.0
    assert pair(cost, 100.0) == list(enumerate(order))
