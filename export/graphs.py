"""The three networks as ONNX graphs, with preprocessing inside and the contract attached."""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from pipeline.model_pack import METADATA_KEY, Contract
from training.config import TrainConfig
from training.model import TwoStream

OPSET = 17
Axes = Mapping[str, Mapping[int, str]]
SCORES = ("scores", "spatial_scores", "temporal_scores")


def _export(
    network: nn.Module,
    inputs: tuple[Tensor, ...],
    names: tuple[Sequence[str], Sequence[str]],
    axes: Axes,
) -> onnx.ModelProto:
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "network.onnx"
        # The tracing exporter writes a GRU as the one operator that runtimes have a kernel for,
        # and it is named "legacy" in each of its messages; both the lengths below are dynamic.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, inputs, path, input_names=list(names[0]), output_names=list(names[1]),
            dynamic_axes=axes, opset_version=OPSET, dynamo=False,
        )  # fmt: skip
        graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def export_graphs(model: TwoStream, config: TrainConfig) -> dict[str, onnx.ModelProto]:
    """``spatial``, ``temporal`` and ``fusion``, shapes as in :mod:`pipeline.model_pack`."""
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
            model.spatial, (frames,), (["frames"], ["features"]),
            {"frames": batch, "features": batch},
        ),
        "temporal": _export(
            model.temporal, (stacks,), (["flow"], ["features"]), {"flow": batch, "features": batch}
        ),
        "fusion": _export(
            model.fusion, window, (inputs, (*SCORES, "alpha")),
            {**{name: {0: "n", 1: "t"} for name in (*inputs, "alpha")},
             **dict.fromkeys(SCORES, batch)},
        ),
    }  # fmt: skip


def attach_contract(graph: onnx.ModelProto, contract: Contract) -> None:
    """Put the contract into ``metadata_props``, in place of one that's there."""
    kept = [entry for entry in graph.metadata_props if entry.key != METADATA_KEY]
    del graph.metadata_props[:]
    graph.metadata_props.extend(kept)
    graph.metadata_props.add(key=METADATA_KEY, value=contract.metadata_json())
