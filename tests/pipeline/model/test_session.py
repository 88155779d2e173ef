"""Sessions: what a network's file declares must agree with the contract."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.external_data_helper import set_external_data

from pipeline.errors import PackError
from pipeline.model import session
from pipeline.model.pack import (
    CONTRACT_FILE,
    METADATA_KEY,
    NETWORKS,
    Contract,
    ModelPack,
    file_sha256,
    network_file,
)
from pipeline.model.session import Network, available_providers, has_vnni
from testbed import tiny_pack
from testbed.tiny_pack import (
    LABELS,
    SIZE,
    STACK,
    D,
)

T = 6
MODELS = Path(__file__).parents[3] / "models"
CPU = ("CPUExecutionProvider",)
# Excerpts of /proc/cpuinfo.
ZEN_3 = "processor\t: 0\nflags\t\t: fpu sse4_1 avx2 vaes\n\nprocessor\t: 1\nflags\t\t: fpu avx2\n"
ICE_LAKE = "model name\t: Xeon\nflags\t\t: fpu avx2 avx512f avx512_vnni\nvmx flags\t: ept vpid\n"
ALDER_LAKE = "flags\t\t: fpu avx2 avx_vnni\n"
NEOVERSE = "processor\t: 0\nFeatures\t: fp asimd asimddp\n"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pack.make(tmp_path_factory.mktemp("packs") / "tiny")


def with_network(
    tiny: Path, to: Path, network: str, change: Callable[[onnx.ModelProto], object]
) -> ModelPack:
    """A copy of the tiny pack whose ``network`` was changed and whose hashes are right again."""
    shutil.copytree(tiny, to)
    path = to / network_file(network)
    model = onnx.load(path)
    change(model)
    onnx.save(model, path)
    return rehashed(to, network)


def rehashed(folder: Path, network: str) -> ModelPack:
    path = folder / CONTRACT_FILE
    contract = Contract.model_validate_json(path.read_bytes())
    name = network_file(network)
    hashes = {**contract.sha256, name: file_sha256(folder / name)}
    path.write_text(contract.model_copy(update={"sha256": hashes}).model_dump_json())
    return ModelPack.load(folder)


@pytest.mark.parametrize("batch", [1, 3])
def test_the_networks_run_with_the_shapes_of_the_contract(tiny: Path, batch: int) -> None:
    pack = ModelPack.load(tiny)
    spatial, temporal, fusion = (Network(pack, name) for name in NETWORKS)
    frames = np.full((batch, *SIZE, 3), 51, np.uint8)
    features = spatial.run({"frames": frames})["features"]
    np.testing.assert_allclose(features, [[np.sqrt(0.999 - 0.2)] * 3 + [0]] * batch, atol=1e-6)
    flow = np.full((batch, STACK, *SIZE, 2), 128, np.uint8)
    flow[..., 0] = 138
    moving = temporal.run({"flow": flow})["features"]
    np.testing.assert_allclose(moving, [[0.0, 10.0, 0.0, 0.0]] * batch, atol=1e-4)
    window = np.zeros((batch, T, D), np.float32)
    window[:, -1] = moving
    mask = np.zeros((batch, T, 2), np.float32)
    mask[:, -1] = 1
    outputs = fusion.run({"spatial": np.zeros_like(window), "temporal": window, "mask": mask})
    assert {name: value.shape for name, value in outputs.items()} == {
        "scores": (batch, len(LABELS)),
        "spatial_scores": (batch, len(LABELS)),
        "temporal_scores": (batch, len(LABELS)),
        "alpha": (batch, T),
    }
    assert [LABELS[int(best)] for best in outputs["scores"].argmax(axis=1)] == ["right"] * batch


def test_a_requested_provider_that_is_missing_is_logged(
    tiny: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wanted = "CUDAExecutionProvider"
    if wanted in available_providers() or wanted not in ort.get_available_providers():
        pytest.skip("there is a card here, or this onnxruntime knows of none")
    with caplog.at_level("WARNING"):
        network = Network(ModelPack.load(tiny), "fusion", providers=[wanted])
    assert network.provider == "CPUExecutionProvider"
    assert f"runs on CPUExecutionProvider, not on {wanted}" in caplog.text


def test_the_cpu_is_always_among_the_providers(tiny: Path) -> None:
    assert available_providers()[-1] == "CPUExecutionProvider"
    network = Network(ModelPack.load(tiny), "fusion", providers=["CPUExecutionProvider"])
    assert network.provider == "CPUExecutionProvider"


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        (ICE_LAKE, True),
        (ALDER_LAKE, True),
        (ZEN_3, False),
        (ALDER_LAKE + ZEN_3, False),
        (NEOVERSE, None),
        ("", None),
    ],
)
def test_vnni_is_read_from_the_flags_of_every_core(cpuinfo: str, expected: bool | None) -> None:
    assert has_vnni(cpuinfo) is expected


@pytest.mark.parametrize(
    ("cpuinfo", "pack", "warnings"),
    [
        (ZEN_3, "gestures-int8", 1),
        (ZEN_3, "gestures", 0),
        (ICE_LAKE, "gestures-int8", 0),
        (NEOVERSE, "gestures-int8", 0),
    ],
)
def test_8_bits_on_a_cpu_without_vnni_are_warned_of_once(
    cpuinfo: str,
    pack: str,
    warnings: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(session, "_CPUINFO", tmp_path / "cpuinfo")
    session._warn_of_slow_int8.cache_clear()
    for _ in range(2):
        for network in NETWORKS:
            Network(ModelPack.load(MODELS / pack), network, providers=CPU)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(said) == warnings
    for message in said:
        assert "gestures 1.1.0 computes in 8 bits (spatial), and this CPU has no VNNI" in message
        assert "use the float32 pack" in message


def test_8_bits_compute_the_same_on_every_cpu() -> None:
    """Against the same arithmetic in float32, which no kernel can saturate."""
    pack = ModelPack.load(MODELS / "gestures-int8")
    options = ort.SessionOptions()
    # Without rewriting, each 8-bit convolution is one in float32 between two roundings.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    slow = ort.InferenceSession(pack.path("spatial").read_bytes(), options, providers=CPU)
    coarse = np.random.default_rng(0).integers(0, 256, (8, 12, 16, 3)).astype(np.uint8)
    frames = {"frames": coarse.repeat(8, 1).repeat(8, 2)}
    exact = slow.run(["features"], frames)[0]
    features = Network(pack, "spatial", providers=CPU).run(frames)["features"]
    signal, noise = np.square(exact).mean(), np.square(features - exact).mean()
    # Measured: 43 dB; kernels that saturate reach 26 dB.
    assert 10 * np.log10(signal / noise) > 35


def test_a_session_refuses_other_shapes(tiny: Path) -> None:
    network = Network(ModelPack.load(tiny), "spatial")
    with pytest.raises(Exception, match=r"dimensions.*frames"):
        network.run({"frames": np.zeros((1, 9, 9, 3), np.uint8)})


def no_metadata(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


def metadata(text: str) -> Callable[[onnx.ModelProto], None]:
    return lambda model: onnx.helper.set_model_props(model, {METADATA_KEY: text})


def other_contract(model: onnx.ModelProto) -> None:
    metadata(tiny_pack.contract(step_hz=12.0).metadata_json())(model)


def extra_key(model: onnx.ModelProto) -> None:
    stated = tiny_pack.contract().metadata_json()
    metadata(stated[:-1] + ',"extra":1}')(model)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (no_metadata, "holds no contract"),
        (metadata("{"), "its contract is not JSON"),
        (metadata("[]"), "its contract is not a JSON object"),
        (other_contract, "disagrees with pack.json about 'step_hz'"),
        (extra_key, "disagrees with pack.json about 'extra'"),
    ],
)
@pytest.mark.parametrize("network", NETWORKS)
def test_metadata_that_disagrees_is_refused(
    tiny: Path,
    tmp_path: Path,
    network: str,
    change: Callable[[onnx.ModelProto], None],
    says: str,
) -> None:
    pack = with_network(tiny, tmp_path / "pack", network, change)
    with pytest.raises(PackError, match=rf"{network}\.onnx: {says}"):
        Network(pack, network)


def rename_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "pictures"
    model.graph.node[0].input[0] = "pictures"


def static_batch(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def other_size(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = SIZE[0] + 2


def float_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT


def second_input(model: onnx.ModelProto) -> None:
    model.graph.input.append(
        onnx.helper.make_tensor_value_info("state", onnx.TensorProto.FLOAT, ["N", 1])
    )


def rename_output(model: onnx.ModelProto) -> None:
    model.graph.output[0].name = "logits"
    model.graph.node[-1].output[0] = "logits"


def other_feature_size(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.name == "pads":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.array([0, 0, 0, D - 2]), "pads"))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = D + 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (rename_input, r"input 'frames' is missing; the graph has \['pictures'\]"),
        (static_batch, r"input 'frames' is tensor\(uint8\) \(1, 12, 16, 3\), the contract says"),
        (other_size, r"input 'frames' .* \(None, 14, 16, 3\), .* \(None, 12, 16, 3\)"),
        (float_input, r"input 'frames' is tensor\(float\)"),
        (second_input, r"has inputs that the contract omits: \['state'\]"),
        (rename_output, r"output 'features' is missing; the graph has \['logits'\]"),
        (other_feature_size, r"output 'features' .* \(None, 5\), .* \(None, 4\)"),
    ],
)
def test_tensors_that_disagree_are_refused(
    tiny: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None], says: str
) -> None:
    pack = with_network(tiny, tmp_path / "pack", "spatial", change)
    with pytest.raises(PackError, match=rf"spatial\.onnx: {says}"):
        Network(pack, "spatial")


def test_a_file_that_is_no_network_is_refused(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    shutil.copytree(tiny, folder)
    (folder / "temporal.onnx").write_bytes(b"not a network")
    pack = rehashed(folder, "temporal")
    with pytest.raises(PackError, match=r"temporal\.onnx: onnxruntime can't load it: "):
        Network(pack, "temporal")


def foreign_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "elsewhere"
    model.opset_import.append(onnx.helper.make_opsetid("elsewhere", 1))


def weights_in(place: str) -> Callable[[onnx.ModelProto], None]:
    """Moves one weight into a file of its own, ``place`` as seen from the pack."""

    def move(model: onnx.ModelProto) -> None:
        (tensor,) = (t for t in model.graph.initializer if t.name == "white")
        set_external_data(tensor, place, offset=0, length=4)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL

    return move


@pytest.mark.parametrize(
    "change", [foreign_operator, *map(weights_in, ("../w.bin", "w.bin", "/etc/passwd"))]
)
def test_what_needs_more_than_its_own_file_is_refused(
    tiny: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None]
) -> None:
    pack = with_network(tiny, tmp_path / "pack", "spatial", change)
    for folder in (tmp_path, tmp_path / "pack"):
        (folder / "w.bin").write_bytes(b"\0\0\x80\x3f")
    with pytest.raises(PackError, match=r"spatial\.onnx: onnxruntime can't load it: "):
        Network(pack, "spatial")


def test_a_file_exchanged_after_it_was_verified_is_refused(tiny: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    shutil.copytree(tiny, folder)
    pack = ModelPack.load(folder)
    shutil.copy(folder / "temporal.onnx", folder / "spatial.onnx")
    with pytest.raises(PackError, match=r"spatial\.onnx: was changed since it was verified"):
        Network(pack, "spatial")


@pytest.mark.parametrize("field", ["feature_size", "window"])
def test_absurd_sizes_are_refused(tiny: Path, tmp_path: Path, field: str) -> None:
    folder = tmp_path / "pack"
    shutil.copytree(tiny, folder)
    stated = json.loads((folder / CONTRACT_FILE).read_bytes())
    (folder / CONTRACT_FILE).write_text(json.dumps({**stated, field: 10**9}))
    with pytest.raises(PackError, match=field):
        ModelPack.load(folder)
    stated["spatial"]["size"] = [100_000, 100_000]
    (folder / CONTRACT_FILE).write_text(json.dumps(stated))
    with pytest.raises(PackError, match=r"spatial\.size"):
        ModelPack.load(folder)


def test_networks_of_two_packs_do_not_mix(tiny: Path, tmp_path: Path) -> None:
    other = tiny_pack.make(tmp_path / "other", window=T + 1)
    shutil.copy(tiny / "fusion.onnx", other / "fusion.onnx")
    pack = rehashed(other, "fusion")
    with pytest.raises(PackError, match=r"fusion\.onnx: disagrees with pack.json about 'window'"):
        Network(pack, "fusion")


@pytest.mark.slow
def test_onnxruntime_reports_to_nobody(tmp_path: Path) -> None:
    """Its telemetry would keep an identifier and a queue of reports in the user's folder."""
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    script = "import time, pipeline.model.session; time.sleep(1)"
    subprocess.run([sys.executable, "-c", script], env=environment, timeout=120, check=True)
    assert list(tmp_path.rglob("*")) == []
