"""What a running program publishes, as a bridge takes it: records in order, states as they are."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from bridges.cursor import Position
from bridges.records import Ongoing, ProgramState, Record, State
from pipeline.client import EventClient, EvidenceClient
from pipeline.clock import NS_PER_S, Clock, isoformat
from pipeline.public.records import CameraStatus, Event, Evidence

SILENT_S = 10.0
"""A program that hasn't answered for so long is offline. It is asked every two seconds."""
ASK_AGAIN_S = 20.0
"""How often the program is asked which cameras it has."""
MISSED_LOOKS = 3
"""A camera is gone when so many looks in a row don't show it: at the program's start, cameras
come one by one."""
_SNAPSHOT_S = 2.0
_LISTEN_S, _MOMENT_S = 1.0, 0.02
_ONGOING = "*"
"""Among the news; no camera has this name."""
_REST_S = 0.05

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
        from_ = None if start is not None or not oldest else 0
        self._clock = clock
        self._statuses: dict[str, CameraStatus] = {}
        self._news: dict[str, State] = {}
        self._looks: dict[str, int] = {}
        self._program: ProgramState | None = None
        self._ongoing: Ongoing | None = None
        self._asked_ns = 0
        self._asked_log: str | None = None
        self._listened_ns = clock.monotonic_ns()
        self._began_ns = clock.monotonic_ns()
        self._is_first = start is None
        self._forgotten_before = 0
        self._start, self._is_oldest = start, oldest
        self._log: str | None = start.log if start is not None else None
        self._seq = start.seq if start is not None else 0
        self._client = EventClient(
            *endpoints,
            since=start.seq if start is not None else from_,
            log=start.log if start is not None else None,
            known={name: position.seq for name, position in known.items()},
            key=key,
            on_status=self._note,
        )
        self.where = endpoints[1]
        """The socket that is asked."""
        self._pieces = _Pieces(
            EvidenceClient(
                *endpoints,
                since=start.evidence if start is not None else from_,
                log=start.log if start is not None else None,
                key=key,
            ),
            known,
            clock,
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
        """Where this feed began; None while no program has answered."""
        return self._start

    def next(self, seconds: float) -> Record | None:
        """The next record; None: there was none within the time.

        Evidence comes as soon as it is there, but not before the event that it belongs to.
        """
        self._listen()
        self._look()
        if not self._pieces.ready():
            # Where a new bridge begins must be known for both before it takes anything.
            self._pieces.fetch(seconds)
            return None
        if self._start is not None:
            piece = self._pieces.next(self._log, self._seq)
            if piece is not None:
                return piece
        event = self._client.receive(seconds)
        if self._start is None:
            self._note_start(event)
        if event is not None:
            self._note_log(event)
        return event

    def _listen(self) -> None:
        """Take in answers and states now and then, also while records that came before wait.

        Otherwise a program whose records a slow receiver takes for a minute would seem to be away.
        """
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._listened_ns >= _LISTEN_S * NS_PER_S:
            self._listened_ns = now_ns
            self._client.attend(_MOMENT_S)

    def _note_start(self, first: Event | None) -> None:
        """Where this feed begins: before its first event, or after those that it needn't fetch."""
        client = self._client
        if first is not None:
            self._log, self._seq = first.log, 0 if self._is_oldest else first.seq - 1
        elif client.log is not None and client.last_seq is not None:
            self._log, self._seq = client.log, client.last_seq
        if self._log is not None:
            self._start = Position(self._log, self._seq, self._pieces.last_number)

    def _note_log(self, event: Event) -> None:
        if self._log not in (None, event.log):
            log.warning(
                "the program has another event log now (%s, before: %s); what was not fetched "
                "from the one before comes only when the program runs with it again",
                event.log, self._log,
            )  # fmt: skip
        self._log, self._seq = event.log, event.seq
        if self._is_first:
            # Who begins at the oldest event hasn't lost the older ones.
            self._forgotten_before, self._is_first = self._client.forgotten, False

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
        self._pieces.close()

    def _note(self, status: CameraStatus) -> None:
        before = self._statuses.get(status.camera)
        self._statuses[status.camera] = status
        self._looks[status.camera] = 0
        same = before is not None and msgspec.structs.replace(before, time=status.time) == status
        if not same:
            self._news[status.camera] = status
        if before is None and self._program is not None:
            self._tell()

    def _look(self) -> None:
        """Ask the program for its cameras now and then, and see whether it is there at all."""
        is_online = self._client.answered_s < SILENT_S
        state = self._program.state if self._program is not None else None
        now_ns = self._clock.monotonic_ns()
        if state is None and not is_online and now_ns - self._began_ns < SILENT_S * NS_PER_S:
            return  # it has only begun to look for the program
        due = now_ns - self._asked_ns >= ASK_AGAIN_S * NS_PER_S
        # With another log other actions go on.
        due = due or self._client.log != self._asked_log
        if is_online and (due or state != "online"):
            self._asked_ns, self._asked_log = now_ns, self._client.log
            self._ask()
        if state != ("online" if is_online else "offline"):
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


class _Pieces:
    """Evidence, each piece held until the event that it belongs to has gone on."""

    def __init__(self, client: EvidenceClient, known: dict[str, Position], clock: Clock) -> None:
        self._client = client
        self._known = {name: position.evidence for name, position in known.items()}
        self._clock = clock
        self._began_ns = clock.monotonic_ns()
        self._held: Evidence | None = None
        self._rest_until_ns = 0
        self._logs = set(known)
        """Logs whose events have been here."""

    @property
    def last_number(self) -> int:
        return self._client.last_number or 0

    def ready(self) -> bool:
        """Whether it is known from which number on; an old program never says."""
        waited_ns = self._clock.monotonic_ns() - self._began_ns
        return self._client.last_number is not None or waited_ns >= SILENT_S * NS_PER_S

    def fetch(self, seconds: float) -> None:
        now_ns = self._clock.monotonic_ns()
        if not seconds and now_ns < self._rest_until_ns:
            return
        while self._held is None:
            piece = self._client.receive(seconds)
            if piece is None:
                # Many events may pass meanwhile; a look for each would slow them down.
                self._rest_until_ns = now_ns + int(_REST_S * NS_PER_S)
            # A log that comes back is read from its first piece again.
            if piece is None or piece.number > self._known.get(piece.log, 0):
                self._held = piece
                return

    def next(self, log: str | None, seq: int) -> Evidence | None:
        """The next piece, if its event is not after event ``seq`` of ``log``."""
        if log is not None:
            self._logs.add(log)
        self.fetch(0.0)
        held = self._held
        if held is None:
            return None
        is_before = held.seq <= seq if held.log == log else held.log in self._logs
        if is_before:
            self._known[held.log] = held.number
            self._held = None
        return held if is_before else None

    def close(self) -> None:
        self._client.close()
