"""Short tables of the reports for a terminal; ``--json`` and the page have the rest."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from pipeline.evaluate.clip_list import shown
from pipeline.evaluate.clips import ClipReport
from pipeline.evaluate.report import Report
from pipeline.evaluate.streams import Alarms, Counts, QuietReport, StreamReport, TimesToDetect

MOST_NAMED = 10
"""Mistakes and unreadable clips that are listed on the terminal; ``--json`` lists all."""


def show(report: Report, labels: Sequence[str], page: Path | None) -> None:
    """Print all parts of a report to standard output."""
    console = Console()
    parts: list[RenderableType] = []
    if report.clip is not None:
        parts += clip_tables(report.clip, labels)
        parts += _notes(report.clip)
    if report.stream is not None:
        parts += stream_tables(report.stream)
        parts += _notes(report.stream)
    if report.negatives is not None:
        parts += quiet_tables(report.negatives)
        parts += _named("unreadable", report.negatives.unreadable)
    speed = report.speed
    parts.append(
        f"[dim]{speed.media_s:.0f} s of footage in {speed.wall_s:.0f} s: "
        f"{speed.times_real_time:.1f}× real time[/]"
    )
    if page is not None:
        parts.append(f"report: {escape(shown(page))}")
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))


def clip_tables(report: ClipReport, labels: Sequence[str]) -> Iterable[RenderableType]:
    """The three scores, figures per label, and the confusion matrix."""
    table = Table("scores", title=f"{report.clips} clips")
    for name in ("top-1", "95 % interval", "mean recall", "macro F1", "ECE"):
        table.add_column(name, justify="right")
    for name, row in report.scores.items():
        interval = row.top1_interval
        between = "–" if interval is None else f"{100 * interval[0]:.1f} – {100 * interval[1]:.1f}"
        rates = (percent(row.mean_recall), percent(row.macro_f1), percent(row.calibration.error))
        table.add_row(name, percent(row.top1), between, *rates)
    yield table
    fused = report.scores["fused"]
    table = Table("label", title="per label, fused")
    for name in ("clips", "recall", "precision", "F1"):
        table.add_column(name, justify="right")
    for label, own in fused.labels.items():
        table.add_row(label, str(own.clips), *map(percent, (own.recall, own.precision, own.f1)))
    yield table
    matrix = Table("true", title="confusion (clips); columns: predicted, numbered as the rows")
    for i in range(len(labels)):
        matrix.add_column(str(i), justify="right")
    for i, (label, counts) in enumerate(zip(labels, fused.confusion, strict=True)):
        cells = [_cell(count, i == j) for j, count in enumerate(counts)]
        matrix.add_row(f"{i:>2} {label}", *cells)
    yield matrix
    wrong = [f"{m.path}: {m.label} taken for {m.predicted}" for m in report.mistakes]
    yield from _named("mistakes", wrong)


def stream_tables(report: StreamReport) -> Iterable[RenderableType]:
    """Event figures, overall and per label."""
    table = Table("label", title=f"events in a stream of {report.stream_s:.0f} s")
    for name in ("actions", "events", "matched", "F1", "false alarms", "seconds to detect"):
        table.add_column(name, justify="right")
    for label, row in report.labels.items():
        times = row.time_to_detect_s
        table.add_row(label, *_row(row.counts, row.false_alarms, times))
    table.add_section()
    all_events = _row(report.overall, report.false_alarms.count, report.time_to_detect_s)
    table.add_row("all", *all_events, style="bold")
    yield table
    yield (
        f"precision {percent(report.overall.precision)}, recall {percent(report.overall.recall)}; "
        f"{report.repeats} repeated events of the same actions"
    )
    times = report.time_to_detect_s
    yield (
        "time to detect, median / p90: "
        f"{_pair(times.from_start)} s from the action's start, "
        f"{_pair(times.from_end)} s from its end"
    )
    yield (
        f"false alarms: {_rate(report.false_alarms)}; "
        f"{report.false_alarms_during_other_actions} during another action"
    )
    yield from _named("missed", [f"{m.path}: {m.label}" for m in report.missed])


def _row(counts: Counts, false_alarms: int, times: TimesToDetect) -> tuple[str, ...]:
    whole = (counts.actions, counts.events, counts.matched)
    median = _number(times.from_start["median"])
    return (*map(str, whole), percent(counts.f1), str(false_alarms), median)


def quiet_tables(report: QuietReport) -> Iterable[RenderableType]:
    """False alarms in footage without actions."""
    yield (
        f"without actions: {report.files} files, {report.stream_s:.0f} s; "
        f"false alarms: [bold]{_rate(report.false_alarms)}[/]"
    )
    if by_label := report.false_alarms.by_label:
        yield "of these: " + ", ".join(f"{label} {count}" for label, count in by_label.items())


def _rate(alarms: Alarms) -> str:
    if alarms.per_hour is None:
        return str(alarms.count)
    return (
        f"{alarms.count}, {alarms.per_hour:.1f} per camera-hour "
        f"(below {alarms.per_hour_below:.1f} with 95 % confidence)"
    )


def _notes(report: ClipReport | StreamReport) -> Iterable[RenderableType]:
    """What the figures leave out: labels without clips, and unreadable files."""
    if without := report.labels_without_clips:
        yield f"[yellow]labels without a clip: {', '.join(without)}[/]"
    yield from _named("unreadable", report.unreadable)


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _pair(times: Mapping[str, float | None]) -> str:
    return f"{_number(times['median'])} / {_number(times['p90'])}"


def _cell(count: int, diagonal: bool) -> str:
    if not count:
        return "[dim]·[/]"
    return f"[green]{count}[/]" if diagonal else f"[red]{count}[/]"


def _named(what: str, lines: Sequence[str]) -> Iterable[RenderableType]:
    if not lines:
        return
    yield f"[yellow]{what} ({len(lines)}):[/]"
    yield from (f"  {escape(line)}" for line in lines[:MOST_NAMED])
    if len(lines) > MOST_NAMED:
        yield f"  … and {len(lines) - MOST_NAMED} more; --json lists them all"
