"""Hours of a camera behind a bad relay, compared with the same camera on a good line.

The relay passes data on in lumps, holds them back for seconds, cuts the line, and sends lumps
twice. Both cameras are one RTSP stream of pictures whose motion turns every 2.5 seconds, so each
event of the good line has a counterpart on the bad one.
"""

import contextlib
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from testbed import tiny_pack
from testbed.cameras import rtsp_server
from testbed.footage import panning_clip
from testbed.line import Line, line_to
from testbed.program import Heard, PipelineRun, scratch_folder
from testbed.resources import sample
from testbed.video_files import as_h264

FPS, SIZE = 30, (240, 320)
NEAR_S = 1.2
"""An event of the bad line belongs to one of the good line that began this near to it."""
FAR_S, FURTHEST = 20.0, 20
WHOLE_S = 0.6
"""A fault of the line costs the events that began within this time of it."""
CUT_SHOWS_S = 30.0
"""A cut may explain what goes wrong until this long after it."""
CAUSES = ("after a cut", "stamps not used", "packets twice", "lumps", "none of these")
"""What may explain that an event is missing or too many. The first that fits counts."""


@dataclass
class Result:
    """What the bad line cost. Times in seconds."""

    hours: float
    events: int
    """Events of the good line that no cut of the bad one touches."""
    missed: int
    """Of these, those that the bad line didn't bring."""
    wrong: int
    """Events of the bad line without a counterpart, outside of cuts."""
    steps: int
    """Steps of the good line that no cut of the bad one touches."""
    steps_lost: int
    """Of these, those that were not scored on the bad line."""
    drift_s: float
    """How much later the bad line's events were at the end than at the beginning."""
    step_s: float
    lumps: int
    cuts: int
    memory_mb: tuple[float, float]
    """Of all processes, after the first minute and at the end."""
    shifted: int
    """Of those missed, events that came, but further than :data:`NEAR_S` from their counterpart."""
    torn: int
    """Events of the bad line that a gap ended, outside of cuts."""
    causes: dict[str, tuple[int, ...]]
    """For each of :data:`CAUSES`: events of the good line then, those missed, those too many."""
    furthest: list[tuple[float, float, float]]
    """The events of the bad line that began furthest from a counterpart, or had none within
    :data:`FAR_S` (then that): seconds since the beginning, since the last cut, and apart."""

    @property
    def failed(self) -> bool:
        """Whether the figures are beyond what is promised."""
        return self.missed > 0 or self.wrong > 0 or abs(self.drift_s) > self.step_s


class Weather(threading.Thread):
    """Changes the line every few seconds, by a seed."""

    def __init__(self, line: Line, seed: int) -> None:
        super().__init__(daemon=True)
        self._line = line
        self._rng = random.Random(seed)
        self._over = threading.Event()
        self.cuts: list[tuple[float, float]] = []
        """When the line was cut: monotonic seconds, from and to."""
        self.lumps = 0
        self.spells: list[tuple[str, float, float]] = []
        """One of :data:`CAUSES`, and from when to when it was so."""

    def run(self) -> None:
        rng, line = self._rng, self._line
        while not self._over.is_set():
            line.every_s = rng.choice((0.0, 0.2, 0.3, 0.5, 0.5, 1.0))
            line.twice = rng.random() < 0.3
            self.lumps += bool(line.every_s)
            since = time.monotonic()
            over = self._over.wait(rng.uniform(10, 40))
            if line.twice:
                self.spells.append(("packets twice", since, time.monotonic()))
            if line.every_s:
                self.spells.append(("lumps", since, time.monotonic()))
            if over:
                return
            if rng.random() < 0.15:
                began = time.monotonic()
                line.fault = "cut"
                self._over.wait(rng.uniform(1, 8))
                line.fault = ""
                # Until the decoder has a key frame, and the window is full again.
                self.cuts.append((began, time.monotonic() + 12))
                self.spells.append(("after a cut", began, time.monotonic() + CUT_SHOWS_S))

    def stop(self) -> None:
        self._over.set()
        self.join(10)


