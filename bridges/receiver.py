"""What a bridge sends to: the protocol that every kind of receiver fulfils."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bridges.records import Record, State
from pipeline.clock import SYSTEM_CLOCK, Clock


class Away(Exception):
    """The receiver can't take the record now. It is tried again, for ever, and in order.

    The message is for people and holds no secret. ``retry_after_s`` is what the other side asked
    for; the next try doesn't come before.
    """

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Refused(Exception):
    """The receiver will never take this record: it goes to the dead letters, the next one follows.

    The message is for people and holds no secret.
    """


class Receiver(Protocol):
    """One other side. All methods are called by one thread.

    ``send``, ``settle``, ``state`` and ``idle`` may raise :class:`Away`; only ``send`` may raise
    :class:`Refused`.
    """

    def send(self, record: Record) -> None:
        """Return when the other side has acknowledged the record, or leave that to ``settle``."""
        ...

    def settle(self) -> None:
        """Return when the other side has acknowledged all that was sent; then the cursor moves.

        When it raises :class:`Away`, all that was sent since it last returned is sent again.
        Receivers whose ``send`` waits have nothing to do here.
        """
        ...

    def state(self, state: State) -> None:
        """A camera's state, or the program's, has changed. After :class:`Away` the newest comes
        again; also after each time that the receiver was away."""
        ...

    def idle(self) -> None:
        """Called while nothing is to be sent, a few times a second at most."""
        ...

    def close(self) -> None:
        """Let go of everything, soon. What isn't settled will be sent again."""
        ...


@dataclass(frozen=True)
class Place:
    """What a receiver is given beside its settings."""

    name: str
    """The bridge's name in the config."""
    folder: Path
    """Where the bridge keeps what must survive it. Its files begin with the bridge's name."""
    stopping: Callable[[], bool] = lambda: False
    """Whether the bridge has been told to stop; whoever waits long asks it now and then."""
    clock: Clock = SYSTEM_CLOCK
    warn: Callable[[str], None] = lambda _text: None
    """Tell the log something that a user should know."""

    def file(self, ending: str) -> Path:
        return self.folder / f"{self.name}.{ending}"
