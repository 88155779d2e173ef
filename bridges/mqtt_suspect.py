"""A message that a broker hangs up on, each time, without a word.

Some brokers do so when a message is too large for them. Sent again for ever, it would keep back all
that comes after it; and the connection may be lost for any other reason as well. So it is sent
alone, to a broker that has just shown that it is there, before it is given up.
"""

import contextlib
from collections.abc import Iterator

from bridges.mqtt_session import Session

ALONE_AFTER, GIVE_UP_AFTER = 2, 4
"""Times in a row that the connection was lost over it."""
REST_S = 0.5


class Suspect:
    """The message over which the connection was lost last, and how often in a row."""

    def __init__(self) -> None:
        self._key, self._times = "", 0

    def note(self, key: str | None) -> None:
        """The connection was lost; ``key`` names the message that it may have been lost over."""
        if key is None:
            return
        self._times = self._times + 1 if key == self._key else 1
        self._key = key

    def verdict(self, key: str) -> str | None:
        """Why the message must be given up; None: it must not."""
        if key != self._key or self._times < GIVE_UP_AFTER:
            return None
        self._key = ""
        return (
            f"the broker hangs up whenever it gets this message, {GIVE_UP_AFTER} times by now; it "
            "may be too large for it"
        )

    @contextlib.contextmanager
    def alone(self, session: Session, key: str) -> Iterator[None]:
        """Around the sending of a message: a suspected one is sent alone, and acknowledged."""
        is_suspected = key == self._key and self._times >= ALONE_AFTER
        if is_suspected:
            session.settle()
            session.rest(REST_S)
        yield
        if is_suspected:
            session.settle()
            self._key = ""
