"""``python -m pipeline.reviews``: say of events whether they were right, and what was missed."""

import getpass
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.prompt import Prompt
from rich.table import Table

from pipeline.clock import SYSTEM_CLOCK, isoformat
from pipeline.config import load
from pipeline.config.paths import at_home, stray_address
from pipeline.config.spans import moment_ns
from pipeline.config.suggestion import did_you_mean
from pipeline.errors import EXIT_USAGE, ReviewError, ends_with_errors
from pipeline.public.log_reader import LogReader
from pipeline.public.records import Event
from pipeline.reviews.formats import (
    from_activitynet,
    from_csv,
    to_activitynet,
    to_csv,
    verdict_of,
)
from pipeline.reviews.records import Review, in_force
from pipeline.reviews.store import ReviewStore, path_beside

app = typer.Typer(
    help="Say of events whether they were right, and what was missed.",
    no_args_is_help=True,
    add_completion=False,
)

ConfigOption = Annotated[
    Path, typer.Option("-c", "--config", help="the program's config, which names the event log")
]
ByOption = Annotated[str, typer.Option(help="who says it; default: the user's name")]
SinceOption = Annotated[
    str, typer.Option(help="1d, 12h, 30m ago, or a time such as 2026-11-20T08:00:00Z")
]
CameraOption = Annotated[str | None, typer.Option(help="only of this camera")]
_ANSWERS = {"r": "right", "w": "wrong", "o": "another label", "s": "skip", "q": "quit"}


class Day:
    """The log of a config and its reviews."""

    def __init__(self, config: Path) -> None:
        path = load(at_home(config)).events.log
        if path is None:
            raise ReviewError("events.log: the config names none, so no event is kept")
        self.log = LogReader(path)
        if not self.log.is_readable():
            raise ReviewError(f"events.log: {path} can't be read")
        self.reviews = ReviewStore(path_beside(path))

    def events(self, since: str, camera: str | None) -> list[Event]:
        """The newest record of each event, in order of time."""
        since_time = isoformat(moment_ns(since, "--since", SYSTEM_CLOCK.wall_ns()))
        newest = {event.id: event for event in self.log.events()}
        cameras = {event.camera for event in newest.values()}
        if camera is not None and camera not in cameras:
            likely = did_you_mean(camera, cameras)
            raise ReviewError(
                f"--camera {camera}: the log has {', '.join(sorted(cameras))}{likely}"
            )
        kept = [
            event
            for event in newest.values()
            if event.start_time >= since_time and camera in (None, event.camera)
        ]
        return sorted(kept, key=lambda event: event.start_time)

    def event(self, name: str) -> Event:
        """The newest record of an event."""
        found = [event for event in self.log.events() if event.id == name]
        if not found:
            raise ReviewError(f"{name}: no such event in the log; the command list shows their ids")
        return found[-1]

    def clips(self) -> dict[str, str]:
        """The path of a clip by the id of its event."""
        return {
            one.id: one.path
            for one in self.log.evidence_from(0)
            if one.kind == "clip" and one.state == "ready" and one.path
        }


def of_event(event: Event, label: str | None, by: str, note: str = "") -> Review:
    """What is said of an event: ``label`` really happened, None: nothing."""
    return Review(
        camera=event.camera,
        verdict=verdict_of(event.label, label),
        label=label,
        said=event.label,
        start_time=event.start_time,
        end_time=event.end_time or event.start_time,
        event=event.id,
        log=event.log,
        by=by,
        time=isoformat(SYSTEM_CLOCK.wall_ns()),
        note=note,
    )


