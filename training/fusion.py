"""Fusion of the two streams along a window, and the classifier on top.

``h_t`` is formed from the two streams' features by one of four rules, an aggregator looks along
the window, and a linear layer gives the labels. Each stream also has a head of its own, so
that a user can see what either would have said.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.aggregators import AGGREGATORS
from training.config import FusionConfig


class Foresight(NamedTuple):
    """Logits (N, T, C) of the gesture that is being drawn; for training alone."""

    fused: Tensor
    spatial: Tensor
    temporal: Tensor


class StepLogits(NamedTuple):
    """Log probabilities at every step, (N, T, C) each, and the weight of spatial, (N, T)."""

    fused: Tensor
    spatial: Tensor
    temporal: Tensor
    alpha: Tensor
    ahead: Foresight


class StreamHead(nn.Module):
    """Features along a window -> log probabilities, and logits of foresight, at every step."""

    def __init__(self, inputs: int, config: FusionConfig, labels: int) -> None:
        super().__init__()
        self.before = nn.Dropout(config.dropout)
        self.aggregate = AGGREGATORS[config.aggregator](inputs, config.hidden)
        self.after = nn.Dropout(config.dropout)
        self.classify = nn.Linear(self.aggregate.width, labels)
        self.foresee = nn.Linear(self.aggregate.width, labels)

    def forward(self, features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        states = self.after(self.aggregate(self.before(features), mask))
        return torch.log_softmax(self.classify(states), -1), self.foresee(states)


class FusionNetwork(nn.Module):
    """``fusion.onnx``: a window of both streams' features -> scores of each label.

    With both streams present, h is

    * concat: ``[h_s ; h_t]``
    * weighted: ``α h_s + (1 − α) h_t``, α one learned number
    * attention: the same, ``α_t = σ(W_a [h_s ; h_t] + b_a)``
    * score: late fusion of the streams' own scores (Simonyan and Zisserman 2014), as a product
      of experts (Hinton 2002): ``log p = τ (α log p_s + (1 − α) log p_t)`` but for a constant, α
      and τ one learned number each

    A stream that is absent at a step has no say in it: α becomes 0 or 1 there (concat: zeros in
    its place); a step at which both are absent is passed over.
    """

    def __init__(self, config: FusionConfig, feature_size: int, labels: int) -> None:
        super().__init__()
        self.kind = config.kind
        self.aggregator = config.aggregator
        self.spatial_head = StreamHead(feature_size, config, labels)
        self.temporal_head = StreamHead(feature_size, config, labels)
        if config.kind in ("weighted", "score"):
            self.balance = nn.Parameter(torch.zeros(()))
        if config.kind == "score":
            # Two experts that know nothing of each other multiply: τ α = 1.
            self.log_sharpness = nn.Parameter(torch.tensor(math.log(2.0)))
        if config.kind == "attention":
            self.attend = nn.Linear(2 * feature_size, 1)
            nn.init.constant_(self.attend.bias, -1.0)
        if config.kind != "score":
            width = 2 * feature_size if config.kind == "concat" else feature_size
            self.fused_head = StreamHead(width, config, labels)

    def _alpha(self, spatial: Tensor, temporal: Tensor, mask: Tensor) -> Tensor:
        """(N, T), the weight of spatial among the streams that are there."""
        here, there = mask[..., 0], mask[..., 1]
        if self.kind == "attention":
            share = torch.sigmoid(self.attend(torch.cat([spatial, temporal], -1))).squeeze(-1)
        elif self.kind == "concat":
            share = torch.full_like(here, 0.5)
        else:
            share = torch.sigmoid(self.balance) * torch.ones_like(here)
        both = here * there
        return both * share + (1.0 - both) * here

    def _score(self, own: StepLogits, mask: Tensor) -> Tensor:
        # Late fusion weighs whole streams: one that was never there in the window is left out, and
        # the other then speaks for itself.
        seen = (torch.cumsum(mask, 1) > 0).float()
        both = seen[..., 0:1] * seen[..., 1:2]
        share, sharpness = torch.sigmoid(self.balance), torch.exp(self.log_sharpness)
        spatial = both * sharpness * share + (1.0 - both) * seen[..., 0:1]
        temporal = both * sharpness * (1.0 - share) + (1.0 - both) * seen[..., 1:2]
        return torch.log_softmax(spatial * own.spatial + temporal * own.temporal, -1)

    def _present(self, spatial: Tensor, temporal: Tensor, mask: Tensor) -> Tensor:
        """Which steps of the fused features there are: (N, T), or for each feature, (N, T, 2 d)."""
        if self.aggregator == "statistics" and self.kind == "concat":
            # Zeros in place of a stream that comes late would count as a change.
            streams = (spatial, mask[..., 0:1]), (temporal, mask[..., 1:2])
            return torch.cat([there.expand_as(features) for features, there in streams], -1)
        return torch.clamp(mask[..., 0] + mask[..., 1], max=1.0)

    def steps(self, spatial: Tensor, temporal: Tensor, mask: Tensor) -> StepLogits:
        """What the window says at each of its steps, none of which sees a later one.

        ``spatial``, ``temporal`` (N, T, d) float32, ``mask`` (N, T, 2) float32 of 0 and 1.
        """
        spatial, temporal = spatial * mask[..., 0:1], temporal * mask[..., 1:2]
        alpha = self._alpha(spatial, temporal, mask)
        by_spatial, ahead_spatial = self.spatial_head(spatial, mask[..., 0])
        by_temporal, ahead_temporal = self.temporal_head(temporal, mask[..., 1])
        ahead = Foresight(ahead_temporal, ahead_spatial, ahead_temporal)
        own = StepLogits(by_temporal, by_spatial, by_temporal, alpha, ahead)
        if self.kind == "score":
            return own._replace(fused=self._score(own, mask))
        weight = alpha.unsqueeze(-1)
        if self.kind == "concat":
            fused = torch.cat([spatial, temporal], -1)
        else:
            fused = weight * spatial + (1.0 - weight) * temporal
        said, foreseen = self.fused_head(fused, self._present(spatial, temporal, mask))
        return own._replace(fused=said, ahead=ahead._replace(fused=foreseen))

    def forward(
        self, spatial: Tensor, temporal: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Probabilities (N, C) at the newest step: fused, spatial, temporal; alpha (N, T)."""
        steps = self.steps(spatial, temporal, mask)
        fused, own_spatial, own_temporal = (x[:, -1].exp() for x in steps[:3])
        return fused, own_spatial, own_temporal, steps.alpha
