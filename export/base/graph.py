"""Write ONNX graphs as formulas: values with operators, each of which adds a node."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Union

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
"""The file format of that opset's time."""
Constant = int | float | Sequence[int] | Sequence[float] | npt.NDArray[np.generic]


class Graph:
    """A graph that grows; :meth:`model` ends it. Constants are float32 or int64."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[bytes, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Sequence[int | str]) -> "Value":
        """An input of uint8."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.UINT8, shape))
        return Value(self, name)

    def constant(self, values: Constant, dtype: npt.DTypeLike = np.float32) -> "Value":
        """A constant; equal ones are kept once."""
        array = np.asarray(values, dtype)
        key = array.dtype.str.encode() + repr(array.shape).encode() + array.tobytes()
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = numpy_helper.from_array(array, name)
        return Value(self, self._constants[key].name)

    def node(self, operator: str, *inputs: "Value", **attributes: Any) -> "Value":
        """The first output of a new node."""
        return self.nodes(operator, 1, *inputs, **attributes)[0]

    def nodes(
        self, operator: str, outputs: int, *inputs: "Value", **attributes: Any
    ) -> list["Value"]:
        """The outputs of a new node."""
        number = len(self._nodes)
        names = [f"{operator.lower()}_{number}_{i}" for i in range(outputs)]
        given = [value.name for value in inputs]
        self._nodes.append(helper.make_node(operator, given, names, **attributes))
        return [Value(self, name) for name in names]

    def concat(self, values: Sequence["Value"], axis: int = -1) -> "Value":
        return self.node("Concat", *values, axis=axis)

    def model(self, outputs: Mapping[str, tuple["Value", Sequence[int | str]]]) -> onnx.ModelProto:
        """The checked model; ``outputs`` are float32, each with its shape."""
        ends = [
            helper.make_node("Identity", [value.name], [name])
            for name, (value, _) in outputs.items()
        ]
        graph = helper.make_graph(
            [*self._nodes, *ends],
            self._name,
            self._inputs,
            [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
                for name, (_, shape) in outputs.items()
            ],
            list(self._constants.values()),
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        return model


Operand = Union["Value", Constant]


@dataclass(frozen=True)
class Value:
    """A tensor of a :class:`Graph`. Operators take numbers too."""

    graph: Graph
    name: str

    def _binary(self, operator: str, other: Operand) -> "Value":
        if not isinstance(other, Value):
            other = self.graph.constant(other)
        return self.graph.node(operator, self, other)

    def __add__(self, other: Operand) -> "Value":
        return self._binary("Add", other)

    def __sub__(self, other: Operand) -> "Value":
        return self._binary("Sub", other)

    def __mul__(self, other: Operand) -> "Value":
        return self._binary("Mul", other)

    def __truediv__(self, other: Operand) -> "Value":
        return self._binary("Div", other)

    def __gt__(self, other: Operand) -> "Value":
        return self._binary("Greater", other)

    def __ge__(self, other: Operand) -> "Value":
        return self._binary("GreaterOrEqual", other)

    def at_least(self, other: Operand) -> "Value":
        """The larger of the two."""
        return self._binary("Max", other)

    def matmul(self, other: Operand) -> "Value":
        return self._binary("MatMul", other)

    def sqrt(self) -> "Value":
        return self.graph.node("Sqrt", self)

    def log(self) -> "Value":
        return self.graph.node("Log", self)

    def float(self) -> "Value":
        return self.graph.node("Cast", self, to=TensorProto.FLOAT)

    def sum(self, length: int) -> "Value":
        """Sum of the last axis, which is so long; the axis stays, with length 1."""
        # onnxruntime's reductions forget to reduce where N is 0. A product doesn't.
        return self.matmul(np.ones((length, 1)))

    def cell_means(self, height: int, width: int) -> "Value":
        """Means of cells of (N, C, h, w)."""
        size = [height, width]
        return self.graph.node("AveragePool", self, kernel_shape=size, strides=size)

    def reshape(self, *shape: int) -> "Value":
        """In another shape; 0 keeps the length of that axis, so that N may be 0."""
        return self.graph.node("Reshape", self, self.graph.constant(shape, np.int64))

    def transpose(self, *order: int) -> "Value":
        return self.graph.node("Transpose", self, perm=list(order))

    def split(self, axis: int, parts: int) -> list["Value"]:
        """Equal parts along an axis."""
        return self.graph.nodes("Split", parts, self, axis=axis)

    def every(self, step: int, *axes: int) -> "Value":
        """Each ``step``-th row along the axes."""
        ends = [np.iinfo(np.int64).max] * len(axes)
        rows = ([0] * len(axes), ends, list(axes), [step] * len(axes))
        return self.graph.node("Slice", self, *(self.graph.constant(row, np.int64) for row in rows))
