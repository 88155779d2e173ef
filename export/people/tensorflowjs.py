"""From a graph model of TensorFlow.js to ONNX. Needs TensorFlow and tf2onnx."""

import json
import os
from pathlib import Path
from typing import Any

import onnx

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow reports on every start

import tensorflow as tf  # only the extra has it: nothing but the conversion imports this module
import tf2onnx
from google.protobuf import json_format

from export.people.weights import weights_of

OPSET = 17


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
    model: onnx.ModelProto
    model, _ = tf2onnx.convert.from_graph_def(
        graph, input_names=list(signature["inputs"]), output_names=sorted(signature["outputs"]),
        opset=OPSET,
    )  # fmt: skip
    return model
