"""Rules and ignored parts in the running program: live, lossless, recorded and checked."""

import json
import subprocess
import sys
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.decision.recording import VERSION
from pipeline.evaluate.recogniser import OfflineRecogniser, StepResult, file_frames
from pipeline.model.pack import ModelPack
from testbed.program import PROJECT, PipelineRun, free_port
from tests.live.test_replay import bare, replay

Points = list[list[float]]
WHOLE: Points = [[0, 0], [1, 0], [1, 1], [0, 1]]
UPPER: Points = [[0, 0], [1, 0], [1, 0.5], [0, 0.5]]


def hours(first: float, last: float) -> str:
    """From ``first`` to ``last`` hours after now."""
    now = datetime.now(UTC)
    return "-".join(f"{now + timedelta(hours=n):%H:%M}" for n in (first, last))


NOW, LATER = hours(-4, 4), hours(4, 20)


def lossless(pack: Path, clip: Path, **more: Any) -> dict[str, Any]:
    camera = {"source": str(clip), **more.pop("camera", {})}
    return {
        "model": str(pack),
        "cameras": {"a": camera},
        "runtime": {"delivery": "lossless", **more.pop("runtime", {})},
        **more,
    }


def ran(folder: Path, settings: dict[str, Any]) -> PipelineRun:
    with PipelineRun(folder, settings) as run:
        assert run.process.wait(120) == 0
        run._reader.join(5)
    return run


def scores_of(run: PipelineRun) -> dict[int, dict[str, float]]:
    return {h.body["window"]["last_step"]: h.body["scores"] for h in run.scores("a")}


def offline(steps: list[StepResult], labels: tuple[str, ...]) -> dict[int, dict[str, float]]:
    return {
        s.step_id: {n: round(float(v), 4) for n, v in zip(labels, s.scores, strict=True)}
        for s in steps
    }


