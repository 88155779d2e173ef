"""What ``run`` does: run, check a config, or decide a recording again."""

import logging
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Config
from pipeline.config.paths import at_home
from pipeline.errors import EXIT_NO_SOURCE, EXIT_OK, EXIT_USAGE, ConfigError, os_reason
from pipeline.public.records import to_json
from pipeline.run import logs
from pipeline.run.limits import make_room
from pipeline.run.options import Options
from pipeline.run.outputs.base import MakeOutput
from pipeline.run.outputs.beside import Beside, check_bridges
from pipeline.run.outputs.lines import EventLines, as_json, as_text
from pipeline.run.outputs.table import LiveTable
from pipeline.run.preflight import examine, holds_secret, summary
from pipeline.run.standard_streams import open_missing_streams, say, show
from pipeline.run.supervisor import run

if TYPE_CHECKING:
    from pipeline.run.look import Look

log = logging.getLogger("run_stream")


def act(options: Options) -> int:
    """Do what the options ask for; returns the exit code."""
    missing = open_missing_streams()
    table = not options.json and sys.stdout.isatty() and not options.check_only
    start_logging(options.log_level, options.log_format, table)
    options.check()
    if options.replay:
        form = as_json if options.json else as_text
        return replayed(at_home(options.replay), options.model and at_home(options.model), form)
    config = options.build_config(scores=table)
    if options.check_only:
        return checked(config, options.config and at_home(options.config), options.open_cameras)
    if "stdout" in missing:
        log.warning("standard output is closed: events are not printed")
    make = [] if "stdout" in missing else outputs(options.json)
    if config.bridges and options.config:
        # Absolute: the program's folder is the bridges' too, but may be gone when one is restarted.
        make.append(partial(Beside, config=at_home(options.config).absolute()))
    return started(config, make, options.duration)


def started(config: Config, make: list[MakeOutput], duration: float | None) -> int:
    """Run, unless something stands against it; returns the exit code."""
    found = examine(config, thorough=False)
    for error in found.problems:
        logs.fail(error, logs.form())
    if found.problems:
        return found.exit_code(len(config.cameras))
    for warning in found.warnings:
        log.warning("%s", warning)
    return run(config, make, duration, people=found.people(config))


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
    if found.problems or found.watched is None:
        return EXIT_USAGE
    make_room(config, found.people(config))
    rows = summary(config, found.watched)
    width = max(len(what) for what, _ in rows)
    for what, how in rows:
        say(f"{what:{width}}  {how}")
    if path is not None and config.bridges and (code := check_bridges(path, logs.form())):
        return code
    say("config, pack and endpoints are fine")
    if not look:
        return EXIT_OK
    # Only here: it imports OpenCV, which the supervisor's process can do without.
    from pipeline.run.look import look_at_cameras

    return shown_cameras(look_at_cameras(config, found.watched))


def shown_cameras(looks: "list[Look]") -> int:
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
    # Only here: it imports onnxruntime, which the supervisor's process can do without.
    from pipeline.decision.recheck import Recheck, packs_of
    from pipeline.decision.recording import Recording

    recording = Recording(folder)
    again = Recheck(recording, packs_of(recording, model))
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
