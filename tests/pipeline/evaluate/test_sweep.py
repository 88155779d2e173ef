"""Other thresholds on scores that were kept."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.clock import NS_PER_S
from pipeline.evaluate.recogniser import StepResult, changes
from pipeline.evaluate.runs import STREAMS, Run, StreamRun, Track
from pipeline.evaluate.sweep import sweep, with_start
from pipeline.evaluate.timeline import Interval
from pipeline.model.pack import Threshold
from testbed import tiny_pack

CONTRACT = tiny_pack.contract()
STEP_NS = NS_PER_S // 10
LEFT = CONTRACT.labels.index("left")


def track(left: list[float]) -> Track:
    """A camera whose ``left`` has these scores, a step each; the rest is background's."""
    results = []
    for step, score in enumerate(left):
        scores = np.zeros(len(CONTRACT.labels), np.float32)
        scores[[0, LEFT]] = 1 - score, score
        results.append(StepResult(0, step, step * STEP_NS, scores, None, scores, None))
    return Track.of(results, len(CONTRACT.labels))


def test_a_track_keeps_what_the_event_rules_need() -> None:
    kept = track([0.0, 0.9, 0.9, 0.9, 0.0, 0.0, 0.0])
    assert kept.scores.shape == (len(STREAMS), 7, len(CONTRACT.labels))
    assert len(kept.spoken(STREAMS.index("spatial"))) == 0
    assert len(kept.spoken(STREAMS.index("temporal"))) == 7
    assert kept.length_ns(10.0) == 7 * STEP_NS
    found = [step.change for step in changes(CONTRACT, kept.results())]
    assert [(c.type, c.label, c.start_ns) for c in found] == [
        ("start", "left", STEP_NS),
        ("end", "left", STEP_NS),
    ]


def test_asking_for_less_finds_more_and_pays_with_false_alarms() -> None:
    action, hum = [0.0] * 5 + [0.8] * 5, [0.0] * 20 + [0.45] * 5 + [0.0] * 20
    interval = Interval("left", 5 * STEP_NS, 10 * STEP_NS, Path("left.mp4"))
    kept = track(action + hum)
    stream = StreamRun((), kept, [interval], [interval], len(kept) * STEP_NS)
    points = sweep(stream, [Run(Path("quiet.mp4"), track(hum), None)], CONTRACT)
    by_start = {point.start: point for point in points}
    assert points[0].start is None
    assert (points[0].f1, points[0].recall) == (by_start[0.7].f1, by_start[0.7].recall)
    hours = stream.end_ns / NS_PER_S / 3600
    assert (by_start[0.4].f1, by_start[0.4].precision) == (0.6667, 0.5)
    assert by_start[0.4].false_alarms_per_hour == pytest.approx(1 / hours, rel=1e-3)
    assert by_start[0.4].negatives_false_alarms_per_hour == pytest.approx(800.0)
    assert (by_start[0.6].f1, by_start[0.6].negatives_false_alarms_per_hour) == (1.0, 0.0)
    assert (by_start[0.85].recall, by_start[0.85].precision) == (0.0, None)


def test_the_end_threshold_never_exceeds_the_start() -> None:
    for start in (0.3, 0.9):
        for label in CONTRACT.labels[1:]:
            threshold = with_start(CONTRACT, start).threshold(label)
            assert Threshold.model_validate(threshold.model_dump()) == threshold
            assert (threshold.start, threshold.end) == (start, min(0.5, start))
