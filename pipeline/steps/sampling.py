"""Sampling: which frames stand for steps, and which number each step has.

Pure: time comes in as numbers, in nanoseconds.
"""

from dataclasses import dataclass

from pipeline.clock import NS_PER_S
from pipeline.sources.base import Grab
from pipeline.transport.messages import Moment

SETTLED_STEPS = 5
"""Steps after which a camera's rate is trusted; frames that arrive in a burst are fewer."""


@dataclass(frozen=True, slots=True)
class Step:
    """A frame that stands for a step.

    ``index`` counts steps from the start of the segment. ``elapsed_steps`` is the time since the
    frame of the previous step, in nominal steps; flow is divided by it. It is 1.0 when the camera
    keeps time exactly. ``skipped`` steps before this one had no frame.
    """

    index: int
    elapsed_steps: float
    skipped: int


class StepClock:
    """Samples frames to steps of ``step_hz`` by their timestamps (``t`` in nanoseconds).

    A frame stands for the step it is nearest to. The first frame of a step is used, so a step is
    known as early as possible. Cameras of 10 and 60 fps therefore look alike to the networks.

    Steps begin with the first frame. With ``grid_ns`` they snap to whole periods from that time,
    once the camera has proved to have at least two frames a step. The steps of all cameras that
    share the grid then fall together. A camera of about one frame a step stays centred on its
    frames: if frames came at the border between steps, jitter would give a step none or two.
    """

    def __init__(self, step_hz: float, grid_ns: int | None = None) -> None:
        if not step_hz > 0:
            raise ValueError(f"step_hz must be positive, got {step_hz}")
        self._period_ns = NS_PER_S / step_hz
        self.grid_ns = grid_ns
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
        # Frames of a burst can fall into neighbouring steps a moment apart. To divide their flow by
        # that moment would only magnify noise.
        if index <= self._last_index or elapsed < 0.5:
            return None
        skipped = index - self._last_index - 1
        self._last_index, self._last_ns = index, t_ns
        if self.grid_ns is not None:
            self._settle(t_ns, self.grid_ns)
        return Step(index=index, elapsed_steps=elapsed, skipped=skipped)

    def _settle(self, t_ns: int, grid_ns: int) -> None:
        """Snap to the grid after :data:`SETTLED_STEPS` steps with two or more frames.

        After as many with fewer frames, recentre on this frame instead.
        """
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


@dataclass(frozen=True, slots=True)
class Due:
    """A frame that stands for a step and has no number yet."""

    grab: Grab
    time_ns: int
    step: Step
    step_id: int
    """The number that it will have, unless it begins a new segment."""
    frame_id: int


class Steps:
    """Samples and numbers the steps and segments of a camera.

    Live, steps count from the start of the run (``origin_ns``, monotonic) by time, over segments
    and restarts: the numbers grow whatever was killed in between, and a gap shows as the steps
    that it lasted. Without an origin they count from media time 0.

    ``on_grid``: steps lie at whole periods from the origin, for cameras that are timed by arrival.
    The steps of all cameras then fall within a frame's time, and networks can take them together.
    """

    def __init__(
        self,
        camera: str,
        step_hz: float,
        gap_s: float,
        *,
        first_segment: int = 0,
        origin_ns: int | None = None,
        on_grid: bool = False,
    ) -> None:
        self._camera = camera
        self._clock = StepClock(step_hz, origin_ns if on_grid else None)
        self._period_ns = NS_PER_S / step_hz
        self._gap_ns = gap_s * NS_PER_S
        self._origin_ns = origin_ns
        self.segment = first_segment
        self._base = 0
        self._last_step = -1
        self._frame_id = 0
        self._begun = False
        self._last_ns = 0

    def put_on_grid(self, on_grid: bool) -> None:
        """Whether steps lie at whole periods from the origin, from the next segment on."""
        self._clock.grid_ns = self._origin_ns if on_grid else None

    def new_segment(self) -> None:
        """What comes next does not follow from what came before."""
        if self._begun:
            self.segment += 1
        self._begun = False
        self._frame_id = 0
        self._clock.restart()

    def due(self, grab: Grab, time_ns: int) -> Due | None:
        """Whether a frame stands for a step. ``time_ns`` is the time that steps are made of.

        A jump in the source, or a silence longer than ``gap_s``, starts a new segment.
        """
        silent_ns = time_ns - self._last_ns if self._begun else 0
        if grab.discontinuity or silent_ns > self._gap_ns:
            self.new_segment()
        self._last_ns = time_ns
        frame_id = self._frame_id
        self._frame_id += 1
        step = self._clock.step(time_ns)
        if step is None:
            return None
        if not self._begun:
            self._begun = True
            since_ns = time_ns if self._origin_ns is None else grab.scene_ns - self._origin_ns
            self._base = max(self._last_step + 1, round(since_ns / self._period_ns))
        return Due(grab, time_ns, step, self._base + step.index, frame_id)

    def moment(self, due: Due, *, fresh: bool = False) -> Moment:
        """Number the step; call once for each that is used.

        ``fresh``: its picture, now that it is known, does not follow from the last one (another
        size, or the end of a frozen picture), so the step begins a new segment.
        """
        if fresh:
            self.new_segment()
            again = self.due(due.grab, due.time_ns)
            assert again is not None  # the first frame of a segment always stands for a step
            due = again
        self._last_step = due.step_id
        return Moment(
            camera=self._camera,
            segment=self.segment,
            step_id=due.step_id,
            frame_id=due.frame_id,
            captured_ns=due.grab.captured_ns,
            pts_ns=due.grab.pts_ns,
            elapsed_steps=due.step.elapsed_steps,
            skipped=due.step.skipped,
            taken_ns=due.grab.time_ns,
        )
