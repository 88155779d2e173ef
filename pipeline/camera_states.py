"""What is known of each camera: its own state, and the stages that leave it alone."""

from collections.abc import Iterator

import msgspec

from pipeline.messages import CameraStatus, Quarantined

_WORKING = ("online", "stalled", "frozen")


class CameraStates:
    """The newest state of each camera, of what several processes say.

    Capture speaks for its camera, the supervisor for a capture that can't, and a stage says when it
    leaves a camera's data alone. Their words may cross on the way; the time in them decides.
    """

    def __init__(self) -> None:
        self._own: dict[str, CameraStatus] = {}
        self._quarantined: dict[tuple[str, str], Quarantined] = {}

    def note(self, message: CameraStatus | Quarantined) -> bool:
        """Take in what is said; False when something newer was known already."""
        if isinstance(message, CameraStatus):
            known: CameraStatus | Quarantined | None = self._own.get(message.camera)
        else:
            known = self._quarantined.get((message.camera, message.stage))
        if known is not None and message.at_ns < known.at_ns:
            return False
        if isinstance(message, CameraStatus):
            self._own[message.camera] = message
        else:
            self._quarantined[message.camera, message.stage] = message
        return message.camera in self._own

    def get(self, camera: str) -> CameraStatus | None:
        """The camera's state, None before anything was said of it."""
        own = self._own.get(camera)
        cases = [
            case
            for (of, _), case in self._quarantined.items()
            if of == camera and case.reason is not None
        ]
        if own is None or not cases or own.state not in _WORKING:
            return own
        return msgspec.structs.replace(
            own,
            state="quarantined",
            reason="; ".join(f"{case.stage}: {case.reason}" for case in cases),
            at_ns=max(own.at_ns, *(case.at_ns for case in cases)),
        )

    def __iter__(self) -> Iterator[CameraStatus]:
        """The state of every camera of which something is known."""
        for camera in self._own:
            status = self.get(camera)
            assert status is not None
            yield status

    def __len__(self) -> int:
        return len(self._own)

    def words(self) -> list[CameraStatus | Quarantined]:
        """All that somebody has to hear who knows nothing yet."""
        cases = [case for case in self._quarantined.values() if case.reason is not None]
        return [*self._own.values(), *cases]

    def released(self, stage: str, at_ns: int) -> list[Quarantined]:
        """What is to be said when a stage has died, which then leaves nobody alone."""
        return [
            msgspec.structs.replace(case, reason=None, at_ns=at_ns)
            for case in self._quarantined.values()
            if case.stage == stage and case.reason is not None
        ]
