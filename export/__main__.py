"""``python -m export``: write a checkpoint as a model pack."""

import logging
from pathlib import Path
from typing import Annotated

import cv2
import torch
import typer

from export.clips import held_out_trials, own_trial, sample_clips
from export.external import (
    ModuleError,
    build_module,
    load_weights,
    provenance_of,
    replace_spatial,
)
from export.graphs import ExportError
from export.pack import Measurement, Wanted, export_packs, folder_of
from export.precision import SMALL_NETWORKS
from pipeline.model.pack import Contract
from training.clip_list_formats import DataError
from training.config import TrainConfig
from training.model import CheckpointError, TwoStream, load_checkpoint

EXIT_USAGE = 2
EXIT_REFUSED = 1
FOREIGN_NOTE = (
    "The appearance network was trained elsewhere and replaces the checkpoint's. So the "
    "checkpoint's own figures don't hold; its thresholds were kept. The export doesn't know which "
    "clips that network was trained on, nor its licence."
)


class UsageError(Exception):
    """Options that contradict each other or can't be parsed."""


def fail(error: Exception, code: int) -> typer.Exit:
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(code)


def networks_in(text: str | None) -> tuple[str, ...]:
    """``spatial,temporal`` or one of them; raises :class:`UsageError`."""
    names = tuple(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))
    if unknown := [name for name in names if name not in SMALL_NETWORKS]:
        raise UsageError(
            f"--int8: expected {','.join(SMALL_NETWORKS)} or one of them, not {unknown}"
        )
    return names


class Foreign:
    """The network of --spatial-module: built and loaded once, then put into every model."""

    def __init__(self, name: str, weights: Path) -> None:
        self.name = name
        self.network = build_module(name)
        load_weights(self.network, weights)
        self.provenance = provenance_of(name, weights)

    def adapt(self, model: TwoStream, config: TrainConfig) -> TrainConfig:
        changed = replace_spatial(model, config, self.name, self.network)
        provenance = f"{config.provenance} {self.provenance}"
        return changed.model_copy(update={"provenance": provenance})


def unchanged(model: TwoStream, config: TrainConfig) -> TrainConfig:
    return config


def foreign(module: str | None, weights: Path | None) -> Foreign | None:
    """Raises :class:`UsageError` unless both are given or neither, and :class:`ModuleError`."""
    if module is None and weights is None:
        return None
    if module is None or weights is None:
        raise UsageError("--spatial-module and --spatial-weights go together")
    return Foreign(module, weights)


def describe(out: Path, contract: Contract) -> str:
    """One line about a pack that was written."""
    parity, cost = contract.parity, contract.quantised
    held_to = "8 bits, no limit" if parity.tolerance is None else f"≤ {parity.tolerance:g}"
    line = (
        f"{out}: {contract.name} {contract.version}, parity on {parity.samples} clips ({held_to}): "
        f"spatial {parity.spatial:.1e}, temporal {parity.temporal:.1e}, "
        f"fusion {parity.fusion:.1e}, stepped {parity.stepped:.1e}, "
        f"top-1 agreement {parity.top1_agreement:.1%}"
    )
    if cost is not None:
        before, after = 100 * cost.float32["fused"], 100 * cost.int8["fused"]
        what = "held-out" if cost.held_out else "training"
        line += f"; top-1 over {cost.clips} {what} clips {before:.2f} % to {after:.2f} % in 8 bits"
    return line


def export(
    checkpoint: Annotated[Path, typer.Option(help="a checkpoint that training wrote")],
    out: Annotated[
        Path, typer.Option(help="folder of the pack; OUT-int8 and OUT-fp16 lie beside it")
    ],
    data: Annotated[
        Path,
        typer.Option(envvar="TWO_STREAM_DATA", help="folder with the real clips to compare on"),
    ],
    clips_per_label: Annotated[int, typer.Option(min=1, help="clips to compare on")] = 2,
    int8: Annotated[
        str | None,
        typer.Option(help="also write an 8-bit pack, of spatial, temporal, or spatial,temporal"),
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="also write float16, for GPUs")] = False,
    folds: Annotated[
        Path | None,
        typer.Option(help="run folder; its fold0.pt… measure accuracy on held-out clips"),
    ] = None,
    spatial_module: Annotated[
        str | None, typer.Option(help="appearance network trained elsewhere, as pkg.mod:build")
    ] = None,
    spatial_weights: Annotated[
        Path | None, typer.Option(help="its weights: .safetensors, or .pt with nothing but tensors")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads")] = 1,
) -> None:
    """Write a checkpoint's networks as ONNX, measured against torch on real clips.

    Exit status 1: the exported networks don't compute what the model computes, or 8 bits cost a
    point of accuracy or more. Then nothing is written.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    try:
        wanted = Wanted(networks_in(int8), fp16)
        other = foreign(spatial_module, spatial_weights)
        adapt = other.adapt if other else unchanged
        model, recipe, metrics = load_checkpoint(checkpoint)
        config = adapt(model, recipe)
        note, measurement = FOREIGN_NOTE if other else None, None
        if folds is not None:
            trials = held_out_trials(folds, recipe, data, adapt)
            measurement = Measurement(trials, held_out=True, note=note)
        elif other or wanted != Wanted():
            measurement = Measurement(own_trial(model, config, data), held_out=False, note=note)
        clips = sample_clips(config, data, clips_per_label)
        contracts = export_packs(model, config, metrics, clips, out, wanted, measurement)
    except (UsageError, ModuleError, CheckpointError, DataError) as error:
        raise fail(error, EXIT_USAGE) from None
    except ExportError as error:
        raise fail(error, EXIT_REFUSED) from None
    for name, contract in contracts.items():
        typer.echo(describe(folder_of(out, name), contract))


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("export").setLevel(logging.INFO)
    typer.run(export)
