"""The network of the flow method ``deep``: Lucas and Kanade's equation, steered by a small CNN.

The same network improves the flow at each level of a pyramid, from the coarsest image to the
finest:

1. Warp the second image by the flow so far.
2. Solve the structure-tensor equation over two windows.
3. A CNN decides at every pixel which solution to take, how far to trust it, and whether to replace
   it by the trusted flow of its neighbourhood.

The CNN computes weights and no flow, so it needn't learn directions. The finest images that are
compared have half the frames' size. The last step enlarges the flow with weights that the CNN
computes from the full frame.

Based on: Lucas and Kanade (1981); SPyNet (Ranjan and Black, CVPR 2017) for a small network on a
pyramid of warped images; RAFT (Teed and Deng, ECCV 2020) for one set of weights and for learned
upsampling.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.flow.config import NetworkConfig

WINDOWS = 2
LOCAL_MEAN = 9  # pixels over which a picture's local mean and contrast are computed
ROBUST = 1.0  # a difference that counts half, in units of local contrast
DAMPING = 0.0002  # of the structure tensor, in the same unit
LEAST_CONTRAST = 3.0  # gray levels, added to the contrast so that noise isn't amplified
REACHES = (5, 17)  # sides, in pixels, of the neighbourhoods whose mean may replace a flow vector
NEIGHBOURHOOD = 5  # side, in pixels, of the mean from which the flow's own variation is measured
_FIVE_POINTS = torch.tensor([1.0, -8.0, 0.0, 8.0, -1.0]) / 24  # for the sum of two pictures
# A pixel becomes four. For each of them: which of the 3 x 3 about the pixel are its four nearest.
# For u and v.
_NEAREST = torch.tensor([4, 3, 1, 0, 4, 5, 1, 2, 4, 3, 7, 6, 4, 5, 7, 8])
_NEAREST_TAPS = torch.eye(9)[_NEAREST].reshape(16, 1, 3, 3).repeat(2, 1, 1, 1)


def _pool(x: Tensor, size: int) -> Tensor:
    """The mean over ``size`` x ``size`` pixels about each; at the border, over those inside."""
    if size <= 9:  # up to this size onnxruntime is faster in a single pooling
        return functional.avg_pool2d(x, size, 1, size // 2, count_include_pad=False)
    rows = functional.avg_pool2d(x, (size, 1), 1, (size // 2, 0), count_include_pad=False)
    return functional.avg_pool2d(rows, (1, size), 1, (0, size // 2), count_include_pad=False)


def _derivatives() -> Tensor:
    """(2, 1, 5, 5): the five-point difference along x and y of the mean of two pictures' sum."""
    kernel = torch.zeros(2, 1, 5, 5)
    kernel[0, 0, 2, :] = kernel[1, 0, :, 2] = _FIVE_POINTS
    return kernel


_DERIVATIVES = _derivatives()


class _Level(NamedTuple):
    """A level's pictures, normalised by their local mean and contrast."""

    prev: Tensor  # (N, 1, h, w)
    next: Tensor  # (N, 1, h, w)
    planes: Tensor  # (N, 4, h, w), even and odd pixels of the first picture at twice the size


class _Evidence(NamedTuple):
    """The solutions of the equation at each pixel, and the CNN's input."""

    candidates: Tensor  # (N, 2, WINDOWS, h, w), what each window would add to the flow
    sure: Tensor  # (N, 1, h, w), 0 to 1: how well the smallest window determines the flow
    features: Tensor  # (N, FEATURES, h, w)


# The CNN's outputs: which solution or none; trust; which neighbourhood or none; and weights of the
# four nearest pixels for each of the four pixels that one becomes.
_DECISIONS = [WINDOWS + 1, 1, 1 + len(REACHES), 16]
FEATURES = 4 * WINDOWS + 2 + 1 + 4 + 3


