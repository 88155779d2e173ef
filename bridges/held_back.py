"""Which messages are held back, and what of them is to be told later. It survives a restart."""

from collections import Counter, deque
from pathlib import Path

import msgspec

from bridges import durable

_KEYS = 256
"""Records that are known to be done, so that a crash counts or sends none of them twice."""
_MOST_LINES = 20


class _Content(msgspec.Struct):
    sent: list[float] = []
    """When messages were sent, in seconds since 1970; those that the limit looks at."""
    held: dict[str, int] = {}
    limited_at: float | None = None
    """When the limit was reached; None: it isn't, or the hours are quiet."""
    keys: list[str] = []


class HeldBack:
    """A limit on messages, and what was held back since it was reached or since it is quiet.

    Once the limit is reached, all is held back for its whole time; then one summary comes.
    """

    def __init__(self, path: Path, most: int, seconds: float) -> None:
        self.path = path
        self._most, self._seconds = most, seconds
        content = _read(path)
        self._sent = deque(content.sent)
        self._held = Counter(content.held)
        self._limited_at = content.limited_at
        self._keys = deque(content.keys, maxlen=_KEYS)
        self._is_stored = True

    def knows(self, key: str) -> bool:
        """Whether the record was sent or held back already."""
        return key in self._keys

    def must_hold(self, now_s: float, *, quiet: bool) -> bool:
        while self._sent and not 0 <= now_s - self._sent[0] < self._seconds:
            self._sent.popleft()
        if quiet:
            return True
        if len(self._sent) >= self._most and self._limited_at is None:
            self._limited_at, self._is_stored = now_s, False
        return self._limited_at is not None

    def hold(self, keys: tuple[str, ...], what: str) -> None:
        self._held[what] += 1
        self._note(keys)

    def sent(self, keys: tuple[str, ...], now_s: float) -> None:
        self._sent.append(now_s)
        self._note(keys)

    def is_over(self, now_s: float, *, quiet: bool) -> bool:
        """Whether what was held back is to be told now."""
        if quiet or not (self._held or self._limited_at is not None):
            return False
        # A clock that went back must not hold messages for ever.
        at = self._limited_at
        return at is None or not 0 <= now_s - at < self._seconds

    def summary(self) -> tuple[int, list[str]]:
        """How many messages were held back, and one line for each kind of them."""
        rows = [f"{count} × {what}" for what, count in self._held.most_common()]
        if len(rows) > _MOST_LINES:
            rows[_MOST_LINES:] = [f"and {len(rows) - _MOST_LINES} more kinds"]
        return self._held.total(), rows

    def release(self, now_s: float) -> None:
        """The summary was sent."""
        if self._held:
            self._sent.append(now_s)
        self._held.clear()
        self._limited_at, self._is_stored = None, False

    def store(self) -> None:
        """Make it last; raises OSError."""
        if self._is_stored:
            return
        content = _Content(list(self._sent), dict(self._held), self._limited_at, list(self._keys))
        durable.write(self.path, msgspec.json.encode(content))
        self._is_stored = True

    def _note(self, keys: tuple[str, ...]) -> None:
        self._keys.extend(keys)
        self._is_stored = False


def _read(path: Path) -> _Content:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Content)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return _Content()
