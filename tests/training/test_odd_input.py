"""Input that can't be trained on is one line, and most of it before anything is decoded."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner, Result

from testbed.resources import no_room_after
from tests.training.tiny import linear_config, tiny_config, write_clip, write_data
from training.__main__ import app

ROOT = Path(__file__).parents[2]
DECODED = "clips: 0 of"


def recipe(folder: Path, text: str | None = None, **changes: object) -> Path:
    values = {"optimiser": {"iterations": 2, "batch": 2}, "looks": 0, **changes}
    text = text or tiny_config(**values).model_dump_json(exclude_defaults=True)
    (folder / "tiny.yaml").write_text(text)
    return folder


def options(folder: Path, cache: Path, *more: str) -> list[str]:
    return [
        "train", "--config", str(folder / "tiny.yaml"), "--data", str(folder),
        "--out", str(folder / "runs"), "--cache", str(cache), "--workers", "0", *more,
    ]  # fmt: skip


def train(folder: Path, cache: Path, *more: str) -> Result:
    result = CliRunner().invoke(app, options(folder, cache, *more))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def refused(folder: Path, cache: Path, words: str, *more: str) -> None:
    """One line, exit code 2, and nothing was decoded."""
    result = train(folder, cache, *more)
    assert result.exit_code == 2
    assert words in result.stderr
    assert DECODED not in result.stderr
    assert len(result.stderr.splitlines()) == 1


def class_folders(folder: Path, *labels: str) -> Path:
    for label in labels:
        write_clip(folder / "set" / label / "a.avi")
    return folder


def empty_class(folder: Path) -> None:
    class_folders(folder, "background", "left")
    (folder / "set/right").mkdir()


def one_label_missing(folder: Path) -> None:
    class_folders(folder, "background", "left")


def one_clip_each(folder: Path) -> None:
    class_folders(folder, "background", "left", "right")


def slash_in_the_recipe(folder: Path) -> None:
    one_clip_each(folder)
    text = (folder / "tiny.yaml").read_text().replace('"right"]', '"push/pull"]')
    (folder / "tiny.yaml").write_text(text)


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (empty_class, "set: folders without a clip (.avi, "),
        (one_label_missing, "the lists: no clip of right"),
        (one_clip_each, "with fold 0 held out: no clip of left, right; list clips of other groups"),
        (slash_in_the_recipe, "tiny.yaml: labels.2: label 'push/pull' has '/'"),
    ],
)
def test_lists_that_cannot_be_trained_on(
    tmp_path: Path, prepare: Callable[[Path], None], words: str
) -> None:
    recipe(tmp_path, clips="set")
    prepare(tmp_path)
    refused(tmp_path, tmp_path / "cache", words)


@pytest.mark.parametrize(
    ("part", "change", "words"),
    [
        ("spatial", {"size": (33, 32)}, "needs sides divisible by 32, got (33, 32)"),
        ("spatial", {"backbone": "resnet"}, "unknown spatial backbone 'resnet'; known: "),
        ("temporal", {"backbone": "lstm"}, "unknown temporal backbone 'lstm'; known: "),
    ],
)
def test_networks_that_cannot_be_made(
    tmp_path: Path, part: str, change: dict[str, object], words: str
) -> None:
    own = getattr(tiny_config(), part).model_dump()
    changes: dict[str, object] = {part: {**own, **change}}
    text = tiny_config(clips="set", **changes).model_dump_json(exclude_defaults=True)
    recipe(class_folders(tmp_path, "background", "left", "right"), text)
    refused(tmp_path, tmp_path / "cache", words, "--folds", "none")


def test_a_flow_method_that_does_not_exist(tmp_path: Path) -> None:
    recipe(tmp_path)
    text = (tmp_path / "tiny.yaml").read_text().replace('"dis"', '"raft"')
    (tmp_path / "tiny.yaml").write_text(text)
    refused(tmp_path, tmp_path / "cache", "temporal.method: must be one of deep, dis")
    recipe(tmp_path)
    words = ["ablate", "--config", str(tmp_path / "tiny.yaml"), "--data", str(tmp_path)]
    result = CliRunner().invoke(app, [*words, "--flow", "raft", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "--flow: must be one of deep, dis, farneback, lucas_kanade, got raft" in result.stderr


@pytest.mark.parametrize("text", ["", "[]", "{", "\t- x", "labels: [a", "\xff"])
def test_a_recipe_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "tiny.yaml").write_bytes(text.encode("latin-1"))
    result = train(tmp_path, tmp_path / "cache")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"error: {tmp_path / 'tiny.yaml'}:")
    assert len(result.stderr.splitlines()) == 1


def test_a_damaged_ledger_is_named(tmp_path: Path) -> None:
    recipe(tmp_path)
    (tmp_path / "ablation.json").write_text("{")
    words = ["ablate", "--config", str(tmp_path / "tiny.yaml"), "--data", str(tmp_path)]
    result = CliRunner().invoke(app, [*words, "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "ablation.json: isn't what an ablation wrote; move it away" in result.stderr


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    recipe(write_data(tmp_path))
    (tmp_path / "runs").write_text("a file")
    result = train(tmp_path, tmp_path / "cache")
    assert result.exit_code == 1
    assert DECODED not in result.stderr
    assert f"error: {tmp_path / 'runs'}" in result.stderr.replace("/tiny", "")


@pytest.mark.slow
def test_clips_shorter_than_a_window_are_trained_on(tmp_path: Path, decoded: Path) -> None:
    for frames in (1, 2):
        folder = recipe(write_data(tmp_path / str(frames), clips=1, frames=frames))
        result = train(folder, decoded, "--folds", "none")
        assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, decoded: Path) -> None:
    folder = recipe(write_data(tmp_path), looks=2)
    with no_room_after(100_000):
        result = train(folder, decoded, "--folds", "none")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].endswith("File too large")
    assert not [x for x in (folder / "runs/tiny").iterdir() if x.suffix != ".png"]
    assert train(folder, decoded, "--folds", "none").exit_code == 0


def interrupted(words: list[str], when: str) -> "subprocess.CompletedProcess[str]":
    """Run the command, and press Ctrl-C once it has printed ``when``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stderr is not None
    printed, deadline = "", time.monotonic() + 200
    while when not in printed and time.monotonic() < deadline:
        line = process.stderr.readline()
        assert line, printed
        printed += line
    process.send_signal(signal.SIGINT)
    rest, _ = process.stderr.read(), process.wait(timeout=200)
    return subprocess.CompletedProcess(words, process.returncode, "", rest)


