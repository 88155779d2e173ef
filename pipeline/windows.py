"""Steps and windows: how frames become steps, steps flow fields, fields stacks, features windows.

Pure: no sockets, no clocks; time comes in as numbers. The stages and the offline runner
(:mod:`pipeline.offline`) are built of the same classes, so both compute the same.
"""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Gray, QuantisedFlow
from pipeline.clock import NS_PER_S, StepClock
from pipeline.flow.base import FlowMethod
from pipeline.messages import Feature, Moment, WindowInfo
from pipeline.preprocess import TemporalInputs, flow_input
from pipeline.sources.base import Grab

Vector = npt.NDArray[np.float32]

MAX_SPAN_STEPS = 3
"""A flow field may stand for this many steps (a slow camera, a skipped frame); beyond it, motion
is too large to be followed and there is no field."""


class Steps:
    """Numbers the steps and segments of a camera.

    Live, steps count from the start of the run (``origin_ns``, monotonic) by time, over segments
    and restarts, so that the numbers grow whoever was killed in between, and a gap shows as the
    steps that it lasted. Without an origin they count from media time 0.

    ``on_grid``: steps lie at whole periods from the origin, for cameras timed by arrival; those of
    all cameras then come within a frame's time, and networks can take them together.
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

    def new_segment(self) -> None:
        """What comes next does not follow from what came before."""
        if self._begun:
            self.segment += 1
        self._begun = False
        self._frame_id = 0
        self._clock.restart()

    def moment(self, grab: Grab, time_ns: int) -> Moment | None:
        """The step that a frame stands for, or None. ``time_ns`` is the time steps are made of.

        A jump in the source, or a silence longer than ``gap_s``, starts a new segment.
        """
        silent_ns = time_ns - self._last_ns if self._begun else 0
        if grab.discontinuity or silent_ns > self._gap_ns:
            self.new_segment()
        frame_id = self._frame_id
        self._frame_id += 1
        self._last_ns = time_ns
        step = self._clock.step(time_ns)
        if step is None:
            return None
        if not self._begun:
            self._begun = True
            since_ns = time_ns if self._origin_ns is None else grab.captured_ns - self._origin_ns
            self._base = max(self._last_step + 1, round(since_ns / self._period_ns))
        self._last_step = self._base + step.index
        return Moment(
            camera=self._camera,
            segment=self.segment,
            step_id=self._last_step,
            frame_id=frame_id,
            captured_ns=grab.captured_ns,
            pts_ns=grab.pts_ns,
            elapsed_steps=step.elapsed_steps,
            skipped=step.skipped,
        )


class FlowSteps:
    """The flow between one camera's steps.

    A step whose frame was skipped, or overwritten before it was read, makes the next field span
    more steps; a field never spans two segments.
    """

    def __init__(self, method: FlowMethod, contract: TemporalInputs) -> None:
        self.method = method
        self._contract = contract
        self._grey: Gray | None = None
        self._segment = -1
        self._step = -1
        self._elapsed_steps = 0.0
        self._span = 0

    def advance(self, moment: Moment) -> None:
        """Move on to a step, whether or not its frame can be had."""
        if moment.segment != self._segment:
            self._grey, self._segment = None, moment.segment
            self._elapsed_steps, self._span = 0.0, 0
        else:
            # Steps that a slow stage skipped unseen: what is known is that each was a step long.
            unseen = moment.step_id - self._step - 1 - moment.skipped
            self._elapsed_steps += unseen
            self._span += unseen
        self._step = moment.step_id
        self._elapsed_steps += moment.elapsed_steps
        self._span += 1 + moment.skipped

    def forget(self) -> None:
        """The next field needs two pictures again."""
        self._segment = -1

    def field(self, grey: Gray) -> tuple[QuantisedFlow | None, int]:
        """The field that ends at the present step, and how many steps it stands for.

        ``grey`` is the step's picture (:func:`pipeline.preprocess.grey_for_flow`); the field is
        (h, w, 2) uint8, None for the first step of a segment and after too long a pause.
        """
        field, span = None, self._span
        if self._grey is not None and span <= MAX_SPAN_STEPS:
            elapsed = self._elapsed_steps
            field = flow_input(self._grey, grey, elapsed, self.method, self._contract)
        self._grey, self._elapsed_steps, self._span = grey, 0.0, 0
        return field, span


class FlowStack:
    """The last L flow fields of one camera: the temporal stream's input."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._fields: deque[QuantisedFlow] = deque(maxlen=length)
        self._segment = -1
        self._step = -1

    def push(self, segment: int, step_id: int, field: QuantisedFlow | None, span: int) -> bool:
        """Add the field of a step (None: it has none); True when the stack is whole.

        A field whose frames were ``span`` steps apart is in pixels per nominal step and stands for
        each of them. A missing field, one that does not follow the last, or a new segment starts
        the stack anew: a stack never spans a gap.
        """
        follows = segment == self._segment and step_id - span == self._step
        self._segment, self._step = segment, step_id
        if field is None:
            self._fields.clear()
            return False
        if not follows:
            self._fields.clear()
        self._fields.extend([field] * span)
        return len(self._fields) == self._length

    def write(self, out: npt.NDArray[np.uint8]) -> None:
        """Copy the stack, oldest field first, into ``out`` (L, h, w, 2) uint8."""
        for place, flow in zip(out, self._fields, strict=True):
            place[:] = flow