def measure(
    hours: Annotated[float, typer.Option(min=0.01, help="how long")] = 8.0,
    seed: Annotated[int, typer.Option(help="of the faults")] = 1,
) -> Result:
    """Run both cameras for ``hours`` and compare them. Ctrl-C ends it with what there is."""
    with scratch_folder() as folder:
        pack = tiny_pack.make(folder / "pack")
        clip = as_h264(panning_clip(folder / "pan.avi", 10, fps=FPS, size=SIZE), folder / "pan.mp4")
        with (
            rtsp_server({"door": [clip]}, size=SIZE, fps=FPS, shared=True) as server,
            line_to(server.port) as line,
        ):
            cameras = {"good": {"source": server.url("door")}, "bad": {"source": line.url("door")}}
            settings = {"model": str(pack), "cameras": cameras}
            with PipelineRun(folder / "run", settings) as run:
                run.wait_for(lambda: run.events("good") and run.events("bad"), 120, "first events")
                began = time.monotonic()
                weather = Weather(line, seed)
                weather.start()
                memory = _sleep(run, hours * 3600)
                weather.stop()
                hours = min(hours, (time.monotonic() - began) / 3600)
                return _compared(run, weather, began, hours, memory)


def _sleep(run: PipelineRun, seconds: float) -> tuple[float, float]:
    """Wait; returns the memory of all processes after a minute and at the end, in MB."""
    until = time.monotonic() + seconds
    time.sleep(min(60.0, seconds / 2))
    first = _memory_mb(run)
    with contextlib.suppress(KeyboardInterrupt):
        while (rest := until - time.monotonic()) > 0:
            time.sleep(min(rest, 10.0))
            if run.process.poll() is not None:
                raise RuntimeError(f"the program ended\n{run.log()[-3000:]}")
    return first, _memory_mb(run)


def _memory_mb(run: PipelineRun) -> float:
    return sum(one["uss_mb"] for one in sample(run).values())


