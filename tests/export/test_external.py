"""Appearance networks trained elsewhere: what is accepted, what is refused, and why."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from export.external import Foreign, ModuleError, build_module, load_weights, replace_spatial
from export.graphs import ExportError, export_graphs
from export.pack import contract_of, export_packs, write_pack
from export.parity import measure_parity
from export.stepping import open_networks
from pipeline.model.pack import ModelPack
from tests.export import foreign_networks
from tests.export.tiny import Malicious, drifting_clip, model_of
from tests.training.tiny import tiny_config

HERE = "tests.export.foreign_networks"


def state_of(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in network.state_dict().items()}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "features.safetensors"
    torch.manual_seed(2)
    save_file(state_of(foreign_networks.features()), path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("function", ["grid", "blue_first"])
def test_the_checkpoints_own_backbone_from_elsewhere_says_the_same(
    function: str, tmp_path: Path
) -> None:
    config = tiny_config()
    model, own = model_of(config), model_of(config)
    state = state_of(model.spatial.backbone)
    if function == "blue_first":
        state["stem.1.weight"] = state["stem.1.weight"].flip(1).contiguous()
    path = tmp_path / "backbone.safetensors"
    save_file(state, path)
    changed = Foreign(f"{HERE}:{function}", path).adapt(model, config)
    assert changed.spatial.backbone == f"{HERE}:{function}"
    assert "weights backbone.safetensors, sha256 " in changed.provenance
    graphs = export_graphs(model, changed)
    pack = write_pack(tmp_path / "pack", graphs, contract_of(changed, {}, graphs))
    pictures = drifting_clip(config, 3).pictures
    actual = open_networks(pack)["spatial"].run({"frames": pictures})["features"]
    with torch.inference_mode():
        expected = own.spatial(torch.from_numpy(pictures)).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    assert measure_parity(model, changed, pack, [drifting_clip(changed)]).spatial < 1e-4


@pytest.mark.slow
def test_a_network_of_another_size_returns_the_features_itself(
    weights: Path, tmp_path: Path
) -> None:
    config = tiny_config()
    model = model_of(config)
    changed = Foreign(f"{HERE}:features", weights).adapt(model, config)
    assert changed.spatial.size == (20, 28)
    assert changed.spatial.mean == foreign_networks.MEAN
    clip = drifting_clip(changed)
    assert clip.pictures.shape[1:] == (20, 28, 3)
    export_packs(model, changed, {}, [clip], tmp_path / "pack")
    network = foreign_networks.features().eval()
    load_weights(network, weights)
    planes = torch.from_numpy(clip.pictures[..., ::-1].copy()).permute(0, 3, 1, 2).float()
    mean, std = (
        torch.tensor(x).reshape(3, 1, 1) for x in (foreign_networks.MEAN, foreign_networks.STD)
    )
    with torch.inference_mode():
        expected = network((planes - mean) / std).numpy()
    networks = open_networks(ModelPack.load(tmp_path / "pack"))
    actual = networks["spatial"].run({"frames": clip.pictures})["features"]
    np.testing.assert_allclose(actual, expected, atol=1e-4)
    assert (tmp_path / "pack" / "MODEL_CARD.md").read_text().count(f"{HERE}:features") == 3


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (
            "too_many",
            r"returns \('N', 9\); .* trained on \('N', 320, 1, 1\) .* on \('N', 8\)\. Train",
        ),
        ("undeclared", r"declare its input: add size, color, mean, std"),
        ("from_0_to_1", "expected 0 to 255: times 255"),
        ("odd_colours", r"color is 'yuv', expected one of \('rgb', 'bgr'\)"),
        ("two_means", r"its declared input: mean\.2: Field required"),
        ("wants_four_channels", r"fails on \(2, 3, h, w\) of \(32, 32\)"),
        ("pair", "returns tuple, expected a float32 tensor"),
    ],
)
def test_a_network_that_doesnt_fit_is_refused_with_the_right_form(
    function: str, message: str
) -> None:
    config = tiny_config()
    name = f"{HERE}:{function}"
    with pytest.raises(ModuleError, match=rf"^{name}: (?s:.*){message}"):
        replace_spatial(model_of(config), config, name, build_module(name))


def test_an_operator_that_onnx_doesnt_have_is_refused() -> None:
    config = tiny_config()
    model, name = model_of(config), f"{HERE}:no_such_operator"
    changed = replace_spatial(model, config, name, build_module(name))
    with pytest.raises(ExportError, match=r"^spatial: can't be written as ONNX 17: .*bessel"):
        export_graphs(model, changed)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "tests.export.foreign_networks",
            "expected a module and a function in it, as pkg.mod:build",
        ),
        (":build", "expected a module and a function"),
        ("no_such_package.networks:build", "can't import no_such_package.networks"),
        (f"{HERE}:no_such_function", "has no no_such_function"),
        (f"{HERE}:NOT_A_FUNCTION", "NOT_A_FUNCTION is int, expected a function"),
        (f"{HERE}:a_number", r"a_number\(\) returned int, expected a torch\.nn\.Module"),
    ],
)
def test_a_name_that_cant_be_built_is_refused(name: str, message: str) -> None:
    with pytest.raises(ModuleError, match=message):
        build_module(name)


@pytest.mark.parametrize(
    "write", [torch.save, lambda x, path: path.write_bytes(pickle.dumps(x, protocol=2))]
)
def test_nothing_is_unpickled(write: Callable[[object, Path], object], tmp_path: Path) -> None:
    path, trace = tmp_path / "weights.pt", tmp_path / "trace"
    write({"weight": Malicious(trace)}, path)
    with pytest.raises(ModuleError, match=r"weights\.pt: holds more than tensors"):
        load_weights(foreign_networks.features(), path)
    assert not trace.exists()
    with path.open("rb") as file:
        assert b"touch" in file.read()


def test_weights_come_from_tensors_in_either_format(weights: Path, tmp_path: Path) -> None:
    one, other = foreign_networks.features(), foreign_networks.features()
    load_weights(one, weights)
    torch.save(one.state_dict(), tmp_path / "features.pt")
    load_weights(other, tmp_path / "features.pt")
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])


def test_weights_that_arent_this_networks_are_refused_by_file(
    weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModuleError, match=r"features\.safetensors: not the weights of this netw"):
        load_weights(foreign_networks.grid(), weights)
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not tensors")
    with pytest.raises(ModuleError, match=r"broken\.safetensors: not the weights"):
        load_weights(foreign_networks.features(), broken)
    with pytest.raises(ModuleError, match=r"none\.safetensors: .*No such file"):
        load_weights(foreign_networks.features(), tmp_path / "none.safetensors")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ModuleError, match=r"list\.pt: not the weights"):
        load_weights(foreign_networks.features(), tmp_path / "list.pt")
