"""What is done to the converted graph: pictures in, any size, one class out.

Each function takes a graph and returns a changed copy. None needs TensorFlow.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.errors import TwoStreamError

Floats = npt.NDArray[np.float32]

INPUT, SCORES, SIDES = "frames", "scores", "sides"
"""The finished graph's tensors: (N, h, w, 3) uint8 BGR → (N, A, 1) float32 probabilities, and
(N, A, 4 * bins) float32, unnormalised."""


class SurgeryError(TwoStreamError):
    """A graph that isn't built as expected; says what was looked for."""


def copy_of(model: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def constants(graph: onnx.GraphProto) -> dict[str, npt.NDArray[np.generic]]:
    """Initialisers and constant nodes, by the name of their value."""
    found = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant":
            found[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    return found


def attributes(node: onnx.NodeProto) -> dict[str, object]:
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}


def put_constant(graph: onnx.GraphProto, name: str, value: npt.NDArray[np.generic]) -> str:
    """Add an initialiser, or replace the one of that name; returns the name."""
    for old in [tensor for tensor in graph.initializer if tensor.name == name]:
        graph.initializer.remove(old)
    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name


def pruned(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove what no output needs, and stale shapes; check what is left."""
    graph = model.graph
    needed = {output.name for output in graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    nodes = [copy_node(node) for node in reversed(kept)]
    weights = [copy_tensor(tensor) for tensor in weights]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    onnx.checker.check_model(model, full_check=True)
    return model


def copy_node(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def copy_tensor(tensor: onnx.TensorProto) -> onnx.TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    return copy


def with_pads_inside(model: onnx.ModelProto) -> onnx.ModelProto:
    """Move each ``Pad`` into the convolution or the pooling that follows it.

    Convolutions pad with zero and poolings with the least value, so only such borders can move.
    """
    model = copy_of(model)
    graph, values = model.graph, constants(model.graph)
    pads = {node.output[0]: node for node in graph.node if node.op_type == "Pad"}
    for node in graph.node:
        pad = pads.get(node.input[0]) if node.op_type in ("Conv", "MaxPool") else None
        if pad is None:
            continue
        border = values[pad.input[1]].reshape(2, 4).astype(int)  # before, after; N C H W
        fill = float(values[pad.input[2]]) if len(pad.input) > 2 and pad.input[2] else 0.0
        least = fill <= float(np.finfo(np.float32).min)
        if border[:, :2].any() or (least if node.op_type == "Conv" else not least):
            raise SurgeryError(f"{pad.name}: its border can't move into {node.op_type} {node.name}")
        settings = attributes(node)
        if settings.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            raise SurgeryError(f"{node.name}: pads by itself ({settings['auto_pad']!r})")
        for name in ("pads", "auto_pad"):
            for old in [one for one in node.attribute if one.name == name]:
                node.attribute.remove(old)
        before = np.asarray(settings.get("pads", [0] * 4), int).reshape(2, 2)
        node.attribute.append(
            helper.make_attribute("pads", (before + border[:, 2:]).ravel().tolist())
        )
        node.input[0] = pad.input[0]
    return pruned(model)


def with_free_size(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let the input have any size: resize by factors instead of to fixed sizes.

    Halving by bilinear interpolation is the mean of two by two pixels, so it becomes that.
    """
    model = copy_of(model)
    shapes = shapes_of(model)
    nodes = []
    for node in model.graph.node:
        if node.op_type != "Resize":
            nodes.append(copy_node(node))
            continue
        before, after = shapes[node.input[0]][2:], shapes[node.output[0]][2:]
        factors = {new / old for old, new in zip(before, after, strict=True)}
        if factors == {0.5}:
            nodes.append(
                helper.make_node(
                    "AveragePool", [node.input[0]], list(node.output), node.name,
                    kernel_shape=[2, 2], strides=[2, 2],
                )
            )  # fmt: skip
        elif factors == {2.0}:
            scales = np.asarray([1, 1, 2, 2], np.float32)
            name = put_constant(model.graph, f"{node.output[0]}_scales", scales)
            nodes.append(
                helper.make_node(
                    "Resize", [node.input[0], "", name], list(node.output), node.name,
                    mode="linear", coordinate_transformation_mode="half_pixel",
                )
            )  # fmt: skip
        else:
            raise SurgeryError(f"{node.name}: resizes {before} to {after}, not by 2 or 1/2")
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def shapes_of(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Each value's shape as far as it can be inferred; 0 where a size is free."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    }


def head_convolutions(model: onnx.ModelProto, channels: int) -> list[onnx.NodeProto]:
    """The convolutions with so many channels: the last of each scale, the finest scale first."""
    values, shapes = constants(model.graph), shapes_of(model)
    heads = [
        node
        for node in model.graph.node
        if node.op_type == "Conv" and values[node.input[1]].shape[0] == channels
    ]
    widths = [shapes.get(head.output[0], [0])[-1] for head in heads]
    if 0 in widths or len(set(widths)) != len(widths):
        raise SurgeryError(f"expected one head of each scale, found the widths {widths}")
    return [head for _, head in sorted(zip(widths, heads, strict=True), key=lambda x: -x[0])]


def with_one_class(
    model: onnx.ModelProto, classes: int, wanted: int, sides: int
) -> onnx.ModelProto:
    """Keep the score of one class and the boxes' ``sides``; scales follow each other along A.

    Each head is a convolution with ``classes`` + ``sides`` channels. Its filters of the other
    classes are cut out, and what followed it is replaced. The outputs become :data:`SCORES` and
    :data:`SIDES`.
    """
    model = copy_of(model)
    graph = model.graph
    heads = head_convolutions(model, classes + sides)
    if not heads:
        raise SurgeryError(f"no convolution has {classes} + {sides} channels")
    values = constants(graph)
    keep = [wanted, *range(classes, classes + sides)]
    rows = [str(head.output[0]) for head in heads]
    for number, head in enumerate(heads):
        for place, what in ((1, "weight"), (2, "bias")):
            name = put_constant(graph, f"head{number}_{what}", values[head.input[place]][keep])
            head.input[place] = name
    del graph.output[:]
    graph.node.extend(_tail(graph, rows, sides))
    for name, width in ((SCORES, 1), (SIDES, sides)):
        graph.output.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", "A", width])
        )
    return model


def _tail(graph: onnx.GraphProto, heads: Sequence[str], sides: int) -> Iterable[onnx.NodeProto]:
    """(N, 1 + sides, h, w) of each scale → the two outputs."""
    flat = put_constant(graph, "flat", np.asarray([0, -1, 1 + sides], np.int64))
    parts = put_constant(graph, "parts", np.asarray([1, sides], np.int64))
    for number, head in enumerate(heads):
        yield helper.make_node("Transpose", [head], [f"last{number}"], perm=[0, 2, 3, 1])
        yield helper.make_node("Reshape", [f"last{number}", flat], [f"rows{number}"])
    yield helper.make_node("Concat", [f"rows{n}" for n in range(len(heads))], ["rows"], axis=1)
    yield helper.make_node("Split", ["rows", parts], ["logits", SIDES], axis=2)
    yield helper.make_node("Sigmoid", ["logits"], [SCORES])


def with_pictures(
    model: onnx.ModelProto, mean: Sequence[float], std: Sequence[float], border: int
) -> onnx.ModelProto:
    """Take :data:`INPUT`, (N, h, w, 3) uint8, where normalised (N, 3, h, w) float32 was taken.

    ``mean`` and ``std`` are of the channels in the pictures' order. They move into the weights of
    the first convolution. Only ``border`` is subtracted, one number for all channels, so that an
    8-bit network can take the pictures' own bytes. The convolution pads with zero, which is now a
    pixel of value ``border`` instead of ``mean``: outermost results differ slightly, others don't.
    """
    model = copy_of(model)
    graph = model.graph
    if len(graph.input) != 1:
        raise SurgeryError(f"expected one input, found {[one.name for one in graph.input]}")
    old = str(graph.input[0].name)
    readers = [node for node in graph.node if old in node.input]
    if [node.op_type for node in readers] != ["Conv"] or len(readers[0].input) < 3:
        raise SurgeryError(f"{old}: expected one convolution with a bias to read it")
    first, values = readers[0], constants(graph)
    weights = values[first.input[1]].astype(np.float32)
    weights = weights / np.asarray(std, np.float32)[None, :, None, None]
    shift = (weights.sum(axis=(2, 3)) @ (np.asarray(mean, np.float32) - border)).astype(np.float32)
    bias = values[first.input[2]].astype(np.float32) - shift
    first.input[0] = "centred"
    first.input[1] = put_constant(graph, "first_weight", weights)
    first.input[2] = put_constant(graph, "first_bias", bias)
    one = put_constant(graph, "one", np.asarray(1, np.float32))
    zero = put_constant(graph, "border", np.asarray(border, np.uint8))
    before = [
        helper.make_node("Transpose", [INPUT], ["channels"], perm=[0, 3, 1, 2]),
        helper.make_node("DequantizeLinear", ["channels", one, zero], ["centred"]),
    ]
    rest = [copy_node(node) for node in graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend([*before, *rest])
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, ["N", "h", "w", 3]))
    return model
