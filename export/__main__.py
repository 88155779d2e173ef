"""``python -m export``: a checkpoint becomes a model pack."""

from pathlib import Path
from typing import Annotated

import cv2
import torch
import typer

from export.pack import ExportError, export_pack, sample_clips
from training.data import DataError
from training.model import CheckpointError, load_checkpoint

EXIT_USAGE = 2
EXIT_REFUSED = 1


def fail(error: Exception, code: int) -> typer.Exit:
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(code)


def export(
    checkpoint: Annotated[Path, typer.Option(help="a checkpoint that training wrote")],
    out: Annotated[Path, typer.Option(help="folder of the pack")],
    data: Annotated[
        Path,
        typer.Option(envvar="TWO_STREAM_DATA", help="folder with real clips to compare on"),
    ],
    clips_per_label: Annotated[int, typer.Option(min=1)] = 2,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads")] = 1,
) -> None:
    """Write a checkpoint's networks as ONNX, measured against torch on real clips.

    Exit status 1: the exported networks don't say what the model says, and nothing was written.
    """
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)
    try:
        model, config, metrics = load_checkpoint(checkpoint)
        clips = sample_clips(config, data, clips_per_label)
        contract = export_pack(model, config, metrics, clips, out)
    except (CheckpointError, DataError) as error:
        raise fail(error, EXIT_USAGE) from None
    except ExportError as error:
        raise fail(error, EXIT_REFUSED) from None
    parity = contract.parity
    typer.echo(
        f"{out}: {contract.name} {contract.version}, parity on {parity.samples} clips: "
        f"spatial {parity.spatial:.1e}, temporal {parity.temporal:.1e}, "
        f"fusion {parity.fusion:.1e}, top-1 agreement {parity.top1_agreement:.0%}"
    )


if __name__ == "__main__":
    typer.run(export)
