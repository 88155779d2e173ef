"""``python -m export``: write a checkpoint as a model pack. Next: :mod:`export.command`."""

import logging

import typer

from export.command import export

if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("export").setLevel(logging.INFO)
    typer.run(export)
