"""The page's charts as SVG, drawn by matplotlib in the colours of the page's style sheet.

Each chart is drawn once, in placeholder colours that are then replaced by CSS variables. So one
drawing serves the light page, the dark page and print.
"""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pipeline.clock import NS_PER_S
from pipeline.evaluate.clips import ScoreFigures
from pipeline.evaluate.page.strips import Span
from pipeline.evaluate.runs import Track
from pipeline.evaluate.streams import StreamReport
from pipeline.evaluate.sweep import Point

INKS = {
    name: f"#0{i:x}0d0b"
    for i, name in enumerate(
        ("ink", "muted", "line", "panel", "right", "wrong", "repeat", "other", "faint")
    )
}
"""A placeholder colour for each of the page's CSS variables, by its name."""

WIDE, HALF = 10.6, 5.2
"""Inches; the page is as wide as one wide chart or two halves."""
MOST_LABELS = 60
"""Labels that a chart has room to name."""
ROW_S = 60.0
"""Seconds of a stream in a row of its timeline."""
MOST_ROWS = 30
LETTER_S = 0.42
"""Width of a letter, in seconds of a row."""

_OUTCOMES = {"matched": "right", "repeat": "repeat", "false alarm": "wrong"}

Dash = str | tuple[float, tuple[float, ...]]
"""A line style of matplotlib: a name, or an offset and lengths on and off."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "two-stream",
    "font.size": 8.5,
    "axes.facecolor": "none",
    "axes.edgecolor": INKS["line"],
    "axes.labelcolor": INKS["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INKS["line"],
    "ytick.color": INKS["line"],
    "xtick.labelcolor": INKS["muted"],
    "ytick.labelcolor": INKS["ink"],
    "text.color": INKS["ink"],
    "axes.titlesize": 9,
    "axes.titlecolor": INKS["ink"],
    "axes.axisbelow": True,
    "grid.color": INKS["line"],
    "grid.linewidth": 0.6,
    "patch.linewidth": 0.0,
}


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # The browser draws the text with its own font; matplotlib's is used only to measure it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.patch.set_alpha(0.0)
    return figure


def _svg(figure: Figure) -> str:
    """The drawing as an element of the page: without a prologue and ids, in the page's colours."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    for name, colour in INKS.items():
        text = text.replace(colour, f"var(--{name})")
    return text.replace("<svg ", '<svg aria-hidden="true" ', 1)


def confusion(table: Sequence[Sequence[int]], labels: Sequence[str]) -> str:
    """Rows are true labels; a cell is darker the larger its share of the row.

    Above :data:`MOST_LABELS` the labels and counts are left out.
    """
    counts = np.array(table)  # (C, C)
    named = len(labels) <= MOST_LABELS
    rows = np.maximum(counts.sum(axis=1), 1)
    size = max(2.6, min(0.36 * len(labels) + 1.1, WIDE))
    with _style():
        figure = _figure(size, size)
        axes = figure.add_subplot()
        for i, j in np.ndindex(*counts.shape):
            if count := int(counts[i, j]):
                ink = "right" if i == j else "wrong"
                share = 0.12 + 0.78 * count / rows[i]
                axes.add_patch(Rectangle((j, i), 1, 1, facecolor=INKS[ink], alpha=share))
                colour = INKS["panel"] if share > 0.55 else INKS["ink"]
                if not named:
                    continue
                axes.text(j + 0.5, i + 0.54, str(count), ha="center", va="center", color=colour)
        ends = (0, len(labels))
        axes.set(xlim=ends, ylim=ends[::-1], aspect="equal", ylabel="true", xlabel="predicted")
        ticks = np.arange(len(labels)) + 0.5
        axes.set_xticks(ticks if named else [], labels if named else None)
        axes.set_yticks(ticks if named else [], labels if named else None)
        axes.tick_params(axis="x", labelcolor=INKS["ink"], labelrotation=90)
        axes.hlines(range(len(labels) + 1), *ends, color=INKS["line"], lw=0.5, zorder=0)
        axes.vlines(range(len(labels) + 1), *ends, color=INKS["line"], lw=0.5, zorder=0)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        return _svg(figure)


