"""Export: the pack computes what the model computes, for any N and T, or isn't written."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from export.graphs import ExportError, Graphs, export_graphs
from export.pack import contract_of, export_packs, write_pack
from export.parity import TOLERANCES
from export.stepping import stacks_of
from pipeline.errors import PackError
from pipeline.model.pack import (
    METADATA_KEY,
    NETWORKS,
    ModelPack,
    file_sha256,
)
from pipeline.model.session import Network
from tests.export.tiny import drifting_clip, model_of, small_model_of
from tests.training.tiny import tiny_config
from training.config import TrainConfig
from training.model import TwoStream

KINDS = ("concat", "weighted", "attention", "score")
CPU = ("CPUExecutionProvider",)
Made = tuple[TrainConfig, Graphs]
LIMITS = ("Two drifting textures are all it knows.",)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[TwoStream, TrainConfig, ModelPack]:
    config = tiny_config(limits=LIMITS)
    model, folder = model_of(config), tmp_path_factory.mktemp("pack")
    thresholds = {"left": {"start": 0.8, "end": 0.4}}
    export_packs(model, config, {"thresholds": thresholds}, [drifting_clip(config)], folder)
    return model, config, ModelPack.load(folder)


@pytest.fixture(scope="module")
def small() -> Made:
    """Graphs of a model whose appearance network has two layers."""
    model, config = small_model_of(tiny_config())
    return config, export_graphs(model, config)


@pytest.mark.slow
def test_the_contract_carries_what_was_measured(
    exported: tuple[TwoStream, TrainConfig, ModelPack],
) -> None:
    contract = exported[2].contract
    assert contract.parity.tolerance == TOLERANCES["float32"]
    assert contract.parity.samples == 1
    assert contract.parity.top1_agreement == 1.0
    assert contract.threshold("left").start == 0.8
    assert set(contract.thresholds) == {"left", "right"}
    assert contract.limits == LIMITS
    assert set(dict(contract.precision).values()) == {"float32"}


def test_the_card_says_what_the_contract_says(
    exported: tuple[TwoStream, TrainConfig, ModelPack],
) -> None:
    card = (exported[2].folder / "MODEL_CARD.md").read_text("utf-8")
    assert f"- {LIMITS[0]}" in card
    for output, value in exported[2].contract.parity.outputs.items():
        assert f"| {output.replace('.', ': ')} | {value:.1e} |" in card
    assert "Actions longer than the window (2.4 s) are seen in part." in card
    assert "| float32 / float32 / float32 |" in card
    assert "Not measured: the checkpoint carries no figures." in card
    assert "hand" not in card


@pytest.mark.parametrize("network", NETWORKS)
def test_each_file_carries_the_contract_of_pack_json(
    exported: tuple[TwoStream, TrainConfig, ModelPack], network: str
) -> None:
    pack = exported[2]
    graph = onnx.load(pack.path(network))
    assert graph.producer_name == pack.contract.name
    assert pack.contract.provenance in graph.doc_string
    carried = {entry.key: entry.value for entry in graph.metadata_props}[METADATA_KEY]
    stated = json.loads((pack.folder / "pack.json").read_text())
    del stated["sha256"]
    assert json.loads(carried) == stated


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
    actual = Network(pack, "fusion", providers=CPU).run(inputs)
    with torch.inference_mode():
        expected = model.fusion(*(torch.from_numpy(x) for x in inputs.values()))
    for name, ours in zip(actual, expected, strict=True):
        assert actual[name].shape == tuple(ours.shape)
        assert np.abs(actual[name] - ours.numpy()).max() < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "aggregator"),
    [*((kind, "gru") for kind in KINDS), ("attention", "convolution"), ("concat", "attention")],
)
def test_every_kind_of_fusion_can_be_exported(kind: str, aggregator: str, tmp_path: Path) -> None:
    changes = {"kind": kind, "aggregator": aggregator, "hidden": 8}
    model, config = small_model_of(tiny_config(fusion=changes))
    export_packs(model, config, {}, [drifting_clip(config)], tmp_path / "pack")
    fusion = ModelPack.load(tmp_path / "pack").contract.fusion
    assert (fusion.kind, fusion.aggregator) == (kind, aggregator)
    assert (tmp_path / "pack" / "MODEL_CARD.md").read_text().startswith("# tiny 1.0.0")


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


@pytest.mark.slow
def test_what_is_refused_is_not_written(tmp_path: Path) -> None:
    model, config = small_model_of(tiny_config())
    with torch.no_grad():
        next(model.fusion.parameters()).fill_(torch.nan)
    with pytest.raises(ExportError, match="disagree: fusion differs by nan"):
        export_packs(model, config, {}, [drifting_clip(config)], tmp_path / "pack")
    assert not (tmp_path / "pack").exists()
    with pytest.raises(ExportError, match="no clips"):
        export_packs(model, config, {}, [], tmp_path / "pack")


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_a_changed_file_is_refused_by_name(network: str, small: Made, tmp_path: Path) -> None:
    config, graphs = small
    write_pack(tmp_path, graphs, contract_of(config, {}, graphs))
    path = tmp_path / f"{network}.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(PackError, match=rf"{network}\.onnx: sha256 is"):
        ModelPack.load(tmp_path)


def without(contract: dict[str, Any]) -> dict[str, Any]:
    """A contract as it was before precision, single outputs' parity and limits were in it."""
    for key in ("precision", "quantised", "limits"):
        del contract[key]
    for key in ("outputs", "stepped"):
        del contract["parity"][key]
    return contract


@pytest.mark.slow
@pytest.mark.parametrize("whole", [True, False])
def test_a_pack_from_before_a_field_existed_can_be_read(
    whole: bool, small: Made, tmp_path: Path
) -> None:
    """If it is missing from ONNX files and pack.json alike; not if only the files miss it."""
    config, graphs = small
    pack = write_pack(tmp_path, graphs, contract_of(config, {}, graphs))
    stated = json.loads((tmp_path / "pack.json").read_text())
    for network in NETWORKS:
        graph = onnx.load(pack.path(network))
        carried = without(json.loads(graph.metadata_props[0].value))
        onnx.helper.set_model_props(graph, {METADATA_KEY: json.dumps(carried)})
        onnx.save(graph, pack.path(network))
        stated["sha256"][f"{network}.onnx"] = file_sha256(pack.path(network))
    stated = without(stated) if whole else {**stated, "limits": ["none"]}
    (tmp_path / "pack.json").write_text(json.dumps(stated))
    if whole:
        for network in NETWORKS:
            Network(ModelPack.load(tmp_path), network, providers=CPU)
    else:
        with pytest.raises(
            PackError, match=r"spatial\.onnx: disagrees with pack.json about 'limits'"
        ):
            Network(ModelPack.load(tmp_path), "spatial", providers=CPU)


@pytest.mark.slow
@pytest.mark.parametrize("view", ["frame", "person"])
def test_the_view_is_in_the_contract_and_on_the_card(view: str, tmp_path: Path) -> None:
    model, config = small_model_of(tiny_config(view=view))
    # The clips are whole frames; for the networks they are as good as regions.
    clips = [drifting_clip(config)]
    export_packs(model, config, {}, clips, tmp_path / "pack")
    assert ModelPack.load(tmp_path / "pack").contract.view == view
    stated = json.loads((tmp_path / "pack" / "pack.json").read_text())
    assert ("view" in stated) == (view != "frame")
    assert ("`view: person`" in (tmp_path / "pack" / "MODEL_CARD.md").read_text()) == (
        view == "person"
    )
