"""Pictures of a run: learning curves and the confusion matrix."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from training.files import write_whole
from training.optimise import Curves

SMOOTHING = 0.95
LARGEST_SIDE = 40.0


def learning_curves(curves: Curves, title: str) -> Figure:
    """The loss at each iteration, raw and smoothed, and held-out accuracy if measured."""
    figure, axes = _figure(title, 6.3, 4.5)
    iterations = np.arange(1, len(curves.loss) + 1)
    axes.plot(iterations, curves.loss, color="tab:blue", alpha=0.25)
    axes.plot(iterations, smoothed(curves.loss), color="tab:blue")
    axes.set(xlabel="iteration", ylabel="loss")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    if curves.accuracy:
        right = axes.twinx()
        right.plot(*zip(*curves.accuracy, strict=True), "o-", color="tab:orange", markersize=3)
        right.set(ylabel="held-out accuracy (orange)", ylim=(0, 1))
    return figure


def smoothed(values: Sequence[float]) -> list[float]:
    """The running mean that the progress bar shows."""
    means: list[float] = []
    for value in values:
        means.append(SMOOTHING * means[-1] + (1 - SMOOTHING) * value if means else value)
    return means


def confusion_matrix(counts: npt.NDArray[np.int64], labels: Sequence[str], title: str) -> Figure:
    """(C, C) counts, row = true label, column = predicted; shaded by the share of its row."""
    side = min(2.5 + 0.45 * len(labels), LARGEST_SIDE)
    figure, axes = _figure(title, side, side)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.set(xlabel="predicted", ylabel="true")
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = "white" if shares[row, column] > 0.5 else "black"
            axes.text(column, row, str(count), ha="center", va="center", color=colour)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; the file is there whole or not at all."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    write_whole(path, buffer.getvalue())


def _figure(title: str, width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title)
    return figure, axes
