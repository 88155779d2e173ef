"""Lists of clips, and the messages for those that can't be used."""

from pathlib import Path

import pytest

from pipeline.errors import EvaluationError
from pipeline.evaluate.clip_list import (
    Entry,
    check_labels,
    chosen,
    negatives,
    read,
    shown,
    videos,
)

LABELS = ("background", "left", "right")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_list_is_relative_to_its_folder_or_to_the_root(tmp_path: Path) -> None:
    path = write(
        tmp_path / "clips.csv", "path,label,group,fold\na/1.mp4,left,g1,3\nb.mp4,right,,\n"
    )
    first, second = read(path)
    assert (first.path, first.label, first.group, first.fold) == (
        tmp_path / "a" / "1.mp4", "left", "g1", 3,
    )  # fmt: skip
    assert (second.group, second.fold) == (None, None)
    assert read(path, Path("/videos"))[1].path == Path("/videos/b.mp4")


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    for name in ("left/a.mp4", "left/deeper/b.AVI", "right/c.mkv", "right/notes.txt"):
        write(tmp_path / name, "")
    found = [(entry.path.name, entry.label) for entry in read(tmp_path)]
    assert found == [("a.mp4", "left"), ("b.AVI", "left"), ("c.mkv", "right")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,class\na.mp4,left\n", "no column 'label'"),
        ("file;label\na.mp4;left\n", "no column 'path' and no column 'label'"),
        ("path,label\n", "lists no clip"),
        ("", "no column 'path'"),
        ("path,label\na.mp4,left\n,right\n", "clips.csv:3: path is empty"),
        ("path,label\na.mp4\n", "clips.csv:2: label is empty"),
        ("path,label,fold\na.mp4,left,first\n", "clips.csv:2: fold must be a whole number"),
    ],
)
def test_what_is_wrong_with_a_list_is_said(tmp_path: Path, text: str, said: str) -> None:
    path = write(tmp_path / "clips.csv", text)
    with pytest.raises(EvaluationError) as raised:
        read(path)
    assert said in str(raised.value)


def test_missing_lists_folders_and_videos_are_named(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"none\.csv: no such list or folder"):
        read(tmp_path / "none.csv")
    with pytest.raises(EvaluationError, match="no class folders"):
        read(tmp_path)
    with pytest.raises(EvaluationError, match="holds no videos"):
        videos(tmp_path)
    with pytest.raises(EvaluationError, match="no such file or folder"):
        videos(tmp_path / "none")


def test_negatives_are_a_video_a_folder_or_a_list_of_what_the_pack_does_not_know(
    tmp_path: Path,
) -> None:
    video = write(tmp_path / "street" / "a.mp4", "")
    text = "path,label\nstreet/a.mp4,fight\nb.mp4,background\n"
    path = write(tmp_path / "quiet.csv", text)
    known = ("left", "right")
    assert negatives(video, known) == negatives(tmp_path / "street", known) == [video]
    assert negatives(path, known) == [video, tmp_path / "b.mp4"]
    assert negatives(path, known, Path("/videos"))[1] == Path("/videos/b.mp4")
    with pytest.raises(EvaluationError, match=r"quiet\.csv:2: shows 'fight', which the pack knows"):
        negatives(path, ("fight",))


def test_what_is_no_text_in_a_name_is_shown_as_a_question_mark() -> None:
    assert shown(Path("a\udcff é.mp4")) == "a? é.mp4"


@pytest.mark.parametrize(
    ("label", "hint"), [("1", "count from 0 or from 1"), ("lefft", "did you mean 'left'")]
)
def test_unknown_labels_are_named_with_their_place(label: str, hint: str) -> None:
    entries = [Entry(Path("a.mp4"), "left"), Entry(Path("b.mp4"), label, where="clips.csv:7")]
    with pytest.raises(EvaluationError) as raised:
        check_labels(entries, LABELS)
    message = str(raised.value)
    assert f"{label!r} (clips.csv:7)" in message
    assert "background, left, right" in message
    assert hint in message


def test_known_labels_pass() -> None:
    check_labels([Entry(Path("a.mp4"), label) for label in LABELS], LABELS)


def test_fold_and_limit() -> None:
    entries = [Entry(Path(f"{i}.mp4"), "left", fold=i % 2) for i in range(10)]
    assert [e.path.stem for e in chosen(entries, 1, None)] == ["1", "3", "5", "7", "9"]
    assert [e.path.stem for e in chosen(entries, None, 4)] == ["0", "2", "5", "7"]
    assert [e.path.stem for e in chosen(entries, 0, 2)] == ["0", "4"]
    assert chosen(entries, None, 99) == entries
    with pytest.raises(EvaluationError, match="no clip has fold 5; the list has 0, 1"):
        chosen(entries, 5, None)
    with pytest.raises(EvaluationError, match="no fold column"):
        chosen([Entry(Path("a.mp4"), "left")], 0, None)