Rates = Mapping[str, tuple[int, float | None, float | None, float | None]]
"""By label: how many, recall, precision, F1."""


def label_bars(rates: Rates) -> str:
    """Recall and precision of each label as bars, F1 as a point.

    Of more than :data:`MOST_LABELS` labels, those with the lowest F1.
    """
    rows = list(rates.items())
    if len(rows) > MOST_LABELS:
        rows = sorted(rows, key=lambda row: row[1][3] or 0.0)[:MOST_LABELS]
    with _style():
        figure = _figure(HALF, 0.3 * len(rows) + 0.9)
        axes = figure.add_subplot()
        for place, (_, (_, recall, precision, f1)) in enumerate(rows):
            axes.barh(place - 0.17, recall or 0.0, 0.3, color=INKS["right"])
            axes.barh(place + 0.17, precision or 0.0, 0.3, color=INKS["right"], alpha=0.45)
            if f1 is not None:
                axes.plot(f1, place, "D", ms=4, mfc=INKS["panel"], mec=INKS["ink"], mew=0.9)
                axes.text(1.03, place, f"{100 * f1:.0f}", va="center")
            else:
                axes.text(0.01, place, "none", va="center", color=INKS["muted"], style="italic")
        axes.text(1.03, -1.0, "F1, %", va="center", color=INKS["muted"])
        names = [f"{label}  ({row[0]})" for label, row in rows]
        axes.set_yticks(range(len(rows)), names)
        axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        axes.set(xlim=(0, 1.12), ylim=(len(rows) - 0.4, -1.3))
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        axes.spines[["left", "bottom"]].set_visible(False)
        return _svg(figure)


def curve(points: Sequence[tuple[str, float, bool]], floor: float) -> str:
    """Shares told right, in order: (name, share, whether it was measured).

    What is only expected is hollow, and its line dashed. ``floor`` is the share of who guesses.
    """
    with _style():
        figure = _figure(HALF, 2.9)
        axes = figure.add_subplot()
        axes.axhline(floor, color=INKS["muted"], lw=0.9, ls=(0, (4, 3)))
        axes.text(len(points) - 0.6, floor, "guessing", ha="right", va="bottom")
        for (left, right), ends in zip(pairwise(points), pairwise(range(len(points))), strict=True):
            dash: Dash = "-" if right[2] else (0, (4, 3))
            axes.plot(ends, (left[1], right[1]), color=INKS["right"], lw=1.6, ls=dash)
        for place, (_, share, measured) in enumerate(points):
            face = INKS["right"] if measured else INKS["panel"]
            axes.plot(place, share, "o", ms=6, mfc=face, mec=INKS["right"], mew=1.4)
            axes.text(place, share - 0.05, f"{100 * share:.0f} %", ha="center", va="top")
        axes.set_xticks(range(len(points)), [name for name, _, _ in points])
        axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        axes.set(xlim=(-0.4, len(points) - 0.6), ylim=(0, 1.06))
        axes.tick_params(axis="x", labelcolor=INKS["ink"])
        axes.grid(axis="y")
        return _svg(figure)


def bars(shares: Mapping[str, float], chosen: str, error: float, floor: float) -> str:
    """Shares by name as bars, of which one is ``chosen``, with the standard ``error`` of that."""
    with _style():
        figure = _figure(HALF, 0.32 * len(shares) + 0.7)
        axes = figure.add_subplot()
        axes.axvline(floor, color=INKS["muted"], lw=0.9, ls=(0, (4, 3)))
        for place, (name, share) in enumerate(shares.items()):
            axes.barh(place, share, 0.55, color=INKS["right" if name == chosen else "faint"])
            if name == chosen:
                ends = (share - error, min(1.0, share + error))
                axes.hlines(place, *ends, color=INKS["ink"], lw=1.2)
            axes.text(1.03, place, f"{100 * share:.0f}", va="center")
        axes.set_yticks(range(len(shares)), list(shares))
        axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        axes.set(xlim=(0, 1.12), ylim=(len(shares) - 0.5, -0.5))
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
        axes.spines[["left", "bottom"]].set_visible(False)
        return _svg(figure)