def warp(image: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
    """``image`` sampled where ``flow`` points, and a mask, 1 where that is inside; (N, 1, h, w).

    ``image`` (N, 1, h, w) float32, ``flow`` (N, 2, h, w) float32 in its pixels.
    """
    height, width = image.shape[2], image.shape[3]
    across = torch.arange(width).to(flow.dtype)[None, None, None, :] * (2.0 / (width - 1)) - 1
    down = torch.arange(height).to(flow.dtype)[None, None, :, None] * (2.0 / (height - 1)) - 1
    x = flow[:, :1] * (2.0 / (width - 1)) + across
    y = flow[:, 1:] * (2.0 / (height - 1)) + down
    inside = (torch.maximum(x.abs(), y.abs()) <= 1.001).to(image.dtype)
    at = torch.stack([x.squeeze(1), y.squeeze(1)], -1)
    moved = functional.grid_sample(image, at, padding_mode="border", align_corners=True)
    return moved, inside


@torch.no_grad()
def _evidence(level: _Level, flow: Tensor) -> _Evidence:
    """Solve the structure-tensor equation over two windows, and collect the CNN's input."""
    moved, inside = warp(level.next, flow)
    change = (level.prev - moved) * inside
    mean = functional.pad(level.prev + moved, (2, 2, 2, 2), mode="replicate")
    slopes = functional.conv2d(mean, _DERIVATIVES)
    # The flow's own variation in the window is part of the equation (Le Besnerais and
    # Champagnat, ICIP 2005).
    relative = flow - _pool(flow, NEIGHBOURHOOD)
    lasting = change + (slopes * relative).sum(1, keepdim=True)
    size = change.abs()
    weighted = slopes * (ROBUST / (ROBUST + size))
    products = torch.cat(
        [weighted * slopes, weighted[:, :1] * slopes[:, 1:], weighted * lasting, size], 1
    )
    small = _pool(products, 5)
    wide = _pool(small, 9)
    solved, sure = _solve(torch.stack([small, wide], 2))
    candidates = (solved - relative.unsqueeze(2)).clamp(-4, 4)
    differing = wide[:, 5:]
    differing = differing / (differing + 0.1)
    features = torch.cat(
        [_squashed(candidates.flatten(1, 2)), sure.flatten(1, 2), _squashed(relative), differing,
         level.planes, moved, change, inside],
        1,
    )  # fmt: skip
    return _Evidence(candidates, sure[:, 0, :1], features)


def _squashed(x: Tensor) -> Tensor:
    return x / (1 + x.abs())


def _solve(sums: Tensor) -> tuple[Tensor, Tensor]:
    """The solutions in pixels, and how well each window determines them; (N, 2, WINDOWS, h, w).

    ``sums`` (N, 6, WINDOWS, h, w): xx, yy, xy, right side x and y; the last isn't used here.
    """
    xx, yy, xy = sums[:, 0], sums[:, 1], sums[:, 2]
    determinant = xx * yy - xy * xy
    trace = xx + yy
    damped = determinant + DAMPING * (trace + DAMPING)
    tensor = torch.stack([yy + DAMPING, xx + DAMPING], 1)
    right = sums[:, 3:5]
    solved = (tensor * right - xy.unsqueeze(1) * right.flip(1)) / damped.unsqueeze(1)
    return solved, torch.stack([determinant / damped, trace / (trace + DAMPING)], 1)


class Update(nn.Module):
    """One improvement of a level's flow, with the same weights at all levels."""

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        narrow, wide = config.narrow, config.wide
        self.enter = nn.Conv2d(FEATURES, narrow, 1)
        self.down = nn.Conv2d(narrow, wide, 3, stride=2, padding=1)
        self.middle = nn.ModuleList(
            nn.Conv2d(wide, wide, 3, padding=reach, dilation=reach) for reach in config.reaches
        )
        self.up = nn.Conv2d(wide, 4 * narrow, 1)
        self.decide = nn.Conv2d(narrow, sum(_DECISIONS), 1)
        nn.init.normal_(self.decide.weight, std=0.01)
        with torch.no_grad():
            # Initially: the mean of the solutions, equal trust, bilinear enlargement.
            first = [0.0] * WINDOWS + [-2.0] + [0.0] * (2 + len(REACHES))
            bilinear = torch.tensor([9.0, 3.0, 3.0, 1.0]).log().repeat(4)
            _bias(self.decide).copy_(torch.cat([torch.tensor(first), bilinear]))

    def forward(self, level: _Level, flow: Tensor) -> tuple[Tensor, Tensor]:
        """The improved flow (N, 2, h, w) in pixels, and weights to enlarge it, (N, 16, h, w)."""
        evidence = _evidence(level, flow)
        entered = functional.relu(self.enter(evidence.features))
        middle = functional.relu(self.down(entered))
        for layer in self.middle:
            middle = functional.relu(layer(middle))
        seen = functional.relu(entered + functional.pixel_shuffle(self.up(middle), 2))
        weights = self.decide(seen).clamp(-10, 10).exp()
        choice, trusted, agree, enlarge = torch.split(weights, _DECISIONS, 1)
        flow = flow + (evidence.candidates * _shares(choice)[:, :WINDOWS].unsqueeze(1)).sum(2)
        return _agreed(flow, trusted * (evidence.sure + 0.01), _shares(agree)), enlarge


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias


def _shares(weights: Tensor) -> Tensor:
    """Weights > 0, normalised to sum to 1 over the channels."""
    return weights / weights.sum(1, keepdim=True)


def _agreed(flow: Tensor, trusted: Tensor, shares: Tensor) -> Tensor:
    """A blend of each flow vector with the trusted ones of its neighbourhoods.

    ``trusted`` (N, 1, h, w) > 0 is the weight of a vector in the means about it (normalised
    convolution, Knutsson and Westin 1993). ``shares`` (N, 1 + len(REACHES), h, w) are the weights
    of the vector itself and of the means.
    """
    weighted = torch.cat([flow * trusted, trusted], 1)
    agreed = flow * shares[:, :1]
    for index, reach in enumerate(REACHES, 1):
        mean = _pool(weighted, reach)
        agreed = agreed + mean[:, :2] / mean[:, 2:] * shares[:, index : index + 1]
    return agreed


def _enlarged(flow: Tensor, weights: Tensor) -> Tensor:
    """(N, 2, h, w) -> (N, 2, 2h, 2w); each pixel is a weighted mean of the four nearest to it.

    With weights 9, 3, 3, 1 this is bilinear; learned, it keeps edges (RAFT's convex upsampling
    with four neighbours in place of nine).
    """
    total = torch.unflatten(weights, 1, (4, 4)).sum(2) * 0.5
    padded = functional.pad(flow, (1, 1, 1, 1), mode="replicate")
    # One component at a time: onnxruntime is slow if it must repeat the weights for both.
    planes = [
        torch.unflatten(nearest * weights, 1, (4, 4)).sum(2) / total
        for nearest in torch.split(functional.conv2d(padded, _NEAREST_TAPS, groups=2), 16, 1)
    ]
    return functional.pixel_shuffle(torch.cat(planes, 1), 2)


class DeepFlow(nn.Module):
    """Two gray images to dense flow.

    ``forward(prev, next)``: (N, H, W) uint8 each, sides multiples of :attr:`multiple`, to
    (N, 2, H, W) float32, pixels from prev to next, x right and y down. Identical or flat frames
    have no flow (apart from rounding), whatever the weights.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.steps = config.steps
        self.multiple = 2 ** (len(config.steps) + 1)
        self.update = Update(config)

    def forward(self, prev: Tensor, following: Tensor) -> Tensor:
        return self.all_levels(prev, following)[-1]

    def all_levels(self, prev: Tensor, following: Tensor) -> list[Tensor]:
        """The flow after every update, (N, 2, h, w) in pixels of its own size; the last has the
        frames' size."""
        images = torch.stack([prev, following], 1).flatten(0, 1).unsqueeze(1).float()
        pyramid = [images]
        for _ in self.steps:
            pyramid.append(functional.avg_pool2d(pyramid[-1], 2))
        levels = [_level(fine, half) for fine, half in pairwise(pyramid)]
        flow = torch.zeros_like(pyramid[-1][::2]).repeat(1, 2, 1, 1)
        found: list[Tensor] = []
        for position, (level, steps) in enumerate(zip(levels[::-1], self.steps, strict=True)):
            if position:
                flow = functional.interpolate(
                    flow * 2, scale_factor=2.0, mode="bilinear", align_corners=False
                )
            for _ in range(steps):
                flow, enlarge = self.update(level, flow)
                found.append(flow)
        found[-1] = _enlarged(flow, enlarge)
        return found


def _level(fine: Tensor, image: Tensor) -> _Level:
    """The pictures of a level: local mean subtracted, divided by local contrast.

    ``image`` (2N, 1, h, w) float32, the two frames of each pair one after the other; ``fine`` the
    same at twice the size.
    """
    local = _pool(image, LOCAL_MEAN)
    high = image - local
    contrast = _pool(high * high, LOCAL_MEAN).sqrt() + LEAST_CONTRAST
    high = high / contrast
    first = fine[::2]
    planes = torch.cat([first[:, :, y::2, x::2] for y in range(2) for x in range(2)], 1)
    planes = planes - local[::2]
    return _Level(high[::2], high[1::2], planes / contrast[::2])
