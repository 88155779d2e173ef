"""What is painted over in clips and pictures, and what is said where there are none."""

import os
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK
from pipeline.config import CameraConfig
from pipeline.config.evidence import EvidenceConfig
from pipeline.evidence.actions import Task
from pipeline.evidence.file_pieces import pieces_of_file
from pipeline.evidence.render import NOTHING_KEPT, Renderer
from pipeline.evidence.store import EvidenceStore
from pipeline.people.detector import SHIPPED, PersonDetector
from testbed.samples import event
from testbed.video_files import grays, write_video

CLIP = "falls/other/adl-02-cam0.mp4"


@pytest.fixture(scope="module")
def person() -> Path:
    folder = os.environ.get("TWO_STREAM_DATA")
    if not folder or not (Path(folder) / CLIP).is_file():
        pytest.skip("TWO_STREAM_DATA does not name the folder of clips")
    return Path(folder) / CLIP


def task(work: Any, last_s: float = 2.0) -> Task:
    return Task(work, event(4), 0, int(last_s * NS_PER_S), NS_PER_S, 10**18)


def renderer(folder: Path, **settings: Any) -> Renderer:
    given = EvidenceConfig.model_validate({"folder": str(folder), **settings})
    return Renderer(given, EvidenceStore(folder, None, None, SYSTEM_CLOCK), SHIPPED)


def frames(path: str | Path) -> list[np.ndarray[Any, Any]]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


def detail(picture: np.ndarray[Any, Any], box: Any) -> float:
    """How much fine detail there is in the upper half of a box, where a face would be."""
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = (float(side) for side in box)
    rows = slice(int(y0 * height), int((y0 + y1) / 2 * height))
    part = picture[rows, int(x0 * width) : int(x1 * width)]
    # Of neighbours two apart: the borders between cells are few, skin and cloth are everywhere.
    return float(np.median(np.abs(np.diff(cv2.cvtColor(part, cv2.COLOR_BGR2GRAY).astype(int)))))


@pytest.mark.slow
def test_people_are_made_unrecognisable(tmp_path: Path, person: Path) -> None:
    runs = pieces_of_file(str(person), "door", 0, 2 * NS_PER_S)
    work = renderer(tmp_path, pixelate=True)
    (made,) = work.render(task("clip"), runs, CameraConfig())
    assert (made.state, made.encoded) == ("ready", True)
    assert "unrecognisable" in (made.reason or "")
    assert made.path is not None
    detector = PersonDetector()
    before, after = frames(person), frames(made.path)
    looked = 0
    for old, new in list(zip(before, after, strict=False))[::4]:
        for box in detector(old):
            looked += 1
            assert detail(new, box[:4]) <= 0.5 * max(detail(old, box[:4]), 1.0)
            # Nobody would recognise what the detector itself takes for less of a person.
            assert not np.array_equal(old, new)
    assert looked >= 3
    pictures = work.render(task("pictures"), runs, CameraConfig())
    assert {one.kind for one in pictures if one.state == "ready"} == {"snapshot", "clean", "motion"}


def test_where_nothing_was_kept_each_kind_is_lost(tmp_path: Path) -> None:
    work = renderer(tmp_path)
    lost = work.render(task("pictures"), [], CameraConfig())
    assert [one.kind for one in lost] == ["snapshot", "clean", "motion"]
    assert {(one.state, one.reason) for one in lost} == {("lost", NOTHING_KEPT)}
    assert [one.kind for one in work.render(task("clip"), [], CameraConfig())] == ["clip"]


def test_a_folder_that_can_not_be_written_costs_the_file_and_says_why(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", grays(20), fps=10)
    runs = pieces_of_file(str(clip), "door", 0, NS_PER_S)
    (tmp_path / "files").write_text("in the way")
    work = renderer(tmp_path / "files")
    for one in ("clip", "pictures"):
        made = work.render(task(one, 1.0), runs, CameraConfig())
        assert {record.state for record in made} == {"lost"}
        assert "Not a directory" in (made[0].reason or "")
        assert made[0].path is None


def test_a_stream_that_can_not_be_decoded_costs_the_pictures(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", grays(20), fps=10)
    ((form, pieces),) = pieces_of_file(str(clip), "door", 0, NS_PER_S)
    broken = [type(piece)(*[*astuple(piece)[:-1], b"\0\0\0\4nope"]) for piece in pieces]
    made = renderer(tmp_path / "files").render(task("pictures"), [(form, broken)], CameraConfig())
    assert {record.state for record in made} == {"lost"}
    assert "decoded" in (made[0].reason or "")


def astuple(piece: Any) -> tuple[Any, ...]:
    return tuple(getattr(piece, name) for name in piece.__struct_fields__)
