"""The cameras' states as the supervisor keeps them, and what it reports in a capture's place."""

import logging
from collections.abc import Callable

from pipeline.clock import NS_PER_S, Clock
from pipeline.config import Config
from pipeline.errors import EXIT_NO_SOURCE, EXIT_OK
from pipeline.public.camera_states import CameraStates
from pipeline.sources.base import is_file
from pipeline.transport.messages import CameraState, CameraStatus, Quarantined

Report = CameraStatus | Quarantined

log = logging.getLogger(__name__)


class CameraBoard:
    """Takes in what stages report of cameras; ``publish`` sends what the supervisor reports."""

    def __init__(self, config: Config, clock: Clock, publish: Callable[[Report], None]) -> None:
        self._config = config
        self._clock = clock
        self._publish = publish
        self._stalled: set[str] = set()
        self._segments: dict[str, int] = {}
        self._troubled: set[str] = set()
        self._tried_ns: int | None = None
        """When the first capture tried to open its source."""
        self.states = CameraStates()
        self.any_opened = False
        """Whether any camera has given a frame."""

    def note(self, report: Report) -> None:
        """Take in a stage's report."""
        if isinstance(report, CameraStatus):
            self._stalled.discard(report.camera)
        self._note(report)

    def next_segment(self, camera: str) -> int:
        """The first segment that a new capture of ``camera`` may use."""
        return self._segments.get(camera, -1) + 1

    def all_over(self) -> bool:
        """Whether every camera has ended or failed."""
        states = [status.state for status in self.states]
        return len(states) == len(self._config.cameras) and all(
            state in ("ended", "failed") for state in states
        )

    def verdict(self, elapsed_s: float, at_end: bool) -> int | None:
        """The exit code with which the cameras end the run after ``elapsed_s``; None: not yet.

        ``at_end``: the run ends now. Then it counts whether something is wrong with every camera.
        """
        if self.all_over():
            return EXIT_OK if self.any_opened else EXIT_NO_SOURCE
        patience_s = self._config.supervisor.first_source_s
        impatient = 0 < patience_s < self._trying_s()
        all_troubled = at_end and self._troubled >= self._config.cameras.keys()
        if self.any_opened or not (impatient or all_troubled):
            return None
        log.error("no source could be opened within %g s", patience_s if impatient else elapsed_s)
        return EXIT_NO_SOURCE

    def _trying_s(self) -> float:
        """How long sources have been tried: they can't help that a busy machine starts late."""
        if self._tried_ns is None:
            return 0.0
        return (self._clock.monotonic_ns() - self._tried_ns) / NS_PER_S

    def set_state(
        self, camera: str, state: CameraState, reason: str | None, at_ns: int | None = None
    ) -> None:
        """Report a state in the place of a capture that can't; ``at_ns`` None: now."""
        known = self.states.get(camera)
        self._note_and_publish(
            CameraStatus(
                camera=camera,
                state=state,
                reason=reason,
                at_ns=self._clock.monotonic_ns() if at_ns is None else at_ns,
                segment=self._segments.get(camera),
                size=known.size if known is not None else None,
            )
        )

    def see_silence(self, camera: str, silent_s: float, ready: bool) -> None:
        """Report a stall for a capture that waits inside a library for a frame, and so can't.

        What capture itself reports after its last sign of life counts more, also when it was on
        its way already: the newest report wins, so this one is as old as that sign.
        """
        status = self.states.get(camera)
        if status is None or is_file(self._config.cameras[camera].source):
            return
        stall_s = self._config.supervisor.stall_s
        if silent_s > stall_s and status.state == "online":
            self._stalled.add(camera)
            heard_ns = self._clock.monotonic_ns() - int(silent_s * NS_PER_S)
            reason = f"no frame for {silent_s:.1f} s"
            self.set_state(camera, "stalled", reason, max(status.at_ns, heard_ns))
        elif camera in self._stalled and silent_s < stall_s:
            self._stalled.discard(camera)
            # It sends heartbeats again and has reported nothing itself: to it there was no gap.
            if status.state == "stalled" and ready:
                self.set_state(camera, "online", None, status.at_ns)

    def stage_died(self, stage: str, now_ns: int) -> None:
        """A stage that is dead no longer quarantines any camera."""
        for release in self.states.released(stage, now_ns):
            self._note_and_publish(release)

    def _note_and_publish(self, report: Report) -> None:
        self._note(report)
        self._publish(report)

    def _note(self, report: Report) -> None:
        before = self.states.get(report.camera)
        if not self.states.note(report):
            return
        status = self.states.get(report.camera)
        assert status is not None
        if self._tried_ns is None:
            self._tried_ns = self._clock.monotonic_ns()
        # Without a size it is open and has given no frame, or there is no room for its frames.
        self.any_opened |= status.state == "online" and status.size is not None
        if status.state not in ("connecting", "online"):
            self._troubled.add(status.camera)
        if status.segment is not None:
            self._segments[status.camera] = status.segment
        if before is None or before.state != status.state:
            reason = f": {status.reason}" if status.reason else ""
            log.info("camera %s is %s%s", status.camera, status.state, reason)
