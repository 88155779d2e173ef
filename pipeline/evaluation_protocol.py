"""How the scores of a clip's steps become one prediction for the clip.

The stepped stream runs over the clip exactly as it would over a camera; this is what is done with
the scores that come out. Kept apart so that training, export and evaluation agree to the letter.
"""

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]


def clip_scores(step_scores: Scores, background: npt.NDArray[np.bool_]) -> Scores:
    """One probability per label for a clip; its prediction is the largest.

    ``step_scores`` is (S, C) float32, the probabilities at those of the clip's steps that have any,
    in their order; ``background`` is (C,) bool, true for the labels that mean nothing. What counts
    is the last step: the window that ends with the clip has seen all of it, as far as it reaches.
    (The largest score at any step would let a prefix win: a star begins like a caret.) Labels that
    mean nothing are one answer, so the likeliest of them carries the probability of all.
    Returned is (C,) float32. Raises ValueError for no steps or shapes that disagree.
    """
    if step_scores.ndim != 2 or len(step_scores) == 0:
        raise ValueError(f"step_scores must be (steps >= 1, labels), got {step_scores.shape}")
    if background.shape != (step_scores.shape[1],):
        raise ValueError(f"background must be ({step_scores.shape[1]},), got {background.shape}")
    scores = np.array(step_scores[-1], np.float32)
    if np.count_nonzero(background) > 1:
        nothing = np.where(background, scores, np.float32(0.0))
        scores[background] = 0.0
        scores[nothing.argmax()] = nothing.sum()
    return scores
