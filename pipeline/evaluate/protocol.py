"""The rules of the protocols: the prediction of a clip, and the order of the clips in a stream.

The pipeline scores a clip step by step, exactly as it scores a camera. Training, export and
evaluation all use the rules of this module, so that their figures can be compared.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Scores = npt.NDArray[np.float32]


def clip_scores(step_scores: Scores, background: npt.NDArray[np.bool_]) -> Scores:
    """Return one probability per label for a clip, (C,) float32; its prediction is the largest.

    ``step_scores`` is (S, C) float32: the probabilities, in order, at the clip's steps that have
    any. ``background`` is (C,) bool, true for the labels of no action. Raises ValueError for no
    steps or shapes that disagree.

    Only the last step counts: its window ends with the clip and covers it as far back as it
    reaches. With the largest score at any step a prefix could win, since a star begins like a
    caret. The background labels are one answer, so the likeliest of them gets the probability of
    all.
    """
    if step_scores.ndim != 2 or len(step_scores) == 0:
        raise ValueError(f"step_scores must be (steps >= 1, labels), got {step_scores.shape}")
    if background.shape != (step_scores.shape[1],):
        raise ValueError(f"background must be ({step_scores.shape[1]},), got {background.shape}")
    scores = np.array(step_scores[-1], np.float32)
    if np.count_nonzero(background) > 1:
        background_scores = np.where(background, scores, np.float32(0.0))  # (C,)
        scores[background] = 0.0
        scores[background_scores.argmax()] = background_scores.sum()
    return scores


def best_of_subjects(scores: Sequence[Scores], background: npt.NDArray[np.bool_]) -> Scores:
    """One probability per label, (C,) float32, of a clip or a step that shows several subjects.

    ``scores`` are those of each subject, (C,) each. An action gets the score of its best subject. A
    background label gets the least, because it stands for nobody who does anything; the sum is 1
    again. One subject keeps its scores. Where nobody is, nothing happens: the first background
    label has 1.
    """
    if len(scores) == 1:
        return scores[0]
    if not len(scores):
        nothing = np.zeros(len(background), np.float32)
        nothing[background.argmax()] = 1.0
        return nothing
    rows = np.stack(scores)
    best = np.where(background, rows.min(0), rows.max(0)).astype(np.float32)
    return np.asarray(best / max(float(best.sum()), 1e-12), np.float32)


def stream_order(is_action: Sequence[bool], seed: int) -> list[int | None]:
    """Return the order of the clips in a stream: shuffled actions, with background after each.

    ``is_action`` is true for each clip that shows an action; the result holds indices into it.
    Background clips are spread evenly. Each is used at least once, and as often as needed to follow
    every action. Without background clips, a pause (None) follows each action.
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
        # An even share of the background: one clip, or more where background clips are many.
        start, end = (i * count // len(actions) for i in (place, place + 1))
        order += [action, *between[start:end]]
    return order
