"""One run of the command: get the package, convert, cut, calibrate, measure, write."""

import csv
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx

from export.people import package, surgery
from export.people.card import CARD_FILE, model_card
from export.people.labelled import Labelled, figures_by_set, frame_of, pictures, read_labels
from export.people.quantised import to_int8
from pipeline.arrays import Frame
from pipeline.errors import EvaluationError
from pipeline.model.pack import bytes_sha256
from pipeline.people.contract import CONTRACT_FILE, NETWORK_FILE, PeopleContract
from pipeline.people.detector import PersonDetector, letterboxed
from pipeline.people.letterbox import Letterbox

log = logging.getLogger(__name__)

# NanoDet-g (nanodet's config/legacy_v0.x_configs/nanodet-g.yml): COCO's classes, person first.
CLASSES, PERSON = 80, 0
STRIDES, BINS, MULTIPLE = (8, 16, 32), 11, 32
MEAN, STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)  # B G R
BORDER = 114  # the mean of the three means
SCORE, OVERLAP = 0.35, 0.5

LISTS = ("fights.csv", "falls.csv")
NOT_FROM = "urfd"  # a source of falls.csv whose authors allow no commercial use
CALIBRATION_FRAMES = 64
PROVENANCE = (
    f"NanoDet-g (RangiLyu/nanodet, Apache-2.0), trained by its author on COCO 2017; published as "
    f"{package.GRAPH} in the npm package {package.PACKAGE} {package.VERSION} "
    f"({package.LICENCE}). Ranges of the 8-bit numbers were taken from frames of fights and falls; "
    "no weight was trained on them."
)


@dataclass(frozen=True)
class Order:
    """What the command was asked for."""

    out: Path
    data: Path
    labels: Path | None
    package: Path | None
    side: int
    float32: bool


def run(order: Order) -> PeopleContract:
    """Write ``order.out``; raises errors of the project before anything is written there."""
    labels = read_labels(order.labels) if order.labels else []
    with tempfile.TemporaryDirectory() as scratch:
        source = package.verified(_folder(order.package, Path(scratch)))
        # Only here: most installations have no TensorFlow.
        from export.people.tensorflowjs import to_onnx

        model = for_people(to_onnx(source / package.GRAPH))
        if not order.float32:
            frames = calibration_frames(order.data, labels)
            model = to_int8(model, [prepared(frame, order.side) for frame in frames])
        made = Path(scratch) / "made"
        write(made, model, order)
        metrics = _measured(made, labels, order.data) if labels else {}
        contract = write(made, model, order, metrics)
        (made / CARD_FILE).write_text(model_card(contract), "utf-8")
        order.out.mkdir(parents=True, exist_ok=True)
        for file in made.iterdir():
            shutil.copyfile(file, order.out / file.name)
    log.info("%s: %s, %d KB", order.out, contract.precision, _kilobytes(order.out))
    return contract


def _folder(given: Path | None, scratch: Path) -> Path:
    if given is None:
        return package.downloaded(scratch)
    return package.unpacked(given, scratch) if given.suffix == ".tgz" else given


def _kilobytes(out: Path) -> int:
    return (out / NETWORK_FILE).stat().st_size // 1000


def for_people(model: onnx.ModelProto) -> onnx.ModelProto:
    """The converted network for pictures of any size, with people as its only class."""
    model = surgery.with_pads_inside(model)
    model = surgery.with_one_class(model, CLASSES, PERSON, 4 * BINS)
    model = surgery.with_free_size(model)
    return surgery.pruned(surgery.with_pictures(model, MEAN, STD, BORDER))


def prepared(frame: Frame, side: int) -> Frame:
    """A frame as the detector gives it to the network."""
    box = Letterbox.of((frame.shape[0], frame.shape[1]), side, MULTIPLE)
    return letterboxed(frame, box, BORDER)


def calibration_frames(data: Path, labels: Sequence[Labelled]) -> list[Frame]:
    """Frames from the middle of clips, spread over the lists; none of a labelled clip."""
    labelled = {label.clip for label in labels}
    clips = [clip for clip in _listed(data) if clip not in labelled]
    if not clips:
        raise EvaluationError(f"{data}: none of {', '.join(LISTS)} names a clip to calibrate on")
    chosen = np.linspace(0, len(clips) - 1, min(CALIBRATION_FRAMES, len(clips))).astype(int)
    return [_middle(data / clips[number]) for number in chosen]


def _listed(data: Path) -> Iterator[str]:
    for name in LISTS:
        if (data / name).is_file():
            with (data / name).open(encoding="utf-8", newline="") as file:
                rows = csv.DictReader(file)
                yield from (row["path"] for row in rows if row.get("source") != NOT_FROM)


def _middle(clip: Path) -> Frame:
    capture = cv2.VideoCapture(str(clip))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return frame_of(clip, max(0, count // 2))


def write(
    folder: Path, model: onnx.ModelProto, order: Order, metrics: dict[str, Any] | None = None
) -> PeopleContract:
    """Write the network and its contract."""
    folder.mkdir(parents=True, exist_ok=True)
    content = model.SerializeToString()
    contract = PeopleContract(
        name="person", version="1.0.0", licence="Apache-2.0", provenance=PROVENANCE,
        side=order.side, multiple=MULTIPLE, border=BORDER, strides=STRIDES, bins=BINS,
        score=SCORE, overlap=OVERLAP, precision="float32" if order.float32 else "int8",
        metrics=metrics or {}, sha256=bytes_sha256(content),
    )  # fmt: skip
    (folder / NETWORK_FILE).write_bytes(content)
    (folder / CONTRACT_FILE).write_text(contract.model_dump_json(indent=2) + "\n", "utf-8")
    return contract


def _measured(folder: Path, labels: Sequence[Labelled], data: Path) -> dict[str, Any]:
    detector = PersonDetector(folder, providers=["CPUExecutionProvider"])
    found = figures_by_set(detector, pictures(labels, data))
    return {
        "protocol": "recall and false boxes a frame at IoU 0.5 on labelled frames",
        "sets": {
            name: {
                "frames": one.frames, "people": one.people, "recall": round(one.recall, 4),
                "false_per_frame": round(one.false_per_frame, 4),
            }
            for name, one in found.items()
        },
    }  # fmt: skip
