"""``python -m teach``: a pack from clips, and whether it works."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import msgspec
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from pipeline.config.paths import at_home, stray_address
from pipeline.errors import EXIT_USAGE, TwoStreamError, needs_extra
from pipeline.evaluate.clip_list import shown
from pipeline.program import PROJECT

if TYPE_CHECKING:
    from teach.page import PageWriter

BASE = PROJECT / "models" / "base"
EXIT_NOTHING_LEARNED = 1
PACKAGES = ("onnx", "sklearn", "scipy")

app = typer.Typer(add_completion=False)


Tick = Callable[[str, int, int], None]


@contextmanager
def _bar() -> Iterator[Tick]:
    """A bar on standard error, if that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def tick(what: str, done: int, whole: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=whole)
            bar.update(tasks[what], completed=done, total=whole)

        yield tick


@app.command()
def main(
    clips: Annotated[
        Path,
        typer.Option(help="folder of class folders, or a CSV list (path,label[,group][,fold])"),
    ],
    out: Annotated[
        Path | None, typer.Option(help="folder of the pack; an older version is replaced")
    ] = None,
    background: Annotated[
        list[Path] | None,
        typer.Option(help="video, or folder of videos, that shows none of the actions"),
    ] = None,
    rest: Annotated[
        list[str] | None,
        typer.Option(help="label of no action; default: background, normal, nothing and the like"),
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="teach only these, with commas between them")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="folder of the list's paths")] = None,
    base: Annotated[
        Path | None, typer.Option(help="folder of the base; default: the shipped one")
    ] = None,
    looks: Annotated[
        str | None,
        typer.Option(help="networks to try, such as flow,hands+flow; default: all, the best wins"),
    ] = None,
    false_alarms_per_day: Annotated[
        float, typer.Option(min=0, help="false events a day to allow")
    ] = 1.0,
    name: Annotated[str, typer.Option(help="the pack's name; default: that of its folder")] = "",
    cache: Annotated[
        Path | None, typer.Option(help="folder for what the networks saw; default: the user's")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="processes; default: CPUs")] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="folder for a page of the verdict with pictures; needs the extra report"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="the verdict as JSON")] = False,
    record: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="record examples of it into --clips, teach nothing"),
    ] = None,
    source: Annotated[
        str, typer.Option(help="with --record: webcam number, address, file or demo")
    ] = "0",
    count: Annotated[int, typer.Option(min=1, help="with --record: examples")] = 5,
    seconds: Annotated[
        float, typer.Option(min=0.5, max=60, help="with --record: of each example")
    ] = 3.0,
    yes: Annotated[
        bool, typer.Option("--yes", help="with --record: keep all, ask nothing")
    ] = False,
) -> None:
    """Teach actions from a few clips of each, and say how well it works.

    Exit status 1: nothing was learned, so no pack was written.
    """
    if record is not None:
        _record(record, at_home(clips), source, count, seconds, yes)
    if out is None:
        raise typer.BadParameter("missing; it names the folder of the pack", param_hint="--out")
    try:
        with needs_extra("teach", PACKAGES):
            from teach.clips import gathered
            from teach.run import Order, teach
            from teach.show import show
        write = None if report is None else _page_writer(at_home(report))
        found = gathered(
            at_home(clips), [at_home(path) for path in background or ()], rest or (),
            root and at_home(root), _split(labels),
        )  # fmt: skip
        with _bar() as tick:
            order = Order(
                found, at_home(out), at_home(base or BASE), cache or _user_cache(), _split(looks),
                false_alarms_per_day, name, tick=tick,
                **({} if threads is None else {"workers": threads}),
            )  # fmt: skip
            result = teach(order)
        page = None if write is None else write(result, found)
    except TwoStreamError as error:
        raise _failed(error) from None
    if json:
        print(msgspec.json.encode(result.verdict).decode())
    else:
        show(result, out)
        if page is not None:
            print(f"The page: {page}")
    if result.pack is None:
        raise typer.Exit(EXIT_NOTHING_LEARNED)


def _record(
    label: str, clips: Path, source: str, count: int, seconds: float, yes: bool
) -> NoReturn:
    """Record, and end the program."""
    try:
        with needs_extra("teach", PACKAGES):
            from teach.record import Plan
            from teach.record_command import record
        status = record(Plan(label, clips, count, seconds), source, yes)
    except TwoStreamError as error:
        raise _failed(error) from None
    raise typer.Exit(status)


def _failed(error: TwoStreamError) -> typer.Exit:
    """Say what is wrong; returns what ends the program."""
    for line in str(error).splitlines():
        print(f"error: {shown(line)}", file=sys.stderr)
    return typer.Exit(error.exit_code)


def _page_writer(folder: Path) -> "PageWriter":
    """What writes the page; raises :class:`MissingPackageError` and :class:`TeachError`."""
    from teach.page import writer

    return writer(folder)


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _user_cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "two-stream" / "features"


def cli(arguments: Sequence[str], name: str | None = None) -> None:
    """Run the command line; ``name`` is what usage lines call the program."""
    if stray := stray_address(arguments, takes=("--source",)):
        print(f"error: {stray}", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)
    app(args=list(arguments), prog_name=name)


if __name__ == "__main__":
    cli(sys.argv[1:])