@pytest.mark.slow
def test_ctrl_c_while_clips_are_decoded_keeps_them(tmp_path: Path) -> None:
    folder, cache = recipe(write_data(tmp_path, clips=60)), tmp_path / "cache"
    done = interrupted(options(folder, cache), DECODED)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    # Before it, progress may have been printed.
    last = done.stderr.splitlines()[-1]
    assert "of 180 clips: the same command resumes from there" in last
    assert list(cache.glob("*.npz"))
    assert not list(cache.glob("*.partial"))


@pytest.mark.slow
def test_ctrl_c_while_training_keeps_the_state(tmp_path: Path, decoded: Path) -> None:
    folder = recipe(
        write_data(tmp_path), optimiser={"iterations": 100_000, "batch": 2}, looks=2
    )  # fmt: skip
    done = interrupted(options(folder, decoded, "--folds", "0"), "fold0: 0 of")
    assert done.returncode == 130
    state = folder / "runs/tiny/fold0.state"
    assert done.stderr.splitlines()[-1].endswith(
        f"saved in {state}: the same command resumes from there"
    )
    assert state.exists()


@pytest.mark.slow
def test_a_worker_that_is_killed_is_told(tmp_path: Path, decoded: Path) -> None:
    """As the kernel kills one that writes to a full /dev/shm."""
    folder = recipe(
        write_data(tmp_path), optimiser={"iterations": 100_000, "batch": 2}, looks=2
    )  # fmt: skip
    words = [*options(folder, decoded, "--folds", "0"), "--workers", "1"]
    process = subprocess.Popen(
        [sys.executable, "-m", "training", *words], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    workers: list[psutil.Process] = []
    deadline = time.monotonic() + 200
    while not workers and time.monotonic() < deadline:
        workers = psutil.Process(process.pid).children()
        time.sleep(0.05)
    workers[0].kill()
    _, printed = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "Traceback" not in printed
    assert "a worker process died" in printed.splitlines()[-1]


@pytest.mark.slow
def test_ctrl_c_ends_a_linear_recipe_too(tmp_path: Path, decoded: Path) -> None:
    text = linear_config(optimiser={"iterations": 1_000_000}).model_dump_json(exclude_defaults=True)
    folder = recipe(write_data(tmp_path), text)
    done = interrupted(options(folder, decoded, "--folds", "0"), "fold0: 0 of")
    assert done.returncode == 130
    assert "stopped after" in done.stderr.splitlines()[-1]
