"""``python -m pipeline.evaluate`` as its users see it."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest

from testbed import tiny_pack
from testbed.program import PROJECT

SPEEDS = {"left": 60.0, "right": -60.0, "background": 0.0}


def moving(path: Path, speed: float, seconds: float = 1.5, fps: int = 20) -> Path:
    """A texture that moves left with ``speed`` pixels per second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(7).integers(0, 255, (20, 160, 3), np.uint8)
    texture = cv2.resize(noise, (1280, 160), interpolation=cv2.INTER_CUBIC)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (240, 160))
    assert writer.isOpened()
    for index in range(int(seconds * fps)):
        left = round(600 + speed * index / fps)
        writer.write(np.ascontiguousarray(texture[:, left : left + 240]))
    writer.release()
    return path


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pack.make(tmp_path_factory.mktemp("pack") / "tiny")


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of left, right and background, two clips each; nothing of up and down."""
    folder = tmp_path_factory.mktemp("clips")
    for label, speed in SPEEDS.items():
        for number in range(2):
            moving(folder / label / f"{number}.mp4", speed * (1 + number / 4))
    return folder


def evaluate(*arguments: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pipeline.evaluate", *map(str, arguments)]
    return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)


def figures(*arguments: object) -> dict[str, Any]:
    done = evaluate(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.slow
def test_clips_that_move_are_told_apart(pack: Path, clips: Path) -> None:
    report = figures("--model", pack, "--data", clips)
    clip, fused = report["clip"], report["clip"]["scores"]["fused"]
    assert clip["clips"] == 6
    assert fused["top1"] == clip["scores"]["temporal"]["top1"] == 1.0
    assert fused["top1_interval"] == [0.6097, 1.0]
    # Only background by the spatial stream, which knows nothing here: two of six.
    assert clip["scores"]["spatial"]["top1"] == pytest.approx(1 / 3, abs=1e-4)
    assert clip["scores"]["spatial"]["macro_f1"] == pytest.approx(0.5 / 3, abs=1e-4)
    assert fused["confusion"] == np.diag([2, 2, 2, 0, 0]).tolist()
    assert fused["calibration"]["error"] == pytest.approx(
        1 - np.mean([one["score"] for one in clip["predictions"]]), abs=1e-3
    )
    assert sum(row["clips"] for row in fused["calibration"]["bins"]) == 6
    assert clip["labels_without_clips"] == ["up", "down"]
    assert clip["mistakes"] == clip["unreadable"] == []
    assert clip["media_s"] == pytest.approx(9.0, abs=0.6)
    assert report["model"]["name"] == "tiny"
    assert report["speed"]["times_real_time"] > 0
    assert "stream" not in report


@pytest.mark.slow
def test_a_wrong_label_is_a_mistake(pack: Path, clips: Path, tmp_path: Path) -> None:
    lines = ["path,label", "left/0.mp4,left", "right/0.mp4,left", "gone.mp4,right", "bad.mp4,left"]
    (tmp_path / "clips.csv").write_text("\n".join(lines))
    (clips / "bad.mp4").write_bytes(b"not a video")
    data = ("--data", tmp_path / "clips.csv", "--root", clips)
    clip = figures("--model", pack, *data)["clip"]
    (clips / "bad.mp4").unlink()
    fused = clip["scores"]["fused"]
    assert (clip["clips"], fused["top1"]) == (2, 0.5)
    left = {"clips": 2, "recall": 0.5, "precision": 1.0, "f1": 0.6667}
    assert fused["labels"]["left"] == left
    assert fused["labels"]["right"]["precision"] == 0.0
    assert [m["predicted"] for m in clip["mistakes"]] == ["right"]
    assert clip["mistakes"][0]["score"] > clip["mistakes"][0]["true_score"]
    assert len(clip["unreadable"]) == 2
    assert "gone.mp4" in clip["unreadable"][0]
    assert "bad.mp4" in clip["unreadable"][1]


@pytest.mark.slow
def test_a_stream_of_clips(pack: Path, clips: Path) -> None:
    arguments = ("--model", pack, "--data", clips, "--protocol", "stream", "--seed", 3)
    report = figures(*arguments)
    stream = report["stream"]
    assert stream["overall"] == {
        "actions": 4, "events": 4, "matched": 4, "precision": 1.0, "recall": 1.0, "f1": 1.0,
    }  # fmt: skip
    assert stream["false_alarms"]["count"] == 0
    hours = stream["stream_s"] / 3600
    assert stream["false_alarms"]["per_hour_below"] == pytest.approx(3 / hours, rel=0.01)
    assert stream["stream_s"] == pytest.approx(12.0, abs=0.1)
    assert 0.0 < stream["time_to_detect_s"]["from_start"]["median"] < 1.5
    assert stream["time_to_detect_s"]["from_end"]["median"] < 0.0
    assert [event["outcome"] for event in stream["events"]] == ["matched"] * 4
    own, *swept = report["thresholds"]
    assert (own["start"], own["f1"]) == (None, 1.0)
    assert [point["start"] for point in swept] == sorted(point["start"] for point in swept)


def without_speed(report: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in report.items() if key != "speed"}


@pytest.mark.slow
def test_both_protocols_give_the_same_in_one_process_and_in_two(pack: Path, clips: Path) -> None:
    arguments = (
        *("--model", pack, "--data", clips, "--protocol", "both"),
        *("--negatives", clips / "background", "--negatives", clips / "left" / "0.mp4"),
    )
    one, two = figures(*arguments), figures(*arguments, "--jobs", 2)
    assert one["clip"]["clips"] == 6
    assert one["stream"]["overall"]["matched"] == 4
    assert one["negatives"]["files"] == 3
    assert one["thresholds"][0]["negatives_false_alarms_per_hour"] > 0
    assert without_speed(one) == without_speed(two)
    assert (one["speed"]["jobs"], two["speed"]["jobs"]) == (1, 2)


@pytest.mark.slow
def test_false_alarms_per_hour_without_actions(pack: Path, clips: Path) -> None:
    quiet = figures("--model", pack, "--negatives", clips / "background")["negatives"]
    assert quiet["files"] == 2
    assert quiet["false_alarms"]["per_hour"] == 0.0
    loud = figures("--model", pack, "--negatives", clips / "left" / "0.mp4")["negatives"]
    assert loud["false_alarms"]["by_label"] == {"left": 1}
    hours = loud["stream_s"] / 3600
    assert loud["false_alarms"]["per_hour"] == pytest.approx(1 / hours, rel=0.05)
    assert [event["path"] for event in loud["events"]] == [str(clips / "left" / "0.mp4")]


@pytest.mark.slow
def test_a_list_of_background_alone_has_a_rate(pack: Path, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "quiet.csv").write_text("path,label\nleft/0.mp4,background\n")
    data = ("--data", tmp_path / "quiet.csv", "--root", clips, "--protocol", "stream")
    stream = figures("--model", pack, *data)["stream"]
    assert stream["overall"]["actions"] == 0
    assert stream["overall"]["recall"] is None
    assert stream["false_alarms"]["count"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["clip", "stream"])
def test_tables_name_what_was_left_out(
    pack: Path, clips: Path, tmp_path: Path, protocol: str
) -> None:
    (tmp_path / "clips.csv").write_text("path,label\nleft/0.mp4,left\n[gone].mp4,right\n")
    data = ("--data", tmp_path / "clips.csv", "--root", clips)
    done = evaluate("--model", pack, *data, "--protocol", protocol)
    assert done.returncode == 0, done.stderr
    assert "labels without a clip" in done.stdout
    assert "up, down" in done.stdout
    assert "unreadable (1)" in done.stdout
    assert "[gone].mp4" in done.stdout
    assert "real time" in done.stdout
    assert done.stderr == ""
    assert max(len(line) for line in done.stdout.splitlines() if "┃" in line) <= 80


@pytest.mark.slow
def test_names_that_are_no_text_are_read_and_named_all_the_same(pack: Path, tmp_path: Path) -> None:
    """Linux takes any bytes for a name, and no output may stumble over them."""
    folder = tmp_path / "clips" / "left"
    moving(folder / "a.mp4", SPEEDS["left"])
    (folder / "a.mp4").rename(os.fsdecode(os.fsencode(folder) + b"/\xff.mp4"))
    Path(os.fsdecode(os.fsencode(folder) + b"/\xfe.mp4")).write_bytes(b"")
    arguments = ("--model", pack, "--data", tmp_path / "clips", "--protocol", "both")
    report = figures(*arguments, "--negatives", tmp_path / "clips", "--report", tmp_path / "page")
    for part in ("clip", "stream", "negatives"):
        (said,) = report[part]["unreadable"]
        assert said.endswith(f"file {folder}/?.mp4: it is empty")
    assert report["clip"]["scores"]["fused"]["top1"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give --data, or --negatives"),
        (["--negatives", "CLIPS/none"], "no such file or folder"),
        (["--negatives", "CLIPS/known.csv"], "known.csv:2: shows 'left', which the pack knows"),
        (["--negatives", "CLIPS/bad.mp4"], "none of 1 videos without actions can be read"),
        (["--data", "CLIPS/none.csv"], "no such list or folder"),
        (["--data", "CLIPS/empty.csv"], "empty.csv: lists no clip"),
        (["--data", "CLIPS/strange.csv"], "'wave' (CLIPS/strange.csv:3)"),
        (["--data", "CLIPS", "--fold", "1"], "no fold column"),
        (["--data", "CLIPS", "--protocol", "frames"], "frames"),
        (["--data", "CLIPS", "--model", "CLIPS"], "no pack.json in it"),
        (["--data", "CLIPS/left"], "no class folders"),
        (["--data", "CLIPS", "--report", "CLIPS/bad.mp4"], "bad.mp4: File exists"),
    ],
)
def test_bad_usage_is_named_and_exits_with_2(
    pack: Path, tmp_path: Path, arguments: list[str], said: str
) -> None:
    moving(tmp_path / "left" / "0.mp4", SPEEDS["left"])
    (tmp_path / "bad.mp4").write_bytes(b"not a video")
    (tmp_path / "empty.csv").write_text("path,label\n")
    (tmp_path / "known.csv").write_text("path,label\nleft/0.mp4,left\n")
    (tmp_path / "strange.csv").write_text("path,label\nleft/0.mp4,left\nleft/0.mp4,wave\n")
    given = [argument.replace("CLIPS", str(tmp_path)) for argument in arguments]
    done = evaluate("--model", pack, *given)
    assert done.returncode == 2
    assert said.replace("CLIPS", str(tmp_path)) in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_nothing_readable_is_bad_usage(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("path,label\ngone.mp4,left\n")
    for protocol in ("clip", "stream"):
        data = ("--data", tmp_path / "clips.csv", "--protocol", protocol)
        done = evaluate("--model", pack, *data)
        assert done.returncode == 2
        assert "none of 1 clips can be read" in done.stderr
        assert "gone.mp4" in done.stderr


WITHOUT_MATPLOTLIB = """
import sys
import time
sys.modules["matplotlib"] = None  # the import fails as if it weren't installed
sys.argv = ["evaluate", *sys.argv[1:]]
import runpy
runpy.run_module("pipeline.evaluate", run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize("asked", [False, True])
def test_the_page_alone_needs_the_extra(
    pack: Path, clips: Path, tmp_path: Path, asked: bool
) -> None:
    arguments = ["--model", str(pack), "--data", str(clips), "--limit", "1"]
    arguments += ["--report", str(tmp_path / "page")] if asked else []
    command = [sys.executable, "-c", WITHOUT_MATPLOTLIB, *arguments]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=120)
    assert done.returncode == (2 if asked else 0), done.stderr
    assert ("pip install 'two-stream[report]'" in done.stderr) is asked
    assert not (tmp_path / "page").exists()


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_whoever_stops_it_waits_for_no_stream_and_leaves_no_process(
    pack: Path, clips: Path, tmp_path: Path, sent: signal.Signals
) -> None:
    """A stream is one job and may take minutes; here it would take one."""
    (tmp_path / "long.csv").write_text("path,label\n" + "left/0.mp4,left\n" * 1000)
    command = [
        *(sys.executable, "-m", "pipeline.evaluate", "--model", str(pack), "--jobs", "2"),
        *("--data", str(tmp_path / "long.csv"), "--root", str(clips), "--protocol", "stream"),
        *("--negatives", str(clips / "background" / "0.mp4")),
    ]
    # Tests that a shell started in the background ignore SIGINT, and so would what they start.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(
        command, cwd=PROJECT, stderr=subprocess.PIPE, text=True, preexec_fn=heed
    ) as process:
        children = until_at_work(psutil.Process(process.pid))
        process.send_signal(sent)
        _, said = process.communicate(timeout=20)
    assert process.returncode == (130 if sent == signal.SIGINT else -sent)
    assert "Traceback" not in said
    _, left = psutil.wait_procs(children, timeout=10)
    assert left == []


def until_at_work(process: psutil.Process) -> list[psutil.Process]:
    """The children of ``process`` once one of them has computed for two seconds."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        children = process.children()
        if any(child.cpu_times().user > 2.0 for child in children):
            return children
        time.sleep(0.1)
    raise AssertionError("the processes don't get to work")
