"""A pack is taught without some clips, and those are played whole."""

import csv
import os
from pathlib import Path

import pytest

from benchmarks.left_out import measure
from teach.pack import TeachError
from testbed.footage import shared_data

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        "TWO_STREAM_DATA" not in os.environ, reason="TWO_STREAM_DATA must name the folder of clips"
    ),
]


def listed(folder: Path) -> Path:
    """Eight clips of two labels and of the background, at two places."""
    path = folder / "clips.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "group", "place"])
        for label in ("background", "left", "up"):
            for number in range(1, 9):
                place = ("hall", "yard")[number % 2]
                # Names of files come again in other folders.
                clip = Path(place, label, f"{number // 2}.mp4")
                (folder / clip).parent.mkdir(parents=True, exist_ok=True)
                filmed = shared_data() / "gestures" / label / f"{label}_{number}.mp4"
                (folder / clip).symlink_to(filmed)
                rows.writerow([clip, label, f"{place} {number}", place])
    return path


def test_each_place_is_left_out_once(tmp_path: Path) -> None:
    found = measure(listed(tmp_path), by="place", looks="flow", cache=tmp_path / "cache")
    assert [one["left_out"] for one in found] == ["hall", "yard"]
    assert [one["actions"] for one in found] == [8, 8]
    assert sum(one["found"] for one in found) >= 8
    for one in found:
        assert one["rest_minutes"] > 0
        assert one["most_false_an_hour"] is not None
        assert one["auc"] is not None
        assert one["auc"] > 0.7


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(TeachError, match="has no column room"):
        measure(listed(tmp_path), by="room", looks="flow")
