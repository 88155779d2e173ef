"""``python -m pipeline.evaluate``: a pack's figures on clips or on a stream of them."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import cv2
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.evaluate import clips, streams, tables
from pipeline.evaluate.clip_list import Entry, EvaluationError, check_labels, chosen, read, videos
from pipeline.evaluate.timeline import Timeline, arrange
from pipeline.model_pack import ModelPack, PackError
from pipeline.offline import OfflineRecogniser, changes
from pipeline.sources import SourceError
from pipeline.stage import EXIT_USAGE


class Protocol(StrEnum):
    CLIP = "clip"
    STREAM = "stream"


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """A bar on standard error, if that is a terminal; yields what moves it on by one."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def evaluate_clips(recogniser: OfflineRecogniser, entries: Sequence[Entry]) -> dict[str, Any]:
    """The clip protocol; raises :class:`EvaluationError` when no clip can be read."""
    with progress("clips", len(entries)) as advance:
        outcome = clips.run_clips(recogniser, entries, advance)
    if not outcome.truth:
        raise EvaluationError(
            f"none of {len(entries)} clips can be read; the first: {outcome.unreadable[0]}"
        )
    return clips.report(outcome, recogniser.contract)


def evaluate_stream(
    recogniser: OfflineRecogniser, entries: Sequence[Entry], seed: int
) -> dict[str, Any]:
    """The stream protocol; raises :class:`EvaluationError` when no clip can be read."""
    contract = recogniser.contract
    items = arrange(entries, contract.background, seed)
    with progress("stream", len(items)) as advance:
        timeline = Timeline(items, contract.background, contract.step_hz, advance)
        steps = recogniser.steps(timeline.frames())
        events = streams.detections(changes(contract, steps))
    unreadable = list(timeline.unreadable.values())
    if not timeline.end_ns:
        raise EvaluationError(
            f"none of {len(entries)} clips can be read; the first: {unreadable[0]}"
        )
    labels = [label for label in contract.labels if label not in contract.background]
    report = streams.report(events, timeline.intervals, timeline.end_ns, labels)
    return {"seed": seed, **report, "unreadable": unreadable}


def evaluate_quiet(recogniser: OfflineRecogniser, path: Path) -> dict[str, Any]:
    """False alarms on material without actions; raises :class:`EvaluationError` for none."""
    paths = videos(path)
    with progress("without actions", len(paths)) as advance:
        outcome = streams.run_quiet(recogniser, paths, advance)
    if not outcome.files:
        raise EvaluationError(f"{path}: none of {len(paths)} videos can be read")
    return streams.quiet_report(outcome)


def show(report: dict[str, Any], labels: Sequence[str]) -> None:
    """All parts of a report as tables on standard output."""
    console = Console()
    parts = (
        ("clip", lambda part: tables.clip_tables(part, labels)),
        ("stream", tables.stream_tables),
        ("negatives", tables.quiet_tables),
    )
    for name, form in parts:
        if name in report:
            tables.show(console, form(report[name]))
            tables.show(console, tables.notes(report[name]))


def main(
    model: Annotated[Path, typer.Option(help="model pack folder")],
    data: Annotated[
        Path | None,
        typer.Option(help="CSV list (path,label[,group][,fold]) or a folder of class folders"),
    ] = None,
    protocol: Annotated[
        Protocol, typer.Option(help="clip: a label per clip; stream: events in one long stream")
    ] = Protocol.CLIP,
    negatives: Annotated[
        Path | None,
        typer.Option(help="stream: a video or folder without actions; gives false alarms per hour"),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="what paths in the list are relative to; its own folder")
    ] = None,
    fold: Annotated[int | None, typer.Option(help="only clips of this fold")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="at most so many clips")] = None,
    seed: Annotated[int, typer.Option(min=0, help="stream: the order of the clips")] = 0,
    threads: Annotated[int, typer.Option(min=1, max=64, help="threads a network may use")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object, nothing else")] = False,
) -> None:
    """Measure a model pack with exactly what the live pipeline computes."""
    cv2.setNumThreads(1)
    try:
        if data is None and negatives is None:
            raise EvaluationError("nothing to evaluate: give --data, or --negatives")
        if negatives is not None and protocol is Protocol.CLIP:
            raise EvaluationError("--negatives gives false alarms of --protocol stream only")
        pack = ModelPack.load(model)
        contract = pack.contract
        entries: list[Entry] = []
        if data is not None:
            entries = chosen(read(data, root), fold, limit)
            check_labels(entries, contract.labels)
        recogniser = OfflineRecogniser(pack, threads)
        report: dict[str, Any] = {
            "model": {"name": contract.name, "version": contract.version, "sha256": pack.sha256},
            "data": None if data is None else str(data),
            "fold": fold,
        }
        if data is not None and protocol is Protocol.CLIP:
            report["clip"] = evaluate_clips(recogniser, entries)
        elif data is not None:
            report["stream"] = evaluate_stream(recogniser, entries, seed)
        if negatives is not None:
            report["negatives"] = evaluate_quiet(recogniser, negatives)
    except (EvaluationError, PackError, SourceError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_USAGE) from None
    if as_json:
        sys.stdout.write(json.dumps(report, ensure_ascii=False) + "\n")
    else:
        show(report, contract.labels)


if __name__ == "__main__":
    typer.run(main)
