"""TFLite networks as ONNX, without TensorFlow: the operators that MediaPipe's networks use.

Activations are (N, H, W, C) in TFLite and (N, C, H, W) here. Tensors are called ``t`` and their
number in the file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import tflite
from onnx import TensorProto, helper, numpy_helper
from tflite import BuiltinOperator as Code

from export.base.sparse import densified
from pipeline.errors import TwoStreamError

OPSET, IR_VERSION = 18, 8
INPUT = "picture"
LARGE = 256
"""Constants with more numbers than this are stored as float16, where that loses nothing."""

Array = npt.NDArray[Any]

_TYPES = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
}
_CODES = {number: name for name, number in vars(Code).items() if isinstance(number, int)}
_NHWC_TO_NCHW = {0: 0, 1: 2, 2: 3, 3: 1}


class ConversionError(TwoStreamError):
    """A TFLite file with something that isn't converted."""


@dataclass(frozen=True)
class Inner:
    """A layer within the network that becomes an output: its tensor, and numbers a picture."""

    tensor: str
    size: int


@dataclass(frozen=True)
class Network:
    """What to take of a TFLite file."""

    file: str
    outputs: Mapping[str, str]
    """TFLite's name of an output to the name here; other outputs are cut off."""
    low: float = 0.0
    """What a black picture is for the network; white is 1."""
    inner: Mapping[str, Inner] | None = None


def converted(network: Network, folder: Path) -> onnx.ModelProto:
    """The network as ONNX: ``picture`` (N, 3, h, w) float32, B G R, 0 to 255, to its outputs.

    Raises :class:`ConversionError` for an operator that isn't known here.
    """
    converter = Converter((folder / network.file).read_bytes(), network.low)
    converter.run()
    return converter.model(network)


class Converter:
    """One file on its way to ONNX: the nodes and constants so far."""

    def __init__(self, content: bytes, low: float) -> None:
        self.file = tflite.Model.GetRootAs(content, 0)  # type: ignore[no-untyped-call,unused-ignore]
        self.graph = self.file.Subgraphs(0)
        self.low = low
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.constants: dict[int, Array] = {}
        self.colours_reversed = False

    def run(self) -> None:
        """Convert all operators."""
        self._input()
        for number in range(self.graph.OperatorsLength()):
            operator = self.graph.Operators(number)
            kind = self.file.OperatorCodes(operator.OpcodeIndex())
            code = max(kind.BuiltinCode(), kind.DeprecatedBuiltinCode())
            if code not in _OPERATORS:
                raise ConversionError(f"TFLite's operator {_CODES.get(code, code)} isn't known")
            ins = [int(i) for i in operator.InputsAsNumpy() if i >= 0]
            _OPERATORS[code](self, operator, ins, int(operator.Outputs(0)))

    def _input(self) -> None:
        """The network's input from 0…255; its colours are reversed by the first convolution."""
        first = self.graph.Inputs(0)
        scale = self.constant("scale", np.float32((1 - self.low) / 255))
        if self.low:
            self.node("Mul", [INPUT, scale], "scaled")
            self.node("Add", ["scaled", self.constant("low", np.float32(self.low))], f"t{first}")
        else:
            self.node("Mul", [INPUT, scale], f"t{first}")

    def shape(self, tensor: int) -> tuple[int, ...]:
        """TFLite's shape."""
        one = self.graph.Tensors(tensor)
        return tuple(one.ShapeAsNumpy().tolist()) if one.ShapeLength() else ()

    def array(self, tensor: int) -> Array | None:
        """A constant's numbers in TFLite's order; None for an activation."""
        if tensor in self.constants:
            return self.constants[tensor]
        one = self.graph.Tensors(tensor)
        buffer = self.file.Buffers(one.Buffer())
        if not buffer.DataLength():
            return None
        values = np.frombuffer(buffer.DataAsNumpy().tobytes(), _TYPES[one.Type()])
        sparse = one.Sparsity() is not None
        self.constants[tensor] = (
            densified(one, values) if sparse else values.reshape(self.shape(tensor))
        )
        return self.constants[tensor]

    def weight(self, tensor: int) -> Array:
        """A constant that must be there."""
        values = self.array(tensor)
        if values is None:
            raise ConversionError(f"tensor {tensor} should be constant, and is computed")
        return values

    def constant(self, name: str, values: Any) -> str:
        """Keep a constant; large ones as float16 where each number survives."""
        values = np.ascontiguousarray(values)
        half = values.astype(np.float16) if values.dtype == np.float32 else values
        if values.size > LARGE and half.dtype == np.float16 and (half == values).all():
            self.initializers[f"{name}_half"] = numpy_helper.from_array(half, f"{name}_half")
            self.nodes.append(
                helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT)
            )
        else:
            self.initializers[name] = numpy_helper.from_array(values, name)
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        """Append a node of ONNX."""
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))

    def operand(self, tensor: int) -> str:
        """An activation's name, or a constant kept in ONNX's order."""
        values = self.array(tensor)
        if values is None:
            return f"t{tensor}"
        order = {4: (0, 3, 1, 2), 3: (2, 0, 1)}.get(values.ndim)
        values = values.transpose(order) if order else values
        return self.constant(f"c{tensor}", values.astype(np.float32))

    def activated(self, kind: str, inputs: list[str], out: int, fused: int, **more: Any) -> None:
        """A node and the activation that TFLite fused into it."""
        if fused == tflite.ActivationFunctionType.NONE:
            self.node(kind, inputs, f"t{out}", **more)
            return
        self.node(kind, inputs, f"t{out}_raw", **more)
        if fused == tflite.ActivationFunctionType.RELU:
            self.node("Relu", [f"t{out}_raw"], f"t{out}")
        elif fused == tflite.ActivationFunctionType.RELU6:
            ends = [self.constant("zero", np.float32(0)), self.constant("six", np.float32(6))]
            self.node("Clip", [f"t{out}_raw", *ends], f"t{out}")
        else:
            raise ConversionError(f"TFLite's activation {fused} isn't known")

    def model(self, network: Network) -> onnx.ModelProto:
        """The part of the graph that the network's outputs need."""
        outputs = {}
        for number in range(self.graph.OutputsLength()):
            tensor = int(self.graph.Outputs(number))
            name = self.graph.Tensors(tensor).Name().decode()
            if name in network.outputs:
                outputs[network.outputs[name]] = (f"t{tensor}", self.shape(tensor)[1:])
        for name, inner in (network.inner or {}).items():
            outputs[name] = (inner.tensor, (inner.size,))
        for name, (tensor_name, _) in outputs.items():
            self.node("Identity", [tensor_name], name)
        nodes = _needed(self.nodes, set(outputs))
        used = {name for node in nodes for name in node.input}
        _, high, wide, _ = self.shape(self.graph.Inputs(0))
        graph = helper.make_graph(
            nodes, Path(network.file).stem,
            [_info(INPUT, (3, high, wide))],
            [_info(name, shape) for name, (_, shape) in outputs.items()],
            [value for name, value in self.initializers.items() if name in used],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model)
        return model