@dataclass(slots=True)
class DecidedStep:
    """A step for which nothing more is waited for."""

    moment: Moment
    spatial: Feature | None
    temporal: Feature | None


@dataclass(slots=True)
class _Pending:
    moment: Moment
    since_ns: int
    features: dict[str, Feature] = field(default_factory=dict)


class StepJoin:
    """Brings the two streams of one camera together, step by step and in order.

    A step is decided when each stream has spoken of it or of a later one, or, live, when
    ``patience_ns`` has passed since the first word of it: then fusion goes on with the stream that
    is there. Lossless (``patience_ns`` None) waits for both.
    """

    def __init__(self, patience_ns: int | None) -> None:
        self._patience_ns = patience_ns
        self._pending: dict[int, _Pending] = {}
        self._seen = {"spatial": -1, "temporal": -1}
        self._decided = -1
        self._ended: set[str] = set()
        self.late = 0

    def push(self, feature: Feature, now_ns: int) -> None:
        step = feature.moment.step_id
        if feature.stream in self._ended:
            # A capture that was started again goes on after the end of the one before.
            self._seen.update(dict.fromkeys(self._ended, self._decided))
            self._ended.clear()
        self._seen[feature.stream] = max(step, self._seen[feature.stream])
        if step <= self._decided:
            self.late += 1
            return
        pending = self._pending.get(step)
        if pending is None:
            pending = self._pending[step] = _Pending(feature.moment, now_ns)
        pending.features[feature.stream] = feature

    def end(self, stream: str) -> bool:
        """``stream`` has come to its end; True when both have and nothing is pending."""
        self._ended.add(stream)
        self._seen[stream] = 1 << 62
        return self.ended

    @property
    def waiting(self) -> bool:
        """Whether a step has come that isn't decided."""
        return bool(self._pending)

    @property
    def ended(self) -> bool:
        return len(self._ended) == 2 and not self._pending

    def decided(self, now_ns: int) -> list[DecidedStep]:
        """Steps that are decided by now, in order; each is returned once."""
        steps = []
        for step in sorted(self._pending):
            pending = self._pending[step]
            heard = min(self._seen.values()) >= step
            patience = self._patience_ns
            if not heard and (patience is None or now_ns - pending.since_ns < patience):
                break
            del self._pending[step]
            self._decided = step
            get = pending.features.get
            steps.append(DecidedStep(pending.moment, get("spatial"), get("temporal")))
        return steps

    def next_deadline_ns(self) -> int | None:
        """When the oldest pending step will have waited long enough."""
        if not self._pending or self._patience_ns is None:
            return None
        return self._pending[min(self._pending)].since_ns + self._patience_ns


