"""``python -m pipeline.backtest``: what a pack would have said of the last days."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.backtest.compare import Logged, compared, logged
from pipeline.backtest.report import BacktestReport, report, show
from pipeline.backtest.run import CameraTest, Tick, check_networks, run_camera
from pipeline.backtest.setting import every_of, filter_of
from pipeline.clock import SYSTEM_CLOCK
from pipeline.config import Config, load
from pipeline.config.paths import at_home, stray_address
from pipeline.config.spans import moment_ns
from pipeline.config.suggestion import did_you_mean
from pipeline.decision.decisions import thresholds
from pipeline.errors import EXIT_USAGE, FeatureMemoryError, ends_with_errors
from pipeline.memory.store import MemoryReader
from pipeline.model.pack import ModelPack
from pipeline.model.session import Network
from pipeline.model.watch import Watch
from pipeline.public.log_reader import LogReader

EVER_NS = 1 << 62

app = typer.Typer(add_completion=False)


@app.command()
def main(
    pack: Annotated[Path, typer.Option(help="the pack to test: its folder")],
    config: Annotated[
        Path, typer.Option("-c", "--config", help="the program's: memory, log, rules, thresholds")
    ],
    camera: Annotated[
        list[str] | None, typer.Option(help="only this one; repeatable; default: all")
    ] = None,
    since: Annotated[
        str, typer.Option(help="7d, 12h, 30m, or a time such as 2026-11-20T08:00:00Z")
    ] = "7d",
    until: Annotated[str | None, typer.Option(help="likewise; default: now")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="cameras at a time")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Run a pack over what the memory has kept, and compare it with the event log."""
    with ends_with_errors():
        found = _test(load(at_home(config)), at_home(pack), camera or [], since, until, jobs)
    if as_json:
        sys.stdout.write(msgspec.json.encode(found).decode() + "\n")
    else:
        show(found)


def _test(
    config: Config, folder: Path, cameras: Sequence[str], since: str, until: str | None, jobs: int
) -> BacktestReport:
    now_ns = SYSTEM_CLOCK.wall_ns()
    span = (
        moment_ns(since, "--since", now_ns),
        # A file that was read without loss is remembered by its own time, beyond the present.
        EVER_NS if until is None else moment_ns(until, "--until", now_ns),
    )
    if config.memory.folder is None:
        raise FeatureMemoryError("memory.folder: the config names none, so nothing is remembered")
    memory = MemoryReader(config.memory.folder)
    tested = ModelPack.load(folder)
    watched = _watches(config, memory, tested, cameras)
    network = Network(tested, "fusion", 1, config.runtime.providers)
    limits = thresholds(tested.contract, config.events.thresholds)
    with progress(_steps(memory, watched)) as tick, ThreadPoolExecutor(jobs) as pool:
        tests = list(pool.map(lambda name: run_camera(
            memory, name, watched[name], network.run, limits, partial(filter_of, config, name),
            span, tick,
        ), watched))  # fmt: skip
    log = _log(config)
    before = [] if log is None else _logged(log, tests, tested.contract.actions, span)
    clips = {} if log is None else _clips(log, before)
    said = [one for test in tests for one in test.said]
    contract = tested.contract
    return report(contract.name, contract.version, tests, compared(said, before), clips)


def _watches(
    config: Config, memory: MemoryReader, tested: ModelPack, asked: Sequence[str]
) -> dict[str, Watch]:
    """The pack at each camera that is to be tested. Of all cameras, those that can be are."""
    found, reasons = {}, []
    for name in _cameras(memory, asked):
        watch = Watch(tested, every_of(config, name, tested), config.flow.method)
        try:
            check_networks(memory, name, watch)
        except FeatureMemoryError as error:
            reasons.append(str(error))
            continue
        found[name] = watch
    if reasons and (asked or not found):
        raise FeatureMemoryError("\n".join(reasons))
    for reason in reasons:
        print(f"warning: {reason}", file=sys.stderr)
    return found


def _log(config: Config) -> LogReader | None:
    if config.events.log is None:
        return None
    log = LogReader(config.events.log)
    if log.is_readable():
        return log
    print(f"warning: events.log: {config.events.log} can't be read", file=sys.stderr)
    return None


def _cameras(memory: MemoryReader, asked: Sequence[str]) -> list[str]:
    known = memory.cameras()
    if not known:
        raise FeatureMemoryError("the memory is empty")
    for name in asked:
        if name not in known:
            likely = did_you_mean(name, known)
            raise FeatureMemoryError(f"--camera {name}: the memory has {', '.join(known)}{likely}")
    return list(asked) or known


def _steps(memory: MemoryReader, names: Iterable[str]) -> int:
    return sum(kept.steps for name in names if (kept := memory.kept(name)) is not None)


def _logged(
    log: LogReader, tests: Sequence[CameraTest], labels: Sequence[str], span: tuple[int, int]
) -> list[Logged]:
    """The log's events of the labels and cameras, within the time that is remembered."""
    spans = {test.camera: (test.first_ns, test.last_ns) for test in tests}
    began = {test.camera: test.file_began_ns for test in tests if test.file_began_ns is not None}
    return [
        one
        for one in logged(log.events(), began)
        if one.said.camera in spans
        and one.said.label in labels
        and max(span[0], spans[one.said.camera][0]) <= one.said.end_ns
        and one.said.start_ns <= min(span[1], spans[one.said.camera][1])
    ]


def _clips(log: LogReader, before: Sequence[Logged]) -> dict[str, str]:
    wanted = {one.id for one in before}
    return {
        one.id: one.path
        for one in log.evidence_from(0)
        if one.id in wanted and one.kind == "clip" and one.state == "ready" and one.path
    }


@contextmanager
def progress(total: int) -> Iterator[Tick]:
    """Show a bar on standard error, if that is a terminal; yields the function that advances it."""
    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("steps"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        yield lambda steps: bar.update(task, advance=steps)


def cli(arguments: Sequence[str], name: str | None = None) -> None:
    """Run the command line; ``name`` is what usage lines call the program."""
    if stray := stray_address(arguments, takes=()):
        print(f"error: {stray}", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)
    app(args=list(arguments), prog_name=name)


if __name__ == "__main__":
    cli(sys.argv[1:])
