"""Command line options that several benchmarks share."""

from pathlib import Path
from typing import Annotated

import typer

GESTURES = Path(__file__).parent.parent / "models" / "gestures"
"""The model pack that benchmarks measure by default."""

Model = Annotated[Path, typer.Option(help="model pack folder")]
