"""The commands train, evaluate and ablate, with torch; ``__main__`` has their options.

Next: :mod:`training.config`.
"""

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import typer
from rich.progress import Progress
from rich.table import Table as TextTable

from training.ablation import (
    Counts,
    Ledger,
    ablate_fold,
    ablate_linear,
    rival_iterations,
    shortened,
    table,
    with_flow,
)  # fmt: skip
from training.clip_list_formats import DataError
from training.config import ConfigError, TrainConfig
from training.crossvalidation import (
    HELD_OUT_EPISODES,
    Data,
    check_fold,
    fold_thresholds,
    listed,
    load_data,
    measure_fold,
    summary,
)
from training.linear import LinearTrainer
from training.model import CheckpointError, load_checkpoint
from training.optimise import Interrupted, Report, Run, Trainer, accelerator_for
from training.plots import SMOOTHING
from training.resume import StateError
from training.session import (
    FINAL,
    Session,
    StopRequest,
    TrainingFolder,
    fold_name,
)
from training.terminal import console, fail, print_line, progress_bar, set_threads

EXIT_SIGNAL = 128


def default_cache() -> Path:
    """The user's cache folder for flow and features (XDG base directory specification)."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "two-stream" / "training"


def chosen_folds(text: str, known: list[int]) -> list[int]:
    """Parse ``"all"``, ``"none"`` or ``"0,3"``; raises ConfigError for folds not in ``known``."""
    if text in ("all", "none"):
        return known if text == "all" else []
    try:
        folds = [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--folds: must be all, none or numbers like 0,3, got {text!r}") from None
    if unknown := sorted(set(folds) - set(known)):
        raise ConfigError(f"--folds: the data has folds {known}, not {unknown}")
    return folds


def load(
    config: TrainConfig, data: Path, cache: Path | None, held_out_episodes: int = HELD_OUT_EPISODES
) -> Data:
    """Load clips and episodes with a progress bar; prints the clips that can't be read."""
    with progress_bar() as bar:
        task = bar.add_task("clips", total=listed(config, data, held_out_episodes), note="")
        loaded = load_data(
            config, data, cache or default_cache(), lambda: bar.advance(task), held_out_episodes
        )
    for path, reason in loaded.unreadable:
        print_line(f"skipped: {path}: {reason}")
    return loaded


def reporter(bar: Progress, name: str, trainer: Trainer | LinearTrainer) -> Report:
    task = bar.add_task(name, total=trainer.total, completed=trainer.iteration, note="")
    smooth = trainer.curves.loss[-1:]

    def report(iteration: int, loss: float) -> None:
        smooth[:] = [SMOOTHING * mean + (1 - SMOOTHING) * loss for mean in smooth] or [loss]
        bar.update(task, completed=iteration, note=f"loss {smooth[0]:.3f}")

    return report


def show(config: TrainConfig, metrics: dict[str, object]) -> None:
    """Print the figures and the confusion matrix."""
    for key in ("clips", "top1", "top1_per_fold", "rendered_streams", "looped_clips", "negatives"):
        console.print(f"{key}: {metrics[key]}")
    shown = TextTable("true \\ predicted", *(label[:6] for label in config.labels))
    matrix = metrics["confusion"]
    assert isinstance(matrix, list)
    for label, row in zip(config.labels, matrix, strict=True):
        shown.add_row(label, *(str(count) if count else "·" for count in row))
    console.print(shown)


