"""Manage the clients that may connect: ``python -m pipeline.keys new|list|revoke``."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.config.paths import at_home, stray_address
from pipeline.errors import KeysError
from pipeline.public.key_folder import KeyFolder

DEFAULT_FOLDER = Path("keys")

app = typer.Typer(
    help="Manage the clients that may connect.", no_args_is_help=True, add_completion=False
)

FolderOption = Annotated[Path, typer.Option(help="the key folder, as in publish.keys")]
Name = Annotated[str, typer.Argument(help="the client's name")]


@app.command()
def new(name: Name, folder: FolderOption = DEFAULT_FOLDER) -> None:
    """Make a client's keys (and the server's, the first time)."""
    try:
        issued = KeyFolder(at_home(folder)).new(name)
    except (KeysError, OSError) as error:
        raise _fail(error) from None
    typer.echo(issued)
    typer.echo(f"move this file to {name}; it is the only copy of its secret key", err=True)


@app.command("list")
def list_(folder: FolderOption = DEFAULT_FOLDER) -> None:
    """List the clients that may connect."""
    table = Table("client", "public key", "since")
    try:
        if not at_home(folder).is_dir():
            raise KeysError(f"{folder}: there is no such key folder")
        for name, client in KeyFolder(at_home(folder)).entries():
            table.add_row(name, client.public, client.since)
    except KeysError as error:
        raise _fail(error) from None
    Console(width=None if sys.stdout.isatty() else 120).print(table, markup=False)


@app.command()
def revoke(name: Name, folder: FolderOption = DEFAULT_FOLDER) -> None:
    """Revoke a client's keys; a running pipeline disconnects the client within a second."""
    try:
        KeyFolder(at_home(folder)).revoke(name)
    except (KeysError, OSError) as error:
        raise _fail(error) from None
    typer.echo(f"{name} is revoked and may no longer connect", err=True)


def _fail(error: Exception) -> typer.Exit:
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(2)


def cli(arguments: Sequence[str], name: str | None = None) -> None:
    """Run the command line; ``name`` is what usage lines call the program."""
    if stray := stray_address(arguments, takes=()):
        raise SystemExit(_fail(KeysError(stray)).exit_code)
    app(args=list(arguments), prog_name=name)


if __name__ == "__main__":
    cli(sys.argv[1:])
