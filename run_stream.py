"""The live pipeline's command line. ``python run_stream.py --help``."""

import logging
import math
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

try:
    import typer
except ModuleNotFoundError:
    raise SystemExit(
        "error: this Python lacks what the program needs; after `make run` type "
        "`. .venv/bin/activate` first, or install it: pip install ."
    ) from None
from pydantic import ValidationError

from pipeline.config import CameraConfig, Config, load, validate
from pipeline.config.paths import at_home, path_problem, stray_address
from pipeline.decision.recheck import Recheck
from pipeline.decision.recording import Recording
from pipeline.errors import (
    EXIT_NO_SOURCE,
    EXIT_OK,
    EXIT_STAGE,
    EXIT_USAGE,
    ConfigError,
    TwoStreamError,
    os_reason,
)
from pipeline.model.pack import ModelPack
from pipeline.public.records import to_json
from pipeline.run import logs
from pipeline.run.limits import make_room
from pipeline.run.log_lines import log_crash
from pipeline.run.look import Look, look_at_cameras
from pipeline.run.outputs.base import MakeOutput
from pipeline.run.outputs.lines import EventLines, as_json, as_text
from pipeline.run.outputs.table import LiveTable
from pipeline.run.preflight import (
    examine,
    holds_secret,
    keys_without_effect,
    summary,
    what_it_is,
)
from pipeline.run.standard_streams import open_missing_streams, say, show
from pipeline.run.supervisor import run
from pipeline.sources.address import problem

log = logging.getLogger("run_stream")
app = typer.Typer(add_completion=False)

RENAMED = {"check_only": "--check", "open_cameras": "--open"}
"""Parameters that can't have their option's name."""
NEEDS = {"--source": ("--camera", "--transport", "--loop"), "--check": ("--open",)}
"""Option → those that have no effect without it."""
WITHOUT_EFFECT = {
    "--replay": (
        "--config", "--source", "--camera", "--transport", "--loop", "--lossless", "--record",
        "--duration", "--check",
    ),
    "--check": ("--duration", "--json"),
}  # fmt: skip
"""Option → those that have no effect beside it."""


def build_config(path: Path | None, overrides: dict[str, Any]) -> Config:
    """The config file (or the defaults), with ``overrides`` from the command line on top."""
    config = load(path) if path else Config()
    # What is not set stays so: --check names the keys that are set and have no effect.
    data = config.model_dump(mode="json", exclude_unset=True)
    for key, value in overrides.items():
        if value is None:
            continue
        *sections, last = key.split(".")  # "runtime.record" is data["runtime"]["record"]
        place = data
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return validate(data, origin="command line")


def started(config: Config, make: list[MakeOutput], duration: float | None) -> int:
    """Run, unless something stands against it; returns the exit code."""
    found = examine(config, thorough=False)
    for error in found.problems:
        logs.fail(error, logs.form())
    if found.problems:
        return found.exit_code(len(config.cameras))
    for warning in found.warnings:
        log.warning("%s", warning)
    return run(config, make, duration)


def checked(config: Config, path: Path | None, look: bool) -> int:
    """Look for all that stands against a run, print what was found, and return the exit code.

    ``look``: open the cameras, too.
    """
    found = examine(config, thorough=True)
    for error in found.problems:
        logs.fail(error, logs.form())
    warnings = list(found.warnings)
    if path is not None and holds_secret(config) and path.stat().st_mode & 0o077:
        warnings.append(f"{path} holds a password and others may read it; run chmod 600 {path}")
    for warning in warnings:
        say(f"warning: {warning}")
    if found.problems or found.pack is None:
        return EXIT_USAGE
    make_room(config)
    rows = summary(config, found.pack)
    width = max(len(what) for what, _ in rows)
    for what, how in rows:
        say(f"{what:{width}}  {how}")
    say("config, pack and endpoints are fine")
    return shown_cameras(look_at_cameras(config, found.pack)) if look else EXIT_OK


def shown_cameras(looks: list[Look]) -> int:
    """Print what each camera sends and what would be better; returns the exit code."""
    for look in looks:
        say(str(look.error) if look.error else f"{look.camera}: {look.sends}")
        for remedy in look.remedies:
            say(f"    {remedy}")
    return EXIT_NO_SOURCE if any(look.error for look in looks) else EXIT_OK


def outputs(as_json_lines: bool) -> list[MakeOutput]:
    """Choose how to print events: JSON lines on request, a table on a terminal, else text lines."""
    if as_json_lines:
        return [partial(EventLines, form=as_json)]
    return [LiveTable] if sys.stdout.isatty() else [partial(EventLines, form=as_text)]


