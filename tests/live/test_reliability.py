"""Stages and disks that fail: the events survive, and subscribers are informed."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.public.event_log import read_since
from pipeline.public.records import event_from_json
from testbed.program import PipelineRun


def settings(pack: Path, clip: Path, *cameras: str, **sections: Any) -> dict[str, Any]:
    camera = {"source": str(clip), "loop": True}
    return {"model": str(pack), "cameras": dict.fromkeys(cameras or ("a",), camera), **sections}


def logged(path: Path) -> list[int]:
    return [event_from_json(body).seq for body in read_since(path, 0)]


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of one megabyte; skips where this user may not mount one."""
    disk = folder / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.getuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            pass
    return ballast


def died_more(run: PipelineRun, deaths: int) -> bool:
    return run.log().count("capture:a died") > deaths


def log_states(run: PipelineRun) -> list[str]:
    return [h.body["state"] for h in run.heard if h.topic == "status/_log/"]


def test_a_full_disk_is_told_and_nothing_is_lost(scratch: Path, tiny: Path, panning: Path) -> None:
    with small_disk(scratch) as disk:
        log = disk / "events.sqlite"
        config = settings(tiny, panning, events={"log": str(log), "update_every_s": 0.2})
        with PipelineRun(scratch, config) as run:
            run.wait_for(lambda: len(run.events()) >= 5, 30, "five events")
            ballast = fill(disk)
            run.wait_for(lambda: "failed" in log_states(run), 30, "the word that it's full")
            kept = len(logged(log))
            ballast.unlink()
            run.wait_for(lambda: log_states(run)[-1:] == ["online"], 15, "the word that it isn't")
            run.wait_for(lambda: len(logged(log)) >= kept + 5, 15, "more events")
            assert "disk is full" in run.log() or "disk I/O error" in run.log()
            assert "publish died" not in run.log()
        sequence = logged(log)
        assert sequence == list(range(1, len(sequence) + 1))
        bodies = [event_from_json(body) for body in read_since(log, 0)]
        starts = {event.id for event in bodies if event.type == "start"}
        ends = [event.id for event in bodies if event.type == "end"]
        assert sorted(ends) == sorted(starts)


def test_a_capture_that_keeps_dying_does_not_end_the_others(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    config = settings(tiny, panning, "a", "b", supervisor={"restarts": 1})
    with PipelineRun(scratch, config) as run:
        for _ in range(2):
            run.wait_for(lambda: "capture:a" in run.stages(), 20, "the capture")
            deaths = run.log().count("capture:a died")
            os.kill(run.stages()["capture:a"], signal.SIGKILL)
            run.wait_for(partial(died_more, run, deaths), 20, "its death noticed")
        run.wait_for(
            lambda: any(h.body["state"] == "quarantined" for h in run.statuses("a")), 20, "status"
        )
        steps = len(run.scores("b"))
        run.wait_for(lambda: len(run.scores("b")) > steps + 20, 20, "steps of the other")
        os.kill(run.stages()["capture:b"], signal.SIGKILL)
        run.wait_for(lambda: "capture:b" in run.stages(), 20, "the other capture")
        os.kill(run.stages()["capture:b"], signal.SIGKILL)
        assert run.process.wait(20) == 4


def test_a_stage_that_takes_too_much_memory_is_started_again(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    config = settings(tiny, panning, supervisor={"memory_mb": 16, "restarts": 1})
    with PipelineRun(scratch, config) as run:
        # Not enough for any stage that holds a network: the budget ends the run.
        assert run.process.wait(60) == 4
        assert "more than supervisor.memory_mb allows" in run.log()


def test_a_publish_that_was_killed_knows_the_cameras_again(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    with PipelineRun(scratch, settings(tiny, panning)) as run:
        run.wait_for(lambda: run.events(), 30, "an event")
        os.kill(run.stages()["publish"], signal.SIGKILL)
        run.wait_for(lambda: run.log().count("publish is ready") == 2, 20, "publish")
        run.heard.clear()
        run.wait_for(lambda: run.statuses("a"), 8, "the camera's state")
        assert run.statuses("a")[-1].body["state"] == "online"
