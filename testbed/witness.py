"""A client that receives a run's events through every fault, and the account of those events."""

import itertools
import threading
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.client import EventClient
from pipeline.public.event_log import read_since
from pipeline.public.records import event_from_json


def tolerant_settings(pack: Path, log: Path, **cameras: dict[str, Any]) -> dict[str, Any]:
    """Settings of a program that faults hit for hours.

    It logs its events in ``log``, updates them often, notices hanging stages soon and never gives
    up restarting them.
    """
    return {
        "model": str(pack),
        "cameras": cameras,
        "events": {"log": str(log), "update_every_s": 0.3},
        "supervisor": {"restarts": 1000, "hang_s": 2.0},
    }


@dataclass
class Account:
    """What became of the events of a run."""

    logged: int
    holes: int
    """Sequence numbers that the log skips."""
    without_end: int
    """Events without exactly one start and one end."""
    lost: int
    """Logged, but not received."""
    twice: int
    """Received again."""


@dataclass
class Witness:
    """A client of a :class:`~testbed.program.PipelineRun` in ``folder``, from its first event on.

    The program may be killed and started again meanwhile.
    """

    folder: Path
    seqs: list[int] = field(default_factory=list)
    """Sequence numbers in the order in which they were received."""

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def _listen(self) -> None:
        events, replay = (f"ipc://{self.folder}/{name}" for name in ("events", "replay"))
        with EventClient(events, replay, since=0) as client:
            while not self._over.is_set():
                event = client.receive(0.1)
                if event is not None:
                    self.seqs.append(event.seq)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(5)

    def account(self, log: Path) -> Account:
        """Compare the received events with the log."""
        events = [event_from_json(body) for body in read_since(log, 0)]
        logged = [event.seq for event in events]
        types_of = defaultdict(list)
        for event in events:
            types_of[event.id].append(event.type)
        return Account(
            logged=len(logged),
            holes=len(set(range(1, len(logged) + 1)) - set(logged)),
            without_end=sum(
                types.count("start") != 1 or types.count("end") != 1 for types in types_of.values()
            ),
            lost=len(set(logged) - set(self.seqs)),
            twice=len(self.seqs) - len(set(self.seqs)),
        )


def holes(seqs: Iterable[int]) -> int:
    """The number of places where a sequence number isn't one more than the one before."""
    return sum(later != earlier + 1 for earlier, later in itertools.pairwise(seqs))
