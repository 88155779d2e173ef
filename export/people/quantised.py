"""The person detector in 8-bit integers."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from export.people.surgery import INPUT, constants, copy_of, pruned

Pictures = npt.NDArray[np.uint8]

OPERATORS = ("Conv", "LeakyRelu", "MaxPool", "AveragePool", "Concat", "Add", "Resize")
"""All between the pictures and the heads: a single float between them costs two conversions."""
# Without it, onnxruntime advises a simplification that is already done.
_PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, pictures: Sequence[Pictures]) -> None:
        self._feeds = iter([{INPUT: picture[None]} for picture in pictures])

    def get_next(self) -> dict[str, Pictures] | None:
        return next(self._feeds, None)


def to_int8(model: onnx.ModelProto, pictures: Sequence[Pictures]) -> onnx.ModelProto:
    """Round weights and sums to 8 bits; ``pictures`` are real inputs, (h, w, 3) uint8 each.

    Weights use 7 of the 8 bits: on a CPU without VNNI the sums of 8-bit products would saturate.
    """
    source = copy_of(model)
    source.metadata_props.add(key=_PREPARED[0], value=_PREPARED[1])
    with tempfile.TemporaryDirectory() as scratch:
        before, after = Path(scratch) / "float32.onnx", Path(scratch) / "int8.onnx"
        onnx.save(source, before)
        quantize_static(
            before, after, _Reader(pictures), quant_format=QuantFormat.QDQ, per_channel=True,
            reduce_range=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            op_types_to_quantize=list(OPERATORS), calibrate_method=CalibrationMethod.MinMax,
        )  # fmt: skip
        small = onnx.load(after)
    standard = [entry for entry in small.opset_import if entry.domain == ""]
    del small.opset_import[:], small.metadata_props[:]
    small.opset_import.extend(standard)
    return pruned(_with_bytes_kept(small))


def _with_bytes_kept(model: onnx.ModelProto) -> onnx.ModelProto:
    """Leave out the rounding of the pictures: they are bytes already.

    The graph begins with a DequantizeLinear. The quantiser adds a QuantizeLinear and another
    DequantizeLinear behind it, with nearly the same scale.
    """
    graph = model.graph
    (first,) = (node for node in graph.node if node.output[0] == "centred")
    rounding = [node for node in graph.node if node.input[0] == "centred"]
    rounded = {node.output[0] for node in rounding if node.op_type == "QuantizeLinear"}
    behind = {node.output[0] for node in graph.node if node.input[0] in rounded}
    for node in graph.node:
        if node.op_type == "Conv" and node.input[0] in behind:
            node.input[0] = first.output[0]
    assert all(name in constants(graph) for name in first.input[1:])
    return model
