"""Stages are forked from a process that has loaded their modules; nothing else differs."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.run.starter import MOST_DEATHS
from testbed.fork_server import FAILS, disturbed, fork_servers
from testbed.program import PipelineRun
from testbed.resources import process_family
from tests.live.machine import as_nobody, limited
from tests.live.test_start_up import for_all, settings, works

STAGES = {"capture:a", "flow:0", "spatial", "temporal", "fusion", "publish"}


def zombies(run: PipelineRun) -> list[int]:
    found = []
    for process in process_family(run.process.pid):
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except psutil.NoSuchProcess:
            continue
    return found


@contextmanager
def at_work(run: PipelineRun) -> Iterator[PipelineRun]:
    """The run, once all its stages work."""
    with run:
        run.wait_for(lambda: run.events() and run.stages().keys() == STAGES, 90, "all at work")
        run.remember_run()
        yield run


def logged(run: PipelineRun, text: str, times: int) -> Callable[[], bool]:
    return lambda: run.log().count(text) >= times


def restart(run: PipelineRun, stage: str) -> None:
    """Kill a stage, and wait until its successor is ready."""
    before, text = run.stages()[stage], f"{stage} is ready"
    again = logged(run, text, run.log().count(text) + 1)
    os.kill(before, signal.SIGKILL)
    run.wait_for(again, 60, f"{stage} again")
    assert run.stages()[stage] != before


def state(run: PipelineRun, pid: int) -> dict[str, object]:
    """What a process has from whoever started it, and what it has opened."""
    folder, process = Path(f"/proc/{pid}"), psutil.Process(pid)
    status = (folder / "status").read_text()
    stdin, stdout, stderr = (os.readlink(folder / "fd" / str(number)) for number in (0, 1, 2))
    return {
        "signals": re.findall(r"(?m)^Sig(?:Blk|Ign|Cgt):.*$", status),
        "rights": re.findall(r"(?m)^(?:Umask|Uid|Gid|CapEff|NoNewPrivs):.*$", status),
        "command line": process.cmdline(),
        "environment": process.environ(),
        "folder": process.cwd(),
        "limits": (folder / "limits").read_text(),
        "of the program's group": os.getpgid(pid) == os.getpgid(run.process.pid),
        "child of the program": process.ppid() == run.process.pid,
        "standard input": stdin.partition(":")[0],
        "standard output is error": stdout == stderr,
        "files": sorted(files(pid)),
    }


def files(pid: int) -> list[str]:
    """What a process has open, without what differs from run to run."""
    found = [os.readlink(name) for name in Path(f"/proc/{pid}/fd").iterdir()]
    return [re.sub(r"\d{3,}|two-stream-\w+", "N", name) for name in found]


def states(run: PipelineRun) -> dict[str, dict[str, object]]:
    while True:
        try:
            return {stage: state(run, pid) for stage, pid in run.stages().items()}
        except FileNotFoundError:  # a file that was closed meanwhile
            continue


def allow(process: psutil.Process, number: str) -> None:
    """Let a process of nobody have so many processes of that user."""
    limit = limited(f"--pid={process.pid}", f"--nproc={number}:")
    subprocess.run([*as_nobody(), *limit], check=True)


def without_it(run: PipelineRun, why: str) -> None:
    assert f"{why}; stages are started without it" in run.log()
    assert fork_servers(run) == []


# --- what a stage gets


def test_a_forked_stage_is_as_one_that_is_started_directly(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    config = settings(tiny, panning)
    with at_work(
        PipelineRun(scratch, config, environment=disturbed(scratch, "os._exit(9)"))
    ) as run:
        without_it(run, "the fork server died (exit code 9)")
        time.sleep(1)  # the last sockets are connected
        direct = states(run)
    with at_work(PipelineRun(scratch, config, environment=disturbed(scratch, "pass"))) as run:
        deadline = time.monotonic() + 20
        while (forked := states(run)) != direct and time.monotonic() < deadline:
            time.sleep(0.2)
        assert forked == direct
        (server,) = fork_servers(run)
        assert server.num_threads() == 1
        assert server.num_fds() == 3
        assert run.stop()[0] == 0
        assert not server.is_running()
        assert run.remains() == []


def test_modules_of_the_users_folder_are_not_imported(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    (scratch / "here").mkdir()
    for name in ("pipeline", "numpy", "cv2", "secrets"):
        (scratch / "here" / f"{name}.py").write_text("raise RuntimeError('not this one')\n")
    wrapper = ("env", "-C", str(scratch / "here"))
    with PipelineRun(scratch, settings(tiny, panning), wrapper=wrapper) as run:
        run.wait_for(lambda: fork_servers(run), 60, "the fork server")
        works(run)
        assert "not this one" not in run.log()
        assert "without it" not in run.log()


# --- what dies


def test_each_stage_is_forked_again(scratch: Path, tiny: Path, panning: Path) -> None:
    with at_work(PipelineRun(scratch, settings(tiny, panning))) as run:
        (server,) = fork_servers(run)
        for stage in ("flow:0", "fusion", "publish", "capture:a"):
            restart(run, stage)
        assert fork_servers(run) == [server]
        assert zombies(run) == []
        works(run)


def test_a_fork_server_that_dies_is_replaced_and_takes_no_stage_with_it(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    arguments = ("--log-level", "DEBUG")
    with at_work(PipelineRun(scratch, settings(tiny, panning), arguments)) as run:
        before = run.stages()
        for times in range(1, MOST_DEATHS):
            # One that dies while it loads is not replaced.
            run.wait_for(logged(run, "the fork server is ready", times), 60, "another")
            (server,) = fork_servers(run)
            server.kill()
            died = logged(run, "the fork server died (killed by signal 9)", times)
            run.wait_for(died, 30, "its death in the log")
        assert run.stages() == before
        restart(run, "fusion")
        works(run)


def test_a_stage_that_dies_with_the_fork_server_comes_again(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    with at_work(PipelineRun(scratch, settings(tiny, panning))) as run:
        for _ in range(2):
            for server in fork_servers(run):
                server.kill()
            restart(run, "temporal")
        assert zombies(run) == []
        works(run)


def test_a_fork_server_that_is_stopped_holds_up_no_restart(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    with at_work(PipelineRun(scratch, settings(tiny, panning))) as run:
        (server,) = fork_servers(run)
        server.suspend()
        before = run.stages()
        restart(run, "spatial")
        assert run.stages().items() - before.items() == {("spatial", run.stages()["spatial"])}
        assert "the fork server died (killed by signal 9); starting another" in run.log()
        assert not server.is_running()
        works(run)


def test_signals_to_all_do_not_end_the_fork_server(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    with at_work(PipelineRun(scratch, settings(tiny, panning))) as run:
        (server,) = fork_servers(run)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            server.send_signal(number)
        restart(run, "flow:0")
        assert fork_servers(run) == [server]
        assert "fork server" not in run.log()


@pytest.mark.parametrize("when", ["loading", "at work"])
def test_nothing_outlives_a_killed_program(
    scratch: Path, tiny: Path, panning: Path, when: str
) -> None:
    act = "time.sleep(1000)" if when == "loading" else "pass"
    with PipelineRun(scratch, settings(tiny, panning), environment=disturbed(scratch, act)) as run:
        run.wait_for(lambda: fork_servers(run), 60, "the fork server")
        if when == "at work":
            run.wait_for(run.events, 60, "an event")
        else:
            time.sleep(1)
        family = process_family(run.process.pid)
        run.process.kill()
        _, alive = psutil.wait_procs(family, 20)
        assert alive == []


def test_a_stage_that_can_not_be_forked_is_tried_again(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    """The system has no process left for this user. That says nothing about the fork server."""
    pack, clip = for_all(scratch, tiny, panning)
    # The limit doesn't hold for root; and nobody might not read this Python.
    reads = "+dac_override,+dac_read_search"
    wrapper = (*as_nobody(), f"--inh-caps={reads}", f"--ambient-caps={reads}")
    with at_work(PipelineRun(scratch, settings(pack, clip), wrapper=wrapper)) as run:
        (server,) = fork_servers(run)
        allowed = re.findall(
            r"Max processes +(\w+)", Path(f"/proc/{server.pid}/limits").read_text()
        )[0]
        allow(server, "1")
        os.kill(run.stages()["fusion"], signal.SIGKILL)
        why = "its process can't be started: Resource temporarily unavailable"
        run.wait_for(logged(run, f"fusion died ({why})", 1), 30, "the reason")
        ready = logged(run, "fusion is ready", run.log().count("fusion is ready") + 1)
        allow(server, allowed)
        run.wait_for(ready, 60, "fusion again")
        assert fork_servers(run) == [server]
        assert zombies(run) == []
        works(run)


def test_the_program_may_be_started_with_its_childrens_ends_ignored(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    """As Popen does, it then takes what it can't know for exit code 0."""
    ignoring = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN);"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    wrapper = (sys.executable, "-c", ignoring)
    with at_work(PipelineRun(scratch, settings(tiny, panning), wrapper=wrapper)) as run:
        restart(run, "fusion")
        assert "fusion died (exit code 0)" in run.log()
        assert "fork server" not in run.log()
        works(run)


