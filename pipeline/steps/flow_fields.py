"""Flow fields between a camera's steps, and the stacks that the temporal network takes."""

from collections import deque
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pipeline.arrays import STILL, Frame, Gray, QuantisedFlow
from pipeline.flow.base import FlowMethod
from pipeline.steps.ignore_mask import still_cells
from pipeline.steps.polygons import Polygon
from pipeline.steps.preprocess import TemporalInputs, flow_input, gray_for_flow
from pipeline.transport.messages import Moment

MAX_SPAN_STEPS = 3
"""A flow field may stand for this many steps (a slow camera, a skipped frame). Beyond it, motion
is too large to be followed, and there is no field."""


class FlowSteps:
    """The flow between one camera's steps, or between every n-th of them.

    A step whose frame was skipped, or overwritten before it was read, makes the next field span
    more steps. A field never spans two segments. Inside the polygons ``ignore`` nothing moves.
    """

    def __init__(
        self,
        method: FlowMethod,
        contract: TemporalInputs,
        every: int = 1,
        ignore: Sequence[Polygon] = (),
    ) -> None:
        """``every``: :meth:`field` is called at steps whose number it divides."""
        self.method = method
        self._every = every
        self._contract = contract
        self._still = still_cells(ignore, contract.temporal.size)
        self._gray: Gray | None = None
        self._segment = -1
        self._step = -1
        self._elapsed_steps = 0.0
        self._span = 0

    def advance(self, moment: Moment) -> None:
        """Move on to a step, whether or not its frame can be read."""
        if moment.segment != self._segment:
            self._gray, self._segment = None, moment.segment
            self._elapsed_steps, self._span = 0.0, 0
        else:
            # A slow stage skipped these steps without seeing them: count each as one step long.
            unseen = moment.step_id - self._step - 1 - moment.skipped
            self._elapsed_steps += unseen
            self._span += unseen
        self._step = moment.step_id
        self._elapsed_steps += moment.elapsed_steps
        self._span += 1 + moment.skipped

    def forget(self) -> None:
        """The next field needs two pictures again."""
        self._segment = -1

    def gray(self, frame: Frame) -> Gray:
        """The picture of a step's frame (H, W, 3), between two of which flow is computed."""
        return gray_for_flow(frame, self._contract)

    def field(self, gray: Gray) -> tuple[QuantisedFlow | None, int]:
        """The field that ends at the present step, and how many steps it stands for.

        ``gray`` is the step's picture (:meth:`gray`). The field is (h, w, 2) uint8; None for the
        first step of a segment and after too long a pause.
        """
        previous, elapsed, span = self.before(gray)
        if previous is None:
            return None, span
        field = flow_input(previous, gray, elapsed, self.method, self._contract)
        if self._still is not None:
            field[self._still] = STILL
        return field, span

    def before(self, gray: Gray) -> tuple[Gray | None, float, int]:
        """The picture before the present step's, the steps between them, and those it stands for.

        The picture is None where no flow can be computed. The next call's is ``gray``.
        """
        previous, elapsed = self._gray, self._elapsed_steps / self._every
        span = max(1, self._span // self._every)
        self._gray, self._elapsed_steps, self._span = gray, 0.0, 0
        return (previous if span <= MAX_SPAN_STEPS else None), elapsed, span


class FlowStack:
    """The last L flow fields of one camera: the temporal stream's input."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._fields: deque[QuantisedFlow] = deque(maxlen=length)
        self._segment = -1
        self._step = -1

    def push(self, segment: int, step_id: int, field: QuantisedFlow | None, span: int) -> bool:
        """Add the field of a step (None: it has none); True when the stack is whole.

        A field whose frames were ``span`` steps apart is in pixels per nominal step, and is used
        for each of those steps. A missing field, a field that does not follow the last one, or a
        new segment clears the stack: a stack never spans a gap.
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
