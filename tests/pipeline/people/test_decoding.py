"""From the network's numbers to boxes, for any numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from pipeline.people.decoding import (
    MOST_CANDIDATES,
    cells,
    decoded,
    found_people,
    suppressed,
)
from pipeline.people.geometry import overlaps
from pipeline.people.letterbox import Boxes, Floats, Letterbox

STRIDES, BINS = (8, 16, 32), 11
FEWER = settings(max_examples=30)  # a table of boxes takes long to draw
sizes = st.tuples(st.integers(1, 8), st.integers(1, 8)).map(lambda s: (32 * s[0], 32 * s[1]))
logits = arrays.arrays(
    np.float32,
    st.tuples(st.integers(0, 30), st.just(4 * BINS)),
    elements=st.floats(-50, 50, width=32),
)


@st.composite
def boxes_and_scores(draw: st.DrawFn) -> tuple[Boxes, Floats]:
    count = draw(st.integers(0, 40))
    corners = arrays.arrays(np.float32, (count, 2), elements=st.floats(0, 300, width=16))
    low, extent = draw(corners), draw(corners)
    scores = draw(arrays.arrays(np.float32, count, elements=st.floats(0, 1, width=16)))
    return np.hstack([low, low + extent]), scores


def sides_of(distances: tuple[float, float, float, float]) -> Floats:
    """Logits whose distributions have these means, in strides."""
    rows = np.full((4, BINS), -1e4, np.float32)
    for row, distance in zip(rows, distances, strict=True):
        below = min(int(distance), BINS - 2)
        share = distance - below
        row[below], row[below + 1] = np.log(max(1 - share, 1e-9)), np.log(max(share, 1e-9))
    return rows.reshape(1, -1)


@given(sizes)
def test_each_scale_has_one_cell_for_its_stride_squared(size: tuple[int, int]) -> None:
    grid = cells(size, STRIDES)
    assert len(grid) == sum(size[0] // stride * (size[1] // stride) for stride in STRIDES)
    for stride in STRIDES:
        own = grid[grid[:, 2] == stride]
        assert own[0, :2].tolist() == [stride / 2, stride / 2]
        assert own[-1, :2].tolist() == [size[1] - stride / 2, size[0] - stride / 2]
        # Row by row, as the network flattens its maps.
        assert (np.diff(own[:, 1]) >= 0).all()


def test_a_box_lies_at_the_means_of_its_four_distributions() -> None:
    grid = np.asarray([[100, 60, 16]], np.float32)
    box = decoded(sides_of((1, 0.5, 2.25, 10)), grid)
    np.testing.assert_allclose(box, [[100 - 16, 60 - 8, 100 + 36, 60 + 160]], atol=1e-2)


@given(logits)
def test_boxes_hold_their_cell_and_reach_no_further_than_the_last_bin(sides: Floats) -> None:
    grid = cells((64, 64), STRIDES)[: len(sides)]
    boxes = decoded(sides, grid)
    assert boxes.shape == (len(sides), 4)
    reach = (BINS - 1) * grid[:, 2:] + 1e-2
    for low, high in ((boxes[:, :2], grid[:, :2]), (grid[:, :2], boxes[:, 2:])):
        assert (high - low >= -1e-2).all()
        assert (high - low <= reach).all()


@given(logits, st.floats(-20, 20))
def test_a_constant_added_to_the_logits_changes_nothing(sides: Floats, more: float) -> None:
    grid = cells((64, 64), STRIDES)[: len(sides)]
    shifted = decoded(sides + np.float32(more), grid)
    np.testing.assert_allclose(shifted, decoded(sides, grid), atol=0.05)


@FEWER
@given(boxes_and_scores())
def test_overlap_is_a_share_and_the_same_both_ways(case: tuple[Boxes, Floats]) -> None:
    boxes, _ = case
    table = overlaps(boxes, boxes)
    assert ((table >= 0) & (table <= 1 + 1e-5)).all()
    np.testing.assert_allclose(table, table.T, atol=1e-5)
    whole = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) > 1e-3
    np.testing.assert_allclose(np.diag(table)[whole], 1, atol=1e-3)


def test_overlap_of_known_boxes() -> None:
    boxes = np.asarray([[0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [1, 1, 1, 1]], np.float32)
    np.testing.assert_allclose(overlaps(boxes[:1], boxes), [[1, 1 / 3, 0, 0]], atol=1e-6)


@FEWER
@given(boxes_and_scores(), st.floats(0.1, 0.9))
def test_what_is_kept_is_apart_and_what_is_dropped_lies_on_a_better_one(
    case: tuple[Boxes, Floats], most: float
) -> None:
    boxes, scores = case
    kept = suppressed(boxes, scores, most)
    assert len(set(kept)) == len(kept)
    assert (np.diff(scores[kept]) <= 0).all()
    table = overlaps(boxes, boxes)
    for place, one in enumerate(kept):
        assert all(table[one, other] <= most for other in kept[:place])
    for one in set(range(len(boxes))) - set(kept):
        assert any(table[one, o] > most and scores[o] >= scores[one] for o in kept)


@FEWER
@given(boxes_and_scores())
def test_suppressing_again_changes_nothing(case: tuple[Boxes, Floats]) -> None:
    boxes, scores = case
    kept = suppressed(boxes, scores, 0.5)
    assert suppressed(boxes[kept], scores[kept], 0.5) == list(range(len(kept)))


def test_a_flood_of_candidates_is_bounded() -> None:
    count = 10 * MOST_CANDIDATES
    boxes = np.column_stack([np.arange(count), np.zeros(count)] * 2).astype(np.float32)
    boxes[:, 2:] += 0.5
    kept = suppressed(boxes, np.linspace(0, 1, count, dtype=np.float32), 0.5)
    assert kept == list(range(count - 1, count - 1 - MOST_CANDIDATES, -1))


def network_outputs(*people: tuple[int, float, Floats]) -> tuple[Floats, Floats]:
    """Outputs for a 64 by 64 input: each of ``people`` is a cell, a score and its sides."""
    count = len(cells((64, 64), STRIDES))
    scores = np.full(count, 0.01, np.float32)
    sides = np.zeros((count, 4 * BINS), np.float32)
    for cell, score, own in people:
        scores[cell], sides[cell] = score, own
    return scores, sides


def test_two_people_are_found_and_a_second_box_of_one_is_not() -> None:
    person = sides_of((1, 2, 1, 2))  # 16 by 32 pixels around the cell's centre, at stride 8
    outputs = network_outputs(
        (18, 0.9, person), (19, 0.5, sides_of((2, 2, 0.01, 2))), (29, 0.7, person)
    )
    box = Letterbox.of((64, 64), 64, 32)
    found = found_people(*outputs, box, STRIDES, 0.3, 0.5)
    assert found.shape == (2, 5)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 4], [0.9, 0.7])
    np.testing.assert_allclose(found[0, :4], np.asarray([12, 4, 28, 36]) / 64, atol=0.01)


@pytest.mark.parametrize("least", [0.5, 1.0])
def test_nobody_is_an_empty_table(least: float) -> None:
    box = Letterbox.of((64, 64), 64, 32)
    found = found_people(*network_outputs(), box, STRIDES, least, 0.5)
    assert found.shape == (0, 5)
    assert found.dtype == np.float32


def test_a_box_in_the_border_is_nobody() -> None:
    box = Letterbox.of((20, 64), 64, 64)  # the picture is rows 22 to 42 of 64
    outputs = network_outputs((0, 0.9, sides_of((0.1, 0.1, 0.1, 0.1))))
    assert len(found_people(*outputs, box, STRIDES, 0.3, 0.5)) == 0
