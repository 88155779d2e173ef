"""The reports as tables for people."""

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

MOST_NAMED = 10
"""Mistakes and skipped clips that are named on the terminal; ``--json`` names all."""


def clip_tables(report: dict[str, Any], labels: Sequence[str]) -> Iterable[RenderableType]:
    """Accuracy, recall and precision per label, and the confusion matrix."""
    top1 = report["top1"]
    yield (
        f"[bold]top-1 {percent(top1['fused'])}[/] of {report['clips']} clips "
        f"(spatial alone {percent(top1['spatial'])}, temporal alone {percent(top1['temporal'])}); "
        f"mean recall {percent(report['mean_recall'])}"
    )
    table = Table("label", title="per label")
    for name in ("clips", "recall", "precision"):
        table.add_column(name, justify="right")
    for label, row in report["labels"].items():
        rates = (percent(row["recall"]), percent(row["precision"]))
        table.add_row(label, str(row["clips"]), *rates)
    yield table
    matrix = Table("true", title="confusion (clips); columns: predicted, numbered as the rows")
    for i in range(len(labels)):
        matrix.add_column(str(i), justify="right")
    for i, (label, row) in enumerate(zip(labels, report["confusion"], strict=True)):
        cells = [_cell(count, i == j) for j, count in enumerate(row)]
        matrix.add_row(f"{i:>2} {label}", *cells)
    yield matrix
    wrong = [f"{m['path']}: {m['label']} taken for {m['predicted']}" for m in report["mistakes"]]
    yield from _named("mistakes", wrong)


def stream_tables(report: dict[str, Any]) -> Iterable[RenderableType]:
    """Event figures, overall and per label."""
    yield (
        f"stream of {report['stream_s']:.0f} s: {report['actions']} actions, "
        f"{report['events']} events, {report['matched']} of them matched"
    )
    yield _rates(report)
    table = Table("label", title="per label")
    names = ("actions", "events", "matched", "precision", "recall", "F1", "to detect (s)")
    for name in names:
        table.add_column(name, justify="right")
    for label, row in report["labels"].items():
        table.add_row(
            label,
            *(str(row[name]) for name in ("actions", "events", "matched")),
            *(percent(row[name]) for name in ("precision", "recall", "f1")),
            _number(row["median_time_to_detect_s"]),
        )
    yield table
    yield from _named("missed", [f"{m['path']}: {m['label']}" for m in report["missed"]])


def _rates(report: dict[str, Any]) -> Table:
    times = report["time_to_detect_s"]
    table = Table("figure", title="events")
    table.add_column("value", justify="right")
    for name in ("precision", "recall", "f1"):
        table.add_row(name, percent(report[name]))
    for name, key in (("action's start", "from_start"), ("action's end", "from_end")):
        values = f"{_number(times[key]['median'])} / {_number(times[key]['p90'])}"
        table.add_row(f"time to detect from the {name}, median / p90 (s)", values)
    table.add_row("further events of a matched action", str(report["repeats"]))
    table.add_row("false alarms", str(report["false_alarms"]))
    during = str(report["false_alarms_during_other_actions"])
    table.add_row("of these, while another action went on", during)
    table.add_row("false alarms per hour", _number(report["false_alarms_per_hour"]))
    return table


def quiet_tables(report: dict[str, Any]) -> Iterable[RenderableType]:
    """False alarms in material without actions."""
    yield (
        f"without actions: {report['files']} files, {report['stream_s']:.0f} s, "
        f"{report['false_alarms']} false alarms, "
        f"[bold]{_number(report['false_alarms_per_hour'])} per hour[/]"
    )
    by_label = report["false_alarms_by_label"]
    if by_label:
        yield "of these: " + ", ".join(f"{label} {count}" for label, count in by_label.items())


def notes(report: dict[str, Any]) -> Iterable[RenderableType]:
    """What the figures leave out."""
    if without := report.get("labels_without_clips"):
        yield f"[yellow]labels without a clip: {', '.join(without)}[/]"
    yield from _named("skipped, unreadable", report["unreadable"])


def show(console: Console, parts: Iterable[RenderableType]) -> None:
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


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
        yield f"  … and {len(lines) - MOST_NAMED} more; --json names them all"
