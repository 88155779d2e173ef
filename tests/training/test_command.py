"""``python -m training`` from clips on disk to figures, checkpoints and pictures."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import ANY

import cv2
import pytest
import torch
from typer.testing import CliRunner, Result

from tests.training.tiny import linear_config, tiny_config, write_data
from training.__main__ import app
from training.crossvalidation import FITTED_TO_ALL, FITTED_TO_OTHERS
from training.model import load_checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Clips and a configuration on disk."""
    write_data(tmp_path)
    write_config(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips, of which two can't be read, and a whole run of them: two folds and the final model."""
    folder = write_data(tmp_path_factory.mktemp("finished"), clips=4)
    (folder / "left/left0.avi").write_bytes(b"no video")
    with (folder / "clips.csv").open("a") as file:
        file.write("left/gone.avi,left,g7,0\n")
    write_config(folder)
    result = train(folder, "--measure-every", "2")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def resumed(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to continue."""
    return shutil.copytree(finished, tmp_path, dirs_exist_ok=True)


def write_config(folder: Path, iterations: int = 3, **changes: object) -> None:
    optimiser = {"iterations": iterations, "batch": 2}
    values = {"optimiser": optimiser, "fusion": {"kind": "score", "hidden": 8}, **changes}
    config = tiny_config(**values)
    (folder / "tiny.yaml").write_text(config.model_dump_json(exclude_defaults=True))


def train(folder: Path, *options: str) -> Result:
    words = [
        "train", "--config", str(folder / "tiny.yaml"), "--data", str(folder),
        "--out", str(folder / "runs"), "--cache", str(folder / "cache"), *options,
    ]  # fmt: skip
    return CliRunner().invoke(app, words)


@pytest.mark.slow
def test_a_run_leaves_figures_checkpoints_and_pictures(finished: Path) -> None:
    runs = finished / "runs/tiny"
    assert sorted(path.name for path in runs.iterdir()) == [
        "confusion.png", "final.pt", "final_curves.png", "fold0.pt", "fold0_curves.png",
        "fold1.pt", "fold1_curves.png", "metrics.json",
    ]  # fmt: skip
    metrics = json.loads((runs / "metrics.json").read_text())
    assert metrics["clips"] == 11
    assert metrics["data"]["clips"] == {"background": 4, "left": 3, "right": 4}
    assert metrics["data"]["unreadable_clips"] == {
        "left/left0.avi": "it is not a video",
        "left/gone.avi": "no such file",
    }
    for name in ("confusion", "fold0_curves", "final_curves"):
        picture = cv2.imread(str(runs / f"{name}.png"))
        assert picture is not None
        assert picture.std() > 0
    _, config, carried = load_checkpoint(runs / "final.pt")
    assert config.name == "tiny"
    assert carried["top1"] == metrics["top1"]
    _, _, of_fold = load_checkpoint(runs / "fold0.pt")
    assert of_fold["thresholds_note"] == FITTED_TO_OTHERS
    assert carried["thresholds_note"] == metrics["thresholds_note"] == FITTED_TO_ALL


@pytest.mark.slow
def test_settings_that_apply_after_training_do_not_train_again(resumed: Path) -> None:
    write_config(
        resumed,
        fusion={"kind": "score", "hidden": 8, "alpha": 0.3},
        thresholds={"left": {"start": 0.9, "end": 0.2, "min_duration_s": 0.5}},
        version="7.7.7",
    )
    again = train(resumed)
    assert again.exit_code == 0, again.output
    assert again.output.count("finished before") == 3
    model, carried, _ = load_checkpoint(resumed / "runs/tiny/final.pt")
    assert model.fusion.balance.sigmoid().item() == pytest.approx(0.3)
    assert carried.version == "7.7.7"

    write_config(resumed, optimiser={"iterations": 3, "final_iterations": 4, "batch": 2})
    refused = train(resumed)
    assert refused.exit_code != 0
    assert "iterations was 3, is 4" in refused.output.replace("\n", " ")
    assert refused.output.count("finished before") == 2  # the folds


@pytest.mark.slow
def test_finished_models_are_not_trained_again_unless_asked(resumed: Path) -> None:
    checkpoint, figures = resumed / "runs/tiny/fold0.pt", resumed / "runs/tiny/metrics.json"
    before, written = checkpoint.read_bytes(), figures.read_text()
    curves = resumed / "runs/tiny/fold0_curves.png"
    curves.unlink()
    result = train(resumed)
    for name in ("fold0", "fold1", "final"):
        assert f"{name}: finished before" in result.stderr
    assert not curves.exists()
    assert (checkpoint.read_bytes(), figures.read_text()) == (before, written)

    write_config(resumed, iterations=4)
    result = train(resumed, "--folds", "0")
    assert result.exit_code == 2
    assert "fold0.pt: written by a run with other settings" in result.stderr
    assert "optimiser.iterations was 3, is 4" in result.stderr
    result = train(resumed, "--folds", "0", "--no-final", "--fresh")
    assert result.exit_code == 0
    assert curves.exists()


@pytest.mark.slow
def test_evaluate_gives_the_figures_of_train(finished: Path) -> None:
    checkpoint = finished / "runs/tiny/fold1.pt"
    _, _, figures = load_checkpoint(checkpoint)
    words = ["evaluate", "--checkpoint", str(checkpoint), "--fold", "1"]
    words += ["--data", str(finished), "--cache", str(finished / "cache")]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    again = json.loads(result.stdout)
    assert again["top1"] == figures["top1"]
    assert again["confusion"] == figures["confusion"]


def ablate(folder: Path, cache: Path, *options: str) -> Result:
    words = [
        "ablate", "--config", str(folder / "tiny.yaml"), "--data", str(folder), "--workers", "0",
        "--out", str(folder / "runs"), "--cache", str(cache), "--folds", "0", *options,
    ]  # fmt: skip
    return CliRunner().invoke(app, words)


@pytest.mark.slow
def test_an_ablation_prints_a_row_for_each_flow(folder: Path, decoded: Path) -> None:
    result = ablate(folder, decoded, "--flow", "dis", "--flow", "farneback", "--iterations", "2")
    assert result.exit_code == 0, result.output
    rows = [line.split("|")[1:3] for line in result.stdout.splitlines()]
    assert rows[2:] == [[" tiny, dis ", " 3 "], [" tiny, farneback ", " 3 "]]
    assert len(json.loads((folder / "runs/ablation.json").read_text())) == 2
    # Of the models, only a learning curve is kept.
    assert [path.name for path in (folder / "runs/tiny-dis").iterdir()] == ["fold0_curves.png"]


@pytest.mark.slow
def test_an_ablation_of_a_linear_recipe_leaves_only_counts(folder: Path, decoded: Path) -> None:
    recipe = linear_config().model_dump_json(exclude_defaults=True)
    (folder / "tiny.yaml").write_text(recipe)
    result = ablate(folder, decoded)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[2].startswith("| tiny, dis | 3 |")
    assert [path.name for path in (folder / "runs").iterdir()] == ["ablation.json"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_cuda_without_a_gpu_is_refused_with_a_reason(folder: Path) -> None:
    result = train(folder, "--device", "cuda")
    assert result.exit_code == 2
    assert "torch finds no CUDA device" in result.stderr


@pytest.mark.slow
def test_two_processes_learn_one_model(resumed: Path) -> None:
    """Two gloo processes, each with batches of its own, as with several GPUs."""
    one, _, _ = load_checkpoint(resumed / "runs/tiny/fold0.pt")
    shutil.rmtree(resumed / "cache")
    words = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "training", "train", "--config", str(resumed / "tiny.yaml"), "--data", str(resumed),
        "--out", str(resumed / "runs"), "--cache", str(resumed / "cache"), "--folds", "0",
        "--no-final", "--fresh", "--device", "cpu", "--workers", "0",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        words, cwd=ROOT, capture_output=True, text=True, env=environment, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(resumed / "runs/tiny")]
    two, _, metrics = load_checkpoint(resumed / "runs/tiny/fold0.pt")
    assert metrics["run"] == {"data": ANY, "processes": 2}
    weights = zip(two.state_dict().values(), one.state_dict().values(), strict=True)
    assert not all(torch.equal(a, b) for a, b in weights)
    assert train(resumed, "--folds", "0").exit_code == 2
