"""Writing ONNX graphs node by node."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
"""The file format of that opset's time: a runtime that reads one reads the other."""

Shape = Sequence[int | str]


class Graph:
    """A graph that grows. Methods return names of tensors, and take names or arrays."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[bytes, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Shape, dtype: int = TensorProto.FLOAT) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, value: str, shape: Shape) -> None:
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def constant(self, value: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """A constant; equal ones are kept once."""
        array = np.asarray(value, dtype)
        content = f"{array.dtype}{array.shape}".encode() + array.tobytes()
        if content not in self._constants:
            name = f"constant{len(self._constants)}"
            self._constants[content] = numpy_helper.from_array(array, name)
        return self._constants[content].name

    def node(self, kind: str, *inputs: str | npt.ArrayLike, **attributes: Any) -> str:
        """Add an operator with one output. Numbers and arrays become float constants."""
        names = [one if isinstance(one, str) else self.constant(one) for one in inputs]
        out = f"{kind.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, names, [out], **attributes))
        return out

    def integers(self, *values: int) -> str:
        return self.constant(list(values), np.int64)

    def part(self, value: str, start: int, end: int, axis: int) -> str:
        """``value[start:end]`` along an axis; ``end`` 0 means to the end."""
        last = np.iinfo(np.int64).max if end == 0 else end
        return self.node(
            "Slice", value, self.integers(start), self.integers(last), self.integers(axis)
        )

    def total(self, value: str, axis: int, keep: bool = True) -> str:
        return self.node("ReduceSum", value, self.integers(axis), keepdims=int(keep))

    def model(self) -> onnx.ModelProto:
        """The graph as a model, checked. Raises onnx's errors for a graph that isn't valid."""
        graph = helper.make_graph(
            self._nodes, self._name, self._inputs, self._outputs, list(self._constants.values())
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        onnx.checker.check_model(model, full_check=True)
        return model
