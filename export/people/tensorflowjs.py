"""From a graph model of TensorFlow.js to ONNX. Needs TensorFlow and tf2onnx."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow reports on every start

import tensorflow as tf
import tf2onnx
from google.protobuf import json_format

OPSET = 17


def weights_of(folder: Path, manifest: list[dict[str, Any]]) -> dict[str, npt.NDArray[Any]]:
    """The weights by name, at full precision; the files lie in ``folder``, one after the other."""
    values = {}
    for group in manifest:
        content = b"".join((folder / name).read_bytes() for name in group["paths"])
        place = 0
        for weight in group["weights"]:
            stored = weight.get("quantization", {})
            dtype = np.dtype(stored.get("dtype", weight["dtype"]))
            count = math.prod(weight["shape"])
            value = np.frombuffer(content, dtype, count, place).reshape(weight["shape"])
            place += count * dtype.itemsize
            if "scale" in stored:
                value = value.astype(np.float32) * stored["scale"] + stored["min"]
            values[weight["name"]] = value.astype(weight["dtype"])
    return values


def graph_def(path: Path) -> tuple[Any, dict[str, Any]]:
    """The TensorFlow graph in ``path``, weights included, and its signature."""
    model = json.loads(path.read_bytes())
    graph = tf.compat.v1.GraphDef()
    nodes = {"node": model["modelTopology"]["node"]}
    json_format.ParseDict(nodes, graph, ignore_unknown_fields=True)
    values = weights_of(path.parent, model["weightsManifest"])
    for node in graph.node:
        if node.op == "Const":
            dtype = tf.dtypes.as_dtype(node.attr["dtype"].type)
            value = values[node.name]
            tensor = tf.make_tensor_proto(value, dtype=dtype, shape=value.shape)
            node.attr["value"].tensor.CopyFrom(tensor)
    return graph, model["signature"]


def to_onnx(path: Path) -> onnx.ModelProto:
    """Convert the graph model in ``path``, the file ``NAME.json``."""
    graph, signature = graph_def(path)
    model, _ = tf2onnx.convert.from_graph_def(
        graph, input_names=list(signature["inputs"]), output_names=sorted(signature["outputs"]),
        opset=OPSET,
    )  # fmt: skip
    return model
