"""Comparing views: the figures on rows made by hand, and the features of a small clip."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.people.detector import PersonDetector
from testbed.walkers import Walkers, write
from tests.training.tiny import linear_config
from training.data import video_frames
from training.view_features import LESS, Networks, clip_view_features
from training.view_figures import (
    VIEWS,
    ClipTable,
    column_rows,
    compared,
    figures,
    motion_columns,
    tables,
)


def table(clips: int = 40) -> ClipTable:
    """Clips whose frame tells nothing, and whose region tells all where there is one."""
    made, rng = ClipTable(), np.random.default_rng(0)
    for number in range(clips):
        shows = number % 2 == 1
        rows = {
            column: [rng.normal(0, 1, 6).astype(np.float32)]
            for column in (*motion_columns(), *(f"{view}|appearance" for view in VIEWS))
        }
        rows["moving|whole|camera"] = [np.full(6, 3.0 if shows else -3.0, np.float32)]
        rows["person|whole|camera"] = [
            np.full(6, -3.0, np.float32),
            np.full(6, 3.0 if shows else -3.0, np.float32),
        ]
        if number % 10 == 0:
            del rows["person|appearance"]
        made.shows.append(shows)
        made.groups.append(f"g{number // 2}")
        made.rows.append(rows)
    made.costs.seconds["flow"] += 0.5
    made.costs.calls["flow"] += 100
    return made


def test_a_column_that_tells_is_found() -> None:
    found = figures(table(), ["moving|whole|camera"], 0.1, range(2))
    assert found.auc == found.top1 == 1
    assert figures(table(), ["frame|whole|median"], 0.1, range(2)).auc < 0.8


def test_a_clip_has_the_score_of_its_best_subject() -> None:
    assert figures(table(), ["person|whole|camera"], 0.1, range(2), 1).auc == 0.5
    assert figures(table(), ["person|whole|camera"], 0.1, range(2), 2).auc == 1


def test_clips_without_a_subject_are_counted_and_taken_whole() -> None:
    rows, without = column_rows(table(), "person|appearance", 1)
    assert without == 4
    assert all(len(row) == 1 for row in rows)


@pytest.mark.slow
def test_all_is_compared_in_tables() -> None:
    config = linear_config(linear={"decay": 2.0, "windows": 2, "shortest": 4})
    result = compared(config, table(), range(1))
    assert result["milliseconds"] == {"flow": 5.0}
    text = tables(result)
    assert "40 clips, 20 of an action; 1 seeds of 5 folds" in text
    assert "| moving, whole, camera + person, appearance | 1 |" in text
    assert "| flow | 5.00 |" in text


@pytest.mark.slow
def test_the_features_of_a_clip(tmp_path: Path) -> None:
    path = write(tmp_path / "one.avi", Walkers(((250, -6),)), 12)
    config = linear_config()
    arrays, costs = clip_view_features(
        video_frames(path), config, Networks(config), PersonDetector(), VIEWS
    )
    ways = {f"{way}|{less}" for way, every in LESS.items() for less in every}
    assert {f"moving|{way}" for way in ways} <= arrays.keys()
    assert {column for column in arrays if column.startswith("frame")} == {
        "frame|appearance",
        *(f"frame|whole|{less}" for less in LESS["whole"]),
    }
    assert arrays["moving|appearance"].shape == (1, 2560)
    assert costs.calls["flow of the whole"] == 11
    assert costs.calls["detector"] == 6
