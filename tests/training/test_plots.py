"""What the pictures of a run show."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from training.optimise import Curves
from training.plots import confusion_matrix, learning_curves, save, smoothed


def test_curves_show_every_loss_and_the_accuracy_where_it_was_measured() -> None:
    figure = learning_curves(Curves([4.0, 3.0, 5.0], [(2, 0.5)]), "fold0")
    loss, accuracy = figure.axes
    raw, mean = (line.get_xydata() for line in loss.lines)
    assert np.array_equal(raw, [(1, 4), (2, 3), (3, 5)])
    assert np.array_equal(mean, list(zip((1, 2, 3), smoothed([4, 3, 5]), strict=True)))
    assert np.array_equal(accuracy.lines[0].get_xydata(), [(2, 0.5)])
    assert len(learning_curves(Curves([1.0]), "final").axes) == 1


def test_smoothing_starts_at_the_first_value() -> None:
    assert smoothed([4.0, 4.0, 5.0]) == pytest.approx([4.0, 4.0, 4.05])


def test_the_matrix_has_truth_down_and_predictions_across(tmp_path: Path) -> None:
    figure = confusion_matrix(np.array([[3, 1], [0, 2]]), ["left", "right"], "tiny")
    axes = figure.axes[0]
    assert axes.get_ylabel() == "true"
    assert {text.get_position(): text.get_text() for text in axes.texts} == {
        (0, 0): "3",
        (1, 0): "1",
        (1, 1): "2",
    }
    save(figure, tmp_path / "new" / "confusion.png")
    picture = cv2.imread(str(tmp_path / "new" / "confusion.png"))
    assert picture is not None
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["confusion.png"]
