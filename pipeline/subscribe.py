"""``python -m pipeline.subscribe``: print events on the terminal as they arrive."""

import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipeline.client import DEFAULT_EVENTS, DEFAULT_REPLAY, EventClient
from pipeline.config.paths import at_home, stray_address
from pipeline.config.schema import CAMERA_NAME
from pipeline.errors import ConfigError, TwoStreamError, os_reason
from pipeline.public.event_line import event_line
from pipeline.public.records import to_json
from pipeline.run.standard_streams import open_missing_streams, say, show

_ENDPOINT = re.compile(r"tcp://(\[[0-9A-Fa-f:.%\w]+\]|[\w.-]+):([0-9]{1,5})|ipc://.+")
app = typer.Typer(add_completion=False)


def check(connect: str, replay: str, camera: str | None) -> None:
    """Raise :class:`ConfigError` for what could only wait for ever, one line each."""
    lines = []
    for option, endpoint in (("--connect", connect), ("--replay", replay)):
        match = _ENDPOINT.fullmatch(endpoint)
        if match is None or (match[2] is not None and not 0 < int(match[2]) < 65536):
            lines.append(f"{option}: must look like tcp://127.0.0.1:5555 or ipc:///path")
    if connect == replay:
        lines.append("--connect and --replay are the same; publish.events and .replay differ")
    if camera is not None and not re.fullmatch(CAMERA_NAME, camera):
        lines.append("--camera: no camera can have this name")
    if lines:
        raise ConfigError("\n".join(lines))


def home(endpoint: str) -> str:
    """An endpoint whose path may begin with ``~``."""
    path = endpoint.removeprefix("ipc://")
    return endpoint if path == endpoint else f"ipc://{at_home(path)}"


@app.command()
def main(
    connect: Annotated[str, typer.Option(help="PUB socket, as in publish.events")] = DEFAULT_EVENTS,
    replay: Annotated[str, typer.Option(help="ROUTER socket, publish.replay")] = DEFAULT_REPLAY,
    camera: Annotated[str | None, typer.Option(help="only this camera")] = None,
    label: Annotated[str | None, typer.Option(help="only this label")] = None,
    since: Annotated[
        int | None, typer.Option(min=0, help="first replay events after this seq")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="the key file made for this client")] = None,
    json: Annotated[bool, typer.Option("--json", help="print one JSON object per line")] = False,
) -> None:
    """Print the events of a running pipeline; request missed ones again."""
    open_missing_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # α on a terminal that knows ASCII alone
    console = Console()
    try:
        check(connect, replay, camera)
        key = key and at_home(key)
        client = EventClient(
            home(connect), home(replay), since=since, camera=camera, label=label, key=key
        )
    except TwoStreamError as error:
        for line in str(error).splitlines():
            say(f"error: {line}")
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


def cli(arguments: Sequence[str], name: str | None = None) -> None:
    """Run the command line; ``name`` is what usage lines call the program."""
    if stray := stray_address(arguments, takes={"--connect", "--replay"}):
        say(f"error: {stray}")
        raise SystemExit(2)
    app(args=list(arguments), prog_name=name)


if __name__ == "__main__":
    cli(sys.argv[1:])