def _compared(
    run: PipelineRun, weather: Weather, began: float, hours: float, memory: tuple[float, float]
) -> Result:
    def clear(at: float) -> bool:
        """Whether no cut touches this moment, and both lines have had time since it."""
        inside = began + 5 < at < began + hours * 3600 - 5
        return inside and not any(a - WHOLE_S < at < b + WHOLE_S for a, b in weather.cuts)

    good = [h for h in _starts(run, "good") if clear(h.at)]
    bad = _starts(run, "bad")
    apart = [(h.at, pair) for h in good if (pair := _nearest(h, bad)) is not None]
    known = _starts(run, "good")
    missed = [h for h in good if _nearest(h, bad) is None]
    wrong = [h for h in bad if clear(h.at) and _nearest(h, known) is None]
    spells = [*weather.spells, *_distrusted(run, began + hours * 3600)]
    tenth = max(1, len(apart) // 10)
    late = [delay for _, delay in apart]
    scored = {_step(h) for h in run.scores("bad")}
    steps = {_step(h) for h in run.scores("good") if clear(h.at)}
    return Result(
        hours=hours,
        events=len(good),
        missed=len(missed),
        wrong=len(wrong),
        steps=len(steps),
        steps_lost=sum(not scored & {step - 1, step, step + 1} for step in steps),
        drift_s=round(median(late[-tenth:]) - median(late[:tenth]), 3) if late else 0.0,
        step_s=1 / tiny_pack.contract().step_hz,
        lumps=weather.lumps,
        cuts=len(weather.cuts),
        memory_mb=(round(memory[0], 1), round(memory[1], 1)),
        shifted=sum(_apart(h, bad, FAR_S) is not None for h in missed),
        torn=sum(h.body["reason"] == "gap" and clear(h.at) for h in _ends(run, "bad")),
        causes=_causes(spells, good, missed, wrong),
        furthest=_furthest([h for h in bad if clear(h.at)], known, weather, began),
    )


def _starts(run: PipelineRun, camera: str) -> list[Heard]:
    return [h for h in run.events(camera) if h.body["type"] == "start"]


def _ends(run: PipelineRun, camera: str) -> list[Heard]:
    return [h for h in run.events(camera) if h.body["type"] == "end"]


def _distrusted(run: PipelineRun, end: float) -> list[tuple[str, float, float]]:
    """From when to when the bad line's stamps were not used, as its statuses say."""
    spells, since = [], None
    for status in run.statuses("bad"):
        distrusted = "times of arrival are used" in (status.body["reason"] or "")
        if distrusted and since is None:
            since = status.at
        elif since is not None and not distrusted:
            spells.append(("stamps not used", since, status.at))
            since = None
    return [*spells, *([("stamps not used", since, end)] if since is not None else [])]


def _causes(
    spells: list[tuple[str, float, float]], *kinds: list[Heard]
) -> dict[str, tuple[int, ...]]:
    """How many events of each kind fall to each of :data:`CAUSES`."""

    def cause(at: float) -> str:
        now = {name for name, begun, end in spells if begun - WHOLE_S < at < end + WHOLE_S}
        return next((one for one in CAUSES if one in now), CAUSES[-1])

    counts = [Counter(cause(h.at) for h in events) for events in kinds]
    return {one: tuple(count[one] for count in counts) for one in CAUSES}


def _step(heard: Heard) -> int:
    return int(heard.body["window"]["last_step"])


def _furthest(
    bad: list[Heard], good: list[Heard], weather: Weather, began: float
) -> list[tuple[float, float, float]]:
    rows = []
    for event in bad:
        apart = _apart(event, good, FAR_S)
        cut = max((end for _, end in weather.cuts if end < event.at), default=began)
        shift = FAR_S if apart is None else -apart
        rows.append((round(event.at - began, 1), round(event.at - cut, 1), round(shift, 2)))
    return sorted(rows, key=lambda row: -abs(row[2]))[:FURTHEST]


def _nearest(event: Heard, others: list[Heard]) -> float | None:
    """How much later the nearest event of the same label began; None if none is near."""
    nearest = _apart(event, others, 5.0)
    return nearest if nearest is not None and abs(nearest) < NEAR_S else None


def _apart(event: Heard, others: list[Heard], within_s: float) -> float | None:
    """The same of those heard within some seconds of it, however far apart they began."""
    apart = [
        _began(other) - _began(event)
        for other in others
        if other.body["label"] == event.body["label"] and abs(other.at - event.at) < within_s
    ]
    return min(apart, key=abs, default=None)


def _began(heard: Heard) -> float:
    return datetime.fromisoformat(heard.body["start_time"]).timestamp()


def show(result: Result) -> None:
    """Print the result as a table."""
    table = Table(title=f"A camera behind a bad relay, {result.hours:g} hours")
    table.add_column("what")
    table.add_column("figure", justify="right")
    rows: list[tuple[str, Any]] = [
        ("times that the relay held data back in lumps", result.lumps),
        ("cuts of the line", result.cuts),
        ("events outside of cuts", result.events),
        ("of these missed", result.missed),
        ("of these came, but with another time", result.shifted),
        ("events too many", result.wrong),
        ("events that a gap ended", result.torn),
        ("steps outside of cuts", result.steps),
        ("of these lost", result.steps_lost),
        ("drift, s", result.drift_s),
        ("a step, s", round(result.step_s, 3)),
        ("memory after a minute and at the end, MB", " → ".join(map(str, result.memory_mb))),
    ]
    for name, value in rows:
        table.add_row(name, str(value))
    Console().print(table)
    causes = Table(title="What the line did when they came, or until shortly before")
    for column in ("what", "events", "missed", "too many"):
        causes.add_column(column)
    for name, counts in result.causes.items():
        causes.add_row(name, *map(str, counts))
    Console().print(causes)
    worst = Table(title="The events of the bad line furthest from their counterparts")
    for column in ("s since the beginning", "s since the last cut", "s later"):
        worst.add_column(column, justify="right")
    for row in result.furthest:
        worst.add_row(*map(str, row))
    Console().print(worst)
