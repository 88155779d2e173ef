"""The graphs: standard operators, pinned versions, one operator per GRU, the same bytes again."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper

from export.graphs import (
    IR_VERSION,
    OPSET,
    Appearance,
    ExportError,
    checked,
    export_graphs,
    simplified,
)
from pipeline.model.pack import NETWORKS
from tests.export.tiny import model_of
from tests.training.tiny import tiny_config
from training.config import TrainConfig
from training.model import TwoStream


@pytest.fixture(scope="module")
def made() -> tuple[TwoStream, TrainConfig, dict[str, onnx.ModelProto]]:
    config = tiny_config()
    model = model_of(config)
    return model, config, export_graphs(model, config)


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_versions_are_pinned_and_operators_standard(
    made: tuple[TwoStream, TrainConfig, dict[str, onnx.ModelProto]], network: str
) -> None:
    graph = made[2][network]
    assert [(entry.domain, entry.version) for entry in graph.opset_import] == [("", OPSET)]
    assert graph.ir_version == IR_VERSION
    assert {node.domain for node in graph.graph.node} == {""}
    assert graph.graph.name == network


def test_paddings_and_constants_are_folded_and_each_gru_is_one_operator(
    made: tuple[TwoStream, TrainConfig, dict[str, onnx.ModelProto]],
) -> None:
    counts = {
        name: Counter(node.op_type for node in graph.graph.node) for name, graph in made[2].items()
    }
    assert counts["spatial"].total() <= 100
    assert counts["spatial"]["Conv"] == 50
    assert not counts["spatial"].keys() & {"Pad", "Constant", "Reshape", "BatchNormalization"}
    assert counts["fusion"]["GRU"] == 3
    assert not counts["fusion"].keys() & {"Loop", "Scan", "Constant"}


@pytest.mark.slow
def test_the_same_model_gives_the_same_bytes(
    made: tuple[TwoStream, TrainConfig, dict[str, onnx.ModelProto]],
) -> None:
    model, config, graphs = made
    again = export_graphs(model, config)
    for network in NETWORKS:
        assert again[network].SerializeToString() == graphs[network].SerializeToString()


@pytest.mark.slow
def test_normalisation_by_convolution_is_that_of_training() -> None:
    config = tiny_config(
        spatial={
            "backbone": "efficientnet_lite0", "size": (32, 32),
            "mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4),
        }
    )  # fmt: skip
    network = model_of(config).spatial
    pictures = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    with torch.inference_mode():
        ours = Appearance(network).eval()(torch.from_numpy(pictures))
        theirs = network(torch.from_numpy(pictures))
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def relu_twice() -> onnx.ModelProto:
    nodes = [
        helper.make_node("Identity", ["x"], ["a"]),
        helper.make_node("Identity", ["a"], ["b"]),
        helper.make_node("Relu", ["b"], ["y"]),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    graph = helper.make_graph(nodes, "relu", value[:1], value[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def test_simplifying_keeps_what_a_network_says_and_its_free_sizes() -> None:
    lean = checked(simplified(checked(relu_twice())))
    assert [node.op_type for node in lean.graph.node] == ["Relu"]
    assert lean.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "n"
    session = ort.InferenceSession(lean.SerializeToString(), providers=["CPUExecutionProvider"])
    actual = session.run(None, {"x": np.array([[-1, 2], [3, -4], [5, 6]], np.float32)})[0]
    np.testing.assert_array_equal(actual, [[0, 2], [3, 0], [5, 6]])


def test_what_isnt_standard_or_valid_is_refused() -> None:
    foreign = relu_twice()
    foreign.graph.node[2].domain = "com.example"
    with pytest.raises(ExportError, match=r"relu: operators outside .*com\.example\.Relu"):
        checked(foreign)
    broken = relu_twice()
    broken.graph.node[2].input[0] = "nowhere"
    with pytest.raises(ExportError, match=r"relu: not valid ONNX: .*nowhere"):
        checked(broken)
