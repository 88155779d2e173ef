"""The options of ``two-stream bridge``, as they are typed."""

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from bridges.cursor import Cursor
from bridges.dead_letters import DeadLetters
from bridges.feed import Feed
from bridges.kinds import KINDS, open_receiver
from bridges.measures import Measures
from bridges.receiver import Place, Receiver
from bridges.runner import Runner
from bridges.settings import Bridge, Bridges, load
from pipeline.clock import SYSTEM_CLOCK
from pipeline.config.paths import at_home, plain_key, stray_address
from pipeline.errors import EXIT_OK, EXIT_STAGE, EXIT_USAGE, ConfigError, TwoStreamError
from pipeline.public.key_folder import read_client_keys
from pipeline.run import logs
from pipeline.run.linux import die_with_parent
from pipeline.run.log_lines import log_crash
from pipeline.run.signals import StopSignals
from pipeline.run.standard_streams import show
from pipeline.topology import StageSpec

log = logging.getLogger(__name__)
app = typer.Typer(add_completion=False)

# In the wheel, all is below the last of these.
_OURS = ("bridges", "pipeline", "py", "two_stream")
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@app.command()
def main(
    name: Annotated[
        str | None, typer.Argument(help="the bridge; not needed where the file has only one")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("-c", "--config", help="YAML file: the program's own, or one for bridges"),
    ] = None,
    check_only: Annotated[
        bool, typer.Option("--check", help="look for all that is wrong, connect to nothing")
    ] = False,
    with_parent: Annotated[
        int | None,
        typer.Option(
            "--with-parent",
            metavar="PID",
            help="end when the process ends that started this one",
        ),
    ] = None,
    log_level: Annotated[str, typer.Option(help=", ".join(_LEVELS))] = "INFO",
    log_format: Annotated[str, typer.Option(help="text, or json: one JSON object a line")] = "text",
) -> None:
    """Bring the events of a running program to a file, a webhook, people or a broker."""
    if with_parent is not None:
        _end_with(with_parent)
    work = partial(_act, name, config, check_only, log_level.upper(), log_format)
    raise typer.Exit(_with_last_words(work))


def _with_last_words(work: Callable[[], int]) -> int:
    """The exit code of ``work``; what ends it is one line for each problem."""
    try:
        return work()
    except TwoStreamError as error:
        logs.fail(error, logs.form())
        return error.exit_code
    except Exception as error:
        log_crash(log, "ended by an unexpected error", error)
        return EXIT_STAGE


def _end_with(parent: int) -> None:
    die_with_parent()
    # It may have ended before the kernel knew; then somebody else is the parent.
    if os.getppid() != parent:
        raise typer.Exit(EXIT_OK)


def _act(name: str | None, config: Path | None, check: bool, level: str, form: str) -> int:
    if config is None:
        raise ConfigError("which config? write -c FILE")
    if level not in _LEVELS:
        raise ConfigError(f"--log-level: must be one of {', '.join(_LEVELS)}")
    if form not in ("text", "json"):
        raise ConfigError("--log-format: must be text or json")
    _start_log(name or "", level, form)
    found = load(at_home(config), {kind: row.settings for kind, row in KINDS.items()})
    for warning in found.warnings:
        log.warning("%s: %s", config, warning)
    if check:
        return _check(found, name, config)
    bridge = _chosen(found, name, config)
    _start_log(bridge.name, level, form)
    return _run(bridge)


def _start_log(name: str, level: str, form: str) -> None:
    """Each line says whose it is: `bridge:phone`, as those of stages do."""
    logs.start(level, "json" if form == "json" else "text", StageSpec("bridge", name, ()))
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_ours)


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether the program itself says it. Libraries name whole addresses, with their tokens."""
    return record.name.partition(".")[0] in _OURS


def _check(found: Bridges, name: str | None, config: Path) -> int:
    bridges = [_chosen(found, name, config)] if name else list(found.by_name.values())
    problems = []
    for bridge in bridges:
        try:
            if bridge.key is not None:
                read_client_keys(bridge.key)
            open_receiver(bridge.settings, _place(bridge, lambda: True)).close()
        except TwoStreamError as error:
            problems += [f"bridges.{bridge.name}: {line}" for line in str(error).splitlines()]
            continue
        show(f"{bridge.name}: {bridge.settings.kind}, from {bridge.events}: good")
    if problems:
        raise ConfigError("\n".join(problems))
    return EXIT_OK


def _chosen(found: Bridges, name: str | None, config: Path) -> Bridge:
    known = ", ".join(found.by_name)
    if name is None:
        if len(found.by_name) > 1:
            raise ConfigError(f"{config}: which bridge? name one of {known}; each is a process")
        return next(iter(found.by_name.values()))
    if name not in found.by_name:
        raise ConfigError(f"{config}: there is no bridge {plain_key(name)}; there are {known}")
    return found.by_name[name]


def _place(bridge: Bridge, stopping: Callable[[], bool]) -> Place:
    def warn(text: str) -> None:
        log.warning("%s", text)

    return Place(bridge.name, bridge.cursor.parent, stopping, SYSTEM_CLOCK, warn)


def _run(bridge: Bridge) -> int:
    signals = StopSignals(shared_memory=False)
    settings = bridge.settings

    def stopping() -> bool:
        return signals.count > 0

    with ExitStack() as opened:
        place = _place(bridge, stopping)
        cursor = Cursor(bridge.cursor, bridge.name)
        opened.callback(cursor.close)
        measures = Measures(bridge.name, settings.kind)
        if settings.metrics is not None:
            key = f"bridges.{bridge.name}.metrics"
            opened.callback(measures.serve(settings.metrics, key, SYSTEM_CLOCK))
        receiver: Receiver = open_receiver(settings, place)
        opened.callback(receiver.close)
        feed = Feed(
            (bridge.events, bridge.replay),
            bridge.key,
            cursor.known(),
            oldest=settings.begin == "oldest",
            clock=SYSTEM_CLOCK,
        )
        opened.callback(feed.close)
        at = cursor.position
        log.info(
            "%s: %s", settings.kind,
            "begins" if at is None else f"goes on after event {at.seq} of log {at.log}",
        )  # fmt: skip
        dead = DeadLetters(place.file("dead.jsonl"), SYSTEM_CLOCK)
        Runner(settings, feed, receiver, cursor, dead, measures, SYSTEM_CLOCK).run(stopping)
    log.info("stopped")
    return EXIT_OK


def cli(arguments: Sequence[str], name: str | None = None) -> None:
    """Run the command line; ``name`` is what usage lines call the program."""
    if stray := stray_address(arguments, takes=()):
        logs.fail(ConfigError(stray), "text")
        raise SystemExit(EXIT_USAGE)
    app(args=list(arguments), prog_name=name)
