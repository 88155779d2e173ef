"""The command: from a checkpoint and a folder of clips to packs, or to an exit code and a reason.

Real videos, small; real networks, untrained.
"""

import shutil
from pathlib import Path

import pytest
import torch
import typer
from safetensors.torch import save_file
from typer.testing import CliRunner, Result

from export.clips import sample_clips
from export.command import export as export_command
from export.external import build_module
from pipeline.evaluate.recogniser import OfflineRecogniser, file_frames
from pipeline.model.pack import ModelPack
from tests.export.tiny import Malicious, model_of, write_data
from tests.training.tiny import tiny_config
from training.model import save_checkpoint

pytestmark = pytest.mark.slow

APP = typer.Typer(add_completion=False)
APP.command()(export_command)
FOREIGN = "tests.export.foreign_networks:features"
# EfficientNet-Lite0 without its last two stages: it is exported in less time.
SHALLOW = tiny_config().spatial.model_dump() | {"backbone": "efficientnet_lite0_s16"}
METRICS = {"clips": 6, "folds": 2, "top1": {"fused": 0.9}, "top1_per_fold": [0.8, 1.0]}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of checkpoints as training leaves it."""
    folder, config = tmp_path_factory.mktemp("run"), tiny_config(spatial=SHALLOW)
    model = model_of(config)
    for name in ("fold0", "fold1", "final"):
        save_checkpoint(folder / f"{name}.pt", model, config, METRICS)
    return folder


def call(run: Path, out: Path, data: Path, *more: object) -> Result:
    arguments = ["--checkpoint", run / "final.pt", "--out", out, "--data", data, *more]
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


def test_it_writes_a_pack_that_the_pipeline_runs(run: Path, data: Path, tmp_path: Path) -> None:
    result = call(run, tmp_path / "tiny", data)
    assert result.exit_code == 0, result.output
    assert f"{tmp_path / 'tiny'}: tiny 1.0.0, parity on 6 clips (≤ 0.001): spatial" in result.output
    pack = ModelPack.load(tmp_path / "tiny")
    assert pack.contract.metrics["top1"] == {"fused": 0.9}
    steps = list(OfflineRecogniser(pack).steps(file_frames(data / "left0.mp4")))
    assert len(steps) == 12
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_8_bits_are_measured_on_held_out_clips(run: Path, data: Path, tmp_path: Path) -> None:
    result = call(run, tmp_path / "tiny", data, "--int8", "temporal", "--folds", run)
    assert result.exit_code == 0, result.output
    assert "top-1 over 6 held-out clips" in result.output
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"tiny", "tiny-int8"}
    contract = ModelPack.load(tmp_path / "tiny-int8").contract
    assert dict(contract.precision) == {
        "spatial": "float32", "temporal": "int8", "fusion": "float32",
    }  # fmt: skip
    assert contract.quantised is not None
    assert (contract.quantised.clips, contract.quantised.held_out) == (6, True)
    assert contract.metrics["top1"] == {"fused": 0.9}


def test_a_network_from_elsewhere_is_measured_anew(run: Path, data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    weights = tmp_path / "features.safetensors"
    save_file(build_module(FOREIGN).state_dict(), weights)
    out = tmp_path / "packs" / "tiny"
    out.parent.mkdir()
    result = call(run, out, data, "--spatial-module", FOREIGN, "--spatial-weights", weights)
    assert result.exit_code == 0, result.output
    contract = ModelPack.load(out).contract
    assert contract.spatial.backbone == FOREIGN
    assert contract.metrics["clips"] == 6
    assert contract.metrics["held_out"] is False
    assert "trained elsewhere" in contract.metrics["note"]
    assert "top1_per_fold" not in contract.metrics
    card = (out / "MODEL_CARD.md").read_text("utf-8")
    assert "**of the training list**" in card
    assert "90.0 %" not in card


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--int8", "fusion"], "--int8: expected spatial,temporal or one of them, not ['fusion']"),
        (["--spatial-module", FOREIGN], "--spatial-module and --spatial-weights go together"),
        (["--spatial-module", "x:y", "--spatial-weights", "w.pt"], "can't import x"),
        (["--folds", "nowhere"], "nowhere: has no fold0.pt, fold1.pt"),
        (["--checkpoint", "none.pt"], "none.pt: No such file"),
        (["--data", "nowhere"], "clips.csv: No such file"),
    ],
)
def test_bad_usage_is_named_and_nothing_written(
    more: list[str], message: str, run: Path, data: Path, tmp_path: Path
) -> None:
    result = call(run, tmp_path / "tiny", data, *more)
    assert result.exit_code == 2
    assert message in result.output
    assert list(tmp_path.iterdir()) == []


def test_folds_of_another_recipe_are_refused(run: Path, data: Path, tmp_path: Path) -> None:
    config = tiny_config(window=12, spatial=SHALLOW)
    save_checkpoint(tmp_path / "folds" / "fold0.pt", model_of(config), config, {})
    result = call(run, tmp_path / "tiny", data, "--folds", tmp_path / "folds")
    assert result.exit_code == 2
    assert "fold0.pt: its window differs from that of the checkpoint" in result.output


def test_a_model_whose_scores_are_nan_is_refused_with_exit_code_1(
    run: Path, data: Path, tmp_path: Path
) -> None:
    config = tiny_config(spatial=SHALLOW)
    model = model_of(config)
    with torch.no_grad():
        model.fusion.temporal_head.classify.bias.fill_(torch.nan)
    save_checkpoint(tmp_path / "broken.pt", model, config, {})
    result = call(run, tmp_path / "tiny", data, "--checkpoint", tmp_path / "broken.pt")
    assert result.exit_code == 1
    assert "error: torch and onnxruntime disagree: " in result.output
    assert not (tmp_path / "tiny").exists()


def test_a_checkpoint_that_would_run_something_is_refused(
    run: Path, data: Path, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    torch.save({"format": Malicious(trace)}, tmp_path / "bad.pt")
    result = call(run, tmp_path / "tiny", data, "--checkpoint", tmp_path / "bad.pt")
    assert result.exit_code == 2
    assert "bad.pt" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["bad.pt"]


def test_a_clip_that_cant_be_read_is_left_out_and_named(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    (tmp_path / "left0.mp4").write_bytes(b"not a video")
    clips = sample_clips(tiny_config(), tmp_path, 2)
    assert len(clips) == 5
    assert "left0.mp4" in caplog.text


def test_a_checkpoint_with_a_label_that_no_pack_holds_is_one_line(
    run: Path, data: Path, tmp_path: Path
) -> None:
    """As earlier versions trained it. Nothing is decoded for it."""
    config = tiny_config(spatial=SHALLOW).model_copy(
        update={"labels": ("background", "left", "push/pull"), "swaps": {}, "reversals": {}}
    )
    save_checkpoint(tmp_path / "final.pt", model_of(config), config, METRICS)
    result = call(tmp_path, tmp_path / "tiny", data)
    assert result.exit_code == 2
    assert "final.pt: its configuration can't be used: labels.2: label 'push/pull' has '/'" in (
        result.stderr
    )
    assert len(result.stderr.splitlines()) == 1


def test_a_folder_that_cannot_be_written_is_one_line(run: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny").write_text("a file")
    result = call(run, tmp_path / "tiny", data)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [f"error: {tmp_path / 'tiny'}: File exists"]


def test_progress_is_told_in_lines(
    run: Path, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "export")
    assert call(run, tmp_path / "tiny", data, "--int8", "temporal", "--folds", run).exit_code == 0
    told = [record.getMessage() for record in caplog.records if record.name == "export.clips"]
    for words in (
        "clips to compare on: 6 of 6",
        "fold 0, to calibrate on: 3 of 3",
        "fold 1: 3 of 3",
    ):
        assert words in told
