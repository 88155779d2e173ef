"""A pack of hand-made networks that recognise the direction of the mean flow.

It needs no training and has a few kilobytes, and yet it is right: motion to the left is ``left``.
So tests of the pipeline can run real sessions on real contracts within milliseconds.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.model.pack import (
    CONTRACT_FILE,
    METADATA_KEY,
    Contract,
    FusionContract,
    Parity,
    SpatialContract,
    TemporalContract,
    Threshold,
    file_sha256,
    network_file,
)

LABELS = ("background", "left", "right", "up", "down")
STACK, SIZE, FLOW_SIZE, D = 2, (12, 16), (60, 80), 4
OPSET = 17


def contract(**changes: object) -> Contract:
    """The tiny pack's contract, with ``changes``."""
    values: dict[str, object] = {
        "name": "tiny",
        "version": "1.0.0",
        "licence": "Apache-2.0",
        "provenance": "made by hand",
        "labels": LABELS,
        "background": ("background",),
        "step_hz": 10.0,
        "window": 6,
        "feature_size": D,
        "spatial": SpatialContract(backbone="mean", size=SIZE, mean=(0, 0, 0), std=(255, 255, 255)),
        "temporal": TemporalContract(
            backbone="mean", size=SIZE, flow_size=FLOW_SIZE, stack=STACK, method="dis", bound=8.0
        ),
        "fusion": FusionContract(kind="score", aggregator="mean"),
        "thresholds": {
            label: Threshold(start=0.7, end=0.5, min_duration_s=0.2, cooldown_s=0.3)
            for label in LABELS[1:]
        },
        "parity": Parity(
            spatial=0, temporal=0, fusion=0, tolerance=1e-3, top1_agreement=1, samples=1
        ),
        "metrics": {},
        **changes,
    }
    return Contract.model_validate(values)


def _constant(name: str, values: object, dtype: type) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(values, dtype), name)


def _spatial() -> onnx.GraphProto:
    nodes = [
        helper.make_node("Cast", ["frames"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["f"], ["m"], axes=[1, 2], keepdims=0),
        helper.make_node("Div", ["m", "c255"], ["n"]),
        # For a white picture the root is of a negative number, so the features are not finite.
        helper.make_node("Sub", ["white", "n"], ["left"]),
        helper.make_node("Sqrt", ["left"], ["root"]),
        helper.make_node("Pad", ["root", "pads"], ["features"]),
    ]
    return helper.make_graph(
        nodes,
        "spatial",
        [helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", *SIZE, 3])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", D])],
        [
            _constant("c255", 255.0, np.float32),
            _constant("white", 0.999, np.float32),
            _constant("pads", [0, 0, 0, D - 3], np.int64),
        ],
    )


def _temporal() -> onnx.GraphProto:
    nodes = [
        helper.make_node("Cast", ["flow"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["f", "c128"], ["z"]),
        helper.make_node("ReduceMean", ["z"], ["m"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("MatMul", ["m", "signs"], ["s"]),
        helper.make_node("Relu", ["s"], ["features"]),
    ]
    return helper.make_graph(
        nodes,
        "temporal",
        [helper.make_tensor_value_info("flow", TensorProto.UINT8, ["N", STACK, *SIZE, 2])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", D])],
        [
            _constant("c128", 128.0, np.float32),
            _constant("signs", [[-1, 1, 0, 0], [0, 0, -1, 1]], np.float32),
        ],
    )


def _fusion() -> onnx.GraphProto:
    names = ("spatial", "temporal")
    floats = TensorProto.FLOAT
    nodes = [
        helper.make_node("Slice", ["mask", "one", "two", "axis2"], ["mt"]),
        helper.make_node("Mul", ["temporal", "mt"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "axis1"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["mt", "axis1"], ["count"], keepdims=0),
        helper.make_node("Max", ["count", "cone"], ["safe"]),
        helper.make_node("Div", ["sum", "safe"], ["mean"]),
        helper.make_node("Pad", ["mean", "pads", "cfour"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
        helper.make_node("Identity", ["scores"], ["temporal_scores"]),
        helper.make_node("ReduceSum", ["spatial", "axis1"], ["ss"], keepdims=0),
        helper.make_node("Mul", ["ss", "czero"], ["flat"]),
        helper.make_node("Pad", ["flat", "pads", "czero1"], ["slogits"]),
        helper.make_node("Softmax", ["slogits"], ["spatial_scores"], axis=1),
        helper.make_node("ReduceMean", ["mask"], ["half"], axes=[2], keepdims=0),
        helper.make_node("Mul", ["half", "chalf"], ["alpha"]),
    ]
    classes = len(LABELS)
    return helper.make_graph(
        nodes,
        "fusion",
        [
            *(helper.make_tensor_value_info(n, floats, ["N", "T", D]) for n in names),
            helper.make_tensor_value_info("mask", floats, ["N", "T", 2]),
        ],
        [
            helper.make_tensor_value_info("scores", floats, ["N", classes]),
            helper.make_tensor_value_info("spatial_scores", floats, ["N", classes]),
            helper.make_tensor_value_info("temporal_scores", floats, ["N", classes]),
            helper.make_tensor_value_info("alpha", floats, ["N", "T"]),
        ],
        [
            _constant("one", [1], np.int64),
            _constant("two", [2], np.int64),
            _constant("axis1", [1], np.int64),
            _constant("axis2", [2], np.int64),
            _constant("cone", 1.0, np.float32),
            _constant("czero", 0.0, np.float32),
            _constant("czero1", 0.0, np.float32),
            _constant("cfour", 4.0, np.float32),
            _constant("chalf", 0.5, np.float32),
            # One more logit in front, of 4, for background: it wins when little moves.
            _constant("pads", [0, 1, 0, 0], np.int64),
        ],
    )


def make(folder: Path, **changes: object) -> Path:
    """Write the tiny pack into ``folder`` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    stated = contract(**changes)
    hashes = {}
    graphs = {"spatial": _spatial(), "temporal": _temporal(), "fusion": _fusion()}
    for network, graph in graphs.items():
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = 8
        helper.set_model_props(model, {METADATA_KEY: stated.metadata_json()})
        onnx.checker.check_model(model)
        path = folder / network_file(network)
        onnx.save(model, path)
        hashes[path.name] = file_sha256(path)
    final = stated.model_copy(update={"sha256": hashes})
    (folder / CONTRACT_FILE).write_text(final.model_dump_json(indent=2))
    return folder
