"""The live pipeline's command line. ``python run_stream.py --help``."""

import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.config import Config, load, validate
from pipeline.decision.recheck import Recheck
from pipeline.decision.recording import Recording, check_new
from pipeline.errors import (
    EXIT_OK,
    EXIT_STAGE,
    EXIT_USAGE,
    TwoStreamError,
    os_reason,
)
from pipeline.model.pack import NETWORKS, ModelPack
from pipeline.public.key_folder import KeyFolder
from pipeline.public.records import to_json
from pipeline.run.log_lines import LineHandler, log_crash, log_uncaught
from pipeline.run.outputs.base import MakeOutput
from pipeline.run.outputs.lines import EventLines, as_json, as_text
from pipeline.run.outputs.table import LiveTable
from pipeline.run.standard_streams import open_missing_streams, say, show
from pipeline.run.supervisor import run
from pipeline.transport.sockets import check_bind

log = logging.getLogger("run_stream")


def build_config(path: Path | None, overrides: dict[str, Any]) -> Config:
    """The config file (or the defaults), with ``overrides`` from the command line on top."""
    config = load(path) if path else Config()
    data = config.model_dump(mode="json")
    for key, value in overrides.items():
        if value is None:
            continue
        *sections, last = key.split(".")  # "runtime.record" is data["runtime"]["record"]
        place = data
        for section in sections:
            place = place[section]
        place[last] = value
    return validate(data, origin=str(path) if path else "command line")


def check(config: Config, verify_graphs: bool) -> None:
    """Check all that can be checked before a start; the error names what is wrong."""
    pack = ModelPack.load(config.model)
    for endpoint in (config.publish.events, config.publish.replay):
        check_bind(endpoint)
    if config.publish.keys is not None:
        KeyFolder(config.publish.keys).server()
    if config.runtime.record is not None:
        check_new(config.runtime.record)
    if verify_graphs:
        from pipeline.decision.decisions import thresholds
        from pipeline.model.session import Network

        for network in NETWORKS:
            Network(pack, network, config.runtime.threads, config.runtime.providers)
        thresholds(pack.contract, config.events.thresholds)


def outputs(as_json_lines: bool) -> list[MakeOutput]:
    """Choose how to print events: JSON lines on request, a table on a terminal, else text lines."""
    if as_json_lines:
        return [partial(EventLines, form=as_json)]
    return [LiveTable] if sys.stdout.isatty() else [partial(EventLines, form=as_text)]


def start_logging(level_name: str, table: bool) -> None:
    """Log to standard error from ``level_name`` on; beside a table, errors only."""
    level = getattr(logging, level_name.upper(), None)
    if not isinstance(level, int):
        raise typer.BadParameter(f"{level_name!r} is not DEBUG, INFO, WARNING or ERROR")
    # The table shows the state of the cameras; log lines would break it up.
    logging.basicConfig(
        level=max(level, logging.ERROR) if table else level,
        handlers=[LineHandler()],
        format="%(asctime)s %(levelname)s %(message)s",
    )


def replayed(folder: Path, model: Path | None, form: Callable[[bytes], str]) -> int:
    """Decide a recording again and print its events; returns 1 when a decision differs."""
    try:
        recording = Recording(folder)
        again = Recheck(recording, ModelPack.load(model or Path(recording.about.model)))
        for event in again:
            show(form(to_json(event)))
    except BrokenPipeError:
        return EXIT_OK  # `| head` has seen enough
    except OSError as error:
        say(f"error: standard output can't be written: {os_reason(error)}")
        return EXIT_USAGE
    if again.differing:
        say(f"{again.differing} decisions differ from those recorded")
    return 1 if again.differing else EXIT_OK


def with_last_words(work: Callable[[], int]) -> int:
    """The exit code of ``work``; what ends it is said in one line for each problem."""
    try:
        return work()
    except TwoStreamError as error:
        for line in str(error).splitlines():
            say(f"error: {line}")
        return error.exit_code
    except Exception as error:
        log_crash(log, "ended by an unexpected error", error)
        return EXIT_STAGE


def main(
    config: Annotated[Path | None, typer.Option("-c", "--config", help="YAML file")] = None,
    source: Annotated[
        str | None,
        typer.Option(help="demo, a webcam (0), rtsp://, http://, a video file, a folder of images"),
    ] = None,
    camera: Annotated[str, typer.Option(help="name of the camera of --source")] = "camera",
    model: Annotated[Path | None, typer.Option(help="model pack folder")] = None,
    transport: Annotated[str | None, typer.Option(help="RTSP over tcp or udp")] = None,
    loop: Annotated[bool, typer.Option("--loop", help="play a file again when it ends")] = False,
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
    log_level: Annotated[str, typer.Option(help="DEBUG, INFO, WARNING or ERROR")] = "INFO",
) -> None:
    """Recognise actions in live video. Without arguments: run the built-in demo camera."""
    missing = open_missing_streams()
    table = not json and sys.stdout.isatty() and not check_only
    overrides: dict[str, Any] = {
        "model": str(model) if model else None,
        "runtime.delivery": "lossless" if lossless else None,
        "publish.scores": True if table else None,
        "runtime.record": str(record) if record else None,
    }
    if source is not None:
        fields = {"source": source, "transport": transport, "loop": loop or None}
        overrides["cameras"] = {camera: {k: v for k, v in fields.items() if v is not None}}
    start_logging(log_level, table)
    log_uncaught()

    def work() -> int:
        if replay is not None:
            return replayed(replay, model, as_json if json else as_text)
        settings = build_config(config, overrides)
        check(settings, verify_graphs=check_only)
        if check_only:
            say(f"config, pack and endpoints are fine; cameras: {', '.join(settings.cameras)}")
            return EXIT_OK
        if "stdout" in missing:
            log.warning("standard output is closed: events are not printed")
        return run(settings, [] if "stdout" in missing else outputs(json), duration)

    raise typer.Exit(with_last_words(work))


if __name__ == "__main__":
    typer.run(main)
