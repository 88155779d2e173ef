"""Training a classifier of window statistics: nothing but linear layers is learned.

With a few hundred clips of as few places, networks of any depth learn the places. Both streams
then keep their ImageNet weights, :class:`~training.aggregators.WindowStatistics` sums up a window,
and what is left is logistic regression, which has one solution, found in seconds.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.aggregators import WindowStatistics
from training.config import TrainConfig
from training.data import Clip
from training.evaluation import clip_tensors
from training.fusion import StreamHead
from training.model import TwoStream, new_model
from training.optimise import Curves, Report

Rng = np.random.Generator
AT_ONCE = 16


class ClipFeatures(NamedTuple):
    """Of a clip: both streams' features (S, d), and ``mask`` (S, 2), float32."""

    spatial: Tensor
    temporal: Tensor
    mask: Tensor


class FixedStreams:
    """Features of clips by streams that aren't trained, each clip's computed once."""

    def __init__(self, config: TrainConfig) -> None:
        self._model = new_model(config).eval()
        self._known: dict[int, tuple[Clip, ClipFeatures]] = {}

    def of(self, clip: Clip) -> ClipFeatures:
        """The features of a clip's steps."""
        # The clip is kept beside its features so that nothing else can get its identity.
        if id(clip) not in self._known:
            self._known[id(clip)] = clip, self._computed(clip)
        return self._known[id(clip)][1]

    @torch.inference_mode()
    def _computed(self, clip: Clip) -> ClipFeatures:
        grid, fields, mask = clip_tensors(clip, self._model.stack)
        planes = self._model.temporal.resized(fields)
        spatial, temporal = self._model.step_features(grid[None], planes[None])
        return ClipFeatures(spatial[0], temporal[0], mask)


@dataclass(frozen=True)
class Windows:
    """N training windows of T steps: features (N, T, d), ``mask`` (N, T, 2), ``label`` (N,) int64
    and ``weight`` (N,) float32, which adds up to 1."""

    spatial: Tensor
    temporal: Tensor
    mask: Tensor
    label: Tensor
    weight: Tensor


def spans(steps: int, config: TrainConfig, rng: Rng) -> list[slice]:
    """Parts of a clip of ``steps`` steps: the window that ends with it, and others at random."""
    parts = [slice(max(0, steps - config.window), steps)]
    shortest = min(config.linear.shortest, steps)
    for _ in range(config.linear.windows - 1):
        length = int(rng.integers(shortest, min(steps, config.window) + 1))
        first = int(rng.integers(steps - length + 1))
        parts.append(slice(first, first + length))
    return parts


def clip_weights(config: TrainConfig, clips: Sequence[Clip], negatives: int) -> list[float]:
    """What each clip counts for; the last ``negatives`` of them are those of the negatives.

    All labels count the same, and so do the clips of one, but that negatives have a share of their
    own in the first background label.
    """
    own = len(clips) - negatives
    counts = np.bincount([clip.label for clip in clips[:own]], minlength=len(config.labels))
    each = 1.0 / np.count_nonzero(counts) / np.maximum(counts, 1)
    weights = [float(each[clip.label]) for clip in clips[:own]]
    if negatives:
        share, background = config.linear.negatives, config.labels.index(config.background[0])
        weights = [
            weight * (1.0 - share) if clip.label == background else weight
            for clip, weight in zip(clips, weights, strict=False)
        ]
        weights += [share / np.count_nonzero(counts) / negatives] * negatives
    return weights


def windows_of(
    config: TrainConfig, streams: FixedStreams, clips: Sequence[Clip], weights: Sequence[float]
) -> Windows:
    """Windows of all clips, padded at their old end as windows of a new stream are."""
    rng = np.random.default_rng(config.seed)
    rows, labels, shares = [], [], []
    for clip, weight in zip(clips, weights, strict=True):
        features = streams.of(clip)
        parts = spans(len(clip), config, rng)
        for part in parts:
            missing = config.window - (part.stop - part.start)
            rows.append([functional.pad(x[part], (0, 0, missing, 0)) for x in features])
            labels.append(clip.label)
            shares.append(weight / len(parts))
    spatial, temporal, mask = (torch.stack(column) for column in zip(*rows, strict=True))
    share = torch.tensor(shares)
    return Windows(spatial, temporal, mask, torch.tensor(labels), share / share.sum())


@torch.inference_mode()
def measured(head: StreamHead, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Statistics of whole windows (N, 2 D), and which are known; see WindowStatistics."""
    assert isinstance(head.aggregate, WindowStatistics)
    parts = [
        [y[:, -1] for y in head.aggregate.measured(a, b)]
        for a, b in zip(torch.split(x, AT_ONCE), torch.split(mask, AT_ONCE), strict=True)
    ]
    values, known = (torch.cat(column) for column in zip(*parts, strict=True))
    return values, known


def head_inputs(model: TwoStream, windows: Windows) -> list[tuple[StreamHead, Tensor, Tensor]]:
    """Each head, with the features (N, T, D) and the mask (N, T, D or 1) that it looks at."""
    fusion = model.fusion
    mask = windows.mask
    by_stream = [(windows.spatial, mask[..., 0:1]), (windows.temporal, mask[..., 1:2])]
    heads = [(fusion.spatial_head, *by_stream[0]), (fusion.temporal_head, *by_stream[1])]
    if fusion.kind == "concat":
        features = torch.cat([x for x, _ in by_stream], -1)
        there = torch.cat([mask.expand_as(x) for x, mask in by_stream], -1)
        heads.append((fusion.fused_head, features, there))
    return heads


class LinearTrainer:
    """Fits every head of a model whose streams stay as they are; as Trainer, but starts anew."""

    def __init__(
        self, config: TrainConfig, streams: FixedStreams, clips: Sequence[Clip], negatives: int
    ) -> None:
        """``clips`` to train on, of which the last ``negatives`` show no label."""
        self._config, self._streams = config, streams
        self._clips, self._negatives = clips, negatives
        heads = 3 if config.fusion.kind == "concat" else 2
        self.iteration, self.total = 0, heads * config.optimiser.iterations
        self.curves = Curves()

    def train(self, report: Report) -> TwoStream:
        """The model in evaluation mode; ``report`` gets each iteration and its loss."""
        config, model = self._config, new_model(self._config).eval()
        weights = clip_weights(config, self._clips, self._negatives)
        windows = windows_of(config, self._streams, self._clips, weights)
        for number, (head, features, mask) in enumerate(head_inputs(model, windows), 1):
            for loss in fitted(head, features, mask, windows, config):
                self.curves.loss.append(loss)
                self.iteration += 1
                report(self.iteration, loss)
            self.iteration = number * config.optimiser.iterations
        return model


def fitted(
    head: StreamHead, features: Tensor, mask: Tensor, windows: Windows, config: TrainConfig
) -> Iterable[float]:
    """Fit a head by L-BFGS (Liu and Nocedal 1989); yields the objective as it goes down."""
    aggregate = head.aggregate
    assert isinstance(aggregate, WindowStatistics)
    values, known = measured(head, features, mask)
    aggregate.calibrate(values, known)
    states = (values - aggregate.centre) * aggregate.scale * known
    layer = head.classify
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    optimiser = torch.optim.LBFGS(
        layer.parameters(), max_iter=1, history_size=20, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        optimiser.zero_grad()
        each = functional.cross_entropy(layer(states), windows.label, reduction="none")
        loss = (each * windows.weight).sum() + config.linear.decay * layer.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    for _ in range(config.optimiser.iterations):
        yield optimiser.step(objective).item()  # type: ignore[no-untyped-call]
