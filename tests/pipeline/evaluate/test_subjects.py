"""Evaluating packs that look at parts of the picture: scores per subject, and per clip."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.clock import NS_PER_S
from pipeline.evaluate.clip_list import Entry
from pipeline.evaluate.clips import predictions, report
from pipeline.evaluate.protocol import best_of_subjects
from pipeline.evaluate.recogniser import OfflineRecogniser, StepResult, changes
from pipeline.evaluate.runs import Run, Track
from pipeline.evaluate.streams import Detection, detections, together
from pipeline.model.pack import ModelPack
from testbed import tiny_pack
from testbed.walkers import Walkers

STEP_NS = NS_PER_S // 10
LABELS = tiny_pack.LABELS
BACKGROUND = np.array([label == "background" for label in LABELS])


def scores(label: str, score: float) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """``score`` for one label; background has the rest."""
    row = np.zeros(len(LABELS), np.float32)
    row[0] = 1 - score
    row[LABELS.index(label)] += score
    return row


def result(step: int, subject: str, label: str, score: float) -> StepResult:
    row = scores(label, score)
    return StepResult(0, step, step * STEP_NS, row, row, None, None, subject)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("view", "expected"), [("person", {"left", "right"}), ("moving", {"right"})]
)
def test_each_subject_has_scores_of_its_own(tmp_path: Path, view: str, expected: set[str]) -> None:
    pack = ModelPack.load(tiny_pack.make(tmp_path / "tiny", view=view))
    walkers = Walkers(((30, 3), (250, -3)) if view == "person" else ((40, 3),))
    recogniser = OfflineRecogniser(pack, detector=walkers.detect)
    seen: list[int] = []
    results = list(recogniser.steps(walkers.frames(24), stepped=seen.append))
    assert len(seen) == 24
    track = Track.of(results, len(LABELS), seen)
    best = {
        name: LABELS[1 + int(track.of_subject(name).spoken(2)[-1][1:].argmax())]
        for name in track.names
    }
    assert set(best.values()) == expected
    assert track.length_ns(10) == 24 * STEP_NS  # also of the steps before anybody was announced
    again = list(recogniser.steps(walkers.frames(24)))
    assert [one.subject for one in again] == [one.subject for one in results]


@pytest.mark.slow
def test_whoever_is_alone_has_the_same_scores_as_beside_others(tmp_path: Path) -> None:
    pack = ModelPack.load(tiny_pack.make(tmp_path / "tiny", view="person"))
    alone, both = Walkers(((30, 3),)), Walkers(((30, 3), (250, 0)))

    def followed(walkers: Walkers) -> dict[str, list[np.ndarray[tuple[int], np.dtype[np.float32]]]]:
        found: dict[str, list[np.ndarray[tuple[int], np.dtype[np.float32]]]] = {}
        recogniser = OfflineRecogniser(pack, detector=walkers.detect)
        for one in recogniser.steps(walkers.frames(16)):
            found.setdefault(one.subject, []).append(one.scores)
        return found

    (expected,) = followed(alone).values()
    found = followed(both)
    assert len(found) == 2
    off = [np.abs(np.stack(rows) - np.stack(expected)).max() for rows in found.values()]
    assert min(off) < 0.05 < max(off)


def test_a_clip_has_the_score_of_its_best_subject() -> None:
    rows = [scores("left", 0.3), scores("right", 0.8)]
    best = best_of_subjects(rows, BACKGROUND)
    assert LABELS[int(best.argmax())] == "right"
    assert best.sum() == pytest.approx(1)
    assert best_of_subjects(rows[:1], BACKGROUND) is rows[0]
    assert LABELS[int(best_of_subjects([], BACKGROUND).argmax())] == "background"


def test_the_figures_name_the_subjects() -> None:
    contract = tiny_pack.contract(view="person")
    results = [
        one
        for step in range(5)
        for one in (result(step, "p1", "left", 0.2), result(step, "p2", "right", 0.9))
    ]
    run = Run(Path("a.mp4"), Track.of(results, len(LABELS), [0, 10 * STEP_NS]), None)
    empty = Run(Path("b.mp4"), Track.of([], len(LABELS), [0, 10 * STEP_NS]), None)
    entries = [
        Entry(Path(name), label, None, None)
        for name, label in (("a.mp4", "right"), ("b.mp4", "background"))
    ]
    figures = report(entries, [run, empty], contract)
    assert figures.scores["fused"].top1 == 1
    assert [(x.subject, x.predicted) for x in figures.predictions[0].subjects] == [
        ("p1", "background"),
        ("p2", "right"),
    ]
    assert figures.predictions[1].subjects == ()
    assert predictions(run, contract)[2] is None  # no motion at all
    assert figures.media_s == 2.2
    together = run.track.together([0])
    assert len(together) == 5
    assert together.scores[0, 0, LABELS.index("right")] > 0.7


def test_two_who_do_the_same_are_one_event() -> None:
    contract = tiny_pack.contract(view="person")
    results = []
    for step in range(40):
        results.append(result(step, "p1", "left", 0.9 if 5 <= step < 20 else 0.0))
        results.append(result(step, "p2", "left", 0.95 if 8 <= step < 25 else 0.0))
        results.append(result(step, "p3", "right", 0.9 if 8 <= step < 25 else 0.0))
    each = detections(changes(contract, results))
    assert [(one.label, one.subject) for one in each] == [
        ("left", "p1"),
        ("left", "p2"),
        ("right", "p3"),
    ]
    one, other = together(each)
    assert (one.label, one.subject, one.start_ns) == ("left", "p2", 5 * STEP_NS)
    assert one.end_ns == each[1].end_ns
    assert other == each[2]


def test_whoever_comes_back_has_new_events() -> None:
    contract = tiny_pack.contract(view="moving")
    away = [replace(result(step, "moving", "left", 0.9), begins=step in (0, 20))
            for step in (*range(10), *range(20, 30))]  # fmt: skip
    found = detections(changes(contract, away))
    assert [(one.start_ns, one.end_ns) for one in found] == [
        (0, 9 * STEP_NS),
        (20 * STEP_NS, 29 * STEP_NS),
    ]


def test_events_of_one_subject_stay_as_they_are() -> None:
    twice = [Detection("left", 0, 1, 5, 0.9), Detection("left", 4, 5, 9, 0.9)]
    assert together(twice) == twice
