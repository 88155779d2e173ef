"""Who may listen from other machines: ``python -m pipeline.keys new|list|revoke``."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.errors import KeysError
from pipeline.public.key_folder import KeyFolder

DEFAULT_FOLDER = Path("keys")

app = typer.Typer(help="Who may listen from other machines.", no_args_is_help=True)

FolderOption = Annotated[Path, typer.Option(help="the folder that publish.keys names")]
Name = Annotated[str, typer.Argument(help="the client's name")]


@app.command()
def new(name: Name, folder: FolderOption = DEFAULT_FOLDER) -> None:
    """Make a client's keys (and the server's, the first time)."""
    try:
        issued = KeyFolder(folder).new(name)
    except (KeysError, OSError) as error:
        raise _fail(error) from None
    typer.echo(issued)
    typer.echo(f"carry this file to {name}, then delete it here; it is the only copy", err=True)


@app.command("list")
def list_(folder: FolderOption = DEFAULT_FOLDER) -> None:
    """Clients that are let in."""
    table = Table("client", "public key", "since")
    try:
        for name, client in KeyFolder(folder).entries():
            table.add_row(name, client.public, client.since)
    except KeysError as error:
        raise _fail(error) from None
    Console(width=None if sys.stdout.isatty() else 120).print(table, markup=False)


@app.command()
def revoke(name: Name, folder: FolderOption = DEFAULT_FOLDER) -> None:
    """Let a client in no more, from now on; no restart is needed."""
    try:
        KeyFolder(folder).revoke(name)
    except (KeysError, OSError) as error:
        raise _fail(error) from None
    typer.echo(f"{name} is let in no more", err=True)


def _fail(error: Exception) -> typer.Exit:
    typer.echo(f"error: {error}", err=True)
    return typer.Exit(2)


if __name__ == "__main__":
    app()
