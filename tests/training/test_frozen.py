"""A frozen network in onnxruntime computes what torch computes, for every batch."""

import pytest
import torch

from tests.training.tiny import tiny_config
from training.frozen import Frozen
from training.spatial import SpatialNetwork


@pytest.fixture(scope="module")
def made() -> tuple[SpatialNetwork, Frozen]:
    torch.manual_seed(0)
    config = tiny_config()
    network = SpatialNetwork(config.spatial, config.feature_size, config.spatial_head).eval()
    return network, Frozen(network, torch.zeros(2, *config.spatial.size, 3, dtype=torch.uint8))


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3, 8])
def test_it_says_what_torch_says(count: int, made: tuple[SpatialNetwork, Frozen]) -> None:
    network, frozen = made
    torch.manual_seed(count)
    size = tiny_config().spatial.size
    pictures = torch.randint(0, 256, (count, *size, 3), dtype=torch.uint8)
    with torch.inference_mode():
        torch.testing.assert_close(frozen(pictures), network(pictures), atol=1e-4, rtol=1e-4)
