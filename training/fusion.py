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

# Of a weight set by hand to 0 or 1, whose logit would be infinite.
EPSILON = 1e-6


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


class Classifier(nn.Module):
    """States -> log probabilities, and logits of foresight, at every step."""

    def __init__(self, width: int, labels: int) -> None:
        super().__init__()
        self.classify = nn.Linear(width, labels)
        self.foresee = nn.Linear(width, labels)

    def said(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """``states`` (N, T, width) -> (N, T, labels) twice."""
        return torch.log_softmax(self.classify(states), -1), self.foresee(states)


class StreamHead(Classifier):
    """A classifier of what an aggregator makes of the features along a window."""

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
    * attention: the same, ``α_t = σ(W_a [h_s ; h_t] + b_a)``
    * score: late fusion of the streams' own scores (Simonyan and Zisserman 2014), as a product
      of experts (Hinton 2002): ``log p = τ (α log p_s + (1 − α) log p_t)`` but for a constant, α
      and τ one learned number each

    A stream that is absent at a step has no say in it: α becomes 0 or 1 there (concat: zeros in
    its place); a step at which both are absent is passed over.

    h is formed at each step and then aggregated along the window; but window statistics, which
    sum up each feature by itself, are taken of each stream first, and h is formed of those: zeros
    in place of a stream that comes late would count as a change.
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
            # Two experts that know nothing of each other multiply: τ α = 1.
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
        """By what late fusion multiplies the streams' log-probabilities."""
        return math.exp(self.log_sharpness.item())

    def set_share(self, share: float) -> None:
        """Weigh appearance by ``share``, in (0, 1), whatever was learned (score, weighted)."""
        with torch.no_grad():
            self.balance.copy_(torch.logit(torch.tensor(share), EPSILON))

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

    def _score(self, own: StepLogits, seen: Tensor) -> Tensor:
        # Late fusion weighs whole streams: one that was never there in the window is left out, and
        # the other then speaks for itself.
        both = seen[..., 0:1] * seen[..., 1:2]
        share, sharpness = torch.sigmoid(self.balance), torch.exp(self.log_sharpness)
        spatial = both * sharpness * share + (1.0 - both) * seen[..., 0:1]
        temporal = both * sharpness * (1.0 - share) + (1.0 - both) * seen[..., 1:2]
        return torch.log_softmax(spatial * own.spatial + temporal * own.temporal, -1)

    def mixed(self, spatial: Tensor, temporal: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """h (N, T, width) of two (N, T, size), and the weight of spatial in it, (N, T)."""
        alpha = self._alpha(spatial, temporal, mask)
        if self.kind == "concat":
            return torch.cat([spatial, temporal], -1), alpha
        weight = alpha.unsqueeze(-1)
        return weight * spatial + (1.0 - weight) * temporal, alpha

    def steps(self, spatial: Tensor, temporal: Tensor, mask: Tensor) -> StepLogits:
        """What the window says at each of its steps, none of which sees a later one.

        ``spatial``, ``temporal`` (N, T, d) float32, ``mask`` (N, T, 2) float32 of 0 and 1.
        """
        spatial, temporal = spatial * mask[..., 0:1], temporal * mask[..., 1:2]
        by_spatial = self.spatial_head.states(spatial, mask[..., 0])
        by_temporal = self.temporal_head.states(temporal, mask[..., 1])
        own_spatial, ahead_spatial = self.spatial_head.said(by_spatial)
        own_temporal, ahead_temporal = self.temporal_head.said(by_temporal)
        seen = (torch.cumsum(mask, 1) > 0).float()
        if self.kind == "score":
            alpha = self._alpha(spatial, temporal, mask)
            said, ahead = own_temporal, ahead_temporal
        elif self.sums_first:
            fused, alpha = self.mixed(by_spatial, by_temporal, seen)
            said, ahead = self.fused_head.said(fused)
        else:
            fused, alpha = self.mixed(spatial, temporal, mask)
            there = torch.clamp(mask[..., 0] + mask[..., 1], max=1.0)
            assert isinstance(self.fused_head, StreamHead)
            said, ahead = self.fused_head.said(self.fused_head.states(fused, there))
        foresight = Foresight(ahead, ahead_spatial, ahead_temporal)
        steps = StepLogits(said, own_spatial, own_temporal, alpha, foresight)
        return steps._replace(fused=self._score(steps, seen)) if self.kind == "score" else steps

    def forward(
        self, spatial: Tensor, temporal: Tensor, mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Probabilities (N, C) at the newest step: fused, spatial, temporal; alpha (N, T)."""
        steps = self.steps(spatial, temporal, mask)
        fused, own_spatial, own_temporal = (x[:, -1].exp() for x in steps[:3])
        return fused, own_spatial, own_temporal, steps.alpha
