"""Write model packs, and check that they compute what the trained model computes."""

import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from pydantic import ValidationError

from export.accuracy import Outcome, add_outcomes, milliseconds
from export.card import CARD_FILE, Variant, model_card
from export.graphs import ExportError, Graphs, attach_contract, export_graphs, reason
from export.parity import TOLERANCES, measure_parity
from export.precision import CALIBRATION_ROWS, calibration_rows, precision_of, variants
from pipeline.model.pack import (
    CONTRACT_FILE,
    NETWORKS,
    Contract,
    FusionContract,
    ModelPack,
    Parity,
    Precision,
    Precisions,
    Quantised,
    Threshold,
    file_sha256,
    network_file,
)
from training.config import EXACT, TrainConfig
from training.data import Stepped
from training.model import TwoStream

SUFFIXES: Mapping[Precision, str] = {"float32": "", "int8": "-int8", "float16": "-fp16"}
CALIBRATION = f"least and largest value over {CALIBRATION_ROWS} steps of real clips"
# Placeholders until the figures are measured, like EXACT: no contract goes without them.
FREE = Quantised(
    clips=1, held_out=False, calibration=CALIBRATION, float32={"fused": 1.0}, int8={"fused": 1.0},
    agreement=1.0,
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What to write beside the float32 pack: networks in 8 bits, networks in float16."""

    int8: tuple[str, ...] = ()
    float16: bool = False


@dataclass(frozen=True)
class Trial:
    """A model whose accuracy is measured: the clips to calibrate on, and those to measure on.

    ``measured`` yields each clip with the number of its label. It is read once.
    """

    model: TwoStream
    config: TrainConfig
    calibration: Sequence[Stepped]
    measured: Iterable[tuple[int, Stepped]]


@dataclass(frozen=True)
class Measurement:
    """Trials. ``held_out``: their models weren't trained on the clips that they are measured on.

    A ``note`` says why the checkpoint's own figures don't hold for the exported networks. The
    measured figures then replace them.
    """

    trials: Iterable[Trial]
    held_out: bool
    note: str | None = None


def folder_of(out: Path, precision: Precision) -> Path:
    """The folder of a precision's pack; ``out`` is that of float32."""
    return out.parent / (out.name + SUFFIXES[precision])


def contract_of(
    config: TrainConfig,
    metrics: Mapping[str, object],
    graphs: Graphs,
    parity: Parity = EXACT,
    quantised: Quantised = FREE,
) -> Contract:
    """The contract of a trained model; fitted thresholds are taken from the metrics.

    ``quantised`` is added if a network is in 8 bits.
    """
    fitted = metrics.get("thresholds", {})
    thresholds = {
        label: Threshold.model_validate(fitted.get(label, {}) if isinstance(fitted, dict) else {})
        for label in config.labels
        if label not in config.background
    }
    precision = Precisions(**{name: precision_of(graph) for name, graph in graphs.items()})
    return Contract(
        name=config.name,
        version=config.version,
        licence=config.licence,
        provenance=config.provenance,
        labels=config.labels,
        background=config.background,
        view=config.view,
        step_hz=config.step_hz,
        window=config.window,
        feature_size=config.feature_size,
        spatial=config.spatial,
        temporal=config.temporal,
        fusion=FusionContract(kind=config.fusion.kind, aggregator=config.fusion.aggregator),
        thresholds=thresholds,
        precision=precision,
        parity=parity,
        quantised=quantised if "int8" in dict(precision).values() else None,
        metrics={key: value for key, value in metrics.items() if key != "thresholds"},
        limits=config.limits,
    )


def write_pack(folder: Path, graphs: Graphs, contract: Contract) -> ModelPack:
    """Write the networks with the contract in each, and ``pack.json`` with hashes; load it."""
    folder.mkdir(parents=True, exist_ok=True)
    for network in NETWORKS:
        attach_contract(graphs[network], contract)
        onnx.save(graphs[network], folder / network_file(network))
    hashes = {network_file(n): file_sha256(folder / network_file(n)) for n in NETWORKS}
    hashed = contract.model_copy(update={"sha256": hashes})
    (folder / CONTRACT_FILE).write_text(hashed.model_dump_json(indent=2) + "\n", "utf-8")
    return ModelPack.load(folder)


def measure_accuracy(trials: Iterable[Trial], wanted: Wanted) -> dict[Precision, Outcome]:
    """Outcomes by precision, over the clips of all trials together.

    Raises :class:`ExportError` when there is no clip.
    """
    outcomes: dict[Precision, Outcome] = {}
    for trial in trials:
        rows = calibration_rows(trial.calibration, trial.config.temporal.stack)
        graphs = export_graphs(trial.model, trial.config)
        with tempfile.TemporaryDirectory() as scratch:
            packs = {
                name: write_pack(Path(scratch) / name, made, contract_of(trial.config, {}, made))
                for name, made in variants(graphs, wanted.int8, wanted.float16, rows).items()
            }
            add_outcomes(outcomes, packs, trial.measured)
    if not outcomes:
        raise ExportError("no clips to measure accuracy on")
    return outcomes


def cost_of_int8(outcomes: Mapping[Precision, Outcome], measurement: Measurement) -> Quantised:
    """Compare accuracy in 8 bits with that in float32; raises :class:`ExportError` if it falls.

    A fall of a point or more of fused accuracy is too large (see
    :class:`pipeline.model.pack.Quantised`).
    """
    float32, int8 = outcomes["float32"], outcomes["int8"]
    try:
        return Quantised(
            clips=int8.clips, held_out=measurement.held_out, calibration=CALIBRATION,
            float32=float32.top1(), int8=int8.top1(), agreement=int8.agreement(float32),
        )  # fmt: skip
    except ValidationError as error:
        raise ExportError(reason(error)) from None


def remeasured(
    metrics: Mapping[str, object], outcome: Outcome, held_out: bool, note: str
) -> dict[str, object]:
    """The metrics with the exported networks' figures; the thresholds are kept."""
    return {
        "protocol": "clip: the sliding window over each clip",
        "note": note,
        "clips": outcome.clips,
        "held_out": held_out,
        "top1": {name: round(value, 4) for name, value in outcome.top1().items()},
        "thresholds": metrics.get("thresholds", {}),
    }


def _variant(pack: ModelPack, times: Mapping[str, float], outcome: Outcome | None) -> Variant:
    return Variant(
        precision=pack.contract.precision,
        parity=pack.contract.parity,
        bytes=sum(pack.path(network).stat().st_size for network in NETWORKS),
        milliseconds=dict(times),
        top1=outcome.top1() if outcome else {},
    )


def export_packs(
    model: TwoStream,
    config: TrainConfig,
    metrics: Mapping[str, object],
    clips: Sequence[Stepped],
    folder: Path,
    wanted: Wanted | None = None,
    measurement: Measurement | None = None,
) -> dict[Precision, Contract]:
    """Write the pack to ``folder``, and the others to ``folder``-int8 and ``folder``-fp16.

    Torch and onnxruntime are compared on ``clips``, and 8 bits are calibrated on them. The
    pipeline's own loader checks every pack. Raises :class:`ExportError` and leaves every folder as
    it was when a network doesn't compute what the model computes, or when 8 bits cost a point of
    accuracy or more.
    """
    wanted = wanted or Wanted()
    if not clips:
        raise ExportError("no clips to compare torch and onnxruntime on")
    if wanted.int8 and measurement is None:
        raise ExportError("no clips to measure the accuracy of 8 bits on")
    rows = calibration_rows(clips, config.temporal.stack)
    made = variants(export_graphs(model, config), wanted.int8, wanted.float16, rows)
    with tempfile.TemporaryDirectory() as scratch:
        parities, packs = {}, {}
        for name, graphs in made.items():
            trial = write_pack(Path(scratch) / name, graphs, contract_of(config, metrics, graphs))
            parities[name] = measure_parity(model, config, trial, clips, TOLERANCES[name])
        outcomes = measure_accuracy(measurement.trials, wanted) if measurement else {}
        cost = cost_of_int8(outcomes, measurement) if measurement and wanted.int8 else FREE
        if measurement and measurement.note is not None:
            metrics = remeasured(
                metrics, outcomes["float32"], measurement.held_out, measurement.note
            )
        for name, graphs in made.items():
            contract = contract_of(config, metrics, graphs, parities[name], cost)
            packs[name] = write_pack(Path(scratch) / name, graphs, contract)
        write_cards(packs, outcomes)
        for name, pack in packs.items():
            copy_pack(pack.folder, folder_of(folder, name))
    return {name: pack.contract for name, pack in packs.items()}


def write_cards(
    packs: Mapping[Precision, ModelPack], outcomes: Mapping[Precision, Outcome]
) -> None:
    """Write a model card into each pack's folder; each card compares all packs."""
    times = milliseconds(packs)
    shown = [_variant(pack, times[name], outcomes.get(name)) for name, pack in packs.items()]
    for pack in packs.values():
        (pack.folder / CARD_FILE).write_text(model_card(pack.contract, shown), "utf-8")


def copy_pack(source: Path, folder: Path) -> None:
    """Copy a pack's files into ``folder``, which is created if it doesn't exist."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        shutil.copyfile(file, folder / file.name)
