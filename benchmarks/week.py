"""A week's memory and log of many cameras, made of what was recorded of two rooms."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from pipeline.clock import NS_PER_S, SYSTEM_CLOCK, isoformat
from pipeline.memory.store import MemoryReader, MemoryWriter, Stretch
from pipeline.public.event_log import EventLog
from pipeline.public.log_reader import LogReader
from pipeline.public.records import Event, to_json
from pipeline.steps.join import DecidedStep

GAP_S = 10.0
"""Between two repetitions, so that no window and no event goes on into the next."""
DAY_S = 86_400.0
NO_LIMIT_MB = 1e6


def begins(start_ns: int, days: float, hours: float, length_s: float) -> Iterator[int]:
    """When a recording of ``length_s`` begins that is repeated for ``hours`` of each day."""
    while days > 0:
        day_s = min(days, 1.0) * DAY_S
        for repetition in range(max(1, int(day_s * hours / 24 / (length_s + GAP_S)))):
            yield start_ns + round(repetition * (length_s + GAP_S) * NS_PER_S)
        start_ns += round(day_s * NS_PER_S)
        days -= 1.0


def as_live(stretches: Iterable[Stretch], camera: str) -> list[list[DecidedStep]]:
    """Recorded stretches as those of a live camera: their time in the file is when they were."""
    found = []
    for stretch in stretches:
        steps = []
        for step in stretch.steps:
            assert step.moment.pts_ns is not None
            moment = msgspec.structs.replace(
                step.moment,
                camera=camera,
                captured_ns=step.moment.pts_ns,
                taken_ns=None,
                pts_ns=None,
            )
            steps.append(DecidedStep(moment, step.spatial, step.temporal, step.people))
        found.append(steps)
    return found


def remember(
    recorded: MemoryReader, room: str, folder: Path, camera: str, at_ns: Iterable[int]
) -> None:
    """Write a camera's memory: what was recorded of a room, at each of these times."""
    stretches = as_live(recorded.stretches(room), camera)
    writer = MemoryWriter(folder, camera, 3650, NO_LIMIT_MB, SYSTEM_CLOCK)
    for begin_ns in at_ns:
        for steps in stretches:
            writer.append(steps, begin_ns, media=False)
    writer.close()


def log_again(log: Path, said: Sequence[Event], camera: str, at_ns: Iterable[int]) -> None:
    """Append recorded events to a log, at each of these times."""
    with sqlite3.connect(log) as db:
        seq = int(db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0])
        for begin_ns in at_ns:
            for event in said:
                seq += 1
                again = _moved(event, camera, begin_ns, seq)
                row = (seq, again.id, camera, again.label, again.type, to_json(again))
                db.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, 0)", row)
    db.close()


def _moved(event: Event, camera: str, begin_ns: int, seq: int) -> Event:
    start_s, end_s = event.media_time
    assert start_s is not None
    assert end_s is not None
    return msgspec.structs.replace(
        event,
        seq=seq,
        id=f"{event.id}-{seq}",
        camera=camera,
        start_time=isoformat(begin_ns + round(start_s * NS_PER_S)),
        end_time=isoformat(begin_ns + round(end_s * NS_PER_S)),
        media_time=(None, None),
    )


def ended(log: Path) -> list[Event]:
    """The last record of each event of a log."""
    reader = LogReader(log)
    found = [event for event in reader.events() if event.type == "end"]
    reader.close()
    return found


def new_log(path: Path) -> None:
    """A log in which nothing stands."""
    EventLog(path).close()
