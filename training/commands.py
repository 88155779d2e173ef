"""The commands train, evaluate and ablate, with torch; ``__main__`` has their options.

Next: :mod:`training.config`.
"""

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
import typer
from rich.table import Table as TextTable

from pipeline.flow import METHODS
from training.ablation import (
    Counts,
    Ledger,
    LedgerError,
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
    check_lists,
    fold_thresholds,
    is_linear,
    listed,
    load_data,
    measure_fold,
    summary,
)
from training.data import labelled_entries
from training.linear import LinearTrainer
from training.model import CheckpointError, check_networks, load_checkpoint
from training.optimise import (
    Interrupted,
    Report,
    Run,
    Trainer,
    accelerator_for,
    half_precision,
    is_half,
)
from training.plots import SMOOTHING
from training.processor import has_bfloat16, set_threads
from training.resume import StateError
from training.session import (
    FINAL,
    Session,
    StopRequest,
    TrainingFolder,
    fold_name,
)
from training.terminal import (
    EXIT_REFUSED,
    EXIT_SIGNAL,
    Bar,
    console,
    fail,
    print_line,
    progress_bar,
)
from training.view_figures import compared, load_table, tables


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


def never() -> bool:
    return False


def load(
    config: TrainConfig,
    data: Path,
    cache: Path | None,
    held_out_episodes: int = HELD_OUT_EPISODES,
    stop: Callable[[], bool] = never,
) -> Data:
    """Load clips and episodes and show progress; prints the clips that can't be read.

    ``stop`` is called after each clip; true raises Interrupted.
    """
    total, done = listed(config, data, held_out_episodes), 0
    with progress_bar() as bar:
        task = bar.add_task("clips", total=total)

        def advance() -> None:
            nonlocal done
            done += 1
            bar.advance(task)
            if stop():
                raise Interrupted(f"stopped after {done} of {total} clips")

        loaded = load_data(config, data, cache or default_cache(), advance, held_out_episodes)
    for path, reason in loaded.unreadable:
        print_line(f"skipped: {path}: {reason}")
    return loaded


def reporter(bar: Bar, name: str, trainer: Trainer | LinearTrainer) -> Report:
    task = bar.add_task(name, total=trainer.total, completed=trainer.iteration)
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
    set_threads(threads)
    with StopRequest() as stop, one_line(stop):
        settings = TrainConfig.load(config)
        check_networks(settings)
        accelerator = accelerator_for(device, settings.optimiser.bfloat16)
        console.quiet = not accelerator.is_main_process
        check_lists(settings, data, partial(chosen_folds, folds))
        folder = TrainingFolder(out / settings.name)
        folder.path.mkdir(parents=True, exist_ok=True)
        print_line(how(settings, accelerator.device.type, threads, workers))
        with accelerator.main_process_first():
            loaded = load(settings, data, cache, stop=stop)
        held_out = chosen_folds(folds, loaded.folds)
        for fold in held_out:
            check_fold(settings, loaded, fold)
        if fresh and accelerator.is_main_process:
            for name in [*map(fold_name, held_out), *([FINAL] if final else [])]:
                folder.clear(name)
        accelerator.wait_for_everyone()
        with progress_bar() as bar:
            run = Run(
                accelerator, workers, save_every=save_every, data=loaded.digest, stop=stop,
                measure_every=measure_every,
            )  # fmt: skip
            session = Session(loaded, folder, run, partial(reporter, bar), print_line)
            metrics = session.everything(settings, held_out, final)
    if accelerator.is_main_process:
        if held_out:
            show(settings, metrics)
        typer.echo(folder.path)
    accelerator.end_training()


@contextmanager
def one_line(stop: StopRequest) -> Iterator[None]:
    """Around a command: what stops it is one line, and an exit code."""
    try:
        yield
    except Interrupted as error:
        print_line(f"{error}: the same command resumes from there")
        raise typer.Exit(EXIT_SIGNAL + stop.number) from None
    except (CheckpointError, ConfigError, DataError, LedgerError, StateError) as error:
        raise fail(error) from None
    except (RuntimeError, OSError) as error:
        # PyTorch's handler of this signal raises wherever the process is: here, too.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        raise _refused(error) from None


def _refused(error: RuntimeError | OSError) -> Exception:
    """What ends the command in one line; the error itself where nobody expected it."""
    if isinstance(error, ConnectionError) or str(error).startswith("DataLoader worker"):
        reason = "a worker process died, for want of memory or of room in /dev/shm; try --workers 0"
        return fail(RuntimeError(f"{reason}, or resume with the same command"), EXIT_REFUSED)
    if isinstance(error, OSError):
        # A full disk, or a folder that can't be written. What was written before is whole.
        where = f"{error.filename}: " if error.filename else ""
        return fail(OSError(f"{where}{error.strerror or error}"), EXIT_REFUSED)
    return error


