"""Appearance networks "trained elsewhere", as ``--spatial-module`` names them."""

import torch
from torch import Tensor, nn

from training.lite0 import EfficientNetLite0

MEAN, STD = (127.0, 120.0, 110.0), (128.0, 64.0, 50.0)
NOT_A_FUNCTION = 3


class Declared(nn.Sequential):
    """Layers that declare their input."""

    size = (32, 32)
    color = "rgb"
    mean, std = MEAN, STD


class Grid(EfficientNetLite0):
    """The checkpoint's own backbone, as if it had been trained elsewhere: (N, 320, 1, 1)."""

    size = (32, 32)
    color = "rgb"
    mean, std = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)


class BlueFirst(Grid):
    """The same, fed blue first."""

    color = "bgr"


def grid() -> nn.Module:
    return Grid()


def blue_first() -> nn.Module:
    return BlueFirst()


def features(outputs: int = 8) -> nn.Module:
    """(N, 8), of pictures of a size that is no multiple of 32."""
    network = Declared(
        nn.Conv2d(3, 4, 5, stride=3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(4, outputs),
    )  # fmt: skip
    network.size = (20, 28)
    return network


def too_many() -> nn.Module:
    return features(9)


def undeclared() -> nn.Module:
    return nn.Flatten()


def from_0_to_1() -> nn.Module:
    network = features()
    network.std = (0.229, 0.224, 0.225)  # type: ignore[assignment]
    return network


def odd_colours() -> nn.Module:
    network = features()
    network.color = "yuv"  # type: ignore[assignment]
    return network


def two_means() -> nn.Module:
    network = features()
    network.mean = (1.0, 2.0)  # type: ignore[assignment]
    return network


def wants_four_channels() -> nn.Module:
    return Declared(nn.Conv2d(4, 8, 3))


class _Pair(Declared):
    def forward(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        return planes, planes


def pair() -> nn.Module:
    return _Pair()


class _Bessel(Declared):
    def forward(self, planes: Tensor) -> Tensor:
        y: Tensor = torch.special.bessel_j0(planes).flatten(1)[:, :8]
        return y


def no_such_operator() -> nn.Module:
    """ONNX has no Bessel function."""
    return _Bessel()


def a_number() -> int:
    return 3
