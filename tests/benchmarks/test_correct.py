"""How the benchmark of corrections counts, and what it says of an event."""

from benchmarks.correct import Shown, _reviewed, counts
from pipeline.backtest.judging import Said
from pipeline.clock import NS_PER_S

DAY = [Shown("left", 0, 2 * NS_PER_S), Shown(None, 5 * NS_PER_S, 7 * NS_PER_S)]


def said(label: str, start_s: float) -> Said:
    return Said("door", label, round(start_s * NS_PER_S), round((start_s + 1) * NS_PER_S), 0.9)


def test_an_event_counts_once() -> None:
    assert counts([said("left", 1.0), said("left", 3.0)], DAY) == (1, 1, 1)
    assert counts([said("up", 1.0), said("left", 6.0)], DAY) == (1, 0, 2)


def test_reviews_say_what_was_there() -> None:
    verdicts = [
        (one.verdict, one.label)
        for one in (
            _reviewed(said("left", 3.0), DAY, "1"),
            _reviewed(said("up", 1.0), DAY, "2"),
            _reviewed(said("left", 6.0), DAY, "3"),
            _reviewed(said("left", 4.0), DAY, "4"),
        )
    ]
    assert verdicts == [("right", "left"), ("other", "left"), ("wrong", None), ("wrong", None)]
