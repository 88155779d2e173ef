"""What a running program publishes, as a bridge takes it: records in order, states as they are."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from bridges.cursor import Position
from bridges.records import Ongoing, ProgramState, Record, State
from pipeline.client import EventClient
from pipeline.clock import NS_PER_S, Clock, isoformat
from pipeline.public.records import CameraStatus

SILENT_S = 10.0
"""A program that hasn't answered for so long is offline. It is asked every two seconds."""
ASK_AGAIN_S = 20.0
"""How often the program is asked which cameras it has."""
MISSED_LOOKS = 3
"""A camera is gone when so many looks in a row don't show it: at the program's start, cameras
come one by one."""
_SNAPSHOT_S = 2.0
_ONGOING = "*"
"""Among the news; no camera has this name."""

log = logging.getLogger(__name__)


class _Action(msgspec.Struct):
    id: str


class _Actions(msgspec.Struct):
    """What a snapshot says of the actions that go on."""

    log: str
    seq: int
    active: list[_Action]


class Feed:
    """Records after a position, and the newest states."""

    def __init__(
        self,
        endpoints: tuple[str, str],
        key: Path | None,
        known: dict[str, Position],
        *,
        oldest: bool,
        clock: Clock,
    ) -> None:
        start = next(reversed(known.values()), None)
        self._clock = clock
        self._statuses: dict[str, CameraStatus] = {}
        self._news: dict[str, State] = {}
        self._looks: dict[str, int] = {}
        self._program: ProgramState | None = None
        self._ongoing: Ongoing | None = None
        self._asked_ns = 0
        self._began_ns = clock.monotonic_ns()
        self._is_first = start is None
        self._forgotten_before = 0
        self._log = start.log if start is not None else None
        self._client = EventClient(
            *endpoints,
            since=start.seq if start is not None else (0 if oldest else None),
            log=start.log if start is not None else None,
            known={name: position.seq for name, position in known.items()},
            key=key,
            on_status=self._note,
        )

    @property
    def program(self) -> str | None:
        """``online`` or ``offline``; None: that isn't known yet."""
        return self._program.state if self._program is not None else None

    @property
    def newest_seq(self) -> int:
        return self._client.newest_seq

    @property
    def start(self) -> Position | None:
        """Where this client began in the log; None while no program has answered."""
        if self._client.log is None or self._client.last_seq is None:
            return None
        return Position(self._client.log, self._client.last_seq)

    def next(self, seconds: float) -> Record | None:
        """The next record; None: there was none within the time."""
        record = self._client.receive(seconds)
        self._look()
        if record is not None and self._log != record.log:
            if self._log is not None:
                log.warning(
                    "the program has another event log now (%s, before: %s); what was not fetched "
                    "from the one before comes only when the program runs with it again",
                    record.log, self._log,
                )  # fmt: skip
            self._log = record.log
        if record is not None and self._is_first:
            # Who begins at the oldest event hasn't lost the older ones.
            self._forgotten_before, self._is_first = self._client.forgotten, False
        return record

    def attend(self, seconds: float) -> None:
        """Go on without taking records, for a receiver that is away."""
        self._client.attend(seconds)
        self._look()

    @property
    def forgotten(self) -> int:
        """Events that the log deleted before they could be sent."""
        return 0 if self._is_first else self._client.forgotten - self._forgotten_before

    def news(self) -> Iterator[State]:
        """States that changed since the last call; each is taken when it is asked for."""
        while self._news:
            name = next(iter(self._news))
            yield self._news.pop(name)

    def everything(self) -> None:
        """Have all states come again, for a receiver that was away."""
        if self._program is not None:
            self._news[""] = self._program
        self._news.update(self._statuses)
        if self._ongoing is not None:
            self._news[_ONGOING] = self._ongoing

    def close(self) -> None:
        self._client.close()

    def _note(self, status: CameraStatus) -> None:
        before = self._statuses.get(status.camera)
        self._statuses[status.camera] = status
        self._looks[status.camera] = 0
        same = before is not None and msgspec.structs.replace(before, time=status.time) == status
        if not same:
            self._news[status.camera] = status
        if before is None:
            self._tell()

    def _look(self) -> None:
        """Ask the program for its cameras now and then, and see whether it is there at all."""
        is_online = self._client.answered_s < SILENT_S
        state = self._program.state if self._program is not None else None
        now_ns = self._clock.monotonic_ns()
        if state is None and not is_online and now_ns - self._began_ns < SILENT_S * NS_PER_S:
            return  # it has only begun to look for the program
        due = now_ns - self._asked_ns >= ASK_AGAIN_S * NS_PER_S
        if is_online and (due or state != "online"):
            self._asked_ns = now_ns
            self._ask()
        if is_online != (state == "online"):
            self._tell()

    def _ask(self) -> None:
        with contextlib.suppress(TimeoutError, msgspec.ValidationError):
            answer = self._client.snapshot(_SNAPSHOT_S)
            found = msgspec.convert(answer.get("cameras", {}), dict[str, CameraStatus])
            for camera in list(self._statuses):
                self._looks[camera] = 0 if camera in found else self._looks.get(camera, 0) + 1
            for status in found.values():
                self._note(status)
            gone = [name for name, looks in self._looks.items() if looks >= MISSED_LOOKS]
            for camera in gone:
                for held in (self._statuses, self._looks, self._news):
                    held.pop(camera, None)
            if gone:
                self._tell()
            self._note_ongoing(answer)

    def _note_ongoing(self, answer: dict[str, Any]) -> None:
        """``answer`` is the program's answer to a request for a snapshot."""
        found = msgspec.convert(answer, _Actions)
        before = self._ongoing
        self._ongoing = Ongoing(found.log, found.seq, frozenset(a.id for a in found.active))
        if before is None or (before.log, before.ids) != (found.log, self._ongoing.ids):
            self._news[_ONGOING] = self._ongoing

    def _tell(self) -> None:
        """The program's state has changed, or its cameras have."""
        program = ProgramState(
            "online" if self._client.answered_s < SILENT_S else "offline",
            tuple(sorted(self._statuses)),
            isoformat(self._clock.wall_ns()),
        )
        before = self._program
        self._program = program
        if before is None or before[:2] != program[:2]:
            # Before the cameras' states: who hears of a camera first makes a place for it.
            self._news = {"": program, **self._news}
