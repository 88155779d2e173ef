"""Training with views: each subject is a clip of its own, and regions are computed once."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.arrays import Frame
from pipeline.people.tracks import Detections
from testbed.walkers import Walkers, bright_boards, write
from tests.training.tiny import linear_config, tiny_clip, tiny_config
from training.clip_cache import FileContents
from training.clip_list_formats import DataError, Entry
from training.config import TrainConfig
from training.crossvalidation import Data, load_data, measure_fold, trainer_for
from training.data import NOBODY, Clip, load_clips
from training.linear import FixedStreams, clip_weights
from training.optimise import Run
from training.subjects import (
    SubjectCache,
    by_clip,
    find_people,
    follow,
    nobody,
    shares,
    stepped,
    trained_on,
)

LEFT_AND_STILL = ((250, -6), (20, 0))


class Counting:
    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, frame: Frame) -> Detections:
        self.calls += 1
        return bright_boards(frame)


def person_config(**changes: object) -> TrainConfig:
    return tiny_config(**{"view": "person", "looks": 1, **changes})


def entry_of(path: Path) -> Entry:
    return Entry(path, "left", "g0", 0)


def test_recipes_say_which_view_and_whose_label() -> None:
    assert "view" not in tiny_config().model_dump_json()
    assert "subjects" not in tiny_config().model_dump()
    config = person_config(subjects=2)
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config
    for changes, message in (
        ({"view": "hand"}, "view"),
        ({"view": "moving", "subjects": 2}, "only view person has several"),
        ({"view": "person", "episodes": 3}, "the demo camera shows nobody"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny_config(**changes)


@pytest.mark.slow
def test_the_one_who_moves_most_is_first(tmp_path: Path) -> None:
    path = write(tmp_path / "two.avi", Walkers(LEFT_AND_STILL), 20)
    clips = SubjectCache(tmp_path / "cache", person_config(), bright_boards, "bright")(
        entry_of(path), FileContents()
    )
    assert [clip.rank for clip in clips] == [0, 1]
    assert {clip.subject for clip in clips} == {"p1", "p2"}
    assert all(clip.steps == 20 for clip in clips)
    assert all(0 < clip.start < 8 for clip in clips)
    assert all(len(clip) == len(clip.grid) == len(clip.moving) for clip in clips)
    assert all(clip.looks.shape[:2] == (1, len(clip)) for clip in clips)
    first, second = (np.abs(clip.fields.astype(int) - 128).mean() for clip in clips)
    assert first > 4 * second
    assert np.median(clips[0].fields[-1, 2:-2, 5:-5, 0].astype(int)) < 120


@pytest.mark.slow
def test_people_are_looked_for_once(tmp_path: Path) -> None:
    path = write(tmp_path / "two.avi", Walkers(LEFT_AND_STILL), 12)
    detect = Counting()

    def clips(config: TrainConfig, detector: str = "bright") -> list[Clip]:
        return SubjectCache(tmp_path / "cache", config, detect, detector)(
            entry_of(path), FileContents()
        )

    one = clips(person_config())
    looked = detect.calls
    assert looked > 0
    again = clips(person_config())
    for a, b in zip(one, again, strict=True):
        assert (a.subject, a.start, a.rank) == (b.subject, b.start, b.rank)
        np.testing.assert_array_equal(a.fields, b.fields)
        np.testing.assert_array_equal(a.grid, b.grid)
    base = person_config().temporal.model_dump()
    clips(person_config(temporal={**base, "method": "farneback"}))
    clips(person_config(looks=0))
    assert detect.calls == looked
    clips(person_config(), "another detector")
    assert detect.calls == 2 * looked


@pytest.mark.slow
def test_what_moves_needs_no_detector(tmp_path: Path) -> None:
    path = write(tmp_path / "one.avi", Walkers(((250, -6),)), 12)
    config = tiny_config(view="moving")
    (clip,) = load_clips(
        config, tmp_path, tmp_path / "cache", _list(tmp_path, [path]),
        computed=SubjectCache(tmp_path / "cache", config),
    ).clips  # fmt: skip
    assert clip.subject == "moving"
    assert clip.strokes[0].past == len(clip)
    assert stepped(entry_of(path), config).pictures.shape[1:] == (32, 32, 3)


def _list(folder: Path, paths: Sequence[Path]) -> str:
    rows = [f"{path.name},left,g{number},{number}" for number, path in enumerate(paths)]
    (folder / "clips.csv").write_text("\n".join(["path,label,group,fold", *rows]) + "\n")
    return "clips.csv"


@pytest.mark.slow
def test_a_clip_of_nobody_is_kept_and_not_trained_on(tmp_path: Path) -> None:
    path = write(tmp_path / "none.avi", Walkers(()), 12)
    config = person_config()
    cached = SubjectCache(tmp_path / "cache", config, bright_boards, "bright")
    clips = cached(entry_of(path), FileContents())
    assert [(clip.subject, clip.steps) for clip in clips] == [(NOBODY, 12)]
    assert trained_on(clips, config) == []
    with pytest.raises(DataError, match="nobody was found"):
        stepped(entry_of(path), config, bright_boards)


def test_a_clip_without_frames_is_refused() -> None:
    config = person_config()
    with pytest.raises(DataError, match="no frame"):
        follow(iter(()), config, find_people(iter(()), 10.0, bright_boards))


def subject(label: int, number: int, rank: int) -> Clip:
    clip = tiny_clip(label, number)
    return replace(
        clip, name=f"clip{label}-{number}", subject=f"p{rank + 1}", rank=rank, steps=len(clip),
        content=f"{label} {number}", fold=number % 2,
    )  # fmt: skip


def test_a_label_is_that_of_those_who_move_most() -> None:
    config = person_config()  # label 0 is background
    clips = [subject(label, 0, rank) for label in (0, 1) for rank in range(3)]
    kept = [(clip.label, clip.rank) for clip in trained_on(clips, config)]
    assert kept == [(0, 0), (0, 1), (0, 2), (1, 0)]
    two = trained_on(clips, person_config(subjects=2))
    assert [(clip.label, clip.rank) for clip in two][3:] == [(1, 0), (1, 1)]


def test_a_clip_weighs_the_same_however_many_it_shows() -> None:
    config = person_config(subjects=2)
    crowded = [subject(1, 0, 0), subject(1, 0, 1), subject(1, 1, 0), subject(2, 0, 0)]
    assert shares(crowded) == [0.5, 0.5, 1.0, 1.0]
    weights = clip_weights(config, crowded, 0)
    assert weights == pytest.approx([0.125, 0.125, 0.25, 0.5])
    whole = [tiny_clip(label, seed) for label in (0, 1, 1) for seed in range(2)]
    assert shares(whole) == [1.0] * 6
    assert [len(group) for group in by_clip(whole)] == [1] * 6


@pytest.mark.slow
def test_folds_are_measured_by_clip(linear_streams: FixedStreams) -> None:
    config = linear_config(view="person", subjects=1)
    clips = []
    for number in range(4):
        clips += [subject(2, number, 0), subject(0, number, 1)]
        clips[-1] = _as(clips[-1], clips[-2])  # somebody who does nothing, in a clip of an action
        clips += [subject(0, number, 0)]
    clips.append(nobody(Entry(Path("e.avi"), "background", "g9", 0), "empty", 10))
    data = Data(
        clips, [], [], [], streams=linear_streams, trained_on=lambda x: trained_on(x, config)
    )
    assert len(data.without(1)[0]) == 4
    assert data.counts(config)["clips_without_subjects"] == ["e"]
    trainer = trainer_for(config, data, 1, Run())
    model = trainer.train(lambda _iteration, _loss: None)
    for fold, truth in ((0, [2, 0, 2, 0, 0]), (1, [2, 0, 2, 0])):
        measured = measure_fold(model, config, data, fold)
        assert measured.truth == truth
        assert [row[0] for row in measured.predicted] == truth
        assert sum(len(stream.scores) for stream in measured.looped) == 10 * len(truth)
        assert len(measured.looped[0].strokes) == truth.count(2)


def _as(clip: Clip, other: Clip) -> Clip:
    return replace(clip, name=other.name, content=other.content, label=other.label)


@pytest.mark.slow
def test_a_recipe_with_a_view_loads_its_lists(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{n}.avi", Walkers(((250, -6 + n),)), 12) for n in range(2)]
    name = _list(tmp_path, paths)
    rows = (tmp_path / name).read_text() + "2.avi,background,g2,0\n"
    write(tmp_path / "2.avi", Walkers(()), 12)
    (tmp_path / name).write_text(rows)
    config = tiny_config(
        view="moving", labels=["background", "left"], swaps={}, reversals={}, looks=0
    )
    data = load_data(config, tmp_path, tmp_path / "cache")
    assert [clip.subject for clip in data.clips] == ["moving", "moving", NOBODY]
    assert data.counts(config)["subjects"] == 2
