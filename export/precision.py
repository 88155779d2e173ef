"""Networks in fewer bits: 8-bit integers for CPUs with fast 8-bit products, float16 for GPUs.

Fusion always stays float32. It is a fiftieth of the work, and its state would be rounded at every
step of the window.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.transformers.float16 import convert_float_to_float16

from export import SMALL_NETWORKS
from export.graphs import Graphs, checked
from export.stepping import stacks_of
from pipeline.model.pack import Precision
from training.data import Stepped

Rows = npt.NDArray[np.uint8]
INPUTS = {"spatial": "frames", "temporal": "flow"}
CALIBRATION_ROWS = 128
# The last linear layer and its normalisation compute the feature from which fusion builds its
# state. In float32 they cost 0.02 ms, and the temporal features keep 45 dB instead of 23.
QUANTISED_OPERATORS = ("Conv", "Clip", "Relu")
# Without it, onnxruntime advises a simplification that is already done.
PREPARED = ("onnx.quant.pre_process", "onnxruntime.quant")


def calibration_rows(clips: Sequence[Stepped], stack: int) -> dict[str, Rows]:
    """Up to 128 inputs of each network, spread over all steps: (K, h, w, 3), (K, L, h, w, 2)."""
    pictures = np.concatenate([clip.pictures for clip in clips])
    stacks = np.concatenate([stacks_of(clip, stack)[0] for clip in clips])
    chosen = np.linspace(0, len(pictures) - 1, min(CALIBRATION_ROWS, len(pictures))).astype(int)
    return {"spatial": pictures[chosen], "temporal": stacks[chosen]}


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, rows: Rows) -> None:
        self._feeds = iter([{name: row[None]} for row in rows])

    def get_next(self) -> dict[str, Rows] | None:
        return next(self._feeds, None)


def to_int8(network: str, graph: onnx.ModelProto, rows: Rows) -> onnx.ModelProto:
    """Round convolutions to 8 bits: weights per channel, ranges from least to largest value.

    ``rows`` are real inputs of the network. Percentile and entropy calibration take three times as
    long, and their features were as near (25.9 and 25.6 dB against 25.6) on the gesture clips.
    """
    source = onnx.ModelProto()
    source.CopyFrom(graph)
    source.metadata_props.add(key=PREPARED[0], value=PREPARED[1])
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "int8.onnx"
        quantize_static(
            source, path, _Reader(INPUTS[network], rows), quant_format=QuantFormat.QDQ,
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            op_types_to_quantize=list(QUANTISED_OPERATORS),
            calibrate_method=CalibrationMethod.MinMax,
        )  # fmt: skip
        small = onnx.load(path)
    standard = [entry for entry in small.opset_import if entry.domain == ""]
    del small.opset_import[:], small.metadata_props[:]
    small.opset_import.extend(standard)
    return checked(small)


def to_float16(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Convert weights and sums to float16; inputs and outputs keep their types."""
    source = onnx.ModelProto()
    source.CopyFrom(graph)
    small: onnx.ModelProto = convert_float_to_float16(source, keep_io_types=True)
    return checked(small)


def precision_of(graph: onnx.ModelProto) -> Precision:
    """The precision of a network, read from the network itself."""
    if any(node.op_type == "QuantizeLinear" for node in graph.graph.node):
        return "int8"
    kinds = {tensor.data_type for tensor in graph.graph.initializer}
    return "float16" if TensorProto.FLOAT16 in kinds else "float32"


def variants(
    graphs: Graphs,
    int8: Sequence[str],
    float16: bool,
    rows: Mapping[str, Rows],
) -> dict[Precision, dict[str, onnx.ModelProto]]:
    """The networks as exported and, if wanted, with those of ``int8`` in 8 bits and in float16."""
    made: dict[Precision, dict[str, onnx.ModelProto]] = {"float32": dict(graphs)}
    if int8:
        small = {name: to_int8(name, graphs[name], rows[name]) for name in int8}
        made["int8"] = {**graphs, **small}
    if float16:
        half = {name: to_float16(graphs[name]) for name in SMALL_NETWORKS}
        made["float16"] = {**graphs, **half}
    return made