def how(config: TrainConfig, kind: str, threads: int, workers: int) -> str:
    """A line about the device, the numbers it computes in, and the processes."""
    half = is_half(config.optimiser.bfloat16, kind)
    words = f"training on {'the CPU' if kind == 'cpu' else kind}, convolutions in "
    words += str(half_precision(kind) if half else torch.float32).removeprefix("torch.")
    if kind == "cpu" and half and not has_bfloat16():
        words += " (this CPU only imitates it, many times slower: set optimiser.bfloat16 to auto)"
    return f"{words}; --threads {threads}, --workers {workers}"


def evaluate(*, checkpoint: Path, data: Path, fold: int, cache: Path | None, threads: int) -> None:
    """Measure a checkpoint on one fold and print the figures as JSON."""
    set_threads(threads)
    with StopRequest() as stop, one_line(stop):
        model, settings, _ = load_checkpoint(checkpoint)
        loaded = load(settings, data, cache, stop=stop)
        (chosen,) = chosen_folds(str(fold), loaded.folds)
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
    rows = {}
    with StopRequest() as stop, one_line(stop), progress_bar() as bar:
        ledger = Ledger(out / "ablation.json")
        recipes = [
            shortened(recipe, iterations, episodes)
            for settings in map(TrainConfig.load, config)
            for recipe in with_flows(settings, flow)
        ]
        for recipe in recipes:
            check_networks(recipe)
        for recipe in recipes:
            method = recipe.temporal.method
            loaded = load(recipe, data, cache, held_out_episodes=0, stop=stop)
            run = Run(accelerator_for("cpu"), workers, data=loaded.digest, stop=stop)
            folder = TrainingFolder(out / f"{recipe.name}-{method}")
            session = Session(loaded, folder, run, partial(reporter, bar), print_line)
            rows[f"{recipe.name}, {method}"] = [
                ablated(session, recipe, fold, ledger, bar)
                for fold in chosen_folds(folds, loaded.folds)
            ]
    typer.echo(table(rows))


def with_flows(config: TrainConfig, methods: Sequence[str] | None) -> list[TrainConfig]:
    """The recipe with each of the flow methods; without any, as it is. Raises ConfigError."""
    if unknown := sorted({*(methods or ())} - {*METHODS}):
        known = ", ".join(sorted(METHODS))
        raise ConfigError(f"--flow: must be one of {known}, got {', '.join(unknown)}")
    return [with_flow(config, method) for method in methods or [config.temporal.method]]


def ablated(session: Session, config: TrainConfig, fold: int, ledger: Ledger, bar: Bar) -> Counts:
    """A fold's counts, from the ledger if it has them; else computes and adds them."""
    key = Ledger.key(config, session.data, fold)
    if key not in ledger.rows:
        linear, name = session.data.streams is not None, fold_name(fold)
        # Only its streams are used; ablate_fold measures them under each kind of fusion.
        model = None if linear else session.model(name, config, fold)
        task = bar.add_task("fusions", total=rival_iterations(config))

        def report(iteration: int, loss: float) -> None:
            bar.update(task, completed=iteration, note=f"loss {loss:.3f}")
            if session.run.stop():
                raise Interrupted(f"stopped after {iteration} iterations of the fusions")

        if model is None:
            counts = ablate_linear(config, session.data, fold, report)
        else:
            counts = ablate_fold(model, config, session.data, fold, session.run.workers, report)
        ledger.add(key, counts)
        session.folder.clear(name)
    return ledger.rows[key]


def views(
    *, config: Path, data: Path, seeds: int, cache: Path | None, threads: int, as_json: bool
) -> None:
    """Compare views and the flow of regions on the clips of a recipe."""
    set_threads(threads)
    with StopRequest() as stop, one_line(stop):
        settings = TrainConfig.load(config)
        if not is_linear(settings):
            raise ConfigError(f"{config}: fusion.aggregator must be statistics: a linear recipe")
        check_lists(settings, data, lambda _: [])
        total = len(labelled_entries(settings, data, settings.clips))
        with progress_bar() as bar:
            task = bar.add_task("clips", total=total)

            def advance() -> None:
                bar.advance(task)
                if stop():
                    raise Interrupted("stopped while features were computed")

            clips = load_table(settings, data, cache or default_cache(), advance)
        result = compared(settings, clips, range(seeds))
    typer.echo(json.dumps(result, indent=2) if as_json else tables(result))
