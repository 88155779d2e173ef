"""The motion stream: from a stack of flow fields to a feature vector of ``d`` numbers.

Shapes are those of :mod:`pipeline.model.pack`; the networks take quantised flow as it is stored.
Next: :mod:`training.fusion`.
"""

import itertools

import torch
from torch import Tensor, nn

from pipeline.model.pack import TemporalContract
from training.lite0 import (
    LITE0_CHANNELS,
    EfficientNetLite0,
    PooledHead,
    check_sides,
    convolution,
    load_imagenet,
)
from training.spatial import GridHead

STILL = 128.0
SCALE = 32.0
HALF_WAY = 0.15
HALF_FAST = 2.65
MEDIAN_STRIDE = 8
POOLED = "efficientnet_lite0_pooled"
POOLED_STACK = 3


class MotionCNN(nn.Module):
    """A small network for flow, trained from scratch: (N, c, h, w) -> (N, d).

    Two coordinate planes are added and the last grid is flattened, so that the feature keeps where
    motion is.
    """

    coordinates: Tensor

    def __init__(self, channels: int, size: tuple[int, int], feature_size: int) -> None:
        super().__init__()
        height, width = size
        y, x = torch.meshgrid(
            torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij"
        )
        self.register_buffer("coordinates", torch.stack([x, y])[None])
        self.resize = nn.Identity()
        self.layers = nn.Sequential(
            *convolution(channels + 2, 32, stride=2),
            *convolution(32, 64, stride=2),
            *convolution(64, 96, stride=2),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(96 * _eighth(height) * _eighth(width), feature_size),
            nn.LayerNorm(feature_size),
        )

    def forward(self, small: Tensor) -> Tensor:
        # Slow and fast hands draw the same gestures: squashing reduces the difference in speed and
        # keeps the direction.
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


class Lite0Motion(nn.Module):
    """EfficientNet-Lite0 over a flow stack, with the stem's weights averaged over colours."""

    def __init__(self, channels: int, size: tuple[int, int], feature_size: int) -> None:
        super().__init__()
        # Flow fields are small; enlarged, the last grid still has several cells (3 x 4).
        self.resize = nn.Upsample(size=(96, 128), mode="bilinear", align_corners=False)
        self.backbone = EfficientNetLite0(channels)
        load_imagenet(self.backbone)
        self.head = GridHead(320, (3, 4), feature_size, 0.2)

    def forward(self, flow: Tensor) -> Tensor:
        y: Tensor = self.head(self.backbone(flow))
        return y


class PooledMotion(nn.Module):
    """The frozen ImageNet network over pictures of speed.

    The three fields of a stack become the blue, green and red of a picture, oldest first. Still
    areas are black, areas that move steadily are white, and areas that start or stop have a colour.
    The median of a field, which is the camera's own motion, is subtracted first.
    """

    def __init__(self, channels: int, size: tuple[int, int], feature_size: int) -> None:
        super().__init__()
        if channels != 2 * POOLED_STACK:
            raise ValueError(
                f"temporal.stack: {POOLED} needs {POOLED_STACK} fields, not {channels // 2}"
            )
        check_sides((2 * size[0], 2 * size[1]), "efficientnet_lite0")
        self.resize = Speed(size)
        self.backbone = EfficientNetLite0()
        self.head = PooledHead(LITE0_CHANNELS, size, feature_size)
        load_imagenet(self.backbone, self.head)
        self.requires_grad_(False)

    def forward(self, speed: Tensor) -> Tensor:
        picture = (255.0 * speed.flip(1) - 127.0) / 128.0
        y: Tensor = self.head(self.backbone(picture))
        return y


class Speed(nn.Module):
    """Fields (N, 2 L, h, w) -> speeds (N, L, 2 h, 2 w), from 0 to 1.

    A speed of 4 pixels per step becomes one half if the bound of quantisation is 6. The size is
    doubled so that people far from the camera cover more than a few cells.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self.size = size

    def forward(self, planes: Tensor) -> Tensor:
        sample = planes[:, :, ::MEDIAN_STRIDE, ::MEDIAN_STRIDE].flatten(2)
        # torch.median has no counterpart in ONNX; the least of the upper half is the median.
        half = sample.shape[-1] // 2
        median = sample.topk(half, -1).values[..., -1:].unsqueeze(-1)
        own = (planes - median).reshape(-1, 2, *self.size)
        speed = own.square().sum(1).sqrt().reshape(-1, planes.shape[1] // 2, *self.size)
        speed = speed / (speed + HALF_FAST)
        return nn.functional.interpolate(
            speed, scale_factor=2.0, mode="bilinear", align_corners=False
        )


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 5 left)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        first, second = convolution(inputs, outputs, stride), convolution(outputs, outputs)
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
        layers = convolution(channels, 64, stride=2)
        for inputs, outputs in itertools.pairwise(widths):
            stride = 1 if inputs == outputs else 2
            layers += [BasicBlock(inputs, outputs, stride), BasicBlock(outputs, outputs, 1)]
        grid = [(side + 15) // 16 for side in size]
        layers += [nn.Flatten(), nn.Linear(512 * grid[0] * grid[1], feature_size)]
        self.layers = nn.Sequential(*layers, nn.LayerNorm(feature_size))

    def forward(self, flow: Tensor) -> Tensor:
        y: Tensor = self.layers(flow)
        return y


TEMPORAL_BACKBONES: dict[
    str, type[MotionCNN] | type[ResNet18Motion] | type[Lite0Motion] | type[PooledMotion]
] = {
    "motion_cnn": MotionCNN,
    "resnet18": ResNet18Motion,
    "efficientnet_lite0": Lite0Motion,
    POOLED: PooledMotion,
}


class TemporalNetwork(nn.Module):
    """h_t = f_temporal(u_{t-L+1..t}): (N, L, h, w, 2) uint8, oldest field first -> (N, d).

    A backbone's ``resize`` works on each field separately. So each field of a sequence is resized
    once, not once for every stack that it is part of.
    """

    def __init__(self, contract: TemporalContract, feature_size: int) -> None:
        super().__init__()
        if contract.backbone not in TEMPORAL_BACKBONES:
            known = ", ".join(sorted(TEMPORAL_BACKBONES))
            raise ValueError(f"unknown temporal backbone {contract.backbone!r}; known: {known}")
        self.channels = 2 * contract.stack
        self.size = contract.size
        backbone = TEMPORAL_BACKBONES[contract.backbone]
        self.backbone = backbone(self.channels, contract.size, feature_size)

    def resized(self, planes: Tensor) -> Tensor:
        """(N, c, h, w) float32 quantised flow -> (N, c, h', w'), the backbone's input planes."""
        y: Tensor = self.backbone.resize((planes - STILL) / SCALE)
        return y

    def features(self, stacks: Tensor) -> Tensor:
        """(N, 2L, h', w') of :meth:`resized` planes, u before v, oldest first -> (N, d)."""
        y: Tensor = self.backbone(stacks)
        return y

    def forward(self, flow: Tensor) -> Tensor:
        planes = flow.permute(0, 1, 4, 2, 3).reshape(-1, self.channels, *self.size)
        return self.features(self.resized(planes.float()))
