"""``python -m pipeline.evaluate``: measure a pack on clips, on a stream of clips, on footage."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import cv2
import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK
from pipeline.config import load
from pipeline.config.paths import at_home, stray_address
from pipeline.config.suggestion import did_you_mean
from pipeline.errors import EXIT_USAGE, EvaluationError, ends_with_errors, needs_extra
from pipeline.evaluate import tables
from pipeline.evaluate.report import (
    Evaluation,
    Protocol,
    Request,
    all_jobs,
    evaluate,
    footage,
)
from pipeline.evaluate.runs import Tick
from pipeline.model.pack import ModelPack
from pipeline.steps.polygons import Polygon

PageWriter = Callable[[Evaluation, Path], Path]

app = typer.Typer(add_completion=False)


@contextmanager
def progress(total: int) -> Iterator[Tick]:
    """Show a bar on standard error, if that is a terminal; yields the function that advances it."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    started_ns, media_s = SYSTEM_CLOCK.monotonic_ns(), 0.0
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=total)

        def tick(files: int, seconds: float) -> None:
            nonlocal media_s
            media_s += seconds
            wall_s = (SYSTEM_CLOCK.monotonic_ns() - started_ns) / NS_PER_S
            rate = media_s / max(wall_s, 1e-3)
            text = f"{media_s / 60:.1f} min of footage, {rate:.1f}× real time"
            bar.update(task, advance=files, description=text)

        yield tick


def page_writer(folder: Path) -> PageWriter:
    """Make ``folder`` and return the function that writes the report page into it.

    Raises :class:`MissingPackageError`, and :class:`EvaluationError` if the folder can't be made.
    """
    with needs_extra("report", ("matplotlib", "jinja2", "markupsafe")):
        from pipeline.evaluate.page import write
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EvaluationError(f"--report {folder}: {error.strerror}") from None
    return write


def check_together(request: Request, *, protocol_given: bool, seed_given: bool) -> None:
    """Raise :class:`EvaluationError` for options without effect, one line each."""
    lines = []
    if request.data is None and request.negatives:
        given = {
            "--protocol": protocol_given,
            "--fold": request.fold is not None,
            "--limit": request.limit is not None,
            "--seed": seed_given,
        }
        lines += [f"{name}: without effect without --data" for name in given if given[name]]
    elif seed_given and request.protocol is Protocol.CLIP:
        lines.append("--seed: without effect with --protocol clip")
    named = [path for path in (request.data, *request.negatives) if path is not None]
    if request.root is not None and named and all(path.is_dir() for path in named):
        lines.append("--root: without effect for folders; it is for the paths in lists")
    if lines:
        raise EvaluationError("\n".join(lines))


def ignored(path: Path | None, camera: str | None) -> Sequence[Polygon]:
    """The parts of the picture that a camera of a config ignores.

    Raises :class:`EvaluationError` for a camera that can't be told, and :class:`ConfigError`.
    """
    if path is None:
        if camera is not None:
            raise EvaluationError("--camera: without effect without --config")
        return ()
    cameras = load(path).cameras
    if camera is None and len(cameras) > 1:
        raise EvaluationError(f"--camera: name one of {path}: {', '.join(cameras)}")
    name = camera or next(iter(cameras))
    if name not in cameras:
        likely = did_you_mean(name, cameras)
        raise EvaluationError(f"--camera: {path} has {', '.join(cameras)}{likely}")
    return cameras[name].ignore


@app.command()
def main(
    model: Annotated[Path, typer.Option(help="model pack folder")],
    data: Annotated[
        Path | None,
        typer.Option(help="CSV list (path,label[,group][,fold]) or a folder of class folders"),
    ] = None,
    protocol: Annotated[
        Protocol | None,
        typer.Option(
            help="clip: a label per clip; stream: events in one long stream [default: clip]"
        ),
    ] = None,
    negatives: Annotated[
        list[Path] | None,
        typer.Option(help="footage without actions: a video, a folder or a CSV list; repeatable"),
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="folder that paths in lists start from; default: the list's")
    ] = None,
    fold: Annotated[int | None, typer.Option(help="only clips of this fold")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="at most this many clips")] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="stream: seed of the clips' order [default: 0]")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=64, help="threads that a network may use")] = 1,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="processes that share the files")] = 1,
    config: Annotated[
        Path | None, typer.Option(help="ignore the parts that a camera of this config ignores")
    ] = None,
    camera: Annotated[str | None, typer.Option(help="its name, if --config has several")] = None,
    report: Annotated[
        Path | None, typer.Option(help="write a page with pictures into this folder")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object and nothing else")
    ] = False,
) -> None:
    """Measure a model pack with the same computations as the live pipeline."""
    cv2.setNumThreads(1)  # as in the stages; --jobs uses more cores
    data, root, report = (path and at_home(path) for path in (data, root, report))
    kind, quiet = protocol or Protocol.CLIP, tuple(map(at_home, negatives or ()))
    with ends_with_errors(EXIT_USAGE):
        ignore = ignored(config and at_home(config), camera)
        request = Request(data, kind, quiet, root, fold, limit, seed or 0, threads, jobs, ignore)
        check_together(request, protocol_given=protocol is not None, seed_given=seed is not None)
        write = None if report is None else page_writer(report)
        pack = ModelPack.load(at_home(model))
        found = footage(request, pack)
        with progress(all_jobs(request, pack, found)) as tick:
            evaluation = evaluate(pack, request, found, tick)
        page = write(evaluation, report) if write is not None and report is not None else None
    if as_json:
        sys.stdout.write(msgspec.json.encode(evaluation.report).decode() + "\n")
    else:
        tables.show(evaluation.report, pack.contract.labels, page)


def cli(arguments: Sequence[str], name: str | None = None) -> None:
    """Run the command line; ``name`` is what usage lines call the program."""
    if stray := stray_address(arguments, takes=()):
        print(f"error: {stray}", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)
    app(args=list(arguments), prog_name=name)


if __name__ == "__main__":
    cli(sys.argv[1:])
