"""The appearance stream: from a picture to a feature vector of ``d`` numbers.

Shapes are those of :mod:`pipeline.model.pack`. Preprocessing is part of the network, so that Python
and C++ users feed the same bytes. Next: :mod:`training.temporal`.
"""

import torch
from torch import Tensor, nn

from pipeline.model.pack import SpatialContract
from training.lite0 import EfficientNetLite0, PooledHead, check_sides, convolution

POINTS = 4
POINT_CHANNELS = 64
SHARPNESS = 3.0


class GridHead(nn.Module):
    """Flattens the backbone's grid: (N, c, gh, gw) -> (N, d).

    Averaging would lose where a hand is in the picture, which matters here.
    """

    def __init__(
        self, channels: int, grid: tuple[int, int], feature_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout2d(dropout),
            nn.Conv2d(channels, 32, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(32 * grid[0] * grid[1], feature_size),
            nn.LayerNorm(feature_size),
        )

    def forward(self, grid: Tensor) -> Tensor:
        y: Tensor = self.layers(grid)
        return y


class PointHead(nn.Module):
    """Finds a few learned points in the backbone's grid: (N, c, gh, gw) -> (N, d).

    A spatial soft-argmax (Finn et al., Deep Spatial Autoencoders, 2016) turns the map of each point
    into its place and a confidence. A flattened grid is added to these.
    """

    places: Tensor

    def __init__(
        self, channels: int, grid: tuple[int, int], feature_size: int, dropout: float
    ) -> None:
        super().__init__()
        y, x = torch.meshgrid(*(torch.linspace(0, 1, side) for side in grid), indexing="ij")
        self.register_buffer("places", torch.stack([x.flatten(), y.flatten()], 1))
        self.trunk = nn.Sequential(
            nn.Dropout2d(dropout / 2),
            nn.Conv2d(channels, POINT_CHANNELS, 1),
            nn.BatchNorm2d(POINT_CHANNELS),
            nn.ReLU(),
            *convolution(POINT_CHANNELS, POINT_CHANNELS),
        )
        self.maps = nn.Conv2d(POINT_CHANNELS, POINTS, 1)
        self.flat = nn.Sequential(
            nn.Conv2d(POINT_CHANNELS, 24, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(24 * grid[0] * grid[1], feature_size),
        )
        self.mix = nn.Sequential(
            nn.Linear(feature_size + 3 * POINTS, feature_size), nn.LayerNorm(feature_size)
        )

    def points(self, trunk: Tensor) -> tuple[Tensor, Tensor]:
        """Places (N, POINTS, 2), x and y from 0 to 1, and their confidences, (N, POINTS)."""
        maps = self.maps(trunk).flatten(2)
        places = torch.softmax(SHARPNESS * maps, -1) @ self.places.to(maps.dtype)
        return places, torch.logsumexp(maps, -1) / SHARPNESS

    def forward(self, grid: Tensor) -> Tensor:
        trunk = self.trunk(grid)
        places, sure = self.points(trunk)
        y: Tensor = self.mix(torch.cat([self.flat(trunk), 2 * places.flatten(1) - 1, sure], 1))
        return y


SPATIAL_HEADS: dict[str, type[GridHead] | type[PointHead] | type[PooledHead]] = {
    "grid": GridHead,
    "points": PointHead,
    "pooled": PooledHead,
}


class SpatialNetwork(nn.Module):
    """h_t = f_spatial(v_t): (N, h, w, 3) uint8 BGR -> (N, d) float32."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        contract: SpatialContract,
        feature_size: int,
        head: str = "grid",
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        depth = check_sides(contract.size, contract.backbone)
        grid = (contract.size[0] // depth.stride, contract.size[1] // depth.stride)
        self.register_buffer("mean", torch.tensor(contract.mean).reshape(3, 1, 1))
        self.register_buffer("std", torch.tensor(contract.std).reshape(3, 1, 1))
        self.backbone = EfficientNetLite0(rows=depth.rows)
        self.head = SPATIAL_HEADS[head](depth.channels, grid, feature_size, dropout)

    def features(self, frames: Tensor) -> Tensor:
        """The frozen part: (N, h, w, 3) uint8 BGR -> (N, c, gh, gw) float32."""
        planes = frames.permute(0, 3, 1, 2).float()
        y: Tensor = self.backbone((planes.flip(1) - self.mean) / self.std)
        return y

    def forward(self, frames: Tensor) -> Tensor:
        y: Tensor = self.head(self.features(frames))
        return y