def _info(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", *shape])


def _needed(nodes: Sequence[onnx.NodeProto], wanted: set[str]) -> list[onnx.NodeProto]:
    """The nodes that ``wanted`` depends on, in order."""
    wanted, kept = set(wanted), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]


def _options(operator: Any, kind: Any) -> Any:
    options, table = kind(), operator.BuiltinOptions()
    options.Init(table.Bytes, table.Pos)
    return options


def _padding(kind: int, size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Before and after, as TensorFlow's SAME: what is odd goes after."""
    if kind == tflite.Padding.VALID:
        return 0, 0
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _kept(to: Converter, operator: Any, ins: list[int], out: int) -> None:
    """DEQUANTIZE, DENSIFY: another way to store a constant."""
    to.constants[out] = to.weight(ins[0])


def _conv(to: Converter, operator: Any, ins: list[int], out: int) -> None:
    _convolution(to, _options(operator, tflite.Conv2DOptions), ins, out, (0, 3, 1, 2), 1)


def _depthwise(to: Converter, operator: Any, ins: list[int], out: int) -> None:
    groups = to.shape(ins[0])[3]
    options = _options(operator, tflite.DepthwiseConv2DOptions)
    _convolution(to, options, ins, out, (3, 0, 1, 2), groups)


def _convolution(
    to: Converter, options: Any, ins: list[int], out: int, order: tuple[int, ...], groups: int
) -> None:
    weight = to.weight(ins[1]).astype(np.float32).transpose(order)
    if not to.colours_reversed:  # the network learned R G B
        weight, to.colours_reversed = weight[:, ::-1], True
    _, high, wide, _ = to.shape(ins[0])
    kernel = weight.shape[2:]
    dilation = (options.DilationHFactor(), options.DilationWFactor())
    stride = (options.StrideH(), options.StrideW())
    pads = [
        _padding(options.Padding(), size, (k - 1) * d + 1, s)
        for size, k, d, s in zip((high, wide), kernel, dilation, stride, strict=True)
    ]
    names = [f"t{ins[0]}", to.constant(f"w{out}", weight)]
    names += [to.constant(f"b{out}", to.weight(i).astype(np.float32)) for i in ins[2:]]
    to.activated(
        "Conv", names, out, options.FusedActivationFunction(), kernel_shape=kernel, group=groups,
        strides=stride, dilations=dilation, pads=[p[0] for p in pads] + [p[1] for p in pads],
    )  # fmt: skip


def _add(to: Converter, operator: Any, ins: list[int], out: int) -> None:
    fused = _options(operator, tflite.AddOptions).FusedActivationFunction()
    to.activated("Add", [to.operand(i) for i in ins], out, fused)


def _prelu(to: Converter, operator: Any, ins: list[int], out: int) -> None:
    to.node("PRelu", [f"t{ins[0]}", to.operand(ins[1])], f"t{out}")


def _pad(to: Converter, operator: Any, ins: list[int], out: int) -> None:
    pads = to.weight(ins[1])[[0, 3, 1, 2]].T.ravel().astype(np.int64)
    to.node("Pad", [f"t{ins[0]}", to.constant(f"p{out}", pads)], f"t{out}")


def _max_pool(to: Converter, operator: Any, ins: list[int], out: int) -> None:
    options = _options(operator, tflite.Pool2DOptions)
    _, high, wide, _ = to.shape(ins[0])
    kernel = (options.FilterHeight(), options.FilterWidth())
    stride = (options.StrideH(), options.StrideW())
    pads = [
        _padding(options.Padding(), size, k, s)
        for size, k, s in zip((high, wide), kernel, stride, strict=True)
    ]
    to.node(
        "MaxPool", [f"t{ins[0]}"], f"t{out}", kernel_shape=kernel, strides=stride,
        pads=[p[0] for p in pads] + [p[1] for p in pads],
    )  # fmt: skip


def _resize(to: Converter, operator: Any, ins: list[int], out: int) -> None:
    options = _options(operator, tflite.ResizeBilinearOptions)
    (_, high, wide, _), (_, to_high, to_wide, _) = to.shape(ins[0]), to.shape(out)
    scales = np.array([1, 1, to_high / high, to_wide / wide], np.float32)
    corners = "align_corners" if options.AlignCorners() else "asymmetric"
    to.node(
        "Resize", [f"t{ins[0]}", "", to.constant(f"s{out}", scales)], f"t{out}", mode="linear",
        coordinate_transformation_mode="half_pixel" if options.HalfPixelCenters() else corners,
    )  # fmt: skip


def _depth_to_space(to: Converter, operator: Any, ins: list[int], out: int) -> None:
    size = _options(operator, tflite.DepthToSpaceOptions).BlockSize()
    to.node("DepthToSpace", [f"t{ins[0]}"], f"t{out}", blocksize=size, mode="DCR")


def _reshape(to: Converter, operator: Any, ins: list[int], out: int) -> None:
    source, shape = f"t{ins[0]}", to.shape(out)
    if len(shape) == 4:
        raise ConversionError("a RESHAPE to a picture isn't known")
    if len(to.shape(ins[0])) == 4:
        to.node("Transpose", [source], f"t{out}_nhwc", perm=[0, 2, 3, 1])
        source = f"t{out}_nhwc"
    target = np.array([0, *shape[1:]], np.int64)
    to.node("Reshape", [source, to.constant(f"r{out}", target)], f"t{out}")


def _concatenation(to: Converter, operator: Any, ins: list[int], out: int) -> None:
    axis, rank = _options(operator, tflite.ConcatenationOptions).Axis(), len(to.shape(out))
    axis = _NHWC_TO_NCHW[axis % 4] if rank == 4 else axis
    to.node("Concat", [f"t{i}" for i in ins], f"t{out}", axis=axis)


def _mean(to: Converter, operator: Any, ins: list[int], out: int) -> None:
    if sorted(to.weight(ins[1]).ravel().tolist()) != [1, 2]:
        raise ConversionError("a MEAN over anything but height and width isn't known")
    axes = to.constant(f"a{out}", np.array([2, 3], np.int64))
    keep = int(len(to.shape(out)) == 4)
    to.node("ReduceMean", [f"t{ins[0]}", axes], f"t{out}", keepdims=keep)


def _fully_connected(to: Converter, operator: Any, ins: list[int], out: int) -> None:
    source = f"t{ins[0]}"
    if len(to.shape(ins[0])) > 2:
        to.node("Flatten", [source], f"t{out}_flat", axis=1)
        source = f"t{out}_flat"
    names = [source, to.constant(f"w{out}", to.weight(ins[1]).astype(np.float32))]
    names += [to.constant(f"b{out}", to.weight(i).astype(np.float32)) for i in ins[2:]]
    fused = _options(operator, tflite.FullyConnectedOptions).FusedActivationFunction()
    to.activated("Gemm", names, out, fused, transB=1)


def _logistic(to: Converter, operator: Any, ins: list[int], out: int) -> None:
    to.node("Sigmoid", [f"t{ins[0]}"], f"t{out}")


_OPERATORS: dict[int, Callable[[Converter, Any, list[int], int], None]] = {
    Code.DEQUANTIZE: _kept,
    Code.DENSIFY: _kept,
    Code.CONV_2D: _conv,
    Code.DEPTHWISE_CONV_2D: _depthwise,
    Code.ADD: _add,
    Code.PRELU: _prelu,
    Code.PAD: _pad,
    Code.MAX_POOL_2D: _max_pool,
    Code.RESIZE_BILINEAR: _resize,
    Code.DEPTH_TO_SPACE: _depth_to_space,
    Code.RESHAPE: _reshape,
    Code.CONCATENATION: _concatenation,
    Code.MEAN: _mean,
    Code.FULLY_CONNECTED: _fully_connected,
    Code.LOGISTIC: _logistic,
}
