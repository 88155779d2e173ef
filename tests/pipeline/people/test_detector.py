"""The shipped person detector: its files, its answers, and what it refuses."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from export.people.labelled import Labelled, frame_of, judged, pictures, read_labels
from pipeline.arrays import Frame
from pipeline.errors import PackError
from pipeline.model.pack import file_sha256
from pipeline.people.contract import CONTRACT_FILE, NETWORK_FILE, load_contract
from pipeline.people.detector import SHIPPED, PersonDetector
from pipeline.people.geometry import overlaps
from tests.structure import PROJECT

DATA = os.environ.get("TWO_STREAM_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="TWO_STREAM_DATA doesn't say where the clips are")
LABELS = PROJECT / "tests" / "people" / "labels.json"
LARGEST_BYTES = 5_000_000


@pytest.fixture(scope="module")
def detector() -> PersonDetector:
    return PersonDetector(providers=["CPUExecutionProvider"])


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "people"))


def labelled(clip: str) -> tuple[Labelled, Frame]:
    label = next(one for one in read_labels(LABELS) if one.clip == clip)
    return label, frame_of(Path(DATA or "") / clip, label.frame)


def test_the_shipped_files_are_whole_small_and_documented() -> None:
    contract = load_contract(SHIPPED)
    assert contract.sha256 == file_sha256(SHIPPED / NETWORK_FILE)
    assert (SHIPPED / NETWORK_FILE).stat().st_size < LARGEST_BYTES
    card = (SHIPPED / "MODEL_CARD.md").read_text("utf-8")
    for what in (contract.licence, contract.provenance, "COCO", "recall", "export people"):
        assert what in card
    assert contract.metrics["sets"]["all"]["recall"] >= 0.6
    assert contract.metrics["sets"]["all"]["false_per_frame"] <= 0.3


@needs_data
def test_people_who_walk_are_found(detector: PersonDetector) -> None:
    label, frame = labelled("falls/other/adl-02-cam0.mp4")
    found = detector(frame)
    assert len(label.boxes) == len(found) == 1
    assert overlaps(found[:, :4], label.boxes)[0, 0] > 0.7
    assert found[0, 4] > 0.5


@needs_data
def test_an_empty_bus_holds_nobody(detector: PersonDetector) -> None:
    label, frame = labelled("fights/normal/nofi042.mp4")
    assert len(label.boxes) == 0
    assert len(detector(frame)) == 0


@needs_data
def test_both_forms_of_a_frame_have_the_same_people(detector: PersonDetector) -> None:
    _, frame = labelled("falls/other/adl-02-cam0.mp4")
    frame = frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]
    planes = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420), np.uint8)[:, :, None]
    one, other = detector(frame), detector(planes)
    assert len(one) == len(other)
    np.testing.assert_allclose(one[:, :4], other[:, :4], atol=0.05)


@needs_data
def test_a_picture_beside_the_picture_moves_the_box_and_nothing_else(
    detector: PersonDetector,
) -> None:
    """A wide picture with the person at its right: the box is in 0..1 of the whole picture."""
    label, frame = labelled("falls/other/adl-02-cam0.mp4")
    height, width = frame.shape[:2]
    wide = np.full((height, 2 * width, 3), 114, np.uint8)
    wide[:, width:] = frame
    larger = PersonDetector(side=512, providers=["CPUExecutionProvider"])
    expected = label.boxes.copy()
    expected[:, [0, 2]] = 0.5 + expected[:, [0, 2]] / 2
    found = larger(wide)
    assert overlaps(found[:1, :4], expected)[0, 0] > 0.7


@pytest.mark.slow
@needs_data
def test_the_card_tells_the_truth(detector: PersonDetector) -> None:
    stated = detector.contract.metrics["sets"]["falls"]
    frames = [one for one in read_labels(LABELS) if one.set == "falls"]
    assert len(frames) == stated["frames"]
    figures = [judged(detector(f), one) for one, f in pictures(frames, Path(DATA or ""))]
    found = sum(one.found for one in figures)
    # Another CPU's kernels round differently; a box or two near the least score come and go.
    assert found / stated["people"] == pytest.approx(stated["recall"], abs=0.07)


@pytest.mark.parametrize("size", [(1, 1), (2, 3000), (3000, 2), (33, 47), (1080, 1920)])
def test_a_plain_picture_of_any_size_holds_nobody(
    detector: PersonDetector, size: tuple[int, int]
) -> None:
    found = detector(np.full((*size, 3), 90, np.uint8))
    assert found.shape == (0, 5)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((10, 10), np.uint8),
        np.zeros((10, 10, 3), np.float32),
        np.zeros((0, 5, 3), np.uint8),
    ],
)
def test_what_is_no_frame_is_refused(detector: PersonDetector, wrong: Frame) -> None:
    with pytest.raises(ValueError, match=r"a frame must be|must have pixels"):
        detector(wrong)


def test_a_damaged_network_is_refused(copy: Path) -> None:
    path = copy / NETWORK_FILE
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PackError, match=r"person\.onnx: sha256 is .* but people\.json says"):
        PersonDetector(copy)


def test_a_missing_network_is_refused(copy: Path) -> None:
    (copy / NETWORK_FILE).unlink()
    with pytest.raises(PackError, match=r"person\.onnx: can't be read"):
        PersonDetector(copy)


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("score", 1.5, "score: Input should be less than 1"),
        ("bins", 12, "returns .* the contract says"),
        ("strides", [8, 16], "returns .* the contract says"),
        ("surprise", 1, "surprise: Extra inputs are not permitted"),
    ],
)
def test_a_contract_that_does_not_fit_is_refused(
    copy: Path, key: str, value: object, why: str
) -> None:
    path = copy / CONTRACT_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(PackError, match=why):
        PersonDetector(copy)


def test_a_folder_without_a_detector_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"no people\.json in it"):
        PersonDetector(tmp_path)
    with pytest.raises(PackError, match="no such folder"):
        PersonDetector(tmp_path / "nowhere")
