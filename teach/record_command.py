"""``two-stream teach --record``: opens the source and the terminal, records, says what is there."""

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.config.paths import at_home
from pipeline.errors import ends_with_errors, needs_extra

if TYPE_CHECKING:
    from teach.record import Plan, Recorder
    from teach.terminal import Terminal

RECORD = "--record"
"""The option that makes ``two-stream teach`` this command."""
EXIT_INTERRUPTED = 130
PACKAGES = ("onnx", "sklearn")

record_app = typer.Typer(add_completion=False)


@record_app.command()
def record(
    label: Annotated[str, typer.Option(RECORD, metavar="LABEL", help="the action to record")],
    clips: Annotated[Path, typer.Option(help="folder of class folders; clips go to CLIPS/LABEL")],
    source: Annotated[
        str, typer.Option(help="webcam number, address of a camera, file, or demo")
    ] = "0",
    count: Annotated[int, typer.Option(min=1, help="examples")] = 5,
    seconds: Annotated[float, typer.Option(min=0.5, max=60, help="length of an example")] = 3.0,
    yes: Annotated[bool, typer.Option("--yes", help="keep all, ask nothing")] = False,
) -> None:
    """Record examples of an action: a countdown, a beep, the action; then keep it, or do it again.

    Between the examples some background is recorded, into CLIPS/background. Enter keeps an example,
    a does it again, q stops; what was kept stays. Nothing is taught.
    """
    with ends_with_errors():
        with needs_extra("teach", PACKAGES):
            from teach.record import Plan
        status = run(Plan(label, at_home(clips), count, seconds), source, yes)
    raise typer.Exit(status)


def run(plan: "Plan", source: str, yes: bool) -> int:
    """Record what the plan says; returns the exit status.

    Raises :class:`TeachError`, and :class:`SourceError` for a source that can't be opened or read.
    """
    from rich.console import Console

    from pipeline.clock import SYSTEM_CLOCK
    from pipeline.sources import create
    from teach.pack import TeachError
    from teach.record import Recorder
    from teach.terminal import Terminal

    if not yes and not sys.stdin.isatty():
        raise TeachError(
            "--record asks after each example whether to keep it, and this is no terminal; with "
            "--yes it keeps all"
        )
    stage = Terminal(Console(stderr=True), yes)
    camera = create(source, camera=plan.label, clock=SYSTEM_CLOCK)
    recorder = Recorder(plan, camera, SYSTEM_CLOCK, stage)
    status = 0
    with closing(camera):
        camera.open()
        try:
            with stage.open():
                recorder.run()
        except KeyboardInterrupt:
            status = EXIT_INTERRUPTED
        finally:
            _summary(recorder, stage)
    return status


def _summary(recorder: "Recorder", stage: "Terminal") -> None:
    kept = recorder.kept
    if kept.examples:
        count, folder = len(kept.examples), kept.examples[0].parent
        quiet = f", and {len(kept.background)} of background" if kept.background else ""
        stage.say(f"{count} {'example is' if count == 1 else 'examples are'} in {folder}{quiet}.")
    else:
        stage.say("Nothing was kept.")
