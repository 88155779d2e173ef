"""``python -m pipeline.subscribe``: print events on the terminal as they arrive."""

import io
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.client import DEFAULT_EVENTS, DEFAULT_REPLAY, EventClient
from pipeline.errors import TwoStreamError, os_reason
from pipeline.public.event_line import event_line
from pipeline.public.records import to_json
from pipeline.run.standard_streams import open_missing_streams, say, show


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
    open_missing_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # α on a terminal that knows ASCII alone
    console = Console()
    try:
        client = EventClient(connect, replay, since=since, camera=camera, label=label, key=key)
    except TwoStreamError as error:
        say(f"error: {error}")
        raise typer.Exit(error.exit_code) from None
    with client:
        try:
            for event in client:
                if json:
                    show(to_json(event).decode())
                else:
                    console.print(event_line(event))
        except (KeyboardInterrupt, BrokenPipeError):
            raise typer.Exit(0) from None
        except OSError as error:
            say(f"error: standard output can't be written: {os_reason(error)}")
            raise typer.Exit(2) from None


if __name__ == "__main__":
    typer.run(main)
