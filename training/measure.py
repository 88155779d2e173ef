"""A model's scores along clips and streams, and its predictions for clips.

The window slides over a clip as it does live, and :mod:`pipeline.evaluate.protocol` turns its
scores into a prediction. Next: :mod:`training.stream_figures`.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.evaluate.protocol import best_of_subjects, clip_scores
from training.config import TrainConfig
from training.data import BACKBONE_BATCH, NOBODY, Clip
from training.model import TwoStream
from training.sequences import stack_valid
from training.subjects import by_clip

STREAMS = ("fused", "spatial", "temporal")
Floats = npt.NDArray[np.float32]


TINY = np.float32(1e-12)


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


class ClipFeatures(NamedTuple):
    """Both streams' features of a clip, (S, d) each, and its ``mask`` (S, 2), float32."""

    spatial: Tensor
    temporal: Tensor
    mask: Tensor


Features = Callable[[Clip], ClipFeatures]
"""Gives the features of a clip, such as those that are computed already."""


@torch.inference_mode()
def clip_features(
    model: TwoStream, clip: Clip, motion: Callable[[Tensor], Tensor] | None = None
) -> ClipFeatures:
    """Both streams' features at each step of a clip.

    ``motion`` may replace the model's :meth:`~training.temporal.TemporalNetwork.features`.
    """
    motion = motion or model.temporal.features
    grid, fields, mask = clip_tensors(clip, model.stack)
    stacks = model.stacks(model.temporal.resized(fields)[None])[0]
    spatial = [model.spatial.head(part) for part in torch.split(grid, BACKBONE_BATCH)]
    temporal = [motion(part) for part in torch.split(stacks, BACKBONE_BATCH)]
    return ClipFeatures(torch.cat(spatial), torch.cat(temporal), mask)


@torch.inference_mode()
def stream_scores(
    model: TwoStream, clip: Clip, window: int, features: Features | None = None
) -> StreamScores:
    """The scores of the sliding window at each step of a clip.

    Padding doesn't change a window's state, so one pass over the first ``window`` steps gives the
    scores of all windows that end there. Later windows are unfolded and run as a batch.
    """
    inputs = features(clip) if features else clip_features(model, clip)
    start = model.fusion.steps(*(x[None, :window] for x in inputs))
    scores = [x[0].exp() for x in start[:3]]
    if len(clip) > window:
        slid = [x.unfold(0, window, 1)[1:].transpose(1, 2) for x in inputs]
        later = model.fusion(*slid)
        scores = [torch.cat(pair) for pair in zip(scores, later[:3], strict=True)]
    return StreamScores(*(np.asarray(x.numpy(), np.float32) for x in scores))


def background_mask(config: TrainConfig) -> npt.NDArray[np.bool_]:
    """(C,) bool, true for background labels."""
    return np.array([label in config.background for label in config.labels])


@torch.inference_mode()
def predict(
    model: TwoStream, config: TrainConfig, clips: Sequence[Clip], features: Features | None = None
) -> npt.NDArray[np.int64]:  # fmt: skip
    """(K, 3) predicted labels of K clips: fused, spatial alone, temporal alone.

    The prediction for a clip is that of the window that ends with it; of several subjects, each
    label has the best one's score. ``features`` may supply the features of a clip that are already
    computed.
    """
    background = background_mask(config)
    rows = []
    for group in by_clip(clips):
        each: list[list[Floats]] = [[] for _ in STREAMS]
        for clip in group:
            if clip.subject != NOBODY:
                inputs = features(clip) if features else clip_features(model, clip)
                scores = model.fusion(*(x[None, -config.window :] for x in inputs))[:3]
                for stream, x in zip(each, scores, strict=True):
                    stream.append(clip_scores(x.numpy(), background))
        rows.append([int(best_of_subjects(stream, background).argmax()) for stream in each])
    return np.array(rows, np.int64).reshape(-1, 3)


def best_scores(
    model: TwoStream, config: TrainConfig, subjects: Sequence[Clip], features: Features | None
) -> Floats:
    """Fused scores (S, C) at all steps of the clip that shows ``subjects``: of each label the best
    subject's. A step that shows nobody is background."""
    background = background_mask(config)
    each: list[list[Floats]] = [[] for _ in range(subjects[0].steps)]
    for clip in subjects:
        if clip.subject != NOBODY:
            scores = stream_scores(model, clip, config.window, features).fused
            for place in np.flatnonzero(clip.seen).tolist():
                each[clip.start + place].append(scores[place])
    return np.stack([best_of_subjects(step, background) for step in each])


def confusion(
    truth: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], labels: int
) -> npt.NDArray[np.int64]:
    """(C, C) counts, row = true label, column = predicted."""
    matrix = np.zeros((labels, labels), np.int64)
    np.add.at(matrix, (truth, predicted), 1)
    return matrix
