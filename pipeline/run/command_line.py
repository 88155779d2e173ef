"""The options of ``run``, as they are typed."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from pipeline.config.paths import stray_address
from pipeline.errors import EXIT_STAGE, EXIT_USAGE, ConfigError, StartupError, TwoStreamError
from pipeline.program import missing_library
from pipeline.run import logs
from pipeline.run.actions import act
from pipeline.run.log_lines import log_crash
from pipeline.run.options import Options

log = logging.getLogger("run_stream")
app = typer.Typer(add_completion=False)

Source = Annotated[
    str | None,
    typer.Option(
        help="demo, a webcam (0), rtsp://, http://, a video file, a folder of images; "
        "instead of the config's cameras"
    ),
]


@app.command()
def main(
    config: Annotated[Path | None, typer.Option("-c", "--config", help="YAML file")] = None,
    source: Source = None,
    camera: Annotated[
        str | None, typer.Option(help="name of the camera of --source [default: camera]")
    ] = None,
    model: Annotated[Path | None, typer.Option(help="model pack folder")] = None,
    transport: Annotated[
        str | None, typer.Option(help="tcp or udp, where --source is rtsp:// [default: tcp]")
    ] = None,
    loop: Annotated[
        bool, typer.Option("--loop", help="play the file of --source again when it ends")
    ] = False,
    lossless: Annotated[
        bool, typer.Option("--lossless", help="files only: compute every step, repeatably")
    ] = False,
    record: Annotated[
        Path | None, typer.Option(help="record the run into this new folder, for --replay")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(help="folder of a recording: decide it again, print the events")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(min=0, help="stop after this many seconds")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="print only events, one JSON object per line")
    ] = False,
    check_only: Annotated[
        bool, typer.Option("--check", help="validate config, pack and endpoints, then exit")
    ] = False,
    open_cameras: Annotated[
        bool, typer.Option("--open", help="with --check: open each camera, show what it sends")
    ] = False,
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR")] = "INFO",
    log_format: Annotated[
        str, typer.Option(help="text, or json: one JSON object a line; times are UTC in both")
    ] = "text",
) -> None:
    """Recognise actions in live video. Without arguments: run the built-in demo camera."""
    options = Options(
        config=config,
        source=source,
        camera=camera,
        model=model,
        transport=transport,
        loop=loop,
        lossless=lossless,
        record=record,
        replay=replay,
        duration=duration,
        json=json,
        check_only=check_only,
        open_cameras=open_cameras,
        log_level=log_level,
        log_format=log_format,
    )
    raise typer.Exit(with_last_words(partial(act, options)))


def with_last_words(work: Callable[[], int]) -> int:
    """The exit code of ``work``; what ends it is one line for each problem."""
    try:
        return work()
    except TwoStreamError as error:
        logs.fail(error, logs.form())
        return error.exit_code
    except ImportError as error:
        logs.fail(StartupError(missing_library(error)), logs.form())
        return EXIT_USAGE
    except Exception as error:
        log_crash(log, "ended by an unexpected error", error)
        return EXIT_STAGE


def cli(arguments: Sequence[str], name: str | None = None) -> None:
    """Run the command line; ``name`` is what usage lines call the program."""
    if stray := stray_address(arguments, takes={"--source"}):
        logs.fail(ConfigError(stray), "text")
        raise SystemExit(EXIT_USAGE)
    app(args=list(arguments), prog_name=name)