def user() -> str:
    """The name of who runs this."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


@app.command("list")
def list_(config: ConfigOption, since: SinceOption = "1d", camera: CameraOption = None) -> None:
    """Show events with their reviews, and what was missed."""
    with ends_with_errors():
        day = Day(config)
        said = {review.key: review for review in in_force(day.reviews.all())}
        events, clips = day.events(since, camera), day.clips()
    table = Table("id", "camera", "label", "time", "score", "review", "by", "clip")
    for event in events:
        review = said.pop(event.id, None)
        table.add_row(
            event.id, event.camera, event.label, event.start_time, f"{event.top_score:.2f}",
            _words(review), review.by if review else "", clips.get(event.id, ""),
        )  # fmt: skip
    for review in said.values():
        if review.event is None:
            table.add_row(
                "", review.camera, review.label or "", review.start_time, "", _words(review),
                review.by, "",
            )  # fmt: skip
    Console(width=None if sys.stdout.isatty() else 160).print(table, markup=False)


def _words(review: Review | None) -> str:
    if review is None:
        return ""
    return f"{review.verdict}: {review.label}" if review.verdict == "other" else review.verdict


@app.command()
def ask(
    config: ConfigOption,
    since: SinceOption = "1d",
    camera: CameraOption = None,
    by: ByOption = "",
) -> None:
    """Ask of each event that has no review yet."""
    with ends_with_errors():
        day = Day(config)
        known = {review.key for review in in_force(day.reviews.all())}
        clips = day.clips()
        for event in day.events(since, camera):
            if event.id not in known and not _asked(day, event, clips.get(event.id), by or user()):
                break


def _asked(day: Day, event: Event, clip: str | None, by: str) -> bool:
    """Ask of one event; False: the user has had enough."""
    say = Console(stderr=True).print
    say(
        f"{event.camera}: {event.label}, {event.start_time}, score {event.top_score:.2f}"
        + (f", {clip}" if clip else ""),
        markup=False,
    )
    words = ", ".join(f"{key}: {meaning}" for key, meaning in _ANSWERS.items())
    try:
        answer = Prompt.ask(words, choices=list(_ANSWERS), default="s")
        label = Prompt.ask("which label?") if answer == "o" else event.label
    except (EOFError, KeyboardInterrupt):
        return False
    if answer in ("r", "w", "o"):
        day.reviews.add([of_event(event, None if answer == "w" else label, by)])
    return answer != "q"


@app.command()
def mark(
    event: Annotated[str, typer.Argument(help="its id")],
    verdict: Annotated[str, typer.Argument(help="right, wrong, withdraw, or the right label")],
    config: ConfigOption,
    by: ByOption = "",
    note: Annotated[str, typer.Option(help="a remark")] = "",
) -> None:
    """Say of one event whether it was right."""
    with ends_with_errors():
        day = Day(config)
        found = day.event(event)
        label = {"right": found.label, "wrong": None, "withdraw": None}.get(verdict, verdict)
        review = of_event(found, label, by or user(), note)
        if verdict == "withdraw":
            review = _withdrawn(review)
        day.reviews.add([review])
    typer.echo(f"{event}: {_words(review)}", err=True)


def _withdrawn(review: Review) -> Review:
    return Review(
        camera=review.camera, verdict="withdrawn", said=review.said, start_time=review.start_time,
        end_time=review.end_time, event=review.event, log=review.log, by=review.by,
        time=review.time, note=review.note,
    )  # fmt: skip


@app.command()
def missed(
    config: ConfigOption,
    camera: Annotated[str, typer.Option(help="where it was")],
    label: Annotated[str, typer.Option(help="what happened")],
    start: Annotated[str, typer.Option(help="when it began: a time, or 5m ago")],
    end: Annotated[str, typer.Option(help="when it ended")],
    by: ByOption = "",
    note: Annotated[str, typer.Option(help="a remark")] = "",
) -> None:
    """Say that something happened of which there is no event."""
    with ends_with_errors():
        now_ns = SYSTEM_CLOCK.wall_ns()
        start_ns = moment_ns(start, "--start", now_ns)
        end_ns = moment_ns(end, "--end", now_ns)
        if end_ns <= start_ns:
            raise ReviewError(f"--end {end}: must be after --start {start}")
        review = Review(
            camera=camera, verdict="missed", label=label, start_time=isoformat(start_ns),
            end_time=isoformat(end_ns), by=by or user(), time=isoformat(now_ns), note=note,
        )  # fmt: skip
        Day(config).reviews.add([review])
    typer.echo(f"{camera}: {label} missed at {review.start_time}", err=True)


@app.command("export")
def export_(
    file: Annotated[Path, typer.Argument(help="*.json: as ActivityNet's; *.csv: a table")],
    config: ConfigOption,
) -> None:
    """Write the reviews into a file that labelling tools read."""
    with ends_with_errors():
        reviews = in_force(Day(config).reviews.all())
        write = {".json": to_activitynet, ".csv": to_csv}[_suffix(file)]
        try:
            at_home(file).write_text(write(reviews), encoding="utf-8")
        except OSError as error:
            raise ReviewError(f"{file}: {error.strerror}") from None
    typer.echo(f"{file}: {len(reviews)} reviews", err=True)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="*.json or *.csv")],
    config: ConfigOption,
    by: ByOption = "",
) -> None:
    """Take in what such a file says that is new. Nothing is deleted."""
    with ends_with_errors():
        store = Day(config).reviews
        read = {".json": from_activitynet, ".csv": from_csv}[_suffix(file)]
        try:
            text = at_home(file).read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise ReviewError(f"{file}: {reason}") from None
        try:
            found = read(text, by or user(), isoformat(SYSTEM_CLOCK.wall_ns()))
        except ReviewError as error:
            raise ReviewError(f"{file}: {error}") from None
        count = store.add(_new(found, store.all()))
    typer.echo(f"{file}: {count} new of {len(found)} reviews", err=True)


def _new(found: Iterable[Review], known: Sequence[Review]) -> Iterator[Review]:
    """What isn't in force already, by what it says."""
    standing = {review.key: _content(review) for review in in_force(known)}
    return (review for review in found if standing.get(review.key) != _content(review))


def _content(review: Review) -> tuple[str | None, ...]:
    return review.verdict, review.label, review.start_time, review.end_time


def _suffix(file: Path) -> str:
    if file.suffix not in (".json", ".csv"):
        raise ReviewError(f"{file}: its name must end in .json or .csv")
    return file.suffix


def cli(arguments: Sequence[str], name: str | None = None) -> None:
    """Run the command line; ``name`` is what usage lines call the program."""
    if stray := stray_address(arguments, takes=()):
        typer.echo(f"error: {stray}", err=True)
        raise SystemExit(EXIT_USAGE)
    app(args=list(arguments), prog_name=name)


if __name__ == "__main__":
    cli(sys.argv[1:])