class FeatureWindow:
    """The last T steps of one camera, as fusion takes them.

    ``spatial`` and ``temporal`` are (T, d) float32, ``mask`` (T, 2) float32 with 1 where
    (spatial, temporal) is present; the newest step is the last row. A step that had no frame, or a
    stream that was late, is masked, never filled in.
    """

    def __init__(self, length: int, size: int) -> None:
        self._length = length
        self._size = size
        # Twice the length: a step writes one row, and only every T-th moves the others back.
        self._features = np.zeros((2 * length, 2, size), np.float32)
        self._mask = np.zeros((2 * length, 2), np.float32)
        self._end = length
        self.segment = -1
        self._last_step = -1
        self._held = 0
        self.empty = True
        """Whether the newest step has no feature at all."""

    @property
    def spatial(self) -> Vector:
        return self._features[self._end - self._length : self._end, 0]

    @property
    def temporal(self) -> Vector:
        return self._features[self._end - self._length : self._end, 1]

    @property
    def mask(self) -> Vector:
        return self._mask[self._end - self._length : self._end]

    def push(
        self, segment: int, step_id: int, spatial: Vector | None, temporal: Vector | None
    ) -> None:
        """Move on to ``step_id``; steps in between are masked. A new segment empties the window.

        Raises ValueError on a feature whose size is not d or that is not finite.
        """
        if segment != self.segment:
            self._features[:] = self._mask[:] = 0.0
            self.segment, self._held, self._end = segment, 0, self._length
            shift = 1
        else:
            shift = step_id - self._last_step
            if shift < 1:
                raise ValueError(f"step {step_id} after step {self._last_step}")
        self._advance(min(shift, self._length))
        self._last_step = step_id
        self._held = min(self._held + shift, self._length)
        self.empty = True
        for stream, vector in enumerate((spatial, temporal)):
            if vector is None:
                continue
            if vector.shape != (self._size,):
                raise ValueError(f"feature has shape {vector.shape}, expected ({self._size},)")
            # A finite sum of squares has finite terms; one that overflows is looked at again.
            if not math.isfinite(vector.dot(vector)) and not np.isfinite(vector).all():
                raise ValueError("feature is not finite")
            self._features[self._end - 1, stream] = vector
            self._mask[self._end - 1, stream] = 1.0
            self.empty = False

    def _advance(self, shift: int) -> None:
        """Make ``shift`` empty rows the newest."""
        begin = self._end
        if begin + shift > 2 * self._length:
            kept = self._length - shift
            for rows in (self._features, self._mask):
                rows[:kept] = rows[begin - kept : begin]
            begin = kept
        self._end = begin + shift
        self._features[begin : self._end] = self._mask[begin : self._end] = 0.0

    def info(self) -> WindowInfo:
        """The steps that the window holds and how many of them lack a stream."""
        held = self._mask[self._end - self._held : self._end]
        return WindowInfo(
            first_step=self._last_step - self._held + 1,
            last_step=self._last_step,
            missing=int((held.min(axis=1) == 0.0).sum()) if self._held else 0,
            segment=self.segment,
        )


@dataclass(frozen=True, slots=True)
class Scored:
    """What fusion says of one step of one camera: probabilities (C,) float32.

    A stream's own are None while the window holds nothing of it; ``alpha`` is the spatial stream's
    weight at the newest step that has both streams, None when there is none.
    """

    scores: Vector
    spatial: Vector | None
    temporal: Vector | None
    alpha: float | None


def score_windows(
    run: Callable[[Mapping[str, npt.NDArray[np.generic]]], Mapping[str, Vector]],
    windows: Sequence[FeatureWindow],
) -> list[Scored | None]:
    """Score the newest step of each window in one batch; None where a score is not finite.

    ``run`` is the fusion network (:meth:`pipeline.onnx_session.Network.run`).
    """
    inputs = {
        name: np.stack([getattr(window, name) for window in windows])
        for name in ("spatial", "temporal", "mask")
    }
    outputs = run(inputs)
    there = inputs["mask"] > 0.0
    finite = np.logical_and.reduce(np.isfinite(outputs["scores"]), axis=1)
    seen = np.logical_or.reduce(there, axis=1)
    both = np.logical_and.reduce(there, axis=2)
    newest = both.shape[1] - 1 - both[:, ::-1].argmax(axis=1)
    return [
        Scored(
            scores=outputs["scores"][place],
            spatial=outputs["spatial_scores"][place] if seen[place, 0] else None,
            temporal=outputs["temporal_scores"][place] if seen[place, 1] else None,
            alpha=float(outputs["alpha"][place, row]) if both[place, row] else None,
        )
        if finite[place]
        else None
        for place, row in enumerate(newest)
    ]
