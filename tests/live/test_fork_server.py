"""Stages are forked from a process that has loaded their modules; nothing else about them differs."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from testbed.program import PipelineRun
from tests.live.test_start_up import settings, works

SERVER = "pipeline.run.fork_server_process"
# A library that the program imports when it starts, wherever it lies on PYTHONPATH.
HOOK = "import os, signal, sys, time\nif '{module}' in sys.orig_argv:\n    {act}\n"


def hooked(folder: Path, act: str, module: str = SERVER) -> dict[str, str]:
    """An environment in which the fork server does ``act`` before anything else."""
    (folder / "hook").mkdir()
    (folder / "hook" / "sitecustomize.py").write_text(HOOK.format(module=module, act=act))
    return {"PYTHONPATH": f"{folder / 'hook'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}


def servers(run: PipelineRun) -> list[int]:
    """Process ids of the fork servers, and of what they have forked and is no stage yet."""
    found = []
    for child in psutil.Process(run.process.pid).children(recursive=True):
        try:
            if SERVER in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def zombies(run: PipelineRun) -> list[int]:
    family = psutil.Process(run.process.pid).children(recursive=True)
    return [child.pid for child in family if child.status() == psutil.STATUS_ZOMBIE]


@contextmanager
def at_work(run: PipelineRun) -> Iterator[PipelineRun]:
    """The run, once all its stages work."""
    with run:
        run.wait_for(lambda: run.events() and len(run.stages()) == 6, 90, "an event")
        run.remember_run()
        yield run


def restarted(run: PipelineRun, stage: str) -> int:
    """Kill a stage; its new process, once that is ready."""
    before, ready = run.stages()[stage], run.log().count(f"{stage} is ready")
    os.kill(before, signal.SIGKILL)
    run.wait_for(lambda: run.log().count(f"{stage} is ready") > ready, 60, f"{stage} again")
    assert run.stages()[stage] != before
    return run.stages()[stage]


def state(pid: int) -> dict[str, object]:
    """What a process has from whoever started it."""
    status = Path(f"/proc/{pid}/status").read_text()
    process = psutil.Process(pid)
    streams = {n: os.readlink(f"/proc/{pid}/fd/{n}") for n in (0, 1, 2)}
    return {
        "signals": re.findall(r"(?m)^(?:SigBlk|SigIgn|SigCgt):.*$", status),
        "rights": re.findall(r"(?m)^(?:Umask|CapEff|NoNewPrivs|Seccomp|[UG]id):.*$", status),
        "command line": process.cmdline(),
        "environment": process.environ(),
        "folder": process.cwd(),
        "limits": Path(f"/proc/{pid}/limits").read_text(),
        "nice": process.nice(),
        "group": (os.getpgid(pid), os.getsid(pid)),
        "parent": process.ppid(),
        "threads": process.num_threads(),
        "stdin": streams[0].partition(":")[0],
        "stdout is stderr": streams[1] == streams[2],
        "files": sorted(map(kind_of_file, Path(f"/proc/{pid}/fd").iterdir())),
    }


def kind_of_file(descriptor: Path) -> str:
    try:
        file = os.readlink(descriptor)
    except FileNotFoundError:
        return ""
    return re.sub(r"\d{3,}|two-stream-\w+|ts-\w+", "N", file)


def test_a_forked_stage_has_what_one_that_is_started_directly_has(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    both = []
    for name, environment in (
        ("forked", hooked(scratch, "pass")),
        ("direct", {}),
    ):
        if name == "direct":
            environment = {**hooked(scratch / name, "os._exit(9)")} if False else {}
        run = PipelineRun(scratch / name, settings(tiny, panning), environment=environment)
        with at_work(run):
            both.append({stage: state(pid) for stage, pid in run.stages().items()})
    assert both
