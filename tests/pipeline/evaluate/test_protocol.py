"""One prediction out of the scores of a clip's steps."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.evaluate.protocol import clip_scores

NOTHING = np.array([True, False, False])


def steps(*rows: list[float]) -> npt.NDArray[np.float32]:
    return np.array(rows, np.float32)


def test_the_window_that_ends_with_the_clip_decides() -> None:
    """Half a star looks like a caret and is surer of it than the whole star is of being one."""
    scores = steps([0.9, 0.05, 0.05], [0.05, 0.95, 0.0], [0.3, 0.1, 0.6])
    assert clip_scores(scores, NOTHING).tolist() == pytest.approx([0.3, 0.1, 0.6])


def test_labels_that_mean_nothing_are_one_answer() -> None:
    last = steps([0.35, 0.4, 0.25])
    two = np.array([True, False, True])
    assert clip_scores(last, two).tolist() == pytest.approx([0.6, 0.4, 0.0])
    assert clip_scores(last, NOTHING).tolist() == pytest.approx([0.35, 0.4, 0.25])
    assert clip_scores(last, np.zeros(3, np.bool_)).argmax() == 1


@pytest.mark.slow
@given(
    rows=st.lists(st.lists(st.floats(0.01, 1), min_size=4, max_size=4), min_size=1, max_size=5),
    background=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_probabilities_stay_probabilities(rows: list[list[float]], background: list[bool]) -> None:
    scores = steps(*rows)
    scores /= scores.sum(axis=1, keepdims=True)
    before = scores.copy()
    clip = clip_scores(scores, np.array(background))
    assert clip.sum() == pytest.approx(1.0, abs=1e-5)
    assert clip.min() >= 0.0
    assert (scores == before).all()


def test_scores_of_the_wrong_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="steps >= 1"):
        clip_scores(np.zeros((0, 3), np.float32), NOTHING)
    with pytest.raises(ValueError, match=r"background must be \(3,\)"):
        clip_scores(np.zeros((2, 3), np.float32), np.zeros(2, np.bool_))