def reliability(scores: Mapping[str, ScoreFigures]) -> str:
    """For each score, the accuracy of the predictions of each confidence, and their number."""
    with _style():
        figure = _figure(WIDE, 3.3)
        grid = figure.subplots(2, len(scores), height_ratios=(4, 1), sharex=True, squeeze=False)
        for column, (name, row) in enumerate(scores.items()):
            above, below = grid[:, column]
            above.plot([0, 1], [0, 1], color=INKS["muted"], lw=0.9, ls=(0, (4, 3)))
            for one in row.calibration.bins:
                if one.accuracy is None or one.confidence is None:
                    continue
                left, width = one.low + 0.004, one.high - one.low - 0.008
                # Full colour up to the lower of the two; above it the gap between them.
                low, high = sorted((one.accuracy, one.confidence))
                gap, depth = ("right", 0.3) if one.accuracy > one.confidence else ("wrong", 0.5)
                bars = {"width": width, "align": "edge"}
                above.bar(left, low, color=INKS["right"], alpha=0.8, **bars)
                above.bar(left, high - low, bottom=low, color=INKS[gap], alpha=depth, **bars)
                below.bar(left, one.clips, color=INKS["muted"], alpha=0.6, **bars)
            error = row.calibration.error
            title = name if error is None else f"{name}   ECE {100 * error:.1f} %"
            above.set(title=title, ylim=(0, 1.02), xlim=(0, 1))
            above.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
            below.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
            below.set_xlabel("confidence")
            above.grid(axis="y")
        grid[0, 0].set_ylabel("right")
        grid[1, 0].set_ylabel("clips")
        return _svg(figure)


def timeline(report: StreamReport) -> str:
    """Actions above each row's line, events below it; a row is a minute.

    Only the first :data:`MOST_ROWS` minutes are drawn.
    """
    rows = min(MOST_ROWS, max(1, int(np.ceil(report.stream_s / ROW_S))))
    with _style():
        figure = _figure(WIDE, 0.46 * rows + 0.5)
        axes = figure.add_subplot()
        for row in range(rows):
            axes.hlines(row, 0, ROW_S, color=INKS["line"], lw=0.6)
        for action in report.actions:
            bars = _bars(axes, action.start_s, action.end_s, rows, -0.36)
            for bar in bars:
                bar.set(facecolor=INKS["right" if action.found else "faint"], alpha=0.3)
                if not action.found:
                    bar.set(edgecolor=INKS["wrong"], linewidth=1.0, alpha=0.8)
            if bars:
                _name(axes, action.label, bars[0], 0.0, bars[0].get_width())
        for event, after in pairwise([*report.events, None]):
            if event is None:
                continue
            bars = _bars(axes, event.start_s, event.end_s, rows, 0.04)
            for bar in bars:
                bar.set(facecolor=INKS[_OUTCOMES[event.outcome]], alpha=0.9)
            if bars and event.outcome != "matched":
                # Event bars are short: the name goes into the gap before the next event.
                room = ROW_S if after is None else after.start_s - event.end_s
                _name(axes, event.label, bars[-1], bars[-1].get_width(), room)
        axes.set(xlim=(0, ROW_S), ylim=(rows - 0.4, -0.5), xlabel="seconds of the minute")
        minutes = [f"{row * ROW_S / 60:.0f} min" for row in range(rows)]
        axes.set_yticks(range(rows), minutes, color=INKS["muted"])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        return _svg(figure)


