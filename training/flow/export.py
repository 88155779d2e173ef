"""Export of a checkpoint to the ONNX file that ``pipeline.flow.deep`` runs."""

import hashlib
import tempfile
import warnings
from pathlib import Path

import numpy as np
import onnx
import torch

from pipeline.model.session import UnpackagedNetwork
from training.flow.config import FlowTrainConfig, SceneConfig
from training.flow.network import DeepFlow
from training.flow.scenes import render
from training.flow.textures import Gray

OPSET = 17
TOLERANCE_PX = 1e-2
SIZES = ((192, 256), (256, 320), (128, 448))
SCENES_PER_SIZE = 2


class FlowExportError(Exception):
    """A network that must not be written; the message says why."""


def graph_of(network: DeepFlow) -> onnx.ModelProto:
    """``prev``, ``next`` (n, h, w) uint8 -> ``flow`` (n, 2, h, w) float32; n, h, w are free."""
    side = 2 * network.multiple
    frames = torch.zeros(1, side, side, dtype=torch.uint8)
    free = {0: "n", 1: "h", 2: "w"}
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "deep.onnx"
        warnings.simplefilter(
            "ignore"
        )  # torch warns repeatedly that this exporter is the older one
        torch.onnx.export(
            network.eval(), (frames, frames), path, input_names=["prev", "next"],
            output_names=["flow"], opset_version=OPSET, dynamo=False,
            dynamic_axes={"prev": free, "next": free, "flow": {0: "n", 2: "h", 3: "w"}},
        )  # fmt: skip
        graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    return graph


def parity_px(network: DeepFlow, model: bytes, seed: int = 0) -> float:
    """The largest difference between torch's flow and onnxruntime's over rendered scenes."""
    ours = UnpackagedNetwork(Path("deep.onnx"), model, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(seed)
    photos: list[Gray] = [rng.integers(0, 256, (40, 40), np.uint8)]
    worst = 0.0
    for size in SIZES:
        for _ in range(SCENES_PER_SIZE):
            scene = render(rng, photos, SceneConfig(size=size))
            prev, following = scene.prev[np.newaxis], scene.next[np.newaxis]
            with torch.inference_mode():
                theirs = network(torch.from_numpy(prev), torch.from_numpy(following)).numpy()
            (found,) = ours.run({"prev": prev, "next": following})
            # np.maximum, unlike max, keeps a NaN, which export_flow then refuses.
            worst = float(np.maximum(worst, np.abs(found - theirs).max()))
    return worst


def export_flow(
    network: DeepFlow, config: FlowTrainConfig, error_px: float, path: Path
) -> tuple[float, str]:
    """Write ``path``; returns the parity in pixels and the file's SHA-256.

    Raises :class:`FlowExportError` and writes nothing if torch and onnxruntime disagree by more
    than :data:`TOLERANCE_PX`.
    """
    graph = graph_of(network)
    worst = parity_px(network, graph.SerializeToString())
    if not worst <= TOLERANCE_PX:
        raise FlowExportError(
            f"torch and onnxruntime disagree by {worst:.1e} px, more than {TOLERANCE_PX:.0e}"
        )
    about = {
        "name": "deep",
        "version": config.version,
        "licence": config.licence,
        "provenance": config.provenance,
        "rendered_error_px": f"{error_px:.4f}",
        "parity_px": f"{worst:.1e}",
    }
    onnx.helper.set_model_props(graph, about)
    model = graph.SerializeToString()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model)
    return worst, hashlib.sha256(model).hexdigest()
