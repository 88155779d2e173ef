"""``python -m export``: write a checkpoint as a model pack. Next: :mod:`export.command`."""

import logging
import sys
from collections.abc import Sequence

import typer

from export.command import export

app = typer.Typer(add_completion=False)
app.command()(export)


def cli(arguments: Sequence[str], name: str | None = None) -> None:
    """Run the command line; ``name`` is what usage lines call the program."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger(__package__).setLevel(logging.INFO)
    app(args=list(arguments), prog_name=name)


if __name__ == "__main__":
    cli(sys.argv[1:])
