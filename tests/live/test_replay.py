"""``--record`` and ``--replay``: the same decisions again, from a folder."""

import json
import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from testbed.program import PROJECT, PipelineRun, default_ports

TIMED = ("latency_ms", "log", "seq", "id", "start_time", "end_time", "top_time")


def replay(folder: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "run_stream.py", "--replay", str(folder), "--json", *more]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)


def bare(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in e.items() if key not in TIMED} for e in events]


def test_a_live_run_is_decided_again(scratch: Path, tiny: Path, panning: Path) -> None:
    camera = {"source": str(panning), "loop": True}
    settings = {
        "model": str(tiny),
        "cameras": {"a": camera, "b": camera},
        "runtime": {"record": str(scratch / "record")},
    }
    with PipelineRun(scratch, settings) as run:
        run.wait_for(lambda: len(run.events()) >= 6, 30, "events")
        os.kill(run.stages()["fusion"], signal.SIGKILL)
        run.wait_for(lambda: run.log().count("fusion is ready") == 2, 20, "fusion")
        heard = len(run.events())
        run.wait_for(lambda: len(run.events()) >= heard + 6, 30, "events")
        run.stop()
        live = run.printed()
    done = replay(scratch / "record")
    assert done.returncode == 0, done.stderr
    again = [json.loads(line) for line in done.stdout.splitlines()]
    # What publish ended for the fusion that was killed is no decision of fusion's.
    decided = [event for event in live if event["reason"] != "interrupted"]
    assert len(again) > 6
    # A decision may have been under way when its process was killed.
    assert len([event for event in bare(decided) if event not in bare(again)]) <= 2
    assert len([event for event in bare(again) if event not in bare(decided)]) <= 2
    # Days from one another, the two have the same times to the millisecond or two.
    first = next(e for e in again if e["type"] == "start")
    twin = next(e for e in live if bare([e]) == bare([first]))
    assert first["start_time"][:-5] == twin["start_time"][:-5]


WALL_TIMES = ("start_time", "end_time", "top_time")


def wall_s(time: str | None) -> float:
    return 0.0 if time is None else datetime.fromisoformat(time).timestamp()


def test_a_lossless_recording_gives_every_line_again(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    command = [sys.executable, "run_stream.py", "--source", str(panning), "--lossless", "--json"]
    command += ["--model", str(tiny), "--record", str(scratch / "record")]
    with default_ports():
        live = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert live.returncode == 0, live.stderr
    done = replay(scratch / "record")
    assert done.returncode == 0, done.stderr
    events, again = ([json.loads(line) for line in one.stdout.splitlines()] for one in (live, done))
    assert len(events) > 10
    told = ("latency_ms", "log", *WALL_TIMES)
    for event, twin in zip(events, again, strict=True):
        assert {k: v for k, v in event.items() if k not in told} == {
            k: v for k, v in twin.items() if k not in told
        }
        # Publish and the recording read the wall clock each for itself, and round to milliseconds.
        for name in WALL_TIMES:
            assert abs(wall_s(event[name]) - wall_s(twin[name])) <= 0.005
    again_there = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=60)
    assert again_there.returncode == 2
    assert "holds a recording already" in again_there.stderr


def test_another_pack_is_refused_and_another_decision_told(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    record = scratch / "record"
    command = [sys.executable, "run_stream.py", "--source", str(panning), "--lossless"]
    command += ["--model", str(tiny), "--record", str(record)]
    with default_ports():
        subprocess.run(command, cwd=PROJECT, capture_output=True, timeout=120, check=True)
    refused = replay(record, "--model", str(PROJECT / "models" / "gestures"))
    assert refused.returncode == 2
    assert "is not the pack of the recording, tiny 1.0.0" in refused.stderr
    about = json.loads((record / "recording.json").read_text())
    about["packs"][0]["thresholds"]["left"]["start"] = 0.99
    (record / "recording.json").write_text(json.dumps(about))
    differs = replay(record)
    assert differs.returncode == 1
    assert "decisions differ from those recorded" in differs.stderr
    assert replay(scratch / "none").returncode == 2
