"""The fork server of a running program, and what can be done to it."""

import os
from pathlib import Path

import psutil

from testbed.program import PipelineRun
from testbed.resources import process_family

MODULE = "pipeline.run.fork_server_process"
FAILS = "raise ImportError('none')"
"""For :func:`disturbed`: stages are started directly, without a word."""


def disturbed(folder: Path, act: str) -> dict[str, str]:
    """An environment in which the fork server does ``act`` while it begins to import."""
    hook = folder / "hook"
    hook.mkdir(parents=True, exist_ok=True)
    (hook / "msgspec.py").write_text(
        "import os, signal, sys, time\n"
        f"if {MODULE!r} in sys.orig_argv:\n"
        f"    {act}\n"
        "sys.path.remove(__file__.rpartition('/')[0])\n"
        "del sys.modules['msgspec']\n"
        "import msgspec\n"
    )
    return {"PYTHONPATH": f"{hook}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def fork_servers(run: PipelineRun) -> list[psutil.Process]:
    """The fork servers, and what they have forked that is no stage yet."""
    found = []
    for process in process_family(run.process.pid):
        try:
            if MODULE in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found
