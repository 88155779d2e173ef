"""``two-stream teach --record``: opens the source and the terminal, records, says what is there."""

import sys
from contextlib import closing

from rich.console import Console

from pipeline.clock import SYSTEM_CLOCK
from pipeline.sources import create
from teach.pack import TeachError
from teach.record import Plan, Recorder
from teach.terminal import Terminal

EXIT_INTERRUPTED = 130


def record(plan: Plan, source: str, yes: bool) -> int:
    """Record what the plan says; returns the exit status.

    Raises :class:`TeachError`, and :class:`SourceError` for a source that can't be opened or read.
    """
    if not yes and not sys.stdin.isatty():
        raise TeachError(
            "--record asks after each example whether to keep it, and this is no terminal; with "
            "--yes it keeps all"
        )
    console = Console(stderr=True)
    stage = Terminal(console, yes)
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


def _summary(recorder: Recorder, stage: Terminal) -> None:
    kept = recorder.kept
    if kept.examples:
        count, folder = len(kept.examples), kept.examples[0].parent
        quiet = f", and {len(kept.background)} of background" if kept.background else ""
        stage.say(f"{count} {'example is' if count == 1 else 'examples are'} in {folder}{quiet}.")
    else:
        stage.say("Nothing was kept.")
