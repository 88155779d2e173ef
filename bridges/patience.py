"""How long a record is tried that the receiver refuses: days, mostly.

A wrong address or a revoked token refuses every record. Such a mistake must not empty the event log
into the dead letters before somebody has seen it.
"""

import contextlib
from pathlib import Path
from typing import NoReturn

import msgspec

from bridges import durable
from bridges.receiver import Away, Refused
from bridges.records import Record, happened_ns
from pipeline.clock import NS_PER_S, Clock

_SAVE_S = 60.0


class Patience:
    """Says of a refused record whether it is tried again, :class:`Away`, or given up.

    Given up, :class:`Refused`, is a record that is older than ``give_up_s``, when nothing has been
    taken for that long; or one alone that was refused for ``alone_s`` for what is in it, when the
    record before it was taken.
    """

    def __init__(self, path: Path, give_up_s: float, alone_s: float, clock: Clock) -> None:
        self._path = path
        self._give_up_s, self._alone_s = give_up_s, alone_s
        self._clock = clock
        self._before_s = _stored(path)
        """Seconds of failing that earlier processes of this bridge have seen."""
        self._since_ns: int | None = None
        self._saved_ns = 0
        self._is_proven = False
        """The newest record that isn't this one was taken: address and login are right."""
        self._newest_ns: int | None = None

    def taken(self) -> None:
        """A record was acknowledged."""
        self._is_proven = True
        if self._before_s or self._since_ns is not None:
            self._before_s, self._since_ns = 0.0, None
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)

    def refused(
        self, record: Record, reason: str, *, for_its_content: bool, retry_after_s: float = 0.0
    ) -> NoReturn:
        """Raises :class:`Away` or :class:`Refused`."""
        now_ns = self._clock.monotonic_ns()
        if self._since_ns is None:
            self._since_ns = self._saved_ns = now_ns
        here_s = (now_ns - self._since_ns) / NS_PER_S
        failing_s = self._before_s + here_s
        if self._is_proven and for_its_content and here_s >= self._alone_s:
            # Two in a row are no accident: the next must be taken before another one is set aside.
            self._is_proven = False
            self._since_ns, self._before_s = None, 0.0
            raise Refused(reason)
        if failing_s >= self._give_up_s and self._age_s(record) >= self._give_up_s:
            raise Refused(f"{reason}; tried for {failing_s / 86_400:.1f} days")
        if (now_ns - self._saved_ns) / NS_PER_S >= _SAVE_S:
            self._saved_ns = now_ns
            with contextlib.suppress(OSError):  # then a restart begins to count anew
                durable.write(self._path, msgspec.json.encode({"failing_s": failing_s}))
        raise Away(reason, retry_after_s)

    def _age_s(self, record: Record) -> float:
        # An update doesn't say when it was; it is no older than what came before it.
        self._newest_ns = happened_ns(record) or self._newest_ns
        if self._newest_ns is None:
            return 0.0
        return (self._clock.wall_ns() - self._newest_ns) / NS_PER_S


def _stored(path: Path) -> float:
    class Content(msgspec.Struct):
        failing_s: float

    try:
        return max(0.0, msgspec.json.decode(path.read_bytes(), type=Content).failing_s)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return 0.0
