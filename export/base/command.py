"""The command line of ``export base``. It loads onnx only once the options are right."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import ends_with_errors, needs_extra

PACKAGES = ("onnx", "spox", "tflite")


def base(
    out: Annotated[Path, typer.Option(help="folder of the base")],
    mediapipe: Annotated[
        Path | None,
        typer.Option(help="wheel of mediapipe, or its folder; by default pip downloads it"),
    ] = None,
) -> None:
    """Write the base's streams of hands and bodies: MediaPipe's published networks as ONNX.

    Streams with other names in OUT/base.json stay. Exit status 2: the wheel isn't the known one.
    Then nothing is written.
    """
    with ends_with_errors(), needs_extra("base", PACKAGES):
        from export.base.run import Order, run

        run(Order(out, mediapipe))
