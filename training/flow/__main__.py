"""``python -m training.flow``: train and export the network of the flow method ``deep``."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from pipeline.errors import MissingPackageError, needs_extra
from training.__main__ import PACKAGES

try:
    with needs_extra("training", PACKAGES):
        from training.config import ConfigError
        from training.flow.config import FlowTrainConfig
        from training.flow.export import FlowExportError, export_flow
        from training.flow.scenes import Scenes, render_many
        from training.flow.textures import Gray, PhotoError, clip_frames, load_photos
        from training.flow.train import (
            FlowCheckpointError,
            load_checkpoint,
            mean_error,
            save_checkpoint,
            train_flow,
        )
        from training.processor import set_threads
        from training.session import StopRequest
        from training.terminal import (
            EXIT_REFUSED,
            EXIT_SIGNAL,
            Bar,
            fail,
            print_line,
            progress_bar,
        )
except MissingPackageError as missing:
    print(f"error: {missing}", file=sys.stderr)
    sys.exit(missing.exit_code)

HELD_OUT_PHOTOS = 10  # every tenth photograph is used for validation alone

app = typer.Typer(
    help="Train and export the flow method deep.", no_args_is_help=True, add_completion=False
)
Threads = Annotated[int, typer.Option(min=1, help="CPU threads")]


def backgrounds(config: FlowTrainConfig, photos: Path, data: Path | None) -> list[Gray]:
    """Photographs, and frames of the clips in the recipe's folders; raises PhotoError."""
    found = load_photos(photos)
    rng = np.random.default_rng(config.seed)
    for folder in config.clips:
        if data is None:
            raise PhotoError(f"the configuration uses frames of the clips in {folder}: give --data")
        found += clip_frames(data / folder, config.frames_per_folder, rng)
    return found


def scenes_of(config: FlowTrainConfig, photos: list[Gray], bar: Bar) -> tuple[Scenes, Scenes]:
    """Scenes to train on and scenes to validate on, rendered with different photographs."""
    held_out = photos[::HELD_OUT_PHOTOS]
    kept = [photo for index, photo in enumerate(photos) if index % HELD_OUT_PHOTOS] or held_out
    task = bar.add_task("rendering", total=config.scenes + config.held_out)

    def advance() -> None:
        bar.advance(task)

    validation = render_many(config.seed + 1, held_out, config.scene, config.held_out, advance)
    return render_many(config.seed + 2, kept, config.scene, config.scenes, advance), validation


def reporter(bar: Bar, iterations: int) -> Callable[[int, float], None]:
    task = bar.add_task("training", total=iterations)
    smooth = {"loss": 0.0}

    def report(iteration: int, loss: float) -> None:
        smooth["loss"] = loss if iteration == 1 else 0.98 * smooth["loss"] + 0.02 * loss
        bar.update(task, completed=iteration, note=f"loss {smooth['loss']:.3f}")

    return report


@app.command()
def train(
    config: Annotated[Path, typer.Option(help="YAML file, like configs/train/flow.yaml")],
    photos: Annotated[Path, typer.Option(help="folder with photographs to render with")],
    data: Annotated[
        Path | None,
        typer.Option(envvar="TWO_STREAM_DATA", help="folder with the recipe's clips folders"),
    ] = None,
    out: Annotated[Path, typer.Option(help="folder for the checkpoint")] = Path("runs/flow"),
    threads: Threads = 1,
) -> None:
    """Render scenes, train on them, write OUT/deep.pt and print the error on held-out scenes."""
    set_threads(threads)
    try:
        settings = FlowTrainConfig.load(config)
        found = backgrounds(settings, photos, data)
        out.mkdir(parents=True, exist_ok=True)
        with StopRequest() as stop, progress_bar() as bar:
            scenes, held_out = scenes_of(settings, found, bar)
            network = train_flow(settings, scenes, reporter(bar, settings.iterations), stop)
        error_px = mean_error(network, held_out)
        save_checkpoint(out / "deep.pt", network, settings, error_px)
    except (ConfigError, PhotoError) as error:
        raise fail(error) from None
    except (FloatingPointError, OSError) as error:
        raise fail(error, EXIT_REFUSED) from None
    if stop():
        print_line(f"stopped early: {out / 'deep.pt'} has what was learned until then")
        raise typer.Exit(EXIT_SIGNAL + stop.number)
    typer.echo(f"{out / 'deep.pt'}: {error_px:.3f} px on {len(held_out.frames)} held-out scenes")


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Option(help="a checkpoint that train wrote")],
    out: Annotated[Path, typer.Option(help="the ONNX file")] = Path("pipeline/flow/deep.onnx"),
    threads: Threads = 1,
) -> None:
    """Write the network as ONNX, compare it with torch, and print its SHA-256.

    pipeline/flow/deep.py must state that SHA-256. Exit status 1: the outputs of onnxruntime and
    torch differ, and nothing was written.
    """
    set_threads(threads)
    try:
        network, config, error_px = load_checkpoint(checkpoint)
        parity, digest = export_flow(network, config, error_px, out)
    except FlowCheckpointError as error:
        raise fail(error) from None
    except FlowExportError as error:
        raise fail(error, EXIT_REFUSED) from None
    typer.echo(f"{out}: {out.stat().st_size} bytes, parity {parity:.1e} px, SHA-256 {digest}")


if __name__ == "__main__":
    app()
