"""Writing a model pack, and measuring that it says what the trained model says."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import torch
from pydantic import ValidationError

from export.card import CARD_FILE, model_card
from export.graphs import attach_contract, export_graphs
from pipeline.model_pack import (
    CONTRACT_FILE,
    NETWORKS,
    Contract,
    FusionContract,
    ModelPack,
    Parity,
    Threshold,
    file_sha256,
    network_file,
)
from pipeline.onnx_session import Network
from training.compose import stack_indices, stack_valid
from training.config import TrainConfig
from training.data import Entry, Stepped, read_list, step_clip, video_frames
from training.model import TwoStream

Floats = npt.NDArray[np.float32]
TOLERANCE = 1e-3
EXACT = Parity(
    spatial=0.0, temporal=0.0, fusion=0.0, tolerance=TOLERANCE, top1_agreement=1.0, samples=0
)


class ExportError(Exception):
    """A pack that must not be written; the message says why."""


def contract_of(
    config: TrainConfig, metrics: Mapping[str, object], parity: Parity = EXACT
) -> Contract:
    """The contract of a trained model; thresholds come with the metrics where they were fitted."""
    fitted = metrics.get("thresholds", {})
    thresholds = {
        label: Threshold.model_validate(fitted.get(label, {}) if isinstance(fitted, dict) else {})
        for label in config.labels
        if label not in config.background
    }
    return Contract(
        name=config.name,
        version=config.version,
        licence=config.licence,
        provenance=config.provenance,
        labels=config.labels,
        background=config.background,
        step_hz=config.step_hz,
        window=config.window,
        feature_size=config.feature_size,
        spatial=config.spatial,
        temporal=config.temporal,
        fusion=FusionContract(kind=config.fusion.kind, aggregator="gru"),
        thresholds=thresholds,
        parity=parity,
        metrics={key: value for key, value in metrics.items() if key != "thresholds"},
    )


def write_pack(folder: Path, graphs: Mapping[str, onnx.ModelProto], contract: Contract) -> None:
    """The networks with the contract in each, and ``pack.json`` with their hashes."""
    folder.mkdir(parents=True, exist_ok=True)
    for network in NETWORKS:
        attach_contract(graphs[network], contract)
        onnx.save(graphs[network], folder / network_file(network))
    hashes = {network_file(n): file_sha256(folder / network_file(n)) for n in NETWORKS}
    hashed = contract.model_copy(update={"sha256": hashes})
    (folder / CONTRACT_FILE).write_text(hashed.model_dump_json(indent=2) + "\n", "utf-8")


def stacks_of(clip: Stepped, stack: int) -> tuple[npt.NDArray[np.uint8], Floats]:
    """A stack for every step, (S, L, h, w, 2) uint8, and the mask of both streams, (S, 2)."""
    mask = np.stack([clip.seen, clip.seen & stack_valid(clip.moving, stack)], -1)
    return clip.fields[stack_indices(len(clip.fields), stack)], mask.astype(np.float32)


def _by_torch(model: TwoStream, clip: Stepped, stack: int, window: int) -> list[Floats]:
    stacks, mask = stacks_of(clip, stack)
    with torch.inference_mode():
        spatial = model.spatial(torch.from_numpy(clip.pictures))
        temporal = model.temporal(torch.from_numpy(stacks))
        inputs = [x[-window:][None] for x in (spatial, temporal, torch.from_numpy(mask))]
        said = model.fusion(*inputs)
    return [np.asarray(x.numpy(), np.float32) for x in (spatial, temporal, *said)]


def _by_pack(
    networks: Mapping[str, Network], clip: Stepped, stack: int, window: int
) -> list[Floats]:
    stacks, mask = stacks_of(clip, stack)
    spatial = networks["spatial"].run({"frames": clip.pictures})["features"]
    temporal = networks["temporal"].run({"flow": stacks})["features"]
    inputs = {"spatial": spatial, "temporal": temporal, "mask": mask}
    said = networks["fusion"].run({name: x[-window:][None] for name, x in inputs.items()})
    return [spatial, temporal, *said.values()]


def measure_parity(
    model: TwoStream, config: TrainConfig, pack: ModelPack, clips: Sequence[Stepped]
) -> Parity:
    """Largest difference of each network's outputs over whole clips, end to end.

    Fusion gets the features that its own runtime computed, so its figure holds what the other
    two's differences grow to. Raises :class:`ExportError` beyond :data:`TOLERANCE`.
    """
    networks = {name: Network(pack, name, providers=["CPUExecutionProvider"]) for name in NETWORKS}
    worst = dict.fromkeys(NETWORKS, 0.0)
    agreed = 0
    for clip in clips:
        sizes = config.temporal.stack, config.window
        ours, theirs = _by_torch(model, clip, *sizes), _by_pack(networks, clip, *sizes)
        off = [float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True)]
        parts = (off[0], off[1], np.max(off[2:]))
        # np.maximum, unlike max, keeps a NaN, which is then refused.
        worst = {
            name: float(np.maximum(worst[name], part))
            for name, part in zip(NETWORKS, parts, strict=True)
        }
        agreed += int(ours[2].argmax() == theirs[2].argmax())
    try:
        return Parity(
            **worst, tolerance=TOLERANCE, top1_agreement=agreed / len(clips), samples=len(clips)
        )
    except ValidationError as error:
        raise ExportError(f"torch and onnxruntime disagree: {error.errors()[0]['msg']}") from None


def sample_clips(config: TrainConfig, data: Path, per_label: int) -> list[Stepped]:
    """The first ``per_label`` real clips of each label, in steps."""
    taken: dict[str, list[Entry]] = {}
    for entry in read_list(data, config.clips):
        taken.setdefault(entry.label, []).append(entry)
    entries = [entry for label in sorted(taken) for entry in taken[label][:per_label]]
    return [step_clip(video_frames(entry.path), config) for entry in entries]


def export_pack(
    model: TwoStream,
    config: TrainConfig,
    metrics: Mapping[str, object],
    clips: Sequence[Stepped],
    folder: Path,
) -> Contract:
    """Write the pack to ``folder``, checked by the very loader that the pipeline uses.

    Raises :class:`ExportError` and leaves ``folder`` as it was when the exported networks don't
    say what the model says.
    """
    if not clips:
        raise ExportError("no clips to compare torch and onnxruntime on")
    graphs = export_graphs(model, config)
    with tempfile.TemporaryDirectory() as scratch:
        trial = Path(scratch)
        write_pack(trial, graphs, contract_of(config, metrics))
        parity = measure_parity(model, config, ModelPack.load(trial), clips)
        contract = contract_of(config, metrics, parity)
        write_pack(trial, graphs, contract)
        ModelPack.load(trial)
        (trial / CARD_FILE).write_text(model_card(contract), "utf-8")
        folder.mkdir(parents=True, exist_ok=True)
        for file in trial.iterdir():
            shutil.copyfile(file, folder / file.name)
    return contract
