"""The packs in ``models`` that were taught: whole, documented, and able to learn a new room."""

import os
import shutil
from pathlib import Path

import pytest

from pipeline.evaluate.recogniser import OfflineRecogniser, changes, file_frames
from pipeline.model.pack import NETWORKS, ModelPack
from pipeline.model.session import Network
from teach.background import CalibrateOrder
from teach.calibrate import calibrate
from teach.lesson_file import load
from testbed.footage import shared_data

pytestmark = pytest.mark.slow

MODELS = Path(__file__).parents[2] / "models"
LARGEST_BYTES = 30 * 1024 * 1024
WORDS = {
    "falls": ("UP-Fall", "T2V Bed-Fall", "CC BY 4.0"),
    "hands": ("three persons", "no licence stated"),
}


@pytest.mark.parametrize("name", WORDS)
def test_the_packs_are_whole_small_and_documented(name: str) -> None:
    pack = ModelPack.load(MODELS / name)
    for network in NETWORKS:
        Network(pack, network, providers=["CPUExecutionProvider"])
    assert sum(file.stat().st_size for file in pack.folder.iterdir()) <= LARGEST_BYTES
    card = (pack.folder / "MODEL_CARD.md").read_text("utf-8")
    for words in WORDS[name]:
        assert words in card
        assert words in pack.contract.provenance + pack.contract.licence
    assert pack.contract.limits
    assert set(pack.contract.thresholds) == set(pack.contract.actions)
    assert pack.contract.metrics["held_out"]
    assert len(load(pack).examples) > 100


@pytest.mark.skipif("TWO_STREAM_DATA" not in os.environ, reason="TWO_STREAM_DATA is not set")
@pytest.mark.parametrize(
    ("name", "label"), [("falls", "fall"), ("hands", "Num5"), ("hands", "FanOn")]
)
def test_they_tell_clips_that_they_were_taught(name: str, label: str) -> None:
    clips = sorted((shared_data() / name / label).glob("*.mp4"))[:6]
    recogniser = OfflineRecogniser(ModelPack.load(MODELS / name))
    said = [
        {one.change.label for one in changes(recogniser.contract, recogniser.steps(file_frames(c)))}
        for c in clips
    ]
    assert sum(label in labels for labels in said) >= 4


@pytest.mark.skipif("TWO_STREAM_DATA" not in os.environ, reason="TWO_STREAM_DATA is not set")
def test_a_shipped_pack_learns_a_room(tmp_path: Path) -> None:
    shutil.copytree(MODELS / "falls", tmp_path / "falls")
    # A hand close to the camera moves as a falling body does.
    quiet = sorted((shared_data() / "gestures" / "circle").glob("*.mp4"))
    found = calibrate(CalibrateOrder(tmp_path / "falls", files=tuple(quiet)))
    assert found.false_before >= 1
    assert found.false_after <= found.false_before
    assert found.found_after >= found.found_before / 2
    after = ModelPack.load(Path(found.folder)).contract
    assert after.provenance == ModelPack.load(tmp_path / "falls").contract.provenance
