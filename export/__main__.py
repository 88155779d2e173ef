"""``python -m export``: write a checkpoint as a model pack. Next: :mod:`export.command`.

``python -m export people`` writes the person detector. Next: :mod:`export.people.command`.
"""

import logging
import sys
from collections.abc import Sequence

import typer

from export.command import export
from export.people.command import people

PEOPLE = "people"

app = typer.Typer(add_completion=False)
app.command(epilog=f"{PEOPLE} writes the person detector: see its --help.")(export)
people_app = typer.Typer(add_completion=False)
people_app.command()(people)


def cli(arguments: Sequence[str], name: str | None = None) -> None:
    """Run the command line; ``name`` is what usage lines call the program."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger(__package__).setLevel(logging.INFO)
    if arguments[:1] == [PEOPLE]:
        people_app(args=list(arguments[1:]), prog_name=name and f"{name} {PEOPLE}")
    app(args=list(arguments), prog_name=name)


if __name__ == "__main__":
    cli(sys.argv[1:])
