"""From lists to clips: segments, labels, and files that can't be read; small real videos."""

from pathlib import Path

import pytest

from tests.training.tiny import tiny_config, write_clip, write_data
from training.ablation import with_flow
from training.clip_list_formats import DataError
from training.config import ClipList, TrainConfig
from training.crossvalidation import check_fold, listed, load_data
from training.data import Stroke, load_clips, load_episodes, video_frames


def test_a_segment_has_the_frames_of_its_time(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "long.avi", frames=80, fps=10.0)
    whole = [time_ns for time_ns, _ in video_frames(path)]
    assert len(whole) == 80
    for start_s, end_s in ((0.0, 1.0), (1.5, 2.0), (6.0, 7.5)):
        times = [
            time_ns + round(start_s * 1e9) for time_ns, _ in video_frames(path, start_s, end_s)
        ]
        assert times == [t for t in whole if start_s * 1e9 <= t < end_s * 1e9]
    assert len(list(video_frames(path, 7.5))) == 5
    assert not list(video_frames(path, 30.0))


@pytest.mark.slow
def test_segments_and_what_lies_between_become_clips(tmp_path: Path) -> None:
    write_clip(tmp_path / "long.avi", 2, frames=80, fps=10.0)
    (tmp_path / "clips.csv").write_text(
        "path,label,start,end\nlong.avi,left,1,2\nlong.avi,right,5,6.5\n"
    )
    source = ClipList(path="clips.csv", between="background")
    config = tiny_config(clips=source)
    clips, unreadable = load_clips(config, tmp_path, tmp_path / "cache", source)
    assert not unreadable
    assert {clip.name: (clip.label, len(clip), len(clip.strokes)) for clip in clips} == {
        "long@1-2": (1, 10, 1), "long@5-6.5": (2, 15, 1),
        "long@0-1": (0, 10, 0), "long@2-5": (0, 30, 0), "long@6.5-16.5": (0, 15, 0),
    }  # fmt: skip
    again = load_clips(config, tmp_path, tmp_path / "cache", source).clips
    assert [(c.name, len(c)) for c in again] == [(c.name, len(c)) for c in clips]


def test_unreadable_clips_are_left_out_by_name(tmp_path: Path, decoded: Path) -> None:
    data = write_data(tmp_path)
    (data / "left" / "left2.avi").write_bytes(b"no video")
    (data / "left" / "left3.avi").write_bytes(b"")
    with (data / "clips.csv").open("a") as file:
        file.write("left/left2.avi,left,g2,0\nleft/left3.avi,left,g3,0\nleft/gone.avi,left,g4,0\n")
    loaded = load_data(tiny_config(), data, decoded)
    assert len(loaded.clips) == 6
    counts = loaded.counts(tiny_config())
    assert counts["unreadable"] == 3
    assert counts["clips"] == {"background": 2, "left": 2, "right": 2}
    assert counts["unreadable_clips"] == {
        "left/left2.avi": "it is not a video",
        "left/left3.avi": "it is empty",
        "left/gone.avi": "no such file",
    }


def test_a_label_of_which_nothing_can_be_read_is_fatal(tmp_path: Path, decoded: Path) -> None:
    data = write_data(tmp_path)
    for path in (data / "right").iterdir():
        path.write_bytes(b"no video")
    with pytest.raises(
        DataError, match=r"no clip of right; 2 clips .*right0\.avi: it is not a video"
    ):
        load_data(tiny_config(), data, decoded)


def test_more_unreadable_clips_than_others_are_fatal(tmp_path: Path, decoded: Path) -> None:
    data = write_data(tmp_path)
    with (data / "clips.csv").open("a") as file:
        file.writelines(f"left/gone{number}.avi,left,x{number},0\n" for number in range(7))
    with pytest.raises(DataError, match=r"7 of 13 clips can't be read: .*gone0\.avi: no such file"):
        load_data(tiny_config(), data, decoded)


def config_of(**clips: object) -> TrainConfig:
    return tiny_config(clips={"path": "clips.csv", **clips})


