"""The topics of the MQTT bridge. Pure.

::

    PREFIX/status                 online, offline      retained   the bridge and the program
    PREFIX/CAMERA/status          online, offline      retained
    PREFIX/CAMERA/details         JSON                 retained   the camera's whole state
    PREFIX/CAMERA/event           JSON                            each event
    PREFIX/CAMERA/evidence        JSON                            each piece of evidence
    PREFIX/CAMERA/snapshot        JPEG                 retained   the newest
    PREFIX/CAMERA/LABEL/state     ON, OFF              retained   whether the action goes on
"""

import re
from dataclasses import dataclass

ONLINE, OFFLINE = b"online", b"offline"
ON, OFF = b"ON", b"OFF"

# `%` as well, so that two names never become one; `$` has a meaning at a topic's begin.
_UNSAFE = re.compile(r"[+#/%$\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_EMPTY = "%"


def safe(name: str) -> str:
    """One level of a topic for any name: what a level may not hold is percent-encoded.

    Different names have different levels.
    """
    return _UNSAFE.sub(_encoded, name) or _EMPTY


def _encoded(match: re.Match[str]) -> str:
    data = match[0].encode("utf-8", "surrogatepass")
    return "".join(f"%{byte:02X}" for byte in data)


@dataclass(frozen=True)
class Topics:
    """The topics of one bridge."""

    prefix: str

    @property
    def program(self) -> str:
        return f"{self.prefix}/status"

    @property
    def all_states(self) -> str:
        """Matches each action's state."""
        return f"{self.prefix}/+/+/state"

    def camera(self, camera: str) -> str:
        return self._of(camera, "status")

    def details(self, camera: str) -> str:
        return self._of(camera, "details")

    def event(self, camera: str) -> str:
        return self._of(camera, "event")

    def evidence(self, camera: str) -> str:
        return self._of(camera, "evidence")

    def snapshot(self, camera: str) -> str:
        return self._of(camera, "snapshot")

    def state(self, camera: str, label: str) -> str:
        return self._of(camera, f"{safe(label)}/state")

    def _of(self, camera: str, rest: str) -> str:
        return f"{self.prefix}/{safe(camera)}/{rest}"
