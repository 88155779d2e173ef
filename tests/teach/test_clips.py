"""The clips that a person brings, and what may be wrong with them."""

from pathlib import Path

import pytest

from pipeline.errors import EvaluationError
from teach.clips import gathered
from teach.pack import TeachError


def files(folder: Path, *paths: str) -> Path:
    """Files whose content is their own name."""
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(path.encode())
    return folder


@pytest.mark.parametrize("name", ["background", "Background", "normal", "nothing", "idle"])
def test_labels_of_no_action_are_known_by_their_names(tmp_path: Path, name: str) -> None:
    found = gathered(files(tmp_path, "wave/1.mp4", "wave/2.mp4", f"{name}/1.mp4"))
    assert (found.rest, found.actions) == ((name,), ("wave",))


def test_any_label_can_be_said_to_be_no_action(tmp_path: Path) -> None:
    data = files(tmp_path, "wave/1.mp4", "wave/2.mp4", "walk/1.mp4", "sit/1.mp4")
    found = gathered(data, rest=("walk", "sit"))
    assert (found.labels, found.rest) == (("sit", "walk", "wave"), ("sit", "walk"))


def test_background_comes_from_elsewhere_too(tmp_path: Path) -> None:
    data = files(tmp_path / "clips", "wave/1.mp4", "wave/2.mp4")
    more = files(tmp_path / "more", "hall.mp4", "deep/yard.mkv", "notes.txt")
    found = gathered(data, [more])
    assert found.labels == ("background", "wave")
    assert [entry.path.name for entry in found.entries if entry.label == "background"] == [
        "yard.mkv", "hall.mp4"
    ]  # fmt: skip


def test_a_clip_that_is_there_twice_counts_once(tmp_path: Path) -> None:
    data = files(tmp_path, "wave/1.mp4", "wave/2.mp4")
    (data / "wave" / "copy.mp4").write_bytes((data / "wave" / "1.mp4").read_bytes())
    found = gathered(data)
    assert len(found.entries) == 2
    assert [Path(path).name for path in found.twice] == ["copy.mp4"]


def test_only_some_labels_are_taught(tmp_path: Path) -> None:
    data = files(tmp_path, *(f"{n}/{k}.mp4" for n in ("a", "b", "background") for k in "12"))
    assert gathered(data, only=("a",)).labels == ("background", "a")


def same_clip_with_two_labels(folder: Path) -> Path:
    files(folder, "wave/1.mp4", "wave/2.mp4", "clap/2.mp4")
    (folder / "clap" / "1.mp4").write_bytes((folder / "wave" / "1.mp4").read_bytes())
    return folder


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda d: files(d, "background/1.mp4"), "has no action, only background"),
        (lambda d: files(d, "wave/1.mp4"), "wave has 1 clip; .* at least 2, better five to ten"),
        (same_clip_with_two_labels, "the same clip, is .*; take one of them out"),
        (lambda d: files(d, *(f"{k}/{n}.mp4" for k in range(101) for n in "12")), "101 labels"),
    ],
)
def test_what_can_not_be_taught_is_refused(tmp_path: Path, make: object, says: str) -> None:
    assert callable(make)
    with pytest.raises(TeachError, match=says):
        gathered(make(tmp_path))


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    clips = files(tmp_path, "a.mp4", "c.mp4")
    (clips / "list.csv").write_text("path,label\na.mp4,wave\nb.mp4,wave\nc.mp4,clap\nd.mp4,clap\n")
    with pytest.raises(TeachError) as caught:
        gathered(clips / "list.csv")
    assert [line.split(": ")[0].rpartition(":")[2] for line in str(caught.value).splitlines()] == [
        "3", "5"
    ]  # fmt: skip


@pytest.mark.parametrize(("rest", "only"), [(("walk",), ()), ((), ("walk",))])
def test_an_unknown_label_is_named(
    tmp_path: Path, rest: tuple[str, ...], only: tuple[str, ...]
) -> None:
    data = files(tmp_path, "wave/1.mp4", "wave/2.mp4")
    with pytest.raises(TeachError, match="walk: no clip has it; there are wave"):
        gathered(data, rest=rest, only=only)


def test_a_folder_without_class_folders_says_what_is_needed(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="class folders"):
        gathered(files(tmp_path, "1.mp4"))