@pytest.mark.slow
def test_labels_the_configuration_does_not_know_are_counted(tmp_path: Path, decoded: Path) -> None:
    data = write_data(tmp_path)
    with (data / "clips.csv").open("a") as file:
        for number in range(2):
            write_clip(data / f"wave{number}.avi")
            file.write(f"wave{number}.avi,wave,g{number},{number}\n")
    with pytest.raises(DataError, match=r"doesn't have: wave \(2\); it has background, left"):
        load_data(config_of(), data, decoded)
    assert len(load_data(config_of(others="skip"), data, decoded).clips) == 6
    as_background = load_data(config_of(others="background"), data, decoded)
    assert [clip.label for clip in as_background.clips].count(0) == 4
    as_negatives = load_data(
        tiny_config(clips=ClipList(path="clips.csv", others="skip"), negatives="clips.csv"),
        data,
        decoded,
    )
    assert sorted(clip.label for clip in as_negatives.negatives) == [0, 0, 0, 0, 1, 1, 2, 2]
    several = tiny_config(
        clips=ClipList(path="clips.csv", others="skip"),
        negatives=("clips.csv", ClipList(path="clips.csv", others="skip", leave_out=("g1",))),
    )
    loaded = load_data(several, data, decoded)
    assert [clip.group for clip in loaded.negatives] == [
        *(clip.group for clip in as_negatives.negatives), "g0", "g0", "g0"
    ]  # fmt: skip
    assert listed(several, data) == len(loaded.clips) + len(loaded.negatives)


def test_a_label_without_a_clip_is_named(tmp_path: Path, decoded: Path) -> None:
    data = write_data(tmp_path)
    text = (data / "clips.csv").read_text()
    rows = [row for row in text.splitlines() if "right" not in row]
    (data / "clips.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match="the lists: no clip of right"):
        load_data(tiny_config(), data, decoded)
    (data / "clips.csv").write_text(text.replace("right,g1,1", "right,g0,0"))
    loaded = load_data(tiny_config(), data, decoded)
    check_fold(tiny_config(), loaded, 1)
    with pytest.raises(DataError, match="with fold 0 held out: no clip of right"):
        check_fold(tiny_config(), loaded, 0)


def test_background_between_segments_must_be_a_label() -> None:
    with pytest.raises(ValueError, match=r"\['nothing'\] are named .* missing from labels"):
        config_of(between="nothing")


@pytest.mark.slow
def test_a_cached_clip_has_the_label_that_it_is_listed_with(tmp_path: Path) -> None:
    write_clip(tmp_path / "one.avi")
    for label, strokes in (
        ("background", ()),
        ("left", (Stroke(1, 0, 12),)),
        ("right", (Stroke(2, 0, 12),)),
    ):
        (tmp_path / "clips.csv").write_text(f"path,label\none.avi,{label}\n")
        (clip,) = load_clips(tiny_config(), tmp_path, tmp_path / "cache", "clips.csv").clips
        assert (tiny_config().labels[clip.label], clip.strokes) == (label, strokes)
    assert len(list((tmp_path / "cache").iterdir())) == 2  # motion and appearance


@pytest.mark.slow
def test_another_flow_leaves_cached_appearance_as_it_is(tmp_path: Path) -> None:
    write_clip(tmp_path / "one.avi")
    (tmp_path / "clips.csv").write_text("path,label\none.avi,left\n")
    seen = []
    for count, method in ((2, "dis"), (3, "farneback"), (3, "dis")):
        config = with_flow(tiny_config(), method)
        (clip,) = load_clips(config, tmp_path, tmp_path / "cache", "clips.csv").clips
        assert len(list((tmp_path / "cache").iterdir())) == count
        seen.append(clip)
    assert (seen[0].grid == seen[1].grid).all()
    assert (seen[0].fields == seen[2].fields).all()


@pytest.mark.slow
def test_cached_episodes_have_the_labels_of_the_configuration(tmp_path: Path) -> None:
    config = tiny_config(episodes=1, step_hz=2)
    turned = tiny_config(episodes=1, step_hz=2, labels=["right", "left", "background"])
    names = [
        [(now.labels[s.label], s.first) for s in load_episodes(now, tmp_path, 1)[0].strokes]
        for now in (config, turned)
    ]
    assert names[0]
    assert names[0] == names[1]
