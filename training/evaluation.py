"""How good a model is: on clips, and on streams.

The stepped stream runs over a clip as it would live; :mod:`pipeline.evaluation_protocol` turns
what it says into a prediction.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.evaluation_protocol import clip_scores
from training.compose import stack_valid
from training.config import TrainConfig
from training.data import Clip
from training.model import TwoStream

STREAMS = ("fused", "spatial", "temporal")
Floats = npt.NDArray[np.float32]


class StreamScores(NamedTuple):
    """Probabilities (S, C) at each step of a stream."""

    fused: Floats
    spatial: Floats
    temporal: Floats


def clip_tensors(clip: Clip, stack: int) -> tuple[Tensor, Tensor, Tensor]:
    """``grid`` (S, c, gh, gw), ``fields`` (S, 2, h, w), ``mask`` (S, 2) of a clip, float32."""
    mask = np.stack([clip.seen, clip.seen & stack_valid(clip.moving, stack)], -1).astype(np.float32)
    grid, fields = torch.from_numpy(clip.grid.copy()), torch.from_numpy(clip.fields)
    return grid.float(), fields.permute(0, 3, 1, 2).float(), torch.from_numpy(mask)


@torch.inference_mode()
def stream_scores(model: TwoStream, clip: Clip, window: int) -> StreamScores:
    """What the sliding window says at each step of a clip.

    A window that isn't full is padded with steps that leave the state as it was, so one pass over
    the first ``window`` steps is all the windows that end there.
    """
    grid, fields, mask = clip_tensors(clip, model.stack)
    planes = model.temporal.resized(fields)
    inputs = (*model.step_features(grid[None], planes[None]), mask[None])
    start = model.fusion.steps(*(x[:, :window] for x in inputs))
    scores = [x[0].exp() for x in start[:3]]
    if len(clip) > window:
        slid = [x[0].unfold(0, window, 1)[1:].transpose(1, 2) for x in inputs]
        later = model.fusion(*slid)
        scores = [torch.cat(pair) for pair in zip(scores, later[:3], strict=True)]
    return StreamScores(*(np.asarray(x.numpy(), np.float32) for x in scores))


def background_mask(config: TrainConfig) -> npt.NDArray[np.bool_]:
    """(C,) bool, true for labels that mean nothing."""
    return np.array([label in config.background for label in config.labels])


def predict(model: TwoStream, config: TrainConfig, clips: Sequence[Clip]) -> npt.NDArray[np.int64]:
    """(len(clips), 3) predicted labels: fused, spatial alone, temporal alone."""
    nothing = background_mask(config)
    rows = []
    for clip in clips:
        scores = stream_scores(model, clip, config.window)
        rows.append([int(clip_scores(stream, nothing).argmax()) for stream in scores])
    return np.array(rows, np.int64).reshape(-1, 3)


def confusion(
    truth: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], labels: int
) -> npt.NDArray[np.int64]:
    """(C, C) counts, row = true label, column = predicted."""
    matrix = np.zeros((labels, labels), np.int64)
    np.add.at(matrix, (truth, predicted), 1)
    return matrix
