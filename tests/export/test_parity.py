"""Parity: every output, along whole clips, in windows of any length, stepped and in one pass."""

import os
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch

from export.graphs import ExportError, export_graphs
from export.pack import contract_of, write_pack
from export.parity import Differences, by_torch, measure_parity, windows_of
from export.stepping import clip_features, open_networks, stepped_scores
from pipeline.evaluate.protocol import clip_scores
from pipeline.evaluate.recogniser import OfflineRecogniser, file_frames
from pipeline.model.pack import ModelPack
from tests.export.tiny import drifting_clip, model_of, small_model_of
from tests.training.tiny import tiny_config
from training.clip_lists import read_list
from training.config import TrainConfig
from training.data import step_clip, video_frames
from training.model import TwoStream

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
OUTPUTS = {
    "spatial.features", "temporal.features", "fusion.scores", "fusion.spatial_scores",
    "fusion.temporal_scores", "fusion.alpha",
}  # fmt: skip
Made = tuple[TwoStream, TrainConfig, ModelPack]


def packed(folder: Path, model: TwoStream, config: TrainConfig) -> Made:
    graphs = export_graphs(model, config)
    return model, config, write_pack(folder, graphs, contract_of(config, {}, graphs))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    config = tiny_config()
    return packed(tmp_path_factory.mktemp("pack"), model_of(config), config)


def test_every_output_is_compared(made: Made) -> None:
    model, config, pack = made
    clips = [drifting_clip(config), drifting_clip(config, 9, lost=[4])]
    parity = measure_parity(model, config, pack, clips)
    assert parity.outputs.keys() == OUTPUTS
    assert all(0 < value < 1e-4 for value in parity.outputs.values()), parity.outputs
    assert parity.fusion == max(v for k, v in parity.outputs.items() if k.startswith("fusion."))
    assert parity.stepped is not None
    assert 0 < parity.stepped < 1e-4
    assert (parity.samples, parity.top1_agreement) == (2, 1.0)


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("spatial.head.layers.5.bias", "spatial differs by"),
        ("temporal.backbone.layers.0.weight", "temporal differs by"),
        ("fusion.spatial_head.classify.bias", "fusion differs by"),
        ("fusion.attend.bias", "fusion differs by"),
    ],
)
def test_each_part_of_a_model_that_differs_is_found(made: Made, part: str, says: str) -> None:
    model, config, pack = deepcopy(made[0]), made[1], made[2]
    weight = dict(model.named_parameters())[part]
    with torch.no_grad():
        weight.add_(torch.linspace(0.0, 0.5, weight.numel()).reshape(weight.shape) + 0.2)
    with pytest.raises(ExportError, match=says + r" .*, more than 0\.001"):
        measure_parity(model, config, pack, [drifting_clip(config)])


def test_differences_keep_what_is_no_number_and_refuse_other_shapes() -> None:
    differences = Differences()
    differences.add("fusion.alpha", [1.0, 2.0], [1.5, 2.0])
    differences.add("fusion.alpha", [1.0], [1.25])
    assert differences.largest == {"fusion.alpha": 0.5}
    differences.add("fusion.scores", [np.nan], [1.0])
    differences.add("fusion.scores", [1.0], [1.0])
    assert np.isnan(differences.of("fusion"))
    with pytest.raises(ExportError, match=r"fusion\.alpha is \(1,\) in torch, \(2,\)"):
        differences.add("fusion.alpha", [1.0], [1.0, 1.0])


@pytest.mark.parametrize(("length", "expected"), [(1, 1), (5, 5), (24, 12)])
def test_windows_end_all_along_a_clip_and_half_of_them_have_gaps(
    length: int, expected: int
) -> None:
    steps = np.arange(12, dtype=np.float32)
    rows = np.stack([steps, steps], 1)
    windows = windows_of((rows, rows + 100, np.ones((12, 2), np.float32)), length, seed=1)
    assert windows["mask"].shape == (4, expected, 2)
    assert windows["spatial"][-1, -1, 0] == 11
    assert windows["spatial"][0, 0, 0] == 0
    assert windows["mask"][::2].all()
    if length > 1:
        assert 0 < windows["mask"][1::2].mean() < 0.9
    np.testing.assert_array_equal(windows["temporal"], windows["spatial"] + 100)


@pytest.mark.parametrize("kind", ["concat", "weighted", "attention", "score"])
def test_stepped_inference_is_windowed_inference(kind: str, tmp_path: Path) -> None:
    tiny = tiny_config(window=8, fusion={"kind": kind, "hidden": 8})
    model, config, pack = packed(tmp_path, *small_model_of(tiny))
    networks = open_networks(pack)
    for lost in ((), (5, 6, 11)):
        clip = drifting_clip(config, 20, lost=lost)
        expected = by_torch(model, clip, config.window).scores
        features = clip_features(networks, clip, config.temporal.stack)
        actual = stepped_scores(networks, pack, features)
        stepped = np.stack([scored.scores for scored in actual])
        np.testing.assert_allclose(stepped, expected.fused, atol=1e-4)
        assert stepped.std(0).max() > 1e-3
        first = next(n for n, scored in enumerate(actual) if scored.temporal is not None)
        assert first == config.temporal.stack
        for scored, row in zip(actual[first:], expected.temporal[first:], strict=True):
            assert scored.temporal is not None
            np.testing.assert_allclose(scored.temporal, row, atol=1e-4)


@pytest.mark.skipif("TWO_STREAM_DATA" not in os.environ, reason="TWO_STREAM_DATA is not set")
def test_the_pipeline_stepped_over_a_file_says_what_torch_says_of_it(tmp_path: Path) -> None:
    """``pipeline.evaluate.recogniser`` from the file to the scores, against training's one pass."""
    gestures = TrainConfig.load(ROOT / "configs" / "train" / "gestures.yaml")
    config = gestures.model_copy(update={"window": 16})
    model, _, pack = packed(tmp_path, model_of(config), config)
    path = read_list(Path(os.environ["TWO_STREAM_DATA"]), config.clips)[0].path
    expected = by_torch(model, step_clip(video_frames(path), config), config.window).scores
    actual = list(OfflineRecogniser(pack).steps(file_frames(path)))
    assert len(actual) == len(expected.fused) > config.window
    fused = np.stack([step.scores for step in actual])
    np.testing.assert_allclose(fused, expected.fused, atol=1e-3)
    spatial = np.stack([step.spatial for step in actual if step.spatial is not None])
    np.testing.assert_allclose(spatial, expected.spatial, atol=1e-3)
    assert fused.std(0).max() > 1e-2
    nothing = np.array([label in config.background for label in config.labels])
    assert clip_scores(fused, nothing).argmax() == clip_scores(expected.fused, nothing).argmax()
