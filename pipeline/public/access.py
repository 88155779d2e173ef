"""Which client keys are accepted. Follows the key folder while the program runs."""

import logging
import os
from collections import Counter
from pathlib import Path

from pipeline.clock import NS_PER_S, Clock
from pipeline.errors import KeysError
from pipeline.public.key_folder import CLIENTS, KeyFolder
from pipeline.transport.bus import Bus

LOOK_S = 1.0
"""How often the key folder is looked at."""

log = logging.getLogger(__name__)


class ClientAccess:
    """Accepts the clients whose keys are in ``folder``; disconnects those whose key was revoked.

    Raises :class:`KeysError` when the folder has no server key, or others could read it.
    """

    def __init__(self, folder: Path, bus: Bus, clock: Clock, counters: "Counter[str]") -> None:
        self._clock = clock
        self._counters = counters
        self._keys = KeyFolder(folder)
        self._look_ns = 0
        self._seen = entries(folder / CLIENTS)
        self._known = self._keys.allowed()
        try:
            server = self._keys.server()
        except KeysError as error:
            raise KeysError(f"publish.keys: {error}") from None
        self.authenticator = bus.authenticator((server.public, server.secret), self._name_of)
        log.info("%d clients have keys in %s", len(self._known), folder)

    def look(self) -> float:
        """Disconnect clients whose key is gone; returns the seconds until the next look."""
        self._counters["clients_refused"] = self.authenticator.refused
        now = self._clock.monotonic_ns()
        if now < self._look_ns:
            return (self._look_ns - now) / NS_PER_S
        self._look_ns = now + int(LOOK_S * NS_PER_S)
        seen = entries(self._keys.path / CLIENTS)
        if seen != self._seen:
            self._seen = seen
            self._reload()
        return LOOK_S

    def _reload(self) -> None:
        before, self._known = self._known, self._keys.allowed()
        if gone := sorted(set(before.values()) - set(self._known.values())):
            log.info("revoked: %s", ", ".join(gone))
        if before.keys() - self._known.keys():
            # ZeroMQ can't close one connection. The other clients reconnect and ask for what they
            # missed.
            self.authenticator.disconnect_all()

    def _name_of(self, public: str) -> str | None:
        return self._keys.allowed().get(public)


def entries(folder: Path) -> frozenset[tuple[str, int, int, int]]:
    """What is in a folder, and when each file was last changed.

    The folder's own time isn't enough: two changes within its resolution look like one, and a file
    that is written again in place doesn't change it.
    """
    found = []
    try:
        for entry in os.scandir(folder):
            about = entry.stat(follow_symlinks=False)
            found.append((entry.name, about.st_ino, about.st_mtime_ns, about.st_ctime_ns))
    except OSError:
        pass  # it is being changed, or gone: the next look will tell
    return frozenset(found)
