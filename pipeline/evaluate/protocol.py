"""How clips are examined: alone, and one after the other as a camera would show them.

The stepped stream runs over them exactly as it would over a camera; this is what is done with the
scores that come out, and the order of the clips. Kept apart so that training, export and evaluation
agree to the letter.
"""

from collections.abc import Sequence

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


def stream_order(is_action: Sequence[bool], seed: int) -> list[int | None]:
    """Which clip comes when in a stream: shuffled actions, with background after each.

    Places in ``is_action``, which says of each clip whether it shows an action. Background clips
    are spread evenly, each used at least once and as often as needed to follow every action;
    without any, a pause (None) follows.
    """
    random = np.random.default_rng(seed)
    actions = [place for place, action in enumerate(is_action) if action]
    quiet = [place for place, action in enumerate(is_action) if not action]
    actions = [actions[i] for i in random.permutation(len(actions))]
    quiet = [quiet[i] for i in random.permutation(len(quiet))]
    if not actions:
        return [*quiet]
    if not quiet:
        return [item for action in actions for item in (action, None)]
    count = max(len(actions), len(quiet))
    between = [quiet[i % len(quiet)] for i in range(count)]
    order: list[int | None] = []
    for place, action in enumerate(actions):
        start, end = (i * count // len(actions) for i in (place, place + 1))
        order += [action, *between[start:end]]
    return order
