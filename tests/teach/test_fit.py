"""Fitting heads, thresholds and figures: pure functions of arrays."""

import numpy as np
import pytest

from pipeline.arrays import Vector
from teach import verdict as verdicts
from teach.base import Block
from teach.fit import Regression, Scaling, softmax
from teach.streams import Count, Labels, ScoredStream, Shown, counted
from teach.thresholds import Fitted, calibration_error, fit, threshold
from teach.trial import folds_of, temperature


def blobs(count: int, labels: int, size: int, seed: int = 0) -> tuple[Vector, np.ndarray]:
    random = np.random.default_rng(seed)
    numbers = np.arange(count) % labels
    centres = random.normal(size=(labels, size)) * 3
    return (centres[numbers] + random.normal(size=(count, size))).astype(np.float32), numbers


@pytest.mark.parametrize("size", [6, 400])
@pytest.mark.parametrize("labels", [2, 5])
def test_regression_tells_labels_apart_in_few_and_in_many_features(labels: int, size: int) -> None:
    vectors, numbers = blobs(60, labels, size)
    vectors /= np.sqrt((vectors**2).sum(1).mean())
    weights, bias = Regression(vectors[:30], numbers[:30], np.ones(30, np.float32), labels).fitted()
    assert weights.shape == (size, labels)
    predicted = (vectors[30:] @ weights + bias).argmax(1)
    assert (predicted == numbers[30:]).mean() > 0.9


def test_a_label_without_windows_is_never_named() -> None:
    vectors, numbers = blobs(40, 2, 8)
    weights, bias = Regression(vectors, numbers, np.ones(40, np.float32), 3).fitted()
    assert (vectors @ weights + bias).argmax(1).max() < 2


def test_scaling_leaves_out_what_hardly_varies() -> None:
    """Noise of a constant feature would count as much as any other."""
    random = np.random.default_rng(0)
    values = random.normal(size=(50, 3)).astype(np.float32)
    values[:, 1] = 7 + 1e-5 * values[:, 1]
    block = Block(name="b", start=0, size=3, pools=("mean",))
    scaled = Scaling.fitted([values], [block]).apply([values])
    assert np.abs(scaled[:, 1]).max() == 0
    assert (scaled**2).sum(1).mean() == pytest.approx(1, rel=0.01)


def test_blocks_have_the_lengths_of_their_weights() -> None:
    random = np.random.default_rng(0)
    blocks = [
        Block(name="a", start=0, size=3, pools=("mean",), weight=0.8),
        Block(name="b", start=3, size=30, pools=("mean",), weight=0.2, scaling="block"),
    ]
    values = [random.normal(size=(80, n)).astype(np.float32) * s for n, s in ((3, 1), (30, 90))]
    scaled = Scaling.fitted(values, blocks).apply(values)
    shares = [(part**2).sum(1).mean() for part in (scaled[:, :3], scaled[:, 3:])]
    assert shares == pytest.approx([0.8, 0.2], rel=0.02)


@pytest.mark.parametrize("heat", [0.3, 1.0, 3.0])
def test_temperature_is_found_again(heat: float) -> None:
    random = np.random.default_rng(0)
    logits = random.normal(size=(4000, 3)).astype(np.float32) * 2
    cumulated = softmax(logits).cumsum(1)
    numbers = (random.random((4000, 1)) > cumulated[:, :2]).sum(1)
    found = temperature(logits * heat, numbers, np.full(4000, 1.0, np.float32))
    assert found == pytest.approx(heat, rel=0.12)


def test_calibration_error_of_sure_guesses_is_large() -> None:
    scores = np.tile(np.array([0.95, 0.05], np.float32), (100, 1))
    right = np.arange(100) % 2 == 0
    assert calibration_error(scores, right) == pytest.approx(0.45, abs=0.01)


def test_folds_keep_groups_together_and_spread_labels() -> None:
    groups = [f"g{k // 3}" for k in range(30)]
    labels = [k % 3 for k in range(30)]
    folds = folds_of(groups, labels)
    assert len(set(folds)) == 5
    for group in set(groups):
        assert len({f for f, g in zip(folds, groups, strict=True) if g == group}) == 1
    for fold in set(folds):
        assert {n for f, n in zip(folds, labels, strict=True) if f == fold} == {0, 1, 2}


LABELS = Labels(("rest", "wave", "clap"), ("rest",), 10.0)


def stream(
    *peaks: tuple[int, int, float], steps: int = 100, shown: tuple[Shown, ...] = ()
) -> ScoredStream:
    """Ten steps of a score each: (first step, label, score)."""
    scores = np.zeros((steps, 3), np.float32)
    for first, label, score in peaks:
        scores[first : first + 10, label] = score
    scores[:, 0] = 1 - scores.sum(1)
    return ScoredStream(scores, shown)


def test_events_are_found_false_or_missed() -> None:
    shown = (Shown(1, 10, 20), Shown(2, 40, 50))
    one = stream((12, 1, 0.9), (70, 1, 0.9), shown=shown)
    counts = counted([one], LABELS, dict.fromkeys(LABELS.names, threshold(0.6, 0.2)))
    assert counts == {1: Count(shown=1, found=1, false=1), 2: Count(shown=1)}


def test_thresholds_keep_quiet_footage_quiet() -> None:
    shown = (Shown(1, 10, 20),)
    fitted = fit([stream((10, 1, 0.97), shown=shown)], [stream((30, 1, 0.72))], LABELS, 1.0)
    assert fitted.thresholds["wave"].start > 0.72
    assert fitted.quiet.false == 0
    assert fitted.counts[1].found == 1


def test_many_choices_are_equal_and_the_one_in_the_middle_is_taken() -> None:
    """The strictest would miss what is done a little differently."""
    shown = (Shown(1, 10, 20),)
    fitted = fit([stream((10, 1, 0.97), shown=shown)], [stream()], LABELS, 1.0)
    assert 0.55 < fitted.thresholds["wave"].start < 0.85


@pytest.mark.parametrize(("events", "bound"), [(0, 3.0), (1, 4.74), (3, 7.75), (10, 16.96)])
def test_false_alarms_are_bounded(events: int, bound: float) -> None:
    """Exact one-sided 95 % bounds of a Poisson mean, over a day of footage."""
    fitted = Fitted({}, {}, Count(false=events), 24.0)
    assert fitted.most_a_day == pytest.approx(bound, rel=0.03)


def test_pairs_that_can_not_be_told_apart_are_named() -> None:
    table = np.array([[9, 0, 1], [0, 5, 5], [0, 4, 6]])
    assert verdicts.confused_pairs(table, ("rest", "one", "two")) == [("one", "two", 0.45)]


def test_examples_that_do_not_differ_are_seen() -> None:
    random = np.random.default_rng(0)
    alike = np.tile(random.normal(size=(1, 20)), (8, 1)) + 0.001 * random.normal(size=(8, 20))
    others = random.normal(size=(20, 20))
    vectors = np.concatenate([alike, others]).astype(np.float32)
    numbers = np.array([0] * 8 + [1] * 20)
    assert verdicts.too_alike(vectors, numbers, 0)
    assert not verdicts.too_alike(vectors, numbers, 1)


@pytest.mark.parametrize(
    ("half", "whole", "least", "most"),
    [(0.8, 0.9, 0.94, 0.96), (0.9, 0.9, 0.9, 0.9), (0.95, 0.9, 0.9, 0.9), (0.9, 1.0, 1.0, 1.0)],
)
def test_the_curve_goes_on(half: float, whole: float, least: float, most: float) -> None:
    assert least - 1e-6 <= verdicts.extrapolated(half, whole) <= most + 1e-6
