"""Export: the pack says what the model says, for any N and T, or isn't written."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from export.__main__ import export as export_command
from export.graphs import OPSET, export_graphs
from export.pack import (
    TOLERANCE,
    ExportError,
    contract_of,
    export_pack,
    measure_parity,
    stacks_of,
    write_pack,
)
from pipeline.model_pack import METADATA_KEY, NETWORKS, ModelPack, PackError
from pipeline.onnx_session import Network
from tests.training.tiny import tiny_config
from training.config import TrainConfig
from training.data import Stepped, step_clip
from training.model import TwoStream, load_checkpoint, new_model, save_checkpoint

KINDS = ("concat", "weighted", "attention", "score")
CPU = ("CPUExecutionProvider",)


def model_of(config: TrainConfig) -> TwoStream:
    torch.set_num_threads(1)
    return new_model(config).eval()


def drifting_clip(config: TrainConfig, steps: int = 30) -> Stepped:
    """A textured picture that drifts, longer than the window."""
    rng = np.random.default_rng(3)
    picture = rng.integers(0, 256, (12, 16, 3)).astype(np.uint8).repeat(6, 0).repeat(6, 1)
    frames = ((n * 100_000_000, np.roll(picture, 2 * n, 1)) for n in range(steps))
    return step_clip(frames, config)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[TwoStream, TrainConfig, ModelPack]:
    config = tiny_config()
    model, folder = model_of(config), tmp_path_factory.mktemp("pack")
    thresholds = {"left": {"start": 0.8, "end": 0.4}}
    export_pack(model, config, {"thresholds": thresholds}, [drifting_clip(config)], folder)
    return model, config, ModelPack.load(folder)


def test_the_contract_carries_what_was_measured(
    exported: tuple[TwoStream, TrainConfig, ModelPack],
) -> None:
    contract = exported[2].contract
    assert 0.0 <= contract.parity.fusion <= TOLERANCE
    assert contract.parity.samples == 1
    assert contract.parity.top1_agreement == 1.0
    assert contract.threshold("left").start == 0.8
    assert set(contract.thresholds) == {"left", "right"}


@pytest.mark.parametrize("network", NETWORKS)
def test_each_file_carries_the_contract_of_pack_json(
    exported: tuple[TwoStream, TrainConfig, ModelPack], network: str
) -> None:
    pack = exported[2]
    graph = onnx.load(pack.path(network))
    carried = {entry.key: entry.value for entry in graph.metadata_props}[METADATA_KEY]
    stated = json.loads((pack.folder / "pack.json").read_text())
    del stated["sha256"]
    assert json.loads(carried) == stated
    assert [entry.version for entry in graph.opset_import if entry.domain == ""] == [OPSET]


@pytest.mark.parametrize(("count", "steps"), [(1, 1), (1, 7), (3, 24), (2, 50)])
def test_n_and_t_are_free(
    exported: tuple[TwoStream, TrainConfig, ModelPack], count: int, steps: int
) -> None:
    model, config, pack = exported
    rng = np.random.default_rng(count)
    size = (count, steps, config.feature_size)
    spatial, temporal = (rng.normal(size=size).astype(np.float32) for _ in range(2))
    mask = rng.integers(0, 2, (count, steps, 2)).astype(np.float32)
    inputs = {"spatial": spatial, "temporal": temporal, "mask": mask}
    said = Network(pack, "fusion", providers=CPU).run(inputs)
    with torch.inference_mode():
        expected = model.fusion(*(torch.from_numpy(x) for x in inputs.values()))
    for name, ours in zip(said, expected, strict=True):
        assert said[name].shape == tuple(ours.shape)
        assert np.abs(said[name] - ours.numpy()).max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_fusion_can_be_exported(kind: str, tmp_path: Path) -> None:
    config = tiny_config(fusion={"kind": kind, "hidden": 8})
    contract = export_pack(model_of(config), config, {}, [drifting_clip(config)], tmp_path)
    assert contract.fusion.kind == kind
    assert (tmp_path / "MODEL_CARD.md").read_text().startswith("# tiny 1.0.0")


def test_a_batch_says_what_its_rows_say(
    exported: tuple[TwoStream, TrainConfig, ModelPack],
) -> None:
    _, config, pack = exported
    clip = drifting_clip(config, 6)
    stacks, _ = stacks_of(clip, config.temporal.stack)
    for network, name, rows in (("spatial", "frames", clip.pictures), ("temporal", "flow", stacks)):
        session = Network(pack, network, providers=CPU)
        together = session.run({name: rows})["features"]
        alone = np.concatenate([session.run({name: row[None]})["features"] for row in rows])
        assert together.shape == (6, config.feature_size)
        assert np.abs(together - alone).max() < 1e-4


def test_a_model_that_differs_from_its_pack_is_refused(tmp_path: Path) -> None:
    config = tiny_config()
    model = model_of(config)
    write_pack(tmp_path, export_graphs(model, config), contract_of(config, {}))
    pack, clips = ModelPack.load(tmp_path), [drifting_clip(config)]
    assert measure_parity(model, config, pack, clips).temporal < TOLERANCE
    with torch.no_grad():
        next(model.temporal.parameters()).add_(0.05)
    with pytest.raises(ExportError, match=r"temporal differs by .*, more than 0\.001"):
        measure_parity(model, config, pack, clips)


def test_what_is_refused_is_not_written(tmp_path: Path) -> None:
    config = tiny_config()
    model = model_of(config)
    with torch.no_grad():
        next(model.fusion.parameters()).fill_(torch.nan)
    with pytest.raises(ExportError, match="fusion differs by nan"):
        export_pack(model, config, {}, [drifting_clip(config)], tmp_path / "pack")
    assert not (tmp_path / "pack").exists()
    with pytest.raises(ExportError, match="no clips"):
        export_pack(model_of(config), config, {}, [], tmp_path / "pack")


@pytest.mark.parametrize("network", NETWORKS)
def test_a_changed_file_is_refused_by_name(network: str, tmp_path: Path) -> None:
    config = tiny_config()
    write_pack(tmp_path, export_graphs(model_of(config), config), contract_of(config, {}))
    path = tmp_path / f"{network}.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(PackError, match=rf"{network}\.onnx: sha256 is"):
        ModelPack.load(tmp_path)


def test_the_command_writes_a_pack_or_says_why_not(tmp_path: Path) -> None:
    import typer

    app = typer.Typer(add_completion=False)
    app.command()(export_command)
    config = tiny_config()
    checkpoint = tmp_path / "final.pt"
    save_checkpoint(checkpoint, new_model(config), config, {})
    assert load_checkpoint(checkpoint)[1] == config
    arguments = ["--out", str(tmp_path / "pack"), "--data", str(tmp_path)]
    result = CliRunner().invoke(app, ["--checkpoint", str(checkpoint), *arguments])
    assert result.exit_code == 2
    assert "clips.csv: No such file" in result.output
    result = CliRunner().invoke(app, ["--checkpoint", str(tmp_path / "none.pt"), *arguments])
    assert result.exit_code == 2
    assert "none.pt" in result.output
