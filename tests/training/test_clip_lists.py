"""Clip lists of every format: what is read from them, and how bad ones are refused."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from training.clip_list_formats import DataError, Entry
from training.clip_lists import read_list
from training.config import ClipList


def written(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def by_name(entries: list[Entry]) -> dict[str, Entry]:
    return {entry.name: entry for entry in entries}


def test_a_csv_list_gives_what_it_says(tmp_path: Path) -> None:
    written(tmp_path, {"clips.csv": "path,label,group,fold\na/x.mp4,jump,g1,2\nb.mp4,run,g2,-1\n"})
    assert read_list(tmp_path, "clips.csv") == [
        Entry(tmp_path / "a/x.mp4", "jump", "g1", 2),
        Entry(tmp_path / "b.mp4", "run", "g2", -1),
    ]


def test_columns_of_the_users_own_pass(tmp_path: Path) -> None:
    text = "path,source,label,group,fold,groups\na.mp4,lab,jump,g1,2,x\n"
    written(tmp_path, {"clips.csv": text})
    assert read_list(tmp_path, "clips.csv") == [Entry(tmp_path / "a.mp4", "jump", "g1", 2)]


def test_segments_of_one_file_are_one_group_and_in_one_fold(tmp_path: Path) -> None:
    rows = "\n".join(
        f"{video}.mp4,{label},{start},{end}"
        for video in range(6)
        for label, start, end in (("jump", 0, 2.5), ("run", 4, ""), ("run", 2.5, 3))
    )
    written(tmp_path, {"clips.csv": f"path,label,start,end\n{rows}\n"})
    entries = read_list(tmp_path, ClipList(path="clips.csv", folds=3))
    assert {(e.start_s, e.end_s) for e in entries} == {(0.0, 2.5), (4.0, None), (2.5, 3.0)}
    assert {e.group for e in entries} == {f"{video}.mp4" for video in range(6)}
    assert len({(e.group, e.fold) for e in entries}) == 6
    assert {e.fold for e in entries} == {0, 1, 2}
    assert "0@2.5-3" in by_name(entries)


def test_made_folds_follow_from_the_groups_whatever_the_order(tmp_path: Path) -> None:
    rows = [f"{n}.mp4,{'ab'[n % 2]},g{n // 4}" for n in range(40)]
    written(tmp_path, {
        "clips.csv": "\n".join(["path,label,group", *rows]),
        "turned.csv": "\n".join(["path,label,group", *reversed(rows)]),
    })  # fmt: skip
    entries = read_list(tmp_path, "clips.csv")
    turned = by_name(read_list(tmp_path, "turned.csv"))
    assert {e.name: e.fold for e in entries} == {name: e.fold for name, e in turned.items()}
    counts = [[(e.label, e.fold) for e in entries].count((x, f)) for x in "ab" for f in range(5)]
    assert set(counts) == {4}


def test_groups_can_be_left_out(tmp_path: Path) -> None:
    places = ("lab", "street", "Street")
    rows = [f"{x}{n}.mp4,{label},{x}-{n}" for x in places for n, label in enumerate("aabb")]
    written(tmp_path, {"clips.csv": "\n".join(["path,label,group", *rows])})

    def groups(*patterns: str) -> list[str]:
        found = read_list(tmp_path, ClipList(path="clips.csv", folds=2, leave_out=patterns))
        assert {entry.fold for entry in found} == {0, 1}  # made of those that are left
        return [entry.group for entry in found]

    assert groups("lab-*", "Street-*") == [f"street-{n}" for n in range(4)]
    with pytest.raises(DataError, match=r"clips\.csv: leave_out: no group matches la; the groups"):
        groups("lab-0", "la")
    with pytest.raises(DataError, match="leave_out: no group is left"):
        groups("*")


def test_a_second_list_of_held_out_clips_leaves_out_the_same_groups(tmp_path: Path) -> None:
    head = "path,label,group\n"
    written(tmp_path, {
        "train.csv": head + "a.mp4,a,g1\nb.mp4,b,g2\n",
        "test.csv": head + "c.mp4,a,g3\nd.mp4,b,g4\n",
    })  # fmt: skip
    source = ClipList(path="train.csv", held_out="test.csv", leave_out=("g1", "g4"))
    assert [(e.group, e.fold) for e in read_list(tmp_path, source)] == [("g2", -1), ("g3", 0)]


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    written(tmp_path, {
        "set/jump/v_jump_g01_c01.avi": "", "set/jump/v_jump_g01_c02.avi": "",
        "set/run/deep/one.mp4": "", "set/run/two.MP4": "", "set/run/notes.txt": "",
    })  # fmt: skip
    entries = by_name(read_list(tmp_path, ClipList(path="set", folds=2)))
    assert {name: e.label for name, e in entries.items()} == {
        "v_jump_g01_c01": "jump", "v_jump_g01_c02": "jump", "one": "run", "two": "run",
    }  # fmt: skip
    assert entries["v_jump_g01_c01"].group == entries["v_jump_g01_c02"].group == "jump_g01"
    assert entries["one"].group != entries["two"].group
    assert {e.fold for e in entries.values()} == {0, 1}


UCF101 = {
    "lists/classInd.txt": "1 Archery\n2 Surfing\n",
    "lists/trainlist01.txt": "Archery/v_Archery_g08_c01.avi 1\nSurfing/v_Surfing_g02_c01.avi 2\n",
    "lists/testlist01.txt": "Archery/v_Archery_g01_c01.avi\n",
    "lists/trainlist02.txt": "Archery/v_Archery_g08_c01.avi 1\nArchery/v_Archery_g01_c01.avi 1\n",
    "lists/testlist02.txt": "Surfing/v_Surfing_g02_c01.avi\n",
}


def test_ucf101_test_lists_become_folds(tmp_path: Path) -> None:
    written(tmp_path, UCF101)
    entries = by_name(read_list(tmp_path, ClipList(path="lists", videos="UCF-101")))
    assert {name: (e.label, e.group, e.fold) for name, e in entries.items()} == {
        "v_Archery_g01_c01": ("Archery", "Archery_g01", 1),
        "v_Archery_g08_c01": ("Archery", "Archery_g08", -1),
        "v_Surfing_g02_c01": ("Surfing", "Surfing_g02", 2),
    }
    first = entries["v_Archery_g01_c01"]
    assert first.path == tmp_path / "UCF-101/Archery/v_Archery_g01_c01.avi"
    split = by_name(read_list(tmp_path, "lists/trainlist02.txt"))
    assert split["v_Archery_g01_c01"].fold == -1
    assert split["v_Surfing_g02_c01"].fold == 2


def test_mmaction2_numbers_are_named_by_the_map(tmp_path: Path) -> None:
    written(tmp_path, {
        "k/train.txt": "a b/x.mp4 1\ny.mp4 0\n", "k/val.txt": "z.mp4 1\n",
        "k/label_map.txt": "jump\nlong run\n",
    })  # fmt: skip
    source = ClipList(path="k/train.txt", held_out="k/val.txt", videos="k/videos")
    assert read_list(tmp_path, source) == [
        Entry(tmp_path / "k/videos/a b/x.mp4", "long run", "a b/x.mp4", -1),
        Entry(tmp_path / "k/videos/y.mp4", "jump", "y.mp4", -1),
        Entry(tmp_path / "k/videos/z.mp4", "long run", "z.mp4", 0),
    ]


def test_a_map_with_numbers_orders_the_labels(tmp_path: Path) -> None:
    written(tmp_path, {"a.txt": "x.mp4 0\ny.mp4 1\n", "classInd.txt": "2 run\n1 jump\n"})
    assert [entry.label for entry in read_list(tmp_path, "a.txt")] == ["jump", "run"]


ACTIVITYNET = {
    "database": {
        "abc": {
            "subset": "training",
            "duration": 60.0,
            "annotations": [
                {"segment": [4.0, 9.5], "label": "jump"},
                {"segment": [30.0, 31.0], "label": "run"},
                {"segment": [30.0, 31.0], "label": "run"},
            ],
        },
        "def": {"subset": "validation", "annotations": [{"segment": [0, 2], "label": "run"}]},
        "ghi": {"subset": "testing", "annotations": []},
    }
}


def test_activitynet_segments_and_what_lies_between(tmp_path: Path) -> None:
    written(tmp_path, {"net.json": json.dumps(ACTIVITYNET), "videos/v_abc.mp4": ""})
    entries = read_list(tmp_path, ClipList(path="net.json", videos="videos"))
    video = tmp_path / "videos/v_abc.mp4"
    assert entries == [
        Entry(video, "jump", "abc", -1, 4.0, 9.5),
        Entry(video, "run", "abc", -1, 30.0, 31.0),
        Entry(tmp_path / "videos/def", "run", "def", 0, 0.0, 2.0),
    ]
    wanted = ClipList(path="net.json", videos="videos", between="background")
    between = [entry for entry in read_list(tmp_path, wanted) if entry.filler]
    assert [(e.group, e.fold, e.start_s, e.end_s) for e in between] == [
        ("abc", -1, 0.0, 4.0), ("abc", -1, 9.5, 19.5), ("abc", -1, 19.5, 29.5),
        ("abc", -1, 31.0, 41.0), ("def", 0, 2.0, 12.0),
    ]  # fmt: skip
    assert {e.label for e in between} == {"background"}


@pytest.mark.parametrize(
    ("files", "source", "words"),
    [
        ({}, "none.csv", r"none\.csv: No such file"),
        ({"a.csv": "path,label\n"}, "a.csv", r"a\.csv: lists no clip"),
        ({"a.csv": "file,label\nx,y\n"}, "a.csv", "columns must be path, label .* got file, label"),
        ({"a.csv": "path,label,flod\nx,y,1\n"}, "a.csv", "column flod; did you mean fold?"),
        ({"a.csv": "path,label,Group\nx,y,1\n"}, "a.csv", "column Group; did you mean group?"),
        ({"a.csv": "path,label\nx,y\nz\n"}, "a.csv", "line 3: wrong number of columns"),
        ({"a.csv": "path,label\nx,\n"}, "a.csv", "line 2: no label"),
        ({"a.csv": "path,label,fold\nx,y,one\n"}, "a.csv", "line 2: .*'one'"),
        ({"a.csv": "path,label,start,end\nx,y,3,2\n"}, "a.csv", "line 2: must be 0 <= start < end"),
        ({"a.csv": "path,label\nx,y\nx,y\n"}, "a.csv", "more than once: .*x"),
        (
            {"a.csv": "path,label,group,fold\nx,y,kitchen,0\nz,y,kitchen,1\n"},
            "a.csv",
            r"more than one fold .*: kitchen \(folds \[0, 1\]\)",
        ),
        ({"a.list": "x y\n"}, "a.list", "name its `format`: activitynet, csv"),
        ({"set/jump/x.mp4": "", "set/run/x.txt": ""}, "set", "without a clip .*: run"),
        ({"set/x.mp4": ""}, "set", "has no folders"),
        ({"a.txt": "x.mp4 0\n"}, "a.txt", "beside the list, unless `label_map` .*; it has none"),
        (
            {"a.txt": "x.mp4 1\ny.mp4 2\n", "label_map.txt": "jump\nrun\n"},
            "a.txt",
            r"a\.txt: labels go from 1 to 2, counted from 1; must be 0 to 1",
        ),
        (
            {"a.txt": "x.mp4 0\ny.mp4 7\n", "label_map.txt": "jump\nrun\n"},
            "a.txt",
            "labels 7 aren't in the label map",
        ),
        ({"a.txt": "x 30 0\n", "labels.txt": "jump\n"}, "a.txt", "list of frame folders"),
        ({"a.txt": "x.mp4 jump\n", "labels.txt": "jump\n"}, "a.txt", "number, got 'jump'"),
        ({"a.txt": "x.mp4 0\n", "labels.txt": "0 jump\n2 run\n"}, "a.txt", "without gaps"),
        ({"a.txt": "x.mp4 0\n", "labels.txt": "jump\njump\n"}, "a.txt", "more than once: jump"),
        (
            {**UCF101, "lists/trainlist01.txt": "Archery/v_Archery_g08_c01.avi 0\n"},
            "lists",
            r"line 1: Archery/v_Archery_g08_c01\.avi: number 0 isn't the number of Archery",
        ),
        (
            {**UCF101, "lists/testlist02.txt": "Diving/v_Diving_g01_c01.avi\n"},
            "lists",
            "Diving/.*: its class isn't in classInd",
        ),
        (
            {**UCF101, "lists/testlist02.txt": UCF101["lists/testlist01.txt"]},
            "lists",
            "split 02: Archery/v_Archery_g01_c01",
        ),
        ({"a.json": '{"x": []}'}, "a.json", "must be of the form .*database"),
        ({"a.json": "{"}, "a.json", "not JSON"),
        (
            {"a.json": json.dumps(ACTIVITYNET).replace("9.5", "3.5")},
            "a.json",
            r"a\.json: abc: .* must be 0 <= start < end in seconds, got 4 to 3\.5",
        ),
        ({"a.txt": "x.mp4 0\n", "labels.txt": "\n"}, "a.txt", r"labels\.txt: lists no label"),
    ],
)
def test_a_bad_list_is_refused_by_name(
    tmp_path: Path, files: Mapping[str, str], source: str, words: str
) -> None:
    written(tmp_path, files)
    with pytest.raises(DataError, match=words):
        read_list(tmp_path, source)
