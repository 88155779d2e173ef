"""``python -m pipeline.subscribe``: print events on the terminal as they arrive."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.client import DEFAULT_EVENTS, DEFAULT_REPLAY, EventClient
from pipeline.errors import KeysError
from pipeline.public.event_line import event_line
from pipeline.public.records import to_json


def main(
    connect: Annotated[str, typer.Option(help="PUB socket, as in publish.events")] = DEFAULT_EVENTS,
    replay: Annotated[str, typer.Option(help="ROUTER socket, publish.replay")] = DEFAULT_REPLAY,
    camera: Annotated[str | None, typer.Option(help="only this camera")] = None,
    label: Annotated[str | None, typer.Option(help="only this label")] = None,
    since: Annotated[int | None, typer.Option(help="first replay events after this seq")] = None,
    key: Annotated[Path | None, typer.Option(help="the key file made for this client")] = None,
    json: Annotated[bool, typer.Option("--json", help="print one JSON object per line")] = False,
) -> None:
    """Print the events of a running pipeline; request missed ones again."""
    console = Console()
    try:
        client = EventClient(connect, replay, since=since, camera=camera, label=label, key=key)
    except KeysError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    with client:
        try:
            for event in client:
                if json:
                    sys.stdout.write(to_json(event).decode() + "\n")
                    sys.stdout.flush()
                else:
                    console.print(event_line(event))
        except (KeyboardInterrupt, BrokenPipeError):
            raise typer.Exit(0) from None


if __name__ == "__main__":
    typer.run(main)
