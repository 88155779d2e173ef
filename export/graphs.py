"""The three networks as ONNX graphs, with preprocessing inside and the contract attached."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import onnxruntime as ort
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.onnx.errors import OnnxExporterError

from pipeline.model.pack import METADATA_KEY, Contract
from training.config import TrainConfig
from training.model import TwoStream
from training.spatial import SpatialNetwork

OPSET = 17
IR_VERSION = 8
"""The file format of that opset's time: a runtime that reads one reads the other."""
Axes = Mapping[str, Mapping[int, str]]
Graphs = Mapping[str, onnx.ModelProto]
SCORES = ("scores", "spatial_scores", "temporal_scores")


class ExportError(Exception):
    """A pack that must not be written; the message says why."""


def reason(error: ValidationError) -> str:
    """The message of a contract's own check, without pydantic's words around it."""
    return error.errors()[0]["msg"].removeprefix("Value error, ")


class Appearance(nn.Module):
    """``spatial.onnx``: (N, h, w, 3) uint8 BGR -> (N, d) float32.

    Colour order, mean and deviation are one 1×1 convolution over the colours. Runtimes would run
    three operators in a row on the interleaved picture, where they cost an 8-bit network 0.3 ms of
    its 2. And quantisation handles convolutions.
    """

    def __init__(self, network: SpatialNetwork) -> None:
        super().__init__()
        self.normalise = nn.Conv2d(3, 3, 1)
        self.backbone, self.head = network.backbone, network.head
        mean, scale = network.mean.flatten(), 1.0 / network.std.flatten()
        with torch.no_grad():
            # Rows are R G B, as mean and deviation are; columns B G R, as pictures come.
            self.normalise.weight.copy_(torch.diag(scale).flip(1).reshape(3, 3, 1, 1))
            assert self.normalise.bias is not None
            self.normalise.bias.copy_(-mean * scale)

    def forward(self, frames: Tensor) -> Tensor:
        planes = self.normalise(frames.permute(0, 3, 1, 2).float())
        y: Tensor = self.head(self.backbone(planes))
        return y


def checked(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return ``graph``; raise :class:`ExportError` unless it is valid and only standard ONNX."""
    if foreign := {f"{node.domain}.{node.op_type}" for node in graph.graph.node if node.domain}:
        raise ExportError(f"{graph.graph.name}: operators outside the standard: {sorted(foreign)}")
    try:
        onnx.checker.check_model(graph, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"{graph.graph.name}: not valid ONNX: {error}") from None
    return graph


def simplified(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Fold constants, and paddings into convolutions: a quarter of the spatial nodes stay.

    onnxruntime's own basic rewriting does it, and stays within standard operators. Results and
    speed don't change, because sessions do the same on loading. It helps quantisation, which looks
    at single convolutions, and other runtimes.
    """
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "simplified.onnx"
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        lean = onnx.load(path)
    # onnxruntime declares every set of operators that it knows.
    standard = [entry for entry in lean.opset_import if entry.domain == ""]
    del lean.opset_import[:]
    lean.opset_import.extend(standard)
    lean.ir_version = IR_VERSION
    return lean


def _export(
    name: str,
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    names: tuple[Sequence[str], Sequence[str]],
    axes: Axes,
) -> onnx.ModelProto:
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "network.onnx"
        # The tracing exporter writes a GRU as one operator, for which runtimes have a kernel. It
        # warns that it is "legacy", and of lengths that are in fact dynamic.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                network, inputs, path, input_names=list(names[0]), output_names=list(names[1]),
                dynamic_axes=axes, opset_version=OPSET, dynamo=False,
            )  # fmt: skip
        except OnnxExporterError as error:
            first = str(error).splitlines()[0]
            raise ExportError(f"{name}: can't be written as ONNX {OPSET}: {first}") from None
        graph = onnx.load(path)
    graph.graph.name = name
    return checked(simplified(checked(graph)))


def export_graphs(model: TwoStream, config: TrainConfig) -> dict[str, onnx.ModelProto]:
    """``spatial``, ``temporal`` and ``fusion``, shapes as in :mod:`pipeline.model.pack`."""
    model = model.eval()
    size, contract = config.feature_size, config.temporal
    frames = torch.zeros(2, *config.spatial.size, 3, dtype=torch.uint8)
    stacks = torch.full((2, contract.stack, *contract.size, 2), 128, dtype=torch.uint8)
    steps = config.window
    window = (torch.randn(2, steps, size), torch.randn(2, steps, size), torch.ones(2, steps, 2))
    inputs = ("spatial", "temporal", "mask")
    batch = {0: "n"}
    return {
        "spatial": _export(
            "spatial", Appearance(model.spatial).eval(), (frames,), (["frames"], ["features"]),
            {"frames": batch, "features": batch},
        ),
        "temporal": _export(
            "temporal", model.temporal, (stacks,), (["flow"], ["features"]),
            {"flow": batch, "features": batch},
        ),
        "fusion": _export(
            "fusion", model.fusion, window, (inputs, (*SCORES, "alpha")),
            {**{name: {0: "n", 1: "t"} for name in (*inputs, "alpha")},
             **dict.fromkeys(SCORES, batch)},
        ),
    }  # fmt: skip


def attach_contract(graph: onnx.ModelProto, contract: Contract) -> None:
    """Make the contract the only entry of ``metadata_props``; name the pack where tools look."""
    del graph.metadata_props[:]
    graph.metadata_props.add(key=METADATA_KEY, value=contract.metadata_json())
    graph.producer_name, graph.producer_version = contract.name, contract.version
    graph.doc_string = f"{graph.graph.name} network of {contract.name}. {contract.provenance}"