# --- what doesn't begin


def test_a_signal_while_the_fork_server_loads_ends_the_program_at_once(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    environment = disturbed(scratch, "time.sleep(1000)")
    run = PipelineRun(
        scratch, settings(tiny, panning), wrapper=("setsid",), environment=environment
    )
    with run:
        run.wait_for(lambda: fork_servers(run), 60, "the fork server")
        run.remember_run()
        family = process_family(run.process.pid)
        os.killpg(os.getpgid(run.process.pid), signal.SIGINT)
        assert run.process.wait(30) == 0
        assert psutil.wait_procs(family, 20)[1] == []
        assert run.remains() == []
        assert run.log() == ""


@pytest.mark.parametrize(
    "act",
    [
        "import threading; threading.Thread(target=time.sleep, args=[99], daemon=True).start()",
        "sys.kept = open(os.devnull)",
        FAILS,
    ],
)
def test_what_can_not_be_forked_is_not(scratch: Path, tiny: Path, panning: Path, act: str) -> None:
    """That needs no warning: stages are started directly, and the one that can't be says why."""
    environment = disturbed(scratch, act)
    with at_work(PipelineRun(scratch, settings(tiny, panning), environment=environment)) as run:
        assert fork_servers(run) == []
        assert "fork server" not in run.log()
        works(run)


@pytest.mark.parametrize(
    ("act", "why"),
    [
        ("os.kill(os.getpid(), 9)", "the fork server died (killed by signal 9)"),
        ("time.sleep(1000)", "the fork server was not ready after 15 s"),
    ],
)
def test_where_the_fork_server_does_not_begin_stages_are_started_directly(
    scratch: Path, tiny: Path, panning: Path, act: str, why: str
) -> None:
    config: dict[str, Any] = settings(tiny, panning, supervisor={"ready_s": 15})
    with at_work(PipelineRun(scratch, config, environment=disturbed(scratch, act))) as run:
        without_it(run, why)
        restart(run, "fusion")
        assert zombies(run) == []
        works(run)
