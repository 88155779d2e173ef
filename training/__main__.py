"""``python -m training train``: what it takes to make and to measure a model."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import cv2
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from training.config import ConfigError, TrainConfig
from training.crossvalidation import Data, Measured, load_data, measure, summary, train_on
from training.data import DataError, read_list
from training.model import CheckpointError, load_checkpoint, save_checkpoint

DATA_VARIABLE = "TWO_STREAM_DATA"
EXIT_USAGE = 2

app = typer.Typer(
    help="Train and evaluate two-stream models.", no_args_is_help=True, add_completion=False
)
console = Console(stderr=True)

DataFolder = Annotated[
    Path, typer.Option(envvar=DATA_VARIABLE, help="folder with the clips and their lists")
]
CacheFolder = Annotated[Path | None, typer.Option(help="where decoded clips are kept")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads")]


@app.callback()
def main() -> None:
    """Train and evaluate two-stream models."""


def default_cache() -> Path:
    """The user's cache folder for decoded clips (XDG base directory specification)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "two-stream" / "training"


def progress_bar() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console,
    )  # fmt: skip


def fail(error: Exception) -> typer.Exit:
    console.print(f"error: {error}", style="red", soft_wrap=True, markup=False)
    return typer.Exit(EXIT_USAGE)


def chosen_folds(text: str, there: list[int]) -> list[int]:
    """``"all"``, ``"none"`` or numbers with commas; raises ConfigError for a fold not there."""
    if text in ("all", "none"):
        return there if text == "all" else []
    try:
        folds = [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--folds: want all, none or numbers like 0,3, got {text!r}") from None
    if strange := sorted(set(folds) - set(there)):
        raise ConfigError(f"--folds: the data has folds {there}, not {strange}")
    return folds


def load(config: TrainConfig, data: Path, cache: Path | None) -> Data:
    with progress_bar() as bar:
        lists = [config.clips, *([config.negatives] if config.negatives else [])]
        rows = sum(len(read_list(data, name)) for name in lists)
        task = bar.add_task("clips", total=rows + config.episodes, note="")
        return load_data(config, data, cache or default_cache(), lambda: bar.advance(task))


def reporter(bar: Progress, what: str, iterations: int) -> Callable[[int, float], None]:
    task = bar.add_task(what, total=iterations, note="")
    smooth = {"loss": 0.0}

    def report(iteration: int, loss: float) -> None:
        smooth["loss"] = loss if iteration == 1 else 0.95 * smooth["loss"] + 0.05 * loss
        bar.update(task, completed=iteration, note=f"loss {smooth['loss']:.3f}")

    return report


def show(config: TrainConfig, metrics: dict[str, object]) -> None:
    """The figures and the confusion matrix, for people."""
    for key in ("clips", "top1", "top1_per_fold", "rendered_streams", "looped_clips"):
        console.print(f"{key}: {metrics[key]}")
    table = Table("true \\ said", *(label[:6] for label in config.labels))
    matrix = metrics["confusion"]
    assert isinstance(matrix, list)
    for label, row in zip(config.labels, matrix, strict=True):
        table.add_row(label, *(str(count) if count else "·" for count in row))
    console.print(table)


@app.command()
def train(
    config: Annotated[Path, typer.Option(help="YAML file, as in configs/train")],
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="folder for checkpoints and metrics")] = Path("runs"),
    folds: Annotated[str, typer.Option(help="folds to hold out: all, none or 0,1,…")] = "all",
    final: Annotated[bool, typer.Option(help="then train on all clips, to be exported")] = True,
    cache: CacheFolder = None,
    threads: Threads = 1,
) -> None:
    """Train with each fold held out, measure on it, then train on everything with that recipe."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    try:
        settings = TrainConfig.load(config)
        loaded = load(settings, data, cache)
        held_out = chosen_folds(folds, loaded.folds)
    except (ConfigError, DataError) as error:
        raise fail(error) from None
    folder = out / settings.name
    measured: list[Measured] = []
    with progress_bar() as bar:
        for fold in held_out:
            report = reporter(bar, f"fold {fold}", settings.optimiser.iterations)
            model = train_on(settings, loaded, fold, report)
            clips = [clip for clip in loaded.clips if clip.fold == fold]
            measured.append(measure(model, settings, clips, loaded.held_out))
            figures = summary(settings, measured[-1:])
            save_checkpoint(folder / f"fold{fold}.pt", model, settings, figures)
            console.print(f"fold {fold}: {figures['top1']}")
        metrics = summary(settings, measured) if measured else {}
        if final:
            longer = settings.for_all_clips()
            report = reporter(bar, "all clips", longer.optimiser.iterations)
            model = train_on(longer, loaded, None, report)
            save_checkpoint(folder / "final.pt", model, longer, metrics)
    if measured:
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n", "utf-8")
        show(settings, metrics)
    typer.echo(folder)


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Option(help="a fold's checkpoint")],
    data: DataFolder,
    fold: Annotated[int, typer.Option(help="the fold to measure on; one it wasn't trained on")],
    cache: CacheFolder = None,
    threads: Threads = 1,
) -> None:
    """Measure a checkpoint on one fold; prints the figures as JSON."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    try:
        model, settings, _ = load_checkpoint(checkpoint)
        loaded = load(settings, data, cache)
        (chosen,) = chosen_folds(str(fold), loaded.folds)
    except (CheckpointError, ConfigError, DataError) as error:
        raise fail(error) from None
    clips = [clip for clip in loaded.clips if clip.fold == chosen]
    metrics = summary(settings, [measure(model, settings, clips, loaded.held_out)])
    show(settings, metrics)
    typer.echo(json.dumps(metrics))


if __name__ == "__main__":
    app()
