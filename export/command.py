"""The command line of export. It loads torch only once the options are right."""

from pathlib import Path
from typing import Annotated

import typer

from export import SMALL_NETWORKS
from pipeline.errors import MissingPackageError, TwoStreamError, needs_extra

PACKAGES = ("torch", "onnx", "safetensors", "threadpoolctl")


class UsageError(TwoStreamError):
    """Options that contradict each other or can't be parsed."""


def networks_in(text: str | None) -> tuple[str, ...]:
    """``spatial,temporal`` or one of them; raises :class:`UsageError`."""
    names = tuple(dict.fromkeys(part.strip() for part in (text or "").split(",") if part.strip()))
    if unknown := [name for name in names if name not in SMALL_NETWORKS]:
        raise UsageError(
            f"--int8: expected {','.join(SMALL_NETWORKS)} or one of them, not {unknown}"
        )
    return names


def module_and_weights(module: str | None, weights: Path | None) -> tuple[str, Path] | None:
    """Raises :class:`UsageError` unless both are given or neither."""
    if module is None and weights is None:
        return None
    if module is None or weights is None:
        raise UsageError("--spatial-module and --spatial-weights go together")
    return module, weights


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
    try:
        networks = networks_in(int8)
        elsewhere = module_and_weights(spatial_module, spatial_weights)
        with needs_extra("export", PACKAGES):
            from export.run import Order, run
    except (UsageError, MissingPackageError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    run(Order(checkpoint, out, data, clips_per_label, networks, fp16, folds, elsewhere, threads))
