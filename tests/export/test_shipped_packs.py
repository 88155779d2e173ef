"""The packs in ``models``: complete, small, documented, and as accurate as their cards state."""

import os
from pathlib import Path

import numpy as np
import pytest

from export.stepping import stacks_of
from pipeline.evaluate.protocol import clip_scores
from pipeline.model.pack import NETWORKS, ModelPack
from pipeline.model.session import Network
from training.clip_lists import read_list
from training.config import TrainConfig
from training.data import step_clip, video_frames

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LARGEST_BYTES = 30 * 1024 * 1024


@pytest.mark.parametrize(
    ("name", "top1", "background"),
    [
        ("gestures", 0.95, "background"),
        ("gestures-int8", 0.95, "background"),
        ("fights", 0.82, "normal"),
    ],
)
def test_the_packs_are_whole_small_and_documented(name: str, top1: float, background: str) -> None:
    pack = ModelPack.load(ROOT / "models" / name)
    for network in NETWORKS:
        Network(pack, network, providers=["CPUExecutionProvider"])
    assert sum(file.stat().st_size for file in pack.folder.iterdir()) <= LARGEST_BYTES
    card = (pack.folder / "MODEL_CARD.md").read_text("utf-8")
    assert "EgoGestAR" in card
    assert "IPTA 2019" in card
    assert pack.contract.metrics["top1"]["fused"] >= top1
    assert pack.contract.metrics["folds"] == 5
    assert set(pack.contract.thresholds) == set(pack.contract.labels) - {background}


def test_the_fights_pack_is_chosen_for_its_events() -> None:
    """As a label for a clip it is a little worse than 1.0.0, whose F1 in streams was 0.37."""
    metrics = ModelPack.load(ROOT / "models" / "fights").contract.metrics
    assert metrics["looped_clips"]["f1"] >= 0.60
    assert metrics["negatives"]["false_events"] == 0
    assert metrics["negatives"]["minutes"] >= 45


@pytest.mark.skipif("TWO_STREAM_DATA" not in os.environ, reason="TWO_STREAM_DATA is not set")
def test_the_gesture_pack_knows_the_clips_it_was_trained_on() -> None:
    data = Path(os.environ["TWO_STREAM_DATA"])
    config = TrainConfig.load(ROOT / "configs" / "train" / "gestures.yaml")
    pack = ModelPack.load(ROOT / "models" / "gestures")
    assert pack.contract.labels == config.labels
    networks = {name: Network(pack, name, providers=["CPUExecutionProvider"]) for name in NETWORKS}
    nothing = np.array([label in config.background for label in config.labels])
    right = 0
    entries = [entry for entry in read_list(data, config.clips) if entry.path.stem.endswith("_5")]
    for entry in entries:
        clip = step_clip(video_frames(entry.path), config)
        stacks, mask = stacks_of(clip, config.temporal.stack)
        spatial = networks["spatial"].run({"frames": clip.pictures})["features"]
        temporal = networks["temporal"].run({"flow": stacks})["features"]
        inputs = {"spatial": spatial, "temporal": temporal, "mask": mask}
        scores = np.concatenate([
            networks["fusion"].run(
                {name: x[max(0, step - config.window) : step][None] for name, x in inputs.items()}
            )["scores"]
            for step in range(1, len(mask) + 1)
        ])  # fmt: skip
        label = int(clip_scores(scores, nothing).argmax())
        right += config.labels[label] == entry.label
    assert len(entries) == 11
    assert right == 11
