"""``python -m pipeline.evaluate`` as its users see it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.harness import PROJECT
from tests import tiny_pack

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


def test_clips_that_move_are_told_apart(pack: Path, clips: Path) -> None:
    report = figures("--model", pack, "--data", clips)
    clip = report["clip"]
    assert clip["clips"] == 6
    assert clip["top1"]["fused"] == clip["top1"]["temporal"] == 1.0
    # Only background by the spatial stream, which knows nothing here: two of six.
    assert clip["top1"]["spatial"] == pytest.approx(1 / 3, abs=1e-4)
    assert clip["confusion"] == np.diag([2, 2, 2, 0, 0]).tolist()
    assert clip["labels_without_clips"] == ["up", "down"]
    assert clip["unreadable"] == []
    assert clip["media_s"] == pytest.approx(9.0, abs=0.6)
    assert report["model"]["name"] == "tiny"


def test_a_wrong_label_is_a_mistake(pack: Path, clips: Path, tmp_path: Path) -> None:
    lines = ["path,label", "left/0.mp4,left", "right/0.mp4,left", "gone.mp4,right", "bad.mp4,left"]
    (tmp_path / "clips.csv").write_text("\n".join(lines))
    (clips / "bad.mp4").write_bytes(b"not a video")
    data = ("--data", tmp_path / "clips.csv", "--root", clips)
    clip = figures("--model", pack, *data)["clip"]
    (clips / "bad.mp4").unlink()
    assert clip["top1"]["fused"] == 0.5
    assert clip["labels"]["left"] == {"clips": 2, "recall": 0.5, "precision": 1.0}
    assert clip["labels"]["right"]["precision"] == 0.0
    assert [m["predicted"] for m in clip["mistakes"]] == ["right"]
    assert len(clip["unreadable"]) == 2
    assert "gone.mp4" in clip["unreadable"][0]
    assert "bad.mp4" in clip["unreadable"][1]


def test_a_stream_of_clips(pack: Path, clips: Path) -> None:
    stream = figures("--model", pack, "--data", clips, "--protocol", "stream", "--seed", 3)[
        "stream"
    ]
    assert (stream["actions"], stream["matched"]) == (4, 4)
    assert stream["recall"] == 1.0
    assert stream["false_alarms"] == 0
    assert stream["stream_s"] == pytest.approx(12.0, abs=0.1)
    assert 0.0 < stream["time_to_detect_s"]["from_start"]["median"] < 1.5
    assert stream["time_to_detect_s"]["from_end"]["median"] < 0.0


def test_false_alarms_per_hour_without_actions(pack: Path, clips: Path) -> None:
    quiet = figures("--model", pack, "--protocol", "stream", "--negatives", clips / "background")
    assert quiet["negatives"]["files"] == 2
    assert quiet["negatives"]["false_alarms_per_hour"] == 0.0
    loud = figures("--model", pack, "--protocol", "stream", "--negatives", clips / "left" / "0.mp4")
    assert loud["negatives"]["false_alarms_by_label"] == {"left": 1}
    hours = loud["negatives"]["stream_s"] / 3600
    assert loud["negatives"]["false_alarms_per_hour"] == pytest.approx(1 / hours, rel=0.05)


def test_a_list_of_background_alone_has_a_rate(pack: Path, clips: Path, tmp_path: Path) -> None:
    (tmp_path / "quiet.csv").write_text("path,label\nleft/0.mp4,background\n")
    data = ("--data", tmp_path / "quiet.csv", "--root", clips, "--protocol", "stream")
    stream = figures("--model", pack, *data)["stream"]
    assert stream["actions"] == 0
    assert stream["recall"] is None
    assert stream["false_alarms"] == 1


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
    assert "skipped, unreadable (1)" in done.stdout
    assert "[gone].mp4" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give --data, or --negatives"),
        (["--data", "CLIPS", "--negatives", "CLIPS"], "--protocol stream only"),
        (["--data", "CLIPS/none.csv"], "no such list or folder"),
        (["--data", "CLIPS", "--fold", "1"], "no fold column"),
        (["--data", "CLIPS", "--protocol", "frames"], "frames"),
        (["--data", "CLIPS", "--model", "CLIPS"], "no pack.json in it"),
        (["--data", "CLIPS/left"], "no class folders"),
    ],
)
def test_bad_usage_is_named_and_exits_with_2(
    pack: Path, clips: Path, arguments: list[str], said: str
) -> None:
    given = [argument.replace("CLIPS", str(clips)) for argument in arguments]
    done = evaluate("--model", pack, *given)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr


def test_nothing_readable_is_bad_usage(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("path,label\ngone.mp4,left\n")
    for protocol in ("clip", "stream"):
        data = ("--data", tmp_path / "clips.csv", "--protocol", protocol)
        done = evaluate("--model", pack, *data)
        assert done.returncode == 2
        assert "none of 1 clips can be read" in done.stderr
        assert "gone.mp4" in done.stderr
