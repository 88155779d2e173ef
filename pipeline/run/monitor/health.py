"""Whether the program is alive and ready, as other threads may ask.

The supervisor's loop looks at its stages and cameras a few times a second and leaves a picture of
them. Who asks sees only the newest picture and when the loop last turned.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.clock import NS_PER_S, Clock
from pipeline.run.outputs.base import RunView
from pipeline.transport.messages import CameraState

LOOK_S = 0.2


@dataclass(frozen=True, slots=True)
class StageSeen:
    ready: bool
    restarts: int


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at the run; nothing in it changes."""

    cameras: Mapping[str, CameraState]
    """Without those that nothing has been reported of."""
    stages: Mapping[str, StageSeen]


class Health:
    """``seen`` is the newest look. Only :meth:`look` may be called from the supervisor's loop."""

    def __init__(self, view: RunView, clock: Clock) -> None:
        self._view = view
        self._clock = clock
        self._hang_s = view.config.supervisor.hang_s
        self._turned_ns = self._looked_ns = clock.monotonic_ns()
        self.seen = self._look()

    def look(self) -> None:
        """The loop turns; now and then, look at what it works on."""
        self._turned_ns = self._clock.monotonic_ns()
        if self._turned_ns - self._looked_ns >= LOOK_S * NS_PER_S:
            self._looked_ns = self._turned_ns
            self.seen = self._look()

    def alive(self) -> list[str]:
        """Why the supervisor counts as hung; empty while its loop turns."""
        silent_s = (self._clock.monotonic_ns() - self._turned_ns) / NS_PER_S
        if silent_s <= self._hang_s:
            return []
        return [f"the supervisor's loop has not turned for {silent_s:.1f} s"]

    def ready(self) -> list[str]:
        """Why no event can come of any camera; empty while one can.

        A capture that is not ready shows in its camera's state: others may be up.
        """
        reasons = self.alive()
        reasons += [
            f"{name} is not ready"
            for name, stage in self.seen.stages.items()
            if not stage.ready and not name.startswith("capture:")
        ]
        states = {
            camera: self.seen.cameras.get(camera, "connecting")
            for camera in self._view.config.cameras
        }
        if "online" not in states.values():
            listed = ", ".join(f"{camera} is {state}" for camera, state in states.items())
            reasons.append(f"no camera is up: {listed}")
        return reasons

    def _look(self) -> Seen:
        return Seen(
            cameras={status.camera: status.state for status in self._view.cameras},
            stages={
                name: StageSeen(stage.ready, stage.total_restarts)
                for name, stage in self._view.stages.items()
            },
        )
