"""What bridges carry: events, evidence, and states.

Events and evidence are *records*: each has a number, is sent in order, at least once, and
acknowledged. ``(log, seq)`` names an event for ever and ``(log, number)`` a piece of evidence, so
that a receiver can drop what it got twice. States have no number: only the newest counts.
"""

from typing import Literal, NamedTuple

from pipeline.clock import from_isoformat
from pipeline.public.records import CameraStatus, Event, Evidence, to_json

Record = Event | Evidence


class ProgramState(NamedTuple):
    """Whether the program answers, and the cameras that it has."""

    state: Literal["online", "offline"]
    cameras: tuple[str, ...]
    """Sorted. A camera that was taken out of the config is missing here after a minute or two;
    while the program is offline, these are the cameras that it had."""
    time: str


class Ongoing(NamedTuple):
    """The actions that go on: once the event ``seq`` of ``log`` was stored, these and no others.

    For receivers that show what goes on. The log may have deleted an action's end before it could
    be sent, or the program may run with another log.
    """

    log: str
    seq: int
    ids: frozenset[str]


State = CameraStatus | ProgramState | Ongoing


def key_of(record: Record) -> str:
    """The record's name for removing duplicates: ``LOG/41``, and ``LOG/evidence/7``."""
    if isinstance(record, Event):
        return f"{record.log}/{record.seq}"
    return f"{record.log}/evidence/{record.number}"


def kind_of(record: Record) -> Literal["event", "evidence"]:
    return "event" if isinstance(record, Event) else "evidence"


def json_of(record: Record) -> bytes:
    """The record as it is on the public sockets."""
    return to_json(record)


def happened_ns(record: Record) -> int | None:
    """When what the record tells happened, in nanoseconds since 1970; None: it doesn't say.

    An update doesn't say: it only has the time at which its action started.
    """
    text: str | None
    if isinstance(record, Event):
        text = {"start": record.start_time, "end": record.end_time}.get(record.type)
    else:
        text = record.last_time
    try:
        return from_isoformat(text) if text else None
    except ValueError:
        return None
