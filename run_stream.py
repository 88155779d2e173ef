"""The live pipeline's command line. ``python run_stream.py --help``."""

import sys
from collections.abc import Sequence

from pipeline.program import CommandLine, load_command


def _command_line() -> CommandLine:
    from pipeline.run.command_line import cli

    return cli


def cli(arguments: Sequence[str], name: str | None = None) -> None:
    """Run the command line; ``name`` is what usage lines call the program."""
    load_command(_command_line)(arguments, name)


if __name__ == "__main__":
    cli(sys.argv[1:])
