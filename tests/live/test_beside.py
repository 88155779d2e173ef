"""Bridges that a config names run beside the stages."""

import contextlib
import json
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from testbed.program import PipelineRun

pytestmark = pytest.mark.slow


def settings(pack: Path, folder: Path, **bridges: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": str(pack),
        "cameras": {"demo": {"source": "demo"}},
        "events": {"log": str(folder / "log.sqlite")},
        "bridges": bridges,
    }


def process_of(run: PipelineRun, name: str) -> psutil.Process | None:
    for child in psutil.Process(run.process.pid).children():
        with contextlib.suppress(psutil.Error):  # it has just died
            words = child.cmdline()
            if "bridges" in words and name in words:
                return child
    return None


def test_a_bridge_runs_with_the_program_and_comes_back(scratch: Path, tiny: Path) -> None:
    lines = scratch / "lines.jsonl"

    def seqs() -> list[int]:
        text = lines.read_text() if lines.exists() else ""
        return [json.loads(line)["seq"] for line in text.splitlines() if line.endswith("}")]

    given = settings(tiny, scratch, lines={"kind": "file", "path": str(lines), "from": "oldest"})
    with PipelineRun(scratch, given) as run:
        run.wait_for(lambda: len(seqs()) > 2, 120, "lines")
        first = process_of(run, "lines")
        assert first is not None
        first.send_signal(signal.SIGKILL)
        seen = len(seqs())
        run.wait_for(lambda: len(seqs()) > seen + 2, 120, "lines after the bridge was killed")
        second = process_of(run, "lines")
        assert second is not None
        assert second.pid != first.pid
        assert run.stop()[0] == 0
    assert not second.is_running()
    found = sorted(set(seqs()))
    assert found == list(range(1, len(found) + 1))
    assert run.remains() == []


def test_a_bridge_that_can_not_work_is_left_alone_and_the_run_goes_on(
    scratch: Path, tiny: Path
) -> None:
    given = settings(tiny, scratch, post={"kind": "webhook", "adress": "http://127.0.0.1:1/"})
    with PipelineRun(scratch, given) as run:
        run.wait_for(lambda: "bridge post ended (exit code 2)" in run.log(), 120, "its end")
        run.wait_for(lambda: run.events(), 60, "an event")
        assert "adress" in run.log()
        assert run.stop()[0] == 0
    assert run.log().count("bridge post ended") == 1


def test_a_killed_program_takes_its_bridges_with_it(scratch: Path, tiny: Path) -> None:
    lines = {"kind": "file", "path": str(scratch / "lines.jsonl")}
    with PipelineRun(scratch, settings(tiny, scratch, lines=lines)) as run:
        run.wait_for(lambda: process_of(run, "lines"), 60, "the bridge")
        bridge = process_of(run, "lines")
        assert bridge is not None
        run.process.kill()
        assert psutil.wait_procs([bridge], timeout=30)[1] == []
