"""``python -m bridges``: run one bridge, ``two-stream bridge`` where it isn't installed."""

import sys

from pipeline.program import CommandLine, load_command


def _load() -> CommandLine:
    from bridges.command import cli

    return cli


if __name__ == "__main__":
    load_command(_load)(sys.argv[1:], "python -m bridges")
