"""How the scores of a clip's steps become one prediction for the clip.

The stepped stream runs over the clip exactly as it would over a camera; this is what is done with
the scores that come out. Kept apart so that training, export and evaluation agree to the letter.
"""

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]


def clip_scores(step_scores: Scores, background: npt.NDArray[np.bool_]) -> Scores:
    """One score per label for a clip; its prediction is the largest.

    ``step_scores`` is (S, C) float32, the fused probabilities at each of the clip's steps;
    ``background`` is (C,) bool, true for the labels that mean nothing. A label's score is its
    largest at any step; those that mean nothing share what the largest leaves: ``1 - max``.
    Returned is (C,) float32. Raises ValueError for no steps or shapes that disagree.
    """
    if step_scores.ndim != 2 or len(step_scores) == 0:
        raise ValueError(f"step_scores must be (steps >= 1, labels), got {step_scores.shape}")
    if background.shape != (step_scores.shape[1],):
        raise ValueError(f"background must be ({step_scores.shape[1]},), got {background.shape}")
    scores = step_scores.max(axis=0)
    if background.any() and not background.all():
        scores[background] = 1.0 - scores[~background].max()
    return np.asarray(scores, np.float32)