def test_what_is_ignored_is_not_seen_and_evaluation_agrees(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    recogniser = OfflineRecogniser(ModelPack.load(tiny))
    clip = panning
    for name, points in (("whole", WHOLE), ("upper", UPPER)):
        polygon = tuple((float(x), float(y)) for x, y in points)
        run = ran(scratch / name, lossless(tiny, clip, camera={"ignore": [points]}))
        live = scores_of(run)
        again = offline(
            list(OfflineRecogniser(ModelPack.load(tiny)).steps(file_frames(clip), [polygon])),
            recogniser.contract.labels,
        )
        assert len(live) > 100
        assert live == {step: again[step] for step in live}
        starts = [event for event in run.printed() if event["type"] == "start"]
        # Half of the picture moves all the same; of a gray one nothing does.
        assert bool(starts) == (name == "upper")


def test_a_live_camera_of_which_all_is_ignored_is_up_and_tells_nothing(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    looped = {"source": str(panning), "loop": True}
    cameras = {"a": {**looped, "ignore": [WHOLE]}, "b": looped, "demo": {
        "source": "demo", "ignore": [WHOLE], "frozen_s": 1.5,
    }}  # fmt: skip
    with PipelineRun(scratch, {"model": str(tiny), "cameras": cameras}) as run:
        run.wait_for(lambda: len(run.events("b")) >= 6, 60, "events of the other camera")
        run.wait_for(lambda: len(run.scores("demo")) > 40, 60, "scores of the demo camera")
        assert run.events("a") == []
        for heard in (*run.scores("a"), *run.scores("demo")):
            motion = {heard.body["scores"][label] for label in ("left", "right", "up", "down")}
            assert len(motion) == 1  # nothing moves to any side
        # Only the picture behind the mask tells whether a camera is frozen.
        assert {h.body["state"] for h in run.statuses("demo")} <= {"connecting", "online"}


def test_hours_and_cool_downs_hold_back_and_are_counted(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    port = free_port()
    looped = {"source": str(panning), "loop": True}
    settings = {
        "model": str(tiny),
        "cameras": {
            "a": looped,
            "b": {**looped, "rules": {"left": {"hours": NOW}, "right": {"cooldown_s": 600}}},
        },
        "events": {"timezone": "UTC", "rules": {"left": {"hours": LATER}}},
        "supervisor": {"metrics": f"127.0.0.1:{port}"},
        "runtime": {"record": str(scratch / "record")},
    }

    def counted(camera: str, label: str, reason: str) -> float:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
            text = page.read().decode()
        series = f'filtered_total{{camera="{camera}",label="{label}",reason="{reason}"}} '
        (line,) = (line for line in text.splitlines() if series in line)
        return float(line.rpartition(" ")[2])

    def starts(camera: str, label: str) -> int:
        return sum(
            h.body["type"] == "start" and h.body["label"] == label for h in run.events(camera)
        )

    with PipelineRun(scratch, settings) as run:
        run.wait_for(lambda: starts("a", "right") >= 3, 60, "events without a rule")
        run.wait_for(lambda: starts("b", "left") >= 3, 60, "events within the hours")
        run.wait_for(lambda: counted("a", "left", "hours") >= 3, 30, "the count of hours")
        run.wait_for(lambda: counted("b", "right", "cooldown") >= 2, 30, "that of cool-downs")
        assert starts("a", "left") == 0
        assert starts("b", "right") == 1
        assert counted("b", "left", "hours") == counted("a", "right", "cooldown") == 0
        assert "camera a: left is held back by its rule: hours" in run.log()
        run.stop()
        live = run.printed()
    done = replay(scratch / "record")
    assert done.returncode == 0, done.stderr
    again = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(e["camera"], e["label"]) for e in again} == {("a", "right"), ("b", "left"),
                                                          ("b", "right")}  # fmt: skip
    # At the end of a recording a decision may be cut off.
    assert len([event for event in bare(live) if event not in bare(again)]) <= 2


def test_a_lossless_run_is_decided_again_at_any_time_of_day(
    scratch: Path, tiny: Path, panning: Path
) -> None:
    held = {"timezone": "UTC", "rules": {"left": {"hours": LATER}, "right": {"cooldown_s": 7}}}
    record = scratch / "record"
    settings = lossless(tiny, panning, events=held, runtime={"record": str(record)})
    run = ran(scratch / "run", settings)
    printed = run.printed()
    labels = [event["label"] for event in printed if event["type"] == "start"]
    assert set(labels) == {"right"}
    assert 3 <= len(labels) <= 6  # one in five seconds without the rule, in a minute of footage
    about = json.loads((record / "recording.json").read_text())
    assert about["schema"] == VERSION
    assert about["rules"]["a"]["left"]["timezone"] == "UTC"
    done = replay(record)
    assert done.returncode == 0, done.stderr
    assert bare([json.loads(line) for line in done.stdout.splitlines()]) == bare(printed)
    # The rule is what decides: with other hours, other events.
    about["rules"]["a"]["left"]["hours"] = [NOW]
    (record / "recording.json").write_text(json.dumps(about))
    assert replay(record).returncode == 1


def test_the_check_explains_masks_and_rules(scratch: Path, tiny: Path, panning: Path) -> None:
    config = scratch / "site.yaml"
    config.write_text(
        f"model: {tiny}\n"
        f"cameras:\n  a:\n    source: {panning}\n    ignore: [{json.dumps(UPPER)}]\n"
        f"events:\n  timezone: Europe/Berlin\n  rules:\n"
        f"    left: {{hours: 00:00-24:00, cooldown_s: 60}}\n"
        f"publish: {{events: 'ipc://{scratch}/e', replay: 'ipc://{scratch}/r'}}\n"
    )
    command = [sys.executable, "run_stream.py", "--check", "--open", "-c", str(config)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    shown = [" ".join(line.split()) for line in (done.stdout + done.stderr).splitlines()]
    for line in (
        "ignore a 1 polygon: 50 % of the picture",
        "rule left 00:00-24:00 Europe/Berlin (always on), at most one in 60 s",
        "other labels at any time",
    ):
        assert line in shown
    assert any(line.startswith("a: ") and "50 % is ignored" in line for line in shown)


def test_evaluate_sees_clips_as_a_camera_does(scratch: Path, tiny: Path, panning: Path) -> None:
    (scratch / "clips.csv").write_text(f"path,label\n{panning},left\n")
    config = scratch / "site.yaml"
    config.write_text(
        f"cameras:\n  a: demo\n  b: {{source: demo, ignore: [{json.dumps(WHOLE)}]}}\n"
    )
    command = [sys.executable, "-m", "pipeline.evaluate", "--model", str(tiny), "--json"]
    command += ["--data", str(scratch / "clips.csv"), "--protocol", "both"]
    command += ["--config", str(config)]

    def evaluated(*more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*command, *more], cwd=PROJECT, capture_output=True, text=True, timeout=300
        )

    masked, seen = (json.loads(evaluated("--camera", name).stdout) for name in ("b", "a"))
    assert masked["asked"]["ignored"] == [WHOLE]
    assert "ignored" not in seen["asked"]
    assert masked["stream"]["events"] == []
    assert seen["stream"]["events"]
    wrong = evaluated("--camera", "B")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "has a, b; did you mean b?" in wrong.stderr
    assert "--camera: name one of" in evaluated().stderr
