"""The memory of a running program, and back-tests of it."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.backtest.__main__ import cli
from pipeline.clock import NS_PER_S, from_isoformat
from pipeline.memory.store import MemoryReader
from testbed import tiny_pack
from testbed.footage import still_clip
from testbed.program import PipelineRun

pytestmark = pytest.mark.slow


def settings(pack: Path, scratch: Path, cameras: dict[str, Any], **more: Any) -> dict[str, Any]:
    log = {"log": str(scratch / "log.sqlite")}
    memory = {"folder": str(scratch / "memory")}
    return {"model": str(pack), "cameras": cameras, "events": log, "memory": memory, **more}


def backtested(
    capsys: pytest.CaptureFixture[str], scratch: Path, given: dict[str, Any], *words: str
) -> tuple[int, dict[str, Any], str]:
    """Exit code, the report, and what stands on standard error."""
    config = scratch / "config.yaml"
    config.write_text(yaml.safe_dump(given))
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        cli(["-c", str(config), "--json", *words])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), json.loads(out) if out else {}, err


def test_a_backtest_of_the_pack_that_ran_says_what_was_said(
    scratch: Path, tiny: Path, panning: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cameras = {"door": {"source": str(panning)}, "hall": {"source": str(panning), "memory": "none"}}
    given = settings(tiny, scratch, cameras, runtime={"delivery": "lossless"})
    with PipelineRun(scratch / "run", given) as run:
        assert run.process.wait(120) == 0
    ended = [h.body for h in run.events("door") if h.body["type"] == "end"]
    code, report, err = backtested(capsys, scratch, given, "--pack", str(tiny))
    assert code == 0, err
    assert report["cameras"] == ["door"]
    assert (report["new"], report["gone"]) == ([], [])
    assert [row["id"] for row in report["same"]] == [event["id"] for event in ended]
    times = [from_isoformat(row["time"]) / NS_PER_S for row in report["same"]]
    media = [event["media_time"][0] for event in ended]
    np.testing.assert_allclose(np.diff(times), np.diff(media), atol=0.002)
    starts = {one["start"]: one["events"] for one in report["starts"]}
    assert starts[0.95] <= starts[0.7] == len(ended)

    # Another pack on the same networks: nothing is ever enough for it.
    deaf = tiny_pack.make(
        scratch / "deaf", version="2.0.0", thresholds={
            label: {"start": 1.0, "end": 1.0, "min_duration_s": 60}
            for label in ("left", "right", "up", "down")
        },
    )  # fmt: skip
    code, report, err = backtested(capsys, scratch, given, "--pack", str(deaf), "--since", "2w")
    assert code == 0, err
    assert (report["new"], report["same"]) == ([], [])
    assert len(report["gone"]) == len(ended)


def test_a_backtest_says_what_it_needs(
    scratch: Path, tiny: Path, panning: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = settings(tiny, scratch, {"door": {"source": str(panning)}})
    words = ("--pack", str(tiny))
    code, _, err = backtested(capsys, scratch, {**given, "memory": {}}, *words)
    assert (code, "memory.folder" in err) == (2, True)
    code, _, err = backtested(capsys, scratch, given, *words)
    assert (code, "no such folder" in err) == (2, True)
    (scratch / "memory").mkdir()
    code, _, err = backtested(capsys, scratch, given, *words)
    assert (code, "the memory is empty" in err) == (2, True)
    given["runtime"] = {"delivery": "lossless"}
    with PipelineRun(scratch / "run", given) as run:
        assert run.process.wait(120) == 0
    code, _, err = backtested(capsys, scratch, given, *words, "--camera", "dor")
    assert (code, "did you mean door" in err) == (2, True)
    code, _, err = backtested(capsys, scratch, given, *words, "--since", "yesterday")
    assert (code, "--since yesterday: must be a span such as 7d" in err) == (2, True)
    other = {**tiny_pack.contract().temporal.model_dump(), "bound": 4.0}
    pack = tiny_pack.make(scratch / "other", temporal=other)
    code, _, err = backtested(capsys, scratch, given, "--pack", str(pack))
    assert (code, "no features of tiny's networks" in err) == (2, True)
    assert "Traceback" not in err


def test_a_memory_that_fails_costs_no_event(scratch: Path, tiny: Path) -> None:
    (scratch / "memory/full.features").mkdir(parents=True)
    given = settings(tiny, scratch, {name: {"source": "demo"} for name in ("good", "full")})
    with PipelineRun(scratch / "run", given) as run:
        run.wait_for(lambda: "camera full: features can't be kept" in run.log(), 120, "a warning")
        os.kill(run.stages()["memory"], signal.SIGKILL)
        seen = len(run.events("full"))
        run.wait_for(lambda: len(run.events("full")) > seen + 4, 120, "events after it")
        run.wait_for(lambda: run.log().count("memory is ready") == 2, 60, "the memory again")
        assert run.stop()[0] == 0
    kept = MemoryReader(scratch / "memory").kept("good")
    assert kept is not None
    assert kept.steps > 20


def test_of_a_still_room_nothing_is_kept(scratch: Path, tiny: Path) -> None:
    still = still_clip(scratch / "still.avi")
    cameras = {"door": {"source": str(still), "loop": True}}
    given = settings(tiny, scratch, cameras, publish={"scores": True})
    with PipelineRun(scratch / "run", given) as run:
        run.wait_for(lambda: len(run.scores("door")) > 100, 120, "a hundred steps")
        assert run.stop()[0] == 0
    reader = MemoryReader(scratch / "memory")
    assert reader.cameras() == [] or reader.kept("door") is None