def train(
    *,
    config: Path,
    data: Path,
    out: Path,
    folds: str,
    final: bool,
    cache: Path | None,
    threads: int,
    workers: int,
    device: str,
    save_every: int,
    measure_every: int,
    fresh: bool,
) -> None:
    """Train each fold's model and the final one, and print where they are."""
    try:
        settings = TrainConfig.load(config)
        accelerator = accelerator_for(device, settings.optimiser.bfloat16)
        set_threads(threads)
        console.quiet = not accelerator.is_main_process
        with accelerator.main_process_first():
            loaded = load(settings, data, cache)
        held_out = chosen_folds(folds, loaded.folds)
        for fold in held_out:
            check_fold(settings, loaded, fold)
    except (ConfigError, DataError) as error:
        raise fail(error) from None
    folder = TrainingFolder(out / settings.name)
    if fresh and accelerator.is_main_process:
        for name in [*map(fold_name, held_out), *([FINAL] if final else [])]:
            folder.clear(name)
    accelerator.wait_for_everyone()
    with StopRequest() as stop, progress_bar() as bar:
        run = Run(
            accelerator, workers, save_every=save_every, data=loaded.digest, stop=stop,
            measure_every=measure_every,
        )  # fmt: skip
        try:
            session = Session(loaded, folder, run, partial(reporter, bar), print_line)
            metrics = session.everything(settings, held_out, final)
        except Interrupted as error:
            print_line(f"{error}: the same command resumes from there")
            raise typer.Exit(EXIT_SIGNAL + stop.number) from None
        except (CheckpointError, ConfigError, StateError) as error:
            raise fail(error) from None
    if accelerator.is_main_process:
        if held_out:
            show(settings, metrics)
        typer.echo(folder.path)
    accelerator.end_training()


def evaluate(*, checkpoint: Path, data: Path, fold: int, cache: Path | None, threads: int) -> None:
    """Measure a checkpoint on one fold and print the figures as JSON."""
    set_threads(threads)
    try:
        model, settings, _ = load_checkpoint(checkpoint)
        loaded = load(settings, data, cache)
        (chosen,) = chosen_folds(str(fold), loaded.folds)
    except (CheckpointError, ConfigError, DataError) as error:
        raise fail(error) from None
    measured = [measure_fold(model, settings, loaded, chosen)]
    metrics = summary(settings, measured, fold_thresholds(settings, measured))
    show(settings, metrics)
    typer.echo(json.dumps(metrics))


def ablate(
    *,
    config: Sequence[Path],
    data: Path,
    flow: Sequence[str] | None,
    out: Path,
    folds: str,
    iterations: int | None,
    episodes: int | None,
    cache: Path | None,
    threads: int,
    workers: int,
) -> None:
    """Compare flow methods and kinds of fusion; print a table in Markdown."""
    set_threads(threads)
    ledger, rows = Ledger(out / "ablation.json"), {}
    with StopRequest() as stop, progress_bar() as bar:
        try:
            for settings in map(TrainConfig.load, config):
                for method in flow or [settings.temporal.method]:
                    recipe = shortened(with_flow(settings, method), iterations, episodes)
                    loaded = load(recipe, data, cache, held_out_episodes=0)
                    run = Run(accelerator_for("cpu"), workers, data=loaded.digest, stop=stop)
                    folder = TrainingFolder(out / f"{recipe.name}-{method}")
                    session = Session(loaded, folder, run, partial(reporter, bar), print_line)
                    counts = [
                        ablated(session, recipe, fold, ledger, bar)
                        for fold in chosen_folds(folds, loaded.folds)
                    ]
                    rows[f"{recipe.name}, {method}"] = counts
        except Interrupted as error:
            print_line(f"{error}: the same command resumes from there")
            raise typer.Exit(EXIT_SIGNAL + stop.number) from None
        except (CheckpointError, ConfigError, DataError, StateError, ValueError) as error:
            raise fail(error) from None
    typer.echo(table(rows))


def ablated(
    session: Session, config: TrainConfig, fold: int, ledger: Ledger, bar: Progress
) -> Counts:
    """A fold's counts, from the ledger if it has them; else computes and adds them."""
    key = Ledger.key(config, session.data, fold)
    if key not in ledger.rows:
        linear, name = session.data.streams is not None, fold_name(fold)
        # Only its streams are used; ablate_fold measures them under each kind of fusion.
        model = None if linear else session.model(name, config, fold)
        task = bar.add_task("fusions", total=rival_iterations(config), note="")

        def report(iteration: int, loss: float) -> None:
            bar.update(task, completed=iteration, note=f"loss {loss:.3f}")

        if model is None:
            counts = ablate_linear(config, session.data, fold, report)
        else:
            counts = ablate_fold(model, config, session.data, fold, session.run.workers, report)
        ledger.add(key, counts)
        session.folder.clear(name)
    return ledger.rows[key]