def start_logging(level_name: str, form: str, table: bool) -> None:
    """Log to standard error from ``level_name`` on; beside a table, errors only."""
    level = getattr(logging, level_name.upper(), None)
    if not isinstance(level, int):
        raise ConfigError("--log-level: must be DEBUG, INFO, WARNING or ERROR")
    if form not in ("text", "json"):
        raise ConfigError("--log-format: must be text or json")
    # The table shows the state of the cameras; log lines would break it up.
    chosen: logs.LogForm = "json" if form == "json" else "text"
    logs.start(max(level, logging.ERROR) if table else level, chosen)


def replayed(folder: Path, model: Path | None, form: Callable[[bytes], str]) -> int:
    """Decide a recording again and print its events; returns 1 when a decision differs."""
    recording = Recording(folder)
    again = Recheck(recording, ModelPack.load(model or Path(recording.about.model)))
    try:
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


def check_together(given: dict[str, Any]) -> None:
    """Refuse options that would have no effect beside the others; ``given`` has those that are set.

    Raises :class:`ConfigError` with one line per option.
    """
    lines = []
    for needed, options in NEEDS.items():
        if needed not in given:
            lines += [f"{option}: without effect without {needed}" for option in options]
    for other, alone in WITHOUT_EFFECT.items():
        if other in given:
            lines += [f"{option}: without effect with {other}" for option in alone]
    named = [line for line in lines if line.partition(":")[0] in given]
    duration = given.get("--duration")
    if isinstance(duration, float) and not math.isfinite(duration):
        named.append("--duration: must be a number of seconds")
    if named:
        raise ConfigError("\n".join(dict.fromkeys(named)))


def check_paths(given: dict[str, Any]) -> None:
    """Refuse an address where a path is meant, without repeating it."""
    for option, value in given.items():
        if isinstance(value, Path) and (reason := path_problem(str(value))):
            raise ConfigError(f"{option}: {reason}")


def source_settings(
    source: str | None, camera: str | None, transport: str | None, loop: bool
) -> dict[str, Any]:
    """``cameras`` as --source and its options have it; empty without --source."""
    if source is None:
        return {}
    if reason := problem(source):
        raise ConfigError(f"--source: {reason}")
    settings = {"source": source, "transport": transport, "loop": loop or None}
    given = {key: value for key, value in settings.items() if value is not None}
    try:
        parsed = CameraConfig.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigError(f"--{first['loc'][0]}: {message}") from None
    for key in sorted(given.keys() & keys_without_effect(parsed)):
        raise ConfigError(f"--{key}: without effect for {what_it_is(source)}")
    return {camera or "camera": given}


def act(given: dict[str, Any]) -> int:
    """Do what the options say that are ``given``; returns the exit code."""
    json, only_check = "--json" in given, "--check" in given
    missing = open_missing_streams()
    table = not json and sys.stdout.isatty() and not only_check
    start_logging(given["--log-level"], given["--log-format"], table)
    check_together(given)
    check_paths(given)
    model, record, path = (given.get(name) for name in ("--model", "--record", "--config"))
    if folder := given.get("--replay"):
        form = as_json if json else as_text
        return replayed(at_home(folder), model and at_home(model), form)
    cameras = source_settings(
        given.get("--source"), given.get("--camera"), given.get("--transport"), "--loop" in given
    )
    overrides: dict[str, Any] = {
        "cameras": cameras or None,
        "model": str(model) if model else None,
        "runtime.delivery": "lossless" if "--lossless" in given else None,
        "publish.scores": True if table else None,
        "runtime.record": str(record) if record else None,
    }
    path = path and at_home(path)
    config = build_config(path, overrides)
    if only_check:
        return checked(config, path, "--open" in given)
    if "stdout" in missing:
        log.warning("standard output is closed: events are not printed")
    return started(config, [] if "stdout" in missing else outputs(json), given.get("--duration"))


def with_last_words(work: Callable[[], int]) -> int:
    """The exit code of ``work``; what ends it is one line for each problem."""
    try:
        return work()
    except TwoStreamError as error:
        logs.fail(error, logs.form())
        return error.exit_code
    except Exception as error:
        log_crash(log, "ended by an unexpected error", error)
        return EXIT_STAGE


@app.command()
def main(
    config: Annotated[Path | None, typer.Option("-c", "--config", help="YAML file")] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="demo, a webcam (0), rtsp://, http://, a video file, a folder of images; "
            "instead of the config's cameras"
        ),
    ] = None,
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
    asked = locals().items()
    given = {
        RENAMED.get(name, f"--{name.replace('_', '-')}"): value
        for name, value in asked
        if value is not None and value is not False
    }
    raise typer.Exit(with_last_words(partial(act, given)))


def cli(arguments: Sequence[str], name: str | None = None) -> None:
    """Run the command line; ``name`` is what usage lines call the program."""
    if stray := stray_address(arguments, takes={"--source"}):
        logs.fail(ConfigError(stray), "text")
        raise SystemExit(EXIT_USAGE)
    app(args=list(arguments), prog_name=name)


if __name__ == "__main__":
    cli(sys.argv[1:])
