"""What is known of each camera: its own state, and the stages that quarantine it."""

from collections.abc import Iterator

import msgspec

from pipeline.transport.messages import CameraStatus, Quarantined

_WORKING = ("online", "stalled", "frozen")


class CameraStates:
    """The newest state of each camera, out of the reports of several processes.

    Capture reports its camera's state, the supervisor that of a capture that can't, and a stage
    reports when it quarantines a camera. Reports may cross on the way; the time in them decides.
    """

    def __init__(self) -> None:
        self._own: dict[str, CameraStatus] = {}
        self._quarantined: dict[tuple[str, str], Quarantined] = {}

    def note(self, message: CameraStatus | Quarantined) -> bool:
        """Take in a report; False when a newer one was known already."""
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
        """The camera's state; None before the first report of it."""
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
        """The state of every camera that has been reported."""
        for camera in self._own:
            status = self.get(camera)
            assert status is not None
            yield status

    def __len__(self) -> int:
        return len(self._own)

    def reports(self) -> list[CameraStatus | Quarantined]:
        """All reports that a process needs that knows nothing yet."""
        cases = [case for case in self._quarantined.values() if case.reason is not None]
        return [*self._own.values(), *cases]

    def released(self, stage: str, at_ns: int) -> list[Quarantined]:
        """The releases to publish when a stage dies: it no longer quarantines any camera."""
        return [
            msgspec.structs.replace(case, reason=None, at_ns=at_ns)
            for case in self._quarantined.values()
            if case.stage == stage and case.reason is not None
        ]
