"""``python -m export``: write a checkpoint as a model pack. Next: :mod:`export.command`.

``python -m export people`` writes the person detector. Next: :mod:`export.people.command`.
``python -m export base`` writes streams of the base. Next: :mod:`export.base.command`.
"""

import logging
import sys
from collections.abc import Sequence

import typer

from export.base.command import base
from export.command import export
from export.people.command import people

BASE, PEOPLE = "base", "people"

app = typer.Typer(add_completion=False)
app.command(
    epilog=f"{PEOPLE} writes the person detector, {BASE} streams of the base: see their --help."
)(export)
others = {PEOPLE: typer.Typer(add_completion=False), BASE: typer.Typer(add_completion=False)}
others[PEOPLE].command()(people)
others[BASE].command()(base)


def cli(arguments: Sequence[str], name: str | None = None) -> None:
    """Run the command line; ``name`` is what usage lines call the program."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger(__package__).setLevel(logging.INFO)
    if arguments and (other := others.get(arguments[0])):
        other(args=list(arguments[1:]), prog_name=name and f"{name} {arguments[0]}")
    app(args=list(arguments), prog_name=name)


if __name__ == "__main__":
    cli(sys.argv[1:])
