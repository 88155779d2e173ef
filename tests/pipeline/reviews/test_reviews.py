"""Reviews: which count, the file that keeps them, and the forms in which they travel."""

import json
import sqlite3
from pathlib import Path

import pytest

from pipeline.errors import ReviewError
from pipeline.reviews.formats import NOTHING, from_activitynet, from_csv, to_activitynet, to_csv
from pipeline.reviews.records import Review, in_force
from pipeline.reviews.store import ReviewStore, path_beside

BY, NOW = "ann", "2026-11-26T12:00:00.000Z"


def review(verdict: str = "right", label: str | None = "fall", **fields: str | None) -> Review:
    values = {
        "camera": "door", "verdict": verdict, "label": label, "said": "fall", "event": "door-1",
        "start_time": "2026-11-26T09:00:00.000Z", "end_time": "2026-11-26T09:00:02.500Z",
        "log": "46f7", "by": "bob", "time": "2026-11-26T10:00:00.000Z", **fields,
    }  # fmt: skip
    return Review(**values)  # type: ignore[arg-type]


ALL = [
    review(),
    review("wrong", None, event="door-2", note='a "cat", and\nits tail'),
    review("other", "sit", event="door-3", start_time="2026-11-25T23:59:59.000Z"),
    review("missed", "fall", event=None, said=None, log=None, camera="hall"),
]


def test_the_newest_of_each_event_counts() -> None:
    again = review("wrong", None, by="ann")
    assert in_force([*ALL, again]) == [ALL[2], again, ALL[1], ALL[3]]
    withdrawn = review("withdrawn", None)
    assert in_force([*ALL, again, withdrawn]) == [ALL[2], ALL[1], ALL[3]]


def test_what_was_stored_is_there_again(tmp_path: Path) -> None:
    path = path_beside(tmp_path / "events.sqlite")
    assert path == tmp_path / "events.reviews"
    store = ReviewStore(path)
    assert store.all() == []
    assert not path.exists()
    assert store.add(ALL) == 4
    store.add([review("wrong", None)])
    assert ReviewStore(path).all() == [*ALL, review("wrong", None)]


def test_a_file_of_another_kind_is_told_and_left(tmp_path: Path) -> None:
    path = tmp_path / "events.reviews"
    path.write_text("these are notes of mine, not reviews " * 30)
    before = path.read_bytes()
    for act in (lambda: ReviewStore(path).all(), lambda: ReviewStore(path).add(ALL)):
        with pytest.raises(ReviewError, match=r"events\.reviews: "):
            act()
    assert path.read_bytes() == before


def test_half_of_them_are_never_stored(tmp_path: Path) -> None:
    store = ReviewStore(tmp_path / "events.reviews")
    store.add(ALL[:1])
    with sqlite3.connect(store.path) as db:
        db.execute(
            "CREATE TRIGGER full BEFORE INSERT ON reviews "
            "WHEN (SELECT count(*) FROM reviews) = 2 BEGIN SELECT RAISE(FAIL, 'no room'); END"
        )
    with pytest.raises(ReviewError, match="no room"):
        store.add(ALL[1:])
    assert store.all() == ALL[:1]


def test_there_and_back_by_activitynet() -> None:
    text = to_activitynet(ALL)
    database = json.loads(text)["database"]
    assert set(database) == {"door@2026-11-26", "door@2026-11-25", "hall@2026-11-26"}
    today = database["door@2026-11-26"]
    assert (today["duration"], today["subset"]) == (86_400, "training")
    assert today["annotations"][0]["segment"] == [32_400.0, 32_402.5]
    assert [one["label"] for one in today["annotations"]] == ["fall", NOTHING]
    # Beyond midnight.
    assert database["door@2026-11-25"]["annotations"][0]["segment"][1] > 86_400
    back = from_activitynet(text, BY, NOW)
    assert sorted(back, key=str) == sorted(ALL, key=str)


def test_what_a_tool_changed_keeps_its_event() -> None:
    content = json.loads(to_activitynet(ALL[:1]))
    annotations = content["database"]["door@2026-11-26"]["annotations"]
    annotations[0]["label"] = "sit"
    annotations.append({"label": "fall", "segment": [10.0, 12.0]})
    changed, new = from_activitynet(json.dumps(content), BY, NOW)
    assert (changed.verdict, changed.label, changed.said, changed.event) == (
        "other", "sit", "fall", "door-1",
    )  # fmt: skip
    assert (changed.by, changed.time) == (BY, NOW)
    assert (new.verdict, new.label, new.start_time) == (
        "missed", "fall", "2026-11-26T00:00:10.000Z",
    )  # fmt: skip


def test_there_and_back_by_csv() -> None:
    assert from_csv(to_csv(ALL), BY, NOW) == ALL
    short = (
        "camera,start_time,end_time,label\ndoor,2026-11-26T09:00:00Z,2026-11-26T09:00:02Z,fall\n"
    )
    (one,) = from_csv(short, BY, NOW)
    assert (one.verdict, one.label, one.by, one.time) == ("missed", "fall", BY, NOW)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1: no column camera, end_time, start_time"),
        ("camera,start_time\n", "no column end_time"),
        ("camera,start_time,end_time\ndoor,now,later\n", "line 2"),
        ("camera,start_time,end_time\ndoor,2026-11-26T09:00:02Z,2026-11-26T09:00:00Z\n", "before"),
        ("camera,start_time,end_time,verdict\nd,2026-11-26T09:00:00Z,2026-11-26T09:00:00Z,so\n",
         "line 2: .*verdict"),
    ],
)  # fmt: skip
def test_a_table_that_is_none_is_told_by_its_line(text: str, says: str) -> None:
    with pytest.raises(ReviewError, match=says):
        from_csv(text, BY, NOW)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "{}", '{"database": []}', '{"database": {"door": {"annotations": [{}]}}}',
     '{"database": {"door@2026-11-26": {"annotations": [{"label": "x", "segment": [1]}]}}}'],
)  # fmt: skip
def test_json_that_is_none_is_told(text: str) -> None:
    with pytest.raises(ReviewError, match="not ActivityNet"):
        from_activitynet(text, BY, NOW)
