"""The door of the public sockets: keys that are let in, and those that are so no more."""

import logging
import os
from pathlib import Path

from pipeline.clock import NS_PER_S
from pipeline.errors import KeysError, StartupError
from pipeline.keys import CLIENTS, KeyFolder
from pipeline.stages.base import Context

LOOK_S = 1.0

log = logging.getLogger(__name__)


class Door:
    """A gate that follows the folder of keys while the program runs.

    Raises :class:`StartupError` where there are no keys, or others could read them.
    """

    def __init__(self, context: Context) -> None:
        folder = context.config.publish.keys
        assert folder is not None
        self._context = context
        self._keys = KeyFolder(folder)
        self._look_ns = 0
        self._seen_ns = _changed_ns(folder / CLIENTS)
        self._known = self._keys.allowed()
        try:
            server = self._keys.server()
        except KeysError as error:
            raise StartupError(f"publish.keys: {error}") from None
        self.gate = context.bus.gate((server.public, server.secret), self._name_of)
        log.info("%d clients have keys in %s", len(self._known), folder)

    def look(self) -> float:
        """Turn out who has lost their key; seconds until to look again."""
        self._context.counters["clients_refused"] = self.gate.refused
        now = self._context.clock.monotonic_ns()
        if now < self._look_ns:
            return (self._look_ns - now) / NS_PER_S
        self._look_ns = now + int(LOOK_S * NS_PER_S)
        changed_ns = _changed_ns(self._keys.path / CLIENTS)
        if changed_ns != self._seen_ns:
            self._seen_ns = changed_ns
            before, self._known = self._known, self._keys.allowed()
            if gone := sorted(set(before.values()) - set(self._known.values())):
                log.info("%s let in no more", ", ".join(gone))
            if before.keys() - self._known.keys():
                # ZeroMQ can't close one connection; the others come back, and ask for what they
                # missed.
                self.gate.turn_out()
        return LOOK_S

    def _name_of(self, public: str) -> str | None:
        return self._keys.allowed().get(public)


def _changed_ns(folder: Path) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0
