"""Fusion of the two streams along a window, and the classifier on top.

One of four rules forms ``h_t`` from the two streams' features, an aggregator runs along the window,
and a linear layer classifies. Each stream also has a head of its own, so that a user can see the
scores of either. Next: :mod:`training.aggregators`.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.aggregators import AGGREGATORS
from training.config import FusionConfig

# Keeps the logit of a weight that is set to 0 or 1 finite.
EPSILON = 1e-6


class Foresight(NamedTuple):
    """Logits (N, T, C) of the gesture that is being drawn; for training alone."""

    fused: Tensor
    spatial: Tensor
    temporal: Tensor


class StepLogits(NamedTuple):
    """Log probabilities at every step, (N, T, C) each, and the weight of spatial, (N, T).

    ``ahead`` are the logits of foresight.
    """

    fused: Tensor
    spatial: Tensor
    temporal: Tensor
    alpha: Tensor
    ahead: Foresight


class Classifier(nn.Module):
    """States -> log probabilities and logits of foresight at every step."""

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        self.classify = nn.Linear(width, labels)
        self.foresee = nn.Linear(width, labels)

    def outputs(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """``states`` (N, T, width) -> log probabilities, foresight; (N, T, labels) each."""
        return torch.log_softmax(self.classify(states), -1), self.foresee(states)


class StreamHead(Classifier):
    """An aggregator along the window, and a classifier of its states."""

    def __init__(self, inputs: int, config: FusionConfig, labels: int) -> None:
        aggregate = AGGREGATORS[config.aggregator](inputs, config.hidden)
        super().__init__(aggregate.width, labels)
        self.before = nn.Dropout(config.dropout)
        self.aggregate = aggregate
        self.after = nn.Dropout(config.dropout)

    def states(self, features: Tensor, mask: Tensor) -> Tensor:
        """``features`` (N, T, inputs), ``mask`` (N, T) -> (N, T, width)."""
        y: Tensor = self.after(self.aggregate(self.before(features), mask))
        return y


class FusionNetwork(nn.Module):
    """``fusion.onnx``: a window of both streams' features -> scores of each label.

    With both streams present, h is

    * concat: ``[h_s ; h_t]``
    * weighted: ``α h_s + (1 − α) h_t``, α one learned number
    * attention: the same, with ``α_t = σ(W_a [h_s ; h_t] + b_a)``
    * score: no h, but late fusion of the streams' own scores (Simonyan and Zisserman 2014), as a
      product of experts (Hinton 2002): ``log p = τ (α log p_s + (1 − α) log p_t)`` up to a
      constant, α and τ one learned number each

    A stream that is absent at a step doesn't contribute there: α becomes 0 or 1 (concat: zeros in
    its place). A step at which both are absent is skipped.

    h is formed at each step and then aggregated along the window. With window statistics the order
    is reversed: they are computed for each stream, and h is formed from them. Otherwise the zeros
    in place of a stream that starts later would count as a change.
    """

    def __init__(self, config: FusionConfig, feature_size: int, labels: int) -> None:
        super().__init__()
        self.kind = config.kind
        self.sums_first = config.aggregator == "statistics"
        self.spatial_head = StreamHead(feature_size, config, labels)
        self.temporal_head = StreamHead(feature_size, config, labels)
        size = self.spatial_head.aggregate.width if self.sums_first else feature_size
        if config.kind in ("weighted", "score"):
            given = config.alpha if config.kind == "weighted" else None
            share = torch.tensor(0.5 if given is None else given)
            self.balance = nn.Parameter(torch.logit(share, EPSILON), given is None)
        if config.kind == "score":
            # A plain product of the two experts to begin with: τ α = 1.
            self.log_sharpness = nn.Parameter(torch.tensor(math.log(2.0)))
            return
        if config.kind == "attention":
            self.attend = nn.Linear(2 * size, 1)
            nn.init.constant_(self.attend.bias, -1.0)
        width = 2 * size if config.kind == "concat" else size
        self.fused_head: Classifier = (
            Classifier(width, labels) if self.sums_first else StreamHead(width, config, labels)
        )

    @property
    def sharpness(self) -> float:
        """τ, the factor of the weighted log probabilities in late fusion."""
        return math.exp(self.log_sharpness.item())

    def set_share(self, share: float) -> None:
        """Set α, the weight of appearance, to ``share`` from 0 to 1 (score, weighted)."""
        with torch.no_grad():
            self.balance.copy_(torch.logit(torch.tensor(share), EPSILON))

    def _alpha(self, spatial: Tensor, temporal: Tensor, mask: Tensor) -> Tensor:
        """(N, T), the weight of spatial among the streams that are present."""
        here, there = mask[..., 0], mask[..., 1]
        if self.kind == "attention":
            share = torch.sigmoid(self.attend(torch.cat([spatial, temporal], -1))).squeeze(-1)
        elif self.kind == "concat":
            share = torch.full_like(here, 0.5)
        else:
            share = torch.sigmoid(self.balance) * torch.ones_like(here)
        both = here * there
        return both * share + (1.0 - both) * here

    def _score(self, own: StepLogits, seen: Tensor) -> Tensor:
        # Late fusion weighs whole streams. If one was never present in the window, the result is
        # the other stream's own scores.
        both = seen[..., 0:1] * seen[..., 1:2]
        share, sharpness = torch.sigmoid(self.balance), torch.exp(self.log_sharpness)
        spatial = both * sharpness * share + (1.0 - both) * seen[..., 0:1]
        temporal = both * sharpness * (1.0 - share) + (1.0 - both) * seen[..., 1:2]
        return torch.log_softmax(spatial * own.spatial + temporal * own.temporal, -1)

    def mixed(self, spatial: Tensor, temporal: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """h (N, T, width) from two (N, T, size), and the weight of spatial in it, (N, T)."""
        alpha = self._alpha(spatial, temporal, mask)
        if self.kind == "concat":
            return torch.cat([spatial, temporal], -1), alpha
        weight = alpha.unsqueeze(-1)
        return weight * spatial + (1.0 - weight) * temporal, alpha

    def steps(self, spatial: Tensor, temporal: Tensor, mask: Tensor) -> StepLogits:
        """The outputs at each step of the window; they don't depend on later steps.

        ``spatial``, ``temporal`` (N, T, d) float32, ``mask`` (N, T, 2) float32 of 0 and 1.
        """
        spatial, temporal = spatial * mask[..., 0:1], temporal * mask[..., 1:2]
        by_spatial = self.spatial_head.states(spatial, mask[..., 0])
        by_temporal = self.temporal_head.states(temporal, mask[..., 1])
        own_spatial, ahead_spatial = self.spatial_head.outputs(by_spatial)
        own_temporal, ahead_temporal = self.temporal_head.outputs(by_temporal)
        seen = (torch.cumsum(mask, 1) > 0).float()
        if self.kind == "score":
            alpha = self._alpha(spatial, temporal, mask)
            # _score replaces the scores below. Late fusion has no foresight; motion's is used.
            label_scores, ahead = own_temporal, ahead_temporal
        elif self.sums_first:
            fused, alpha = self.mixed(by_spatial, by_temporal, seen)
            label_scores, ahead = self.fused_head.outputs(fused)
        else:
            fused, alpha = self.mixed(spatial, temporal, mask)
            there = torch.clamp(mask[..., 0] + mask[..., 1], max=1.0)
            assert isinstance(self.fused_head, StreamHead)
            label_scores, ahead = self.fused_head.outputs(self.fused_head.states(fused, there))
        foresight = Foresight(ahead, ahead_spatial, ahead_temporal)
        steps = StepLogits(label_scores, own_spatial, own_temporal, alpha, foresight)
        return steps._replace(fused=self._score(steps, seen)) if self.kind == "score" else steps

    def forward(
        self, spatial: Tensor, temporal: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Probabilities (N, C) at the newest step: fused, spatial, temporal; alpha (N, T)."""
        steps = self.steps(spatial, temporal, mask)
        fused, own_spatial, own_temporal = (x[:, -1].exp() for x in steps[:3])
        return fused, own_spatial, own_temporal, steps.alpha
