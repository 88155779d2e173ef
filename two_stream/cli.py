"""The command ``two-stream``: hands its arguments on to the command that they name.

The options are those of the commands themselves. A command is loaded when it is called, so that
``two-stream --help`` doesn't wait for numpy, nor ``two-stream run`` for torch.
"""

import os
import sys
from collections.abc import Callable
from typing import NamedTuple

from pipeline.program import PROJECT, CommandLine, load_command
from two_stream import __version__

NAME = "two-stream"
EXIT_USAGE = 2  # as in pipeline.errors


def _run() -> CommandLine:
    from run_stream import cli

    return cli


def _subscribe() -> CommandLine:
    from pipeline.subscribe import cli

    return cli


def _evaluate() -> CommandLine:
    from pipeline.evaluate.__main__ import cli

    return cli


def _backtest() -> CommandLine:
    from pipeline.backtest.__main__ import cli

    return cli


def _review() -> CommandLine:
    from pipeline.reviews.__main__ import cli

    return cli


def _teach() -> CommandLine:
    from teach.__main__ import cli

    return cli


def _calibrate() -> CommandLine:
    from teach.commands import calibrate_cli

    return calibrate_cli


def _train() -> CommandLine:
    from training.__main__ import train_cli

    return train_cli


def _export() -> CommandLine:
    from export.__main__ import cli

    return cli


def _keys() -> CommandLine:
    from pipeline.keys import cli

    return cli


def _bridge() -> CommandLine:
    from bridges.command import cli

    return cli


class Command(NamedTuple):
    """A line of the help, what loads the command, and arguments that stand before the user's."""

    help: str
    load: Callable[[], CommandLine]
    before: tuple[str, ...] = ()


COMMANDS = {
    "run": Command("recognise actions in live video; without options: the demo camera", _run),
    "check": Command("look for all that is wrong with a config, run nothing", _run, ("--check",)),
    "subscribe": Command("print the events of a running program as they arrive", _subscribe),
    "evaluate": Command(
        "measure a model pack on clips, on a stream of clips, on footage", _evaluate
    ),
    "backtest": Command("what a pack would have said of the last days", _backtest),
    "review": Command("say of events whether they were right, and what was missed", _review),
    "teach": Command(
        "make a pack from a few clips of each action (needs two-stream[teach])", _teach
    ),
    "calibrate": Command("teach a pack a camera's own background", _calibrate),
    "train": Command("train networks on your clips (needs two-stream[training])", _train),
    "export": Command("write a checkpoint as a model pack (needs two-stream[export])", _export),
    "bridge": Command("bring events to a file, a webhook, people or a broker", _bridge),
    "keys": Command("make, list and revoke the keys of clients that may connect", _keys),
}


def usage() -> str:
    """The help."""
    width = max(map(len, COMMANDS))
    lines = (f"  {name:{width}}  {command.help}" for name, command in COMMANDS.items())
    return "\n".join(
        [
            f"Usage: {NAME} COMMAND [OPTIONS]",
            "",
            "Live two-stream action recognition from webcams, RTSP cameras and files.",
            "",
            *lines,
            "",
            f"{NAME} COMMAND --help lists the options of a command; {NAME} --version the version.",
            f"Model packs and example configs are in {PROJECT}",
        ]
    )


def _show(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError as error:
        # The interpreter would try again at its end, and fail with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):  # `| head` has seen enough
            raise SystemExit(0) from None
        print(f"error: standard output can't be written: {error.strerror}", file=sys.stderr)
        raise SystemExit(EXIT_USAGE) from None


def main() -> None:
    """Run the command that the arguments name."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        _show(usage())
    elif name == "--version":
        _show(f"{NAME} {__version__}")
    elif name in COMMANDS:
        command = COMMANDS[name]
        load_command(command.load)([*command.before, *rest], f"{NAME} {name}")
    else:
        # What was written is not repeated: it may be an address with a password.
        known = ", ".join(COMMANDS)
        print(f"error: expected a command first: {known}; see {NAME} --help", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)
