"""What is done to the converted graph, on a small graph that is built the same way."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.people import surgery
from export.people.quantised import to_int8
from export.people.surgery import INPUT, SCORES, SIDES, SurgeryError
from pipeline.model.session import UnpackagedNetwork

CLASSES, BINS, SIDE, WIDTH = 3, 4, 64, 6
SIDES_WIDTH = 4 * BINS
MEAN, STD, BORDER = (100.0, 116.0, 126.0), (57.0, 58.0, 59.0), 114
Floats = npt.NDArray[np.float32]


def small_graph(resize: float = 2.0, pad: float = 0.0) -> onnx.ModelProto:
    """Two scales; borders in nodes of their own, resizing to a fixed size, a head at each scale.

    As in the converted graph, the coarse head comes before the fine one.
    """
    rng = np.random.default_rng(4)
    weights: dict[str, npt.NDArray[np.generic]] = {
        "border": np.asarray([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
        "fill": np.asarray(pad, np.float32),
        "least": np.asarray(np.finfo(np.float32).min, np.float32),
        "size": np.asarray(
            [1, WIDTH, round(SIDE / 4 * resize), round(SIDE / 4 * resize)], np.int64
        ),
    }
    nodes: list[onnx.NodeProto] = []

    def conv(source: str, name: str, width: int, channels: int, **settings: Any) -> str:
        side = 1 if name.startswith("head") else 3
        weights[f"{name}_w"] = rng.normal(0, 0.2, (channels, width, side, side)).astype(np.float32)
        weights[f"{name}_b"] = rng.normal(0, 0.2, channels).astype(np.float32)
        nodes.append(
            helper.make_node("Conv", [source, f"{name}_w", f"{name}_b"], [name], name, **settings)
        )
        return name

    def node(kind: str, sources: list[str], name: str, **settings: Any) -> str:
        nodes.append(helper.make_node(kind, sources, [name], name, **settings))
        return name

    padded = node("Pad", ["x", "border", "fill"], "padded")
    fine = node("LeakyRelu", [conv(padded, "first", 3, WIDTH, strides=[2, 2])], "fine", alpha=0.1)
    padded = node("Pad", [fine, "border", "least"], "padded_fine")
    coarse = node("MaxPool", [padded], "coarse", kernel_shape=[3, 3], strides=[2, 2])
    channels = CLASSES + SIDES_WIDTH
    outputs = [conv(coarse, "head_coarse", WIDTH, channels)]
    larger = node(
        "Resize", [coarse, "", "", "size"], "larger", mode="linear",
        coordinate_transformation_mode="half_pixel",
    )  # fmt: skip
    together = node("Add", [fine, larger], "together") if resize == 2.0 else larger
    outputs.append(conv(together, "head_fine", WIDTH, channels))
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, None, None])
            for name in outputs
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model


def run(model: onnx.ModelProto, **inputs: npt.NDArray[np.generic]) -> list[Floats]:
    network = UnpackagedNetwork(
        Path("small.onnx"), model.SerializeToString(),
        providers=["CPUExecutionProvider"],
    )  # fmt: skip
    return network.run(inputs)


def normalised(pictures: npt.NDArray[np.uint8]) -> Floats:
    numbers = (pictures - np.asarray(MEAN)) / np.asarray(STD)
    return np.asarray(numbers.transpose(0, 3, 1, 2), np.float32)


def finished(model: onnx.ModelProto) -> onnx.ModelProto:
    model = surgery.with_pads_inside(model)
    model = surgery.with_one_class(model, CLASSES, 1, SIDES_WIDTH)
    model = surgery.with_free_size(model)
    return surgery.pruned(surgery.with_pictures(model, MEAN, STD, BORDER))


@pytest.fixture
def pictures() -> npt.NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, (1, SIDE, SIDE, 3), np.uint8)


def kinds(model: onnx.ModelProto) -> set[str]:
    return {node.op_type for node in model.graph.node}


def test_borders_move_into_convolutions_and_poolings(pictures: npt.NDArray[np.uint8]) -> None:
    before, x = small_graph(), normalised(pictures)
    after = surgery.with_pads_inside(before)
    assert "Pad" not in kinds(after)
    for one, other in zip(run(before, x=x), run(after, x=x), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_a_border_of_another_value_is_not_moved() -> None:
    with pytest.raises(SurgeryError, match="padded: its border can't move into Conv first") as said:
        surgery.with_pads_inside(small_graph(pad=float(np.finfo(np.float32).min)))
    assert said.value.exit_code == 2


def test_resizing_by_another_factor_is_refused() -> None:
    model = surgery.with_pads_inside(small_graph(resize=3.0))
    with pytest.raises(SurgeryError, match=r"larger: resizes .* not by 2 or 1/2"):
        surgery.with_free_size(model)


def test_halving_is_the_mean_of_two_by_two(pictures: npt.NDArray[np.uint8]) -> None:
    before = surgery.with_pads_inside(small_graph(resize=0.5))
    after, x = surgery.with_free_size(before), normalised(pictures)
    assert "AveragePool" in kinds(after)
    assert "Resize" not in kinds(after)
    for one, other in zip(run(before, x=x), run(after, x=x), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_one_class_is_left_and_the_finest_scale_comes_first(
    pictures: npt.NDArray[np.uint8],
) -> None:
    x = normalised(pictures)
    coarse, fine = run(small_graph(), x=x)
    rows = [head[0].reshape(CLASSES + SIDES_WIDTH, -1).T for head in (fine, coarse)]
    expected = np.concatenate(rows)
    cut = surgery.pruned(surgery.with_one_class(small_graph(), CLASSES, 1, SIDES_WIDTH))
    scores, sides = run(cut, x=x)
    np.testing.assert_allclose(scores[0, :, 0], 1 / (1 + np.exp(-expected[:, 1])), atol=1e-5)
    np.testing.assert_allclose(sides[0], expected[:, CLASSES:], atol=1e-5)


def test_a_graph_without_such_heads_is_refused() -> None:
    with pytest.raises(SurgeryError, match=r"no convolution has 80 \+ 44 channels"):
        surgery.with_one_class(small_graph(), 80, 0, 44)


def test_the_finished_graph_takes_pictures(pictures: npt.NDArray[np.uint8]) -> None:
    """Pictures of bytes give what normalised numbers gave; only the outermost cells may differ."""
    cut = surgery.pruned(surgery.with_one_class(small_graph(), CLASSES, 1, SIDES_WIDTH))
    expected = run(cut, x=normalised(pictures))
    found = run(finished(small_graph()), **{INPUT: pictures})
    fine = (SIDE // 2) ** 2
    for one, other in zip(expected, found, strict=True):
        inner = (one - other)[0, :fine].reshape(SIDE // 2, SIDE // 2, -1)[4:-4, 4:-4]
        assert np.abs(inner).max() < 1e-4
        assert np.abs(one - other).max() < 0.5


@pytest.mark.parametrize("size", [(32, 64), (96, 32), (128, 128)])
@pytest.mark.parametrize("count", [1, 3])
def test_any_size_and_any_number_of_pictures(size: tuple[int, int], count: int) -> None:
    model = finished(small_graph())
    assert [one.name for one in model.graph.output] == [SCORES, SIDES]
    batch = np.random.default_rng(1).integers(0, 256, (count, *size, 3), np.uint8)
    scores, sides = run(model, **{INPUT: batch})
    cells = size[0] * size[1] // 4 + size[0] * size[1] // 16
    assert scores.shape == (count, cells, 1)
    assert sides.shape == (count, cells, SIDES_WIDTH)
    alone = run(model, **{INPUT: batch[-1:]})[0]
    np.testing.assert_allclose(scores[-1:], alone, atol=1e-5)


def test_eight_bits_are_near_and_take_the_bytes_as_they_are(
    pictures: npt.NDArray[np.uint8],
) -> None:
    exact = finished(small_graph())
    small = to_int8(exact, list(pictures))
    firsts = [node for node in small.graph.node if INPUT in node.input or "channels" in node.input]
    assert [node.op_type for node in firsts] == ["Transpose", "DequantizeLinear"]
    readers = [node.op_type for node in small.graph.node if "centred" in node.input]
    assert readers == ["Conv"]  # no rounding between the bytes and the first convolution
    one, other = run(exact, **{INPUT: pictures}), run(small, **{INPUT: pictures})
    assert np.abs(one[0] - other[0]).max() < 0.05
    weights = [numpy_helper.to_array(t) for t in small.graph.initializer if t.data_type == 3]
    assert max(int(np.abs(w.astype(int)).max()) for w in weights if w.ndim == 4) <= 64


def test_nothing_changes_the_graph_that_was_given() -> None:
    model = small_graph()
    before = model.SerializeToString()
    finished(model)
    assert model.SerializeToString() == before
