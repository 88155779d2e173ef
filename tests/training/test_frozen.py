"""A frozen network in onnxruntime computes what torch computes, for every batch."""

import pytest
import torch

from tests.training.tiny import tiny_config
from training.frozen import Frozen
from training.spatial import SpatialNetwork


@pytest.mark.parametrize("count", [1, 3, 8])
def test_it_says_what_torch_says(count: int) -> None:
    torch.manual_seed(0)
    config = tiny_config()
    network = SpatialNetwork(config.spatial, config.feature_size, config.spatial_head).eval()
    pictures = torch.randint(0, 256, (count, *config.spatial.size, 3), dtype=torch.uint8)
    frozen = Frozen(network, torch.zeros_like(pictures[:1]).repeat(2, 1, 1, 1))
    with torch.inference_mode():
        torch.testing.assert_close(frozen(pictures), network(pictures), atol=1e-4, rtol=1e-4)