def _bars(axes: Axes, start_s: float, end_s: float, rows: int, top: float) -> list[Rectangle]:
    """Draw an interval, ``top`` rows below the line of each row that it crosses."""
    bars = []
    for row in range(int(start_s // ROW_S), min(rows, int(end_s // ROW_S) + 1)):
        begin = max(start_s - row * ROW_S, 0.0)
        width = max(min(end_s - row * ROW_S, ROW_S) - begin, 0.12)  # wide enough to see
        bars.append(Rectangle((begin, row + top), width, 0.32))
        axes.add_patch(bars[-1])
    return bars


def _name(axes: Axes, label: str, bar: Rectangle, after_s: float, room_s: float) -> None:
    """Write ``label`` at a bar of the timeline, cut to the room that it has."""
    fits = int(room_s / LETTER_S)
    if fits < 2:
        return
    text = label if len(label) <= fits else label[: fits - 1] + "…"
    left, middle = bar.get_x() + after_s + 0.15, bar.get_y() + bar.get_height() / 2
    axes.text(left, middle + 0.01, text, va="center", fontsize=6.5)


def thresholds(points: Sequence[Point]) -> str:
    """Event F1 against false alarms per hour of the stream; the first point is the pack's own."""
    swept = [(p.false_alarms_per_hour or 0.0, p.f1 or 0.0, p.start) for p in points]
    (own_rate, own_f1, _), *swept = swept
    with _style():
        figure = _figure(HALF, 3.4)
        axes = figure.add_subplot()
        rates, f1s, starts = zip(*swept, strict=True)
        axes.plot(rates, f1s, "o-", color=INKS["right"], lw=1.4, ms=3.5)
        for rate, f1, start in zip(rates, f1s, starts, strict=True):
            if round(100 * (start or 0.0)) % 10 == 0:
                axes.annotate(
                    f"{start:.1f}", (rate, f1), (6, 3), textcoords="offset points",
                    fontsize=7.5, color=INKS["muted"],
                )  # fmt: skip
        axes.plot(own_rate, own_f1, "D", ms=7, mfc="none", mec=INKS["wrong"], mew=1.4)
        axes.set(xlabel="false alarms per hour of the stream", ylabel="event F1", ylim=(0, 1.04))
        axes.margins(x=0.06)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25 %", "50 %", "75 %", "100 %"])
        axes.grid()
        return _svg(figure)


def quiet_rates(points: Sequence[Point]) -> str:
    """False alarms per hour without actions, against the start threshold."""
    own, *swept = [p.negatives_false_alarms_per_hour or 0.0 for p in points]
    with _style():
        figure = _figure(WIDE, 2.4)
        axes = figure.add_subplot()
        starts = [p.start for p in points if p.start is not None]
        axes.axhline(own, color=INKS["muted"], lw=0.9, ls=(0, (4, 3)))
        axes.plot(starts, swept, "o-", color=INKS["wrong"], lw=1.4, ms=3.5)
        axes.set(xlabel="start threshold", ylabel="false alarms per camera-hour")
        axes.set_ylim(bottom=0, top=1.08 * max(own, *swept) or 1.0)
        axes.grid()
        return _svg(figure)


def trace(
    track: Track,
    span: Span,
    lines: Sequence[tuple[int, str, Dash]],
    *,
    threshold: float | None = None,
    marks: Sequence[float] = (),
) -> str:
    """Fused scores over a span, exactly as wide as its strip.

    ``lines`` are (label's index, ink, dash); ``marks`` are seconds of media time.
    """
    # One step more on each side, so that the lines reach the edges.
    period_ns = int(np.median(np.diff(track.pts_ns))) if len(track) > 1 else 0
    seen = (track.pts_ns >= span.start_ns - period_ns) & (track.pts_ns <= span.end_ns + period_ns)
    times = track.pts_ns[seen] / NS_PER_S
    with _style():
        figure = Figure(figsize=(WIDE, 1.15))
        figure.patch.set_alpha(0.0)
        axes = figure.add_axes((0.0, 0.03, 1.0, 0.94))
        for label, ink, dash in lines:
            axes.plot(
                times, track.scores[0, seen, label], color=INKS[ink], lw=1.6, ls=dash, clip_on=True
            )
        if threshold is not None:
            axes.axhline(threshold, color=INKS["muted"], lw=0.8, ls=(0, (2, 3)))
        for mark in marks:
            axes.axvline(mark, color=INKS["muted"], lw=0.9)
        axes.set(xlim=(span.start_ns / NS_PER_S, span.end_ns / NS_PER_S), ylim=(-0.03, 1.06))
        axes.hlines([0, 0.5, 1], *axes.get_xlim(), color=INKS["line"], lw=0.5, zorder=0)
        for height in (0.5, 1):
            axes.annotate(
                f"{height:g}", (axes.get_xlim()[0], height), (3, -7), textcoords="offset points",
                fontsize=6.5, color=INKS["muted"],
            )  # fmt: skip
        axes.axis("off")
        return _svg(figure)
