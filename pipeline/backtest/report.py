"""The result of a back-test as plain data, and as tables."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from rich.console import Console, Group, RenderableType
from rich.table import Table

from pipeline.backtest.compare import Comparison, Logged
from pipeline.backtest.judging import Said
from pipeline.backtest.run import CameraTest
from pipeline.clock import NS_PER_S, isoformat
from pipeline.evaluate.statistics import most_expected

_DAY_S = 86_400.0
SHOWN = 30
"""Events of a kind that a table shows."""


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event. ``id`` and ``clip`` are those of the log, where it has them."""

    camera: str
    label: str
    time: str
    seconds: float
    top_score: float
    id: str | None = None
    clip: str | None = None


class Rate(msgspec.Struct, frozen=True):
    """Events and their rate a camera-day; the true rate is below the last with 95 % confidence."""

    events: int
    a_day: float | None
    a_day_below: float | None


class Start(msgspec.Struct, frozen=True):
    """Events with one start threshold for all labels."""

    start: float
    events: int
    a_day: float | None


class BacktestReport(msgspec.Struct, frozen=True):
    """What a pack would have said, against what was said."""

    pack: str
    version: str
    cameras: list[str]
    first_time: str
    last_time: str
    camera_days: float
    steps: int
    """Steps that were remembered; in the others nothing moved."""
    labels: dict[str, Rate]
    new: list[Row]
    same: list[Row]
    gone: list[Row]
    starts: list[Start]


def report(
    name: str, version: str, tests: Sequence[CameraTest], found: Comparison,
    clips: Mapping[str, str],
) -> BacktestReport:  # fmt: skip
    """``clips``: the path of a clip by the id of a logged event."""
    days = sum(test.last_ns - test.first_ns for test in tests) / NS_PER_S / _DAY_S
    by_label = Counter(said.label for test in tests for said in test.said)
    starts: Counter[float] = Counter()
    for test in tests:
        starts.update(test.starts)
    times = [test for test in tests if test.steps]
    return BacktestReport(
        pack=name,
        version=version,
        cameras=[test.camera for test in tests],
        first_time=isoformat(min((test.first_ns for test in times), default=0)),
        last_time=isoformat(max((test.last_ns for test in times), default=0)),
        camera_days=round(days, 3),
        steps=sum(test.steps for test in tests),
        labels={label: _rate(count, days) for label, count in sorted(by_label.items())},
        new=[_row(said) for said in found.new],
        same=[_row(said, pair, clips) for said, pair in found.same],
        gone=[_row(one.said, one, clips) for one in found.gone],
        starts=[Start(at, starts[at], _a_day(starts[at], days)) for at in sorted(starts)],
    )


def _rate(count: int, days: float) -> Rate:
    below = round(most_expected(count) / days, 2) if days else None
    return Rate(count, _a_day(count, days), below)


def _a_day(count: int, days: float) -> float | None:
    return round(count / days, 2) if days else None


def _row(said: Said, pair: Logged | None = None, clips: Mapping[str, str] | None = None) -> Row:
    known = None if pair is None else pair.id
    return Row(
        said.camera,
        said.label,
        isoformat(said.start_ns),
        round((said.end_ns - said.start_ns) / NS_PER_S, 2),
        round(said.top_score, 4),
        known,
        (clips or {}).get(known or ""),
    )


def show(found: BacktestReport) -> None:
    """Print the tables."""
    Console().print(Group(*_tables(found)))


def _tables(found: BacktestReport) -> Iterable[RenderableType]:
    yield (
        f"{found.pack} {found.version} on {', '.join(found.cameras)}, {found.first_time} to "
        f"{found.last_time}: {found.camera_days:g} camera-days, {found.steps} steps with motion"
    )
    table = Table("label", "events", "a camera-day", "below, 95 %")
    for label, rate in found.labels.items():
        table.add_row(label, str(rate.events), _number(rate.a_day), _number(rate.a_day_below))
    yield table
    starts = Table("start threshold", "events", "a camera-day")
    for one in found.starts:
        starts.add_row(f"{one.start:.2f}", str(one.events), _number(one.a_day))
    yield starts
    for title, rows in (
        ("only this pack says", found.new),
        ("both say", found.same),
        ("only the log says", found.gone),
    ):
        yield _events(title, rows)


def _events(title: str, rows: Sequence[Row]) -> RenderableType:
    table = Table("camera", "label", "time", "seconds", "top score", "clip", title=title)
    for row in rows[:SHOWN]:
        table.add_row(
            row.camera, row.label, row.time, f"{row.seconds:g}", f"{row.top_score:.2f}",
            row.clip or "",
        )  # fmt: skip
    if len(rows) > SHOWN:
        table.add_row("", f"… {len(rows) - SHOWN} more; --json has all")
    return table if rows else f"{title}: nothing"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:g}"
