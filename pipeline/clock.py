"""Time: where it comes from, and how frames become steps.

Nothing else in ``pipeline`` asks the operating system for the time; what needs it takes a
:class:`Clock`, so that tests can hand in one that they move themselves.
"""

import datetime
import time
from dataclasses import dataclass
from typing import Protocol

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
SETTLED_STEPS = 5
"""Steps after which a camera's rate is believed; frames that arrive in a burst are fewer."""


class Clock(Protocol):
    """What the stages need of time."""

    def monotonic_ns(self) -> int:
        """Nanoseconds that never jump; comparable between processes of one machine."""
        ...

    def wall_ns(self) -> int:
        """Nanoseconds since 1970; for public events only."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own time."""

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def wall_ns(self) -> int:
        return time.time_ns()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


SYSTEM_CLOCK = SystemClock()


def isoformat(wall_ns: int) -> str:
    """``wall_ns`` as UTC with milliseconds: ``2026-11-22T10:00:00.120Z``."""
    moment = datetime.datetime.fromtimestamp(wall_ns // NS_PER_MS / 1000, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Step:
    """A frame that was chosen to stand for a step.

    ``index`` counts steps from the start of the segment; ``elapsed_steps`` is the time since
    the frame of the step before, in nominal steps (1.0 when the camera keeps time exactly): what
    flow is divided by. ``skipped`` steps before this one had no frame.
    """

    index: int
    elapsed_steps: float
    skipped: int


class StepClock:
    """Samples frames to steps of ``step_hz`` by their timestamps (``t`` in nanoseconds).

    A frame stands for the step it is nearest to; the first frame of a step is taken, so a step is
    known as soon as it can be. 10 fps and 60 fps cameras therefore look alike to the networks.

    Steps begin with the first frame. With ``grid_ns`` they move, once the camera has proved to have
    frames enough, to whole periods from that time, so that the steps of all cameras that share it
    fall together. A camera of about one frame a step stays centred on its frames: a step whose
    border lies where frames come has none of them or two.
    """

    def __init__(self, step_hz: float, grid_ns: int | None = None) -> None:
        if not step_hz > 0:
            raise ValueError(f"step_hz must be positive, got {step_hz}")
        self._period_ns = NS_PER_S / step_hz
        self._grid_ns = grid_ns
        self._rich, self._streak, self._frames = False, 0, 0
        self._origin_ns = 0
        self._last_ns = 0
        self._last_index = -1

    def restart(self) -> None:
        """Begin a new segment: the next frame is step 0."""
        self._last_index = -1
        self._streak = self._frames = 0

    def step(self, t_ns: int) -> Step | None:
        """The step this frame stands for, or None when its step already has a frame."""
        self._frames += 1
        if self._last_index < 0:
            self._origin_ns = self._last_ns = t_ns
            self._last_index = 0
            return Step(index=0, elapsed_steps=1.0, skipped=0)
        index = int((t_ns - self._origin_ns) / self._period_ns + 0.5)
        elapsed = (t_ns - self._last_ns) / self._period_ns
        # Frames that arrive in a burst can fall into neighbouring steps a moment apart; dividing
        # their flow by that moment would only magnify noise.
        if index <= self._last_index or elapsed < 0.5:
            return None
        skipped = index - self._last_index - 1
        self._last_index, self._last_ns = index, t_ns
        if self._grid_ns is not None:
            self._settle(t_ns, self._grid_ns)
        return Step(index=index, elapsed_steps=elapsed, skipped=skipped)

    def _settle(self, t_ns: int, grid_ns: int) -> None:
        """Move to the grid after some steps of two frames and more each; after as many of fewer,
        to where this frame is in the middle of its step."""
        rich, self._frames = self._frames >= 2, 0
        self._streak = self._streak + 1 if rich == self._rich else 1
        self._rich = rich
        if self._streak != SETTLED_STEPS:
            return
        if rich:
            periods = int((self._origin_ns - grid_ns) / self._period_ns + 0.5)
            self._origin_ns = grid_ns + round(periods * self._period_ns)
        else:
            self._origin_ns = t_ns - round(self._last_index * self._period_ns)
