"""The benchmarks' command line: ``python -m benchmarks NAME [--json] [--picture PATH]``.

A benchmark's module is imported only when its command is asked for, because each module needs
other packages and some are not installed everywhere. The list of commands needs none of them.
"""

import inspect
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from importlib import import_module
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pipeline.errors import TwoStreamError, needs_extra


@dataclass(frozen=True)
class Benchmark:
    """A row of the table of benchmarks."""

    help: str
    picture: str = ""
    """What ``--picture`` draws; empty when :mod:`benchmarks.pictures` can't draw the result."""
    one_line: bool = False
    """Whether a JSON object takes one line. By default it is indented."""


BENCHMARKS = {
    "flow": Benchmark(
        "Optical flow: error on the Middlebury pairs and CPU time on one core.", one_line=True
    ),
    "people": Benchmark(
        "The person detector: recall and false boxes on labelled frames, time on one core.",
        one_line=True,
    ),
    "crowd": Benchmark("What people cost, by their number and by what the pack looks at."),
    "nobody": Benchmark("False alarms where things move and nobody is, with and without a rule."),
    "ring": Benchmark(
        "The frame ring under load: one writer, four readers, every read checked.", one_line=True
    ),
    "demo": Benchmark("The live program on the demo camera, scored against the camera's script."),
    "chaos": Benchmark(
        "Stages and the program killed, cameras that fail: seconds to recover, events lost.",
        one_line=True,
    ),
    "bridges": Benchmark(
        "Brokers, bridges and the publish stage killed, the network cut: events missing, doubled.",
        one_line=True,
    ),
    "soak": Benchmark(
        "Four RTSP cameras for hours, with one fault after another.",
        picture="memory and files over time",
    ),
    "few_shot": Benchmark(
        "Clips told right by a head that was taught three, five, ten, twenty of each label."
    ),
    "left_out": Benchmark(
        "A pack taught without one person or place: events in that one's clips, false events."
    ),
    "correct": Benchmark("What reviews do: false events and recall after each round of teaching."),
    "relay": Benchmark("Hours of a camera behind a bad relay: steps lost, events right, drift."),
    "fuzz": Benchmark("Damaged input for the decoders and for every socket of a running program."),
    "floor": Benchmark("The least CPU that a camera-second costs: the bare work in one thread."),
    "overhead": Benchmark(
        "The running pipeline's CPU for a camera-second against the bare work, by stage.",
        picture="the figures",
    ),
    "profile": Benchmark(
        "Where the running pipeline spends its CPU, by stage and by library (perf).",
        picture="the figures",
    ),
    "latency": Benchmark(
        "Time from the grab of a frame to the event at a subscriber.", picture="the figures"
    ),
    "density": Benchmark(
        "The number of RTSP cameras that this machine carries.", picture="the figures"
    ),
    "starts": Benchmark(
        "Starts and restarts of stages, forked and direct: seconds, CPU, memory of all processes.",
        one_line=True,
    ),
    "packs": Benchmark("What a second pack at each camera costs: on one base, and with its own."),
    "evidence": Benchmark("What clips and pictures of events cost, and how soon they are there."),
    "memory": Benchmark(
        "A week's memory of many cameras: bytes and events a day, minutes of a back-test."
    ),
    "peers": Benchmark(
        "The number of cameras that other projects' loops carry, with the same networks and flow.",
        picture="the figures",
        one_line=True,
    ),
    "transport": Benchmark(
        "Frames from one process to another: the frame ring against other transports.",
        picture="the figures",
    ),
    "replay": Benchmark("Events per second that a client receives when it asks for missed ones."),
    "tracks": Benchmark(
        "Tracks of people on labelled pieces of vtest.avi: identity switches and fragments."
    ),
    "regions": Benchmark(
        "Regions that follow people: false flow in a trembling box, and how a walker is kept."
    ),
    "rtsp": Benchmark("Two real RTSP cameras, TCP and UDP: memory, files, drops, latency."),
}
"""Command → its row. The command ``NAME`` is the module ``benchmarks.NAME``."""

EXTRAS = {
    "dev": ("psutil", "av"),
    "report": ("matplotlib",),
    "training": ("torch",),
    "teach": ("sklearn",),
    "peers": ("imagezmq", "vidgear"),
    "mqtt": ("paho",),
}
"""Extra of two-stream → the packages that benchmarks need of it."""

Json = Annotated[bool, typer.Option("--json", help="print JSON on standard output")]


class LazyCommands(TyperGroup):
    """Lists commands without their modules and loads a command only to run it or print its help.

    Until then a command has a name and a help text, but no options.
    """

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, unloaded, rest = super().resolve_command(ctx, args)
        return name, unloaded if name is None else load(name), rest


def load(name: str) -> Any:
    """The command of a benchmark, with the options of its ``measure``."""
    single = typer.Typer(add_completion=False)
    single.command(name, help=BENCHMARKS[name].help)(command_function(name))
    return typer.main.get_command(single)


def command_function(name: str) -> Callable[..., None]:
    """A function that measures and prints. Its parameters are those of ``measure`` and the options
    that the table adds."""
    with one_line():
        module = import_module(f"benchmarks.{name}")
    row = BENCHMARKS[name]

    def run(*, json_output: bool, picture: Path | None = None, **options: Any) -> None:
        # A missing matplotlib must show now and not after hours of measuring.
        failed, draw = False, None
        with one_line():
            if picture is not None:
                draw = getattr(import_module("benchmarks.pictures"), name)
            for result in results(module.measure(**options)):
                if json_output:
                    print_json(result, row.one_line)
                else:
                    module.show(result)
                if draw is not None:
                    draw(result, picture)
                failed |= getattr(result, "failed", False)
        if failed:
            raise typer.Exit(1)

    own = inspect.signature(module.measure, eval_str=True).parameters.values()
    run.__signature__ = inspect.Signature([*own, *added_options(row)])  # type: ignore[attr-defined]
    return run


@contextmanager
def one_line() -> Iterator[None]:
    """Around a benchmark: the program's errors and a missing package are one line, not a trace."""
    try:
        with ExitStack() as extras:
            for extra, packages in EXTRAS.items():
                extras.enter_context(needs_extra(extra, packages))
            yield
    except TwoStreamError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(error.exit_code) from None


def added_options(row: Benchmark) -> Iterator[Parameter]:
    """``--picture``, where there is one, and ``--json``."""
    if row.picture:
        annotation = Annotated[Path | None, typer.Option(help=f"PNG of {row.picture}")]
        yield Parameter("picture", Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
    yield Parameter("json_output", Parameter.KEYWORD_ONLY, default=False, annotation=Json)


def results(measured: Any) -> Iterator[Any]:
    """What a generator yields, or the one result."""
    if inspect.isgenerator(measured):
        yield from measured
    else:
        yield measured


def print_json(result: Any, one_line: bool) -> None:
    """Print a result on standard output, at once: another program may be reading line by line."""
    if hasattr(result, "as_json"):
        result = result.as_json()
    elif is_dataclass(result) and not isinstance(result, type):
        result = asdict(result)
    sys.stdout.write(json.dumps(result, indent=None if one_line else 1) + "\n")
    sys.stdout.flush()


app = typer.Typer(cls=LazyCommands, no_args_is_help=True, add_completion=False)


@app.callback()
def main() -> None:
    """Measure the program, its parts and what it is compared with."""


def _unloaded() -> None:
    """The body of a command until :class:`LazyCommands` loads it; never runs."""


for _name, _row in BENCHMARKS.items():
    app.command(_name, help=_row.help)(_unloaded)


if __name__ == "__main__":
    app(prog_name="python -m benchmarks")
