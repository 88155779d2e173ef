"""One run of the command: load the checkpoint, measure, write the packs, say what was written."""

from dataclasses import dataclass
from pathlib import Path

import typer

from export.clips import held_out_trials, own_trial, sample_clips
from export.external import Foreign, ModuleError
from export.graphs import ExportError
from export.pack import Measurement, Wanted, export_packs, folder_of
from pipeline.model.pack import Contract, Precision
from training.clip_list_formats import DataError
from training.config import TrainConfig
from training.model import CheckpointError, TwoStream, load_checkpoint
from training.processor import set_threads

EXIT_USAGE = 2
EXIT_REFUSED = 1
FOREIGN_NOTE = (
    "The appearance network was trained elsewhere and replaces the checkpoint's. So the "
    "checkpoint's own figures don't hold; its thresholds were kept. The export doesn't know which "
    "clips that network was trained on, nor its licence."
)


@dataclass(frozen=True)
class Order:
    """What to export, and where to: the options of the command."""

    checkpoint: Path
    out: Path
    data: Path
    clips_per_label: int
    int8: tuple[str, ...]
    fp16: bool
    folds: Path | None
    elsewhere: tuple[str, Path] | None
    """The function that builds an appearance network trained elsewhere, and its weights."""
    threads: int


def run(order: Order) -> None:
    """Write the packs and print a line about each. An error ends the program with its code."""
    set_threads(order.threads)
    try:
        contracts = _export(order)
    except (ModuleError, CheckpointError, DataError) as error:
        raise _fail(error, EXIT_USAGE) from None
    except ExportError as error:
        raise _fail(error, EXIT_REFUSED) from None
    except OSError as error:
        # A full disk, or a folder that can't be written.
        where = f"{error.filename}: " if error.filename else ""
        raise _fail(OSError(f"{where}{error.strerror or error}"), EXIT_REFUSED) from None
    for name, contract in contracts.items():
        typer.echo(describe(folder_of(order.out, name), contract))


def _export(order: Order) -> dict[Precision, Contract]:
    wanted = Wanted(order.int8, order.fp16)
    other = Foreign(*order.elsewhere) if order.elsewhere else None
    adapt = other.adapt if other else _unchanged
    model, recipe, metrics = load_checkpoint(order.checkpoint)
    config = adapt(model, recipe)
    note, measurement = FOREIGN_NOTE if other else None, None
    if order.folds is not None:
        trials = held_out_trials(order.folds, recipe, order.data, adapt)
        measurement = Measurement(trials, held_out=True, note=note)
    elif other or wanted != Wanted():
        trial = own_trial(model, config, order.data)
        measurement = Measurement(trial, held_out=False, note=note)
    clips = sample_clips(config, order.data, order.clips_per_label)
    return export_packs(model, config, metrics, clips, order.out, wanted, measurement)


def _unchanged(model: TwoStream, config: TrainConfig) -> TrainConfig:
    return config


def _fail(error: Exception, code: int) -> typer.Exit:
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(code)


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
