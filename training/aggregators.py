"""Aggregators along the window: features (N, T, D) and a mask (N, T) -> states (N, T, width).

Every aggregator is causal: a step's state doesn't depend on later steps. It skips masked steps, so
padding at a window's old end changes nothing. Therefore one pass over a sequence that is no longer
than the window equals all the windows that end at its steps.

The states go to a classifier (:mod:`training.fusion`), its outputs to
:func:`training.optimise.loss_of`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

KEEP = 60.0
DILATIONS = (1, 2, 4, 8, 16)
HEADS = 4
LAYERS = 2
REACH = 64
FAR_BELOW = -1e4
LEAST_CHANGE = 0.01


class MaskedGRU(nn.Module):
    """A gated recurrent unit (Cho et al. 2014) whose state a masked step doesn't change.

    The update gate has one more input, 1 where the step is absent. Its weight is fixed and so large
    that the gate saturates and keeps the state. In ONNX it is an ordinary GRU: padding and gaps
    need no lengths, no loop and no other operator.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inputs + 1, hidden, batch_first=True)
        self.hidden = self.width = hidden
        self.fix_gate()

    @torch.no_grad()
    def fix_gate(self) -> None:
        """Set the fixed weight; call it after each step of an optimiser."""
        weight = self.gru.weight_ih_l0
        assert isinstance(weight, Tensor)
        weight[:, -1] = 0.0
        weight[self.hidden : 2 * self.hidden, -1] = KEEP

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` (N, T, D), ``mask`` (N, T) 0 or 1 -> states (N, T, hidden)."""
        present = mask.unsqueeze(-1)
        states: Tensor = self.gru(torch.cat([x * present, 1.0 - present], -1))[0]
        return states


class CausalConvolutions(nn.Module):
    """Gated dilated convolutions over the past (van den Oord et al., WaveNet, 2016).

    Five layers of kernel 3 span 63 steps. Before every layer a masked step is set to zero, like the
    padding before the window.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.width = hidden
        self.enter = nn.Linear(inputs, hidden)
        self.layers = nn.ModuleList(
            nn.Conv1d(hidden, 2 * hidden, 3, dilation=dilation) for dilation in DILATIONS
        )

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` (N, T, D), ``mask`` (N, T) 0 or 1 -> states (N, T, hidden)."""
        present = mask.unsqueeze(1)
        states = self.enter(x).transpose(1, 2) * present
        for layer, dilation in zip(self.layers, DILATIONS, strict=True):
            content, gate = layer(functional.pad(states, (2 * dilation, 0))).chunk(2, 1)
            states = (states + torch.tanh(content) * torch.sigmoid(gate)) * present
        y: Tensor = states.transpose(1, 2)
        return y


class CausalAttention(nn.Module):
    """Two layers of self-attention over the past, with a learned bias for each lag (Vaswani et al.
    2017; Shaw et al. 2018).

    Masked steps and lags of :data:`REACH` or more get no weight.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        if hidden % HEADS:
            raise ValueError(f"hidden must be a multiple of {HEADS}, got {hidden}")
        self.width = hidden
        self.enter = nn.Linear(inputs, hidden)
        self.bias = nn.Parameter(torch.zeros(LAYERS, HEADS, REACH))
        self.layers = nn.ModuleList(_AttentionLayer(hidden) for _ in range(LAYERS))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` (N, T, D), ``mask`` (N, T) 0 or 1 -> states (N, T, hidden)."""
        step = torch.arange(x.shape[1], device=x.device)
        lag = step[:, None] - step[None]
        hidden = ((lag < 0) | (lag >= REACH)).float() * FAR_BELOW
        unseen = (1.0 - mask)[:, None, None] * FAR_BELOW
        states: Tensor = self.enter(x)
        for layer, bias in zip(self.layers, self.bias, strict=True):
            states = layer(states, bias[:, lag.clamp(0, REACH - 1)] + hidden + unseen)
        return states


class _AttentionLayer(nn.Module):
    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.project = nn.Linear(hidden, 3 * hidden)
        self.leave = nn.Linear(hidden, hidden)
        self.before, self.between = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.each = nn.Sequential(
            nn.Linear(hidden, 2 * hidden), nn.GELU(), nn.Linear(2 * hidden, hidden)
        )

    def forward(self, states: Tensor, bias: Tensor) -> Tensor:
        parts = self.project(self.before(states)).chunk(3, -1)
        query, key, value = (x.unflatten(-1, (HEADS, -1)).transpose(1, 2) for x in parts)
        weight = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5 + bias
        attended = (torch.softmax(weight, -1) @ value).transpose(1, 2).flatten(2)
        states = states + self.leave(attended)
        refined: Tensor = states + self.each(self.between(states))
        return refined


class WindowStatistics(nn.Module):
    """The mean of each feature over the window, and its mean change; nothing is trained.

    The change is the logarithm of the mean absolute difference from step to step. Both are centred
    and scaled by the mean and standard deviation over training windows (:meth:`calibrate`). A
    statistic without any step is 0, the average.

    This suits continuous actions with few examples, such as fights: fitting a linear classifier
    of these statistics has no local minima.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.width = 2 * inputs
        self.register_buffer("centre", torch.zeros(self.width))
        self.register_buffer("scale", torch.ones(self.width))

    def measured(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Statistics (N, T, 2 D) of the steps up to each step, and a mask of the same shape.

        The mask is 1 where a statistic has data, else 0. ``x`` (N, T, D); ``mask`` (N, T, D) or
        (N, T, 1), 0 or 1.
        """
        x = x * mask
        both = mask[:, 1:] * mask[:, :-1]
        change = (x[:, 1:] - x[:, :-1]).abs() * both
        # Subtracting a step from itself gives zeros of the right shape and dtype, also in ONNX.
        none, no_pair = x[:, :1] - x[:, :1], mask[:, :1] - mask[:, :1]
        steps = torch.cumsum(mask, 1)
        pairs = torch.cumsum(torch.cat([no_pair, both], 1), 1)
        mean = torch.cumsum(x, 1) / steps.clamp(min=1.0)
        moved = torch.cumsum(torch.cat([none, change], 1), 1) / pairs.clamp(min=1.0)
        known = [(count > 0).float().expand_as(x) for count in (steps, pairs)]
        return torch.cat([mean, torch.log(moved + LEAST_CHANGE)], -1), torch.cat(known, -1)

    @torch.no_grad()
    def calibrate(self, measured: Tensor, known: Tensor) -> None:
        """Set the average and the scale from (N, 2 D) statistics of training windows."""
        count = known.sum(0).clamp(min=1.0)
        centre = (measured * known).sum(0) / count
        spread = (((measured - centre) ** 2 * known).sum(0) / count).sqrt()
        self.centre.copy_(centre)
        self.scale.copy_(1.0 / spread.clamp(min=LEAST_CHANGE))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """``x`` (N, T, D), ``mask`` 0 or 1 -> states (N, T, 2 D).

        ``mask`` is (N, T), or (N, T, D) if features are masked separately.
        """
        measured, known = self.measured(x, mask if mask.dim() == x.dim() else mask.unsqueeze(-1))
        return (measured - self.centre) * self.scale * known


AGGREGATORS: dict[
    str,
    type[MaskedGRU] | type[CausalConvolutions] | type[CausalAttention] | type[WindowStatistics],
] = {
    "gru": MaskedGRU,
    "convolution": CausalConvolutions,
    "attention": CausalAttention,
    "statistics": WindowStatistics,
}
