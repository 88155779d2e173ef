"""Windows: the last T steps of a camera, and their scores."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.arrays import Vector
from pipeline.transport.messages import WindowInfo

Run = Callable[[Mapping[str, npt.NDArray[np.generic]]], Mapping[str, Vector]]
"""A network: :meth:`pipeline.model.session.Network.run`."""


class FeatureWindow:
    """The last T steps of one camera, as the fusion network takes them.

    ``spatial`` is (T, d), ``temporal`` (T, e), and ``mask`` (T, 2), all float32. The mask is 1
    where (spatial, temporal) is present. The newest step is the last row. A step that had no frame,
    or a stream that was late, is masked, never filled in.
    """

    def __init__(self, length: int, sizes: tuple[int, int]) -> None:
        """``length`` is T, and ``sizes`` are d and e."""
        self._length = length
        # Twice the length: a step writes one row, and only every T-th step moves the rows back.
        self._features = tuple(np.zeros((2 * length, size), np.float32) for size in sizes)
        self._mask = np.zeros((2 * length, 2), np.float32)
        self._end = length
        self.segment = -1
        self._last_step = -1
        self._held = 0
        self.empty = True
        """Whether the newest step has no feature at all."""

    @property
    def spatial(self) -> Vector:
        return self._features[0][self._end - self._length : self._end]

    @property
    def temporal(self) -> Vector:
        return self._features[1][self._end - self._length : self._end]

    @property
    def mask(self) -> Vector:
        return self._mask[self._end - self._length : self._end]

    def push(
        self, segment: int, step_id: int, spatial: Vector | None, temporal: Vector | None
    ) -> None:
        """Move on to ``step_id``; steps in between are masked. A new segment clears the window.

        Raises ValueError on a feature of another size, and on one that is not finite.
        """
        if segment != self.segment:
            for rows in (*self._features, self._mask):
                rows[:] = 0.0
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
            rows = self._features[stream]
            if vector.shape != rows.shape[1:]:
                raise ValueError(f"feature has shape {vector.shape}, expected {rows.shape[1:]}")
            # A finite sum of squares has finite terms. One that overflows is checked term by term.
            if not math.isfinite(vector.dot(vector)) and not np.isfinite(vector).all():
                raise ValueError("feature is not finite")
            rows[self._end - 1] = vector
            self._mask[self._end - 1, stream] = 1.0
            self.empty = False

    def _advance(self, shift: int) -> None:
        """Make ``shift`` empty rows the newest."""
        begin = self._end
        if begin + shift > 2 * self._length:
            kept = self._length - shift
            for rows in (*self._features, self._mask):
                rows[:kept] = rows[begin - kept : begin]
            begin = kept
        self._end = begin + shift
        for rows in (*self._features, self._mask):
            rows[begin : self._end] = 0.0

    def info(self) -> WindowInfo:
        """The steps that the window holds, and how many of them have a stream missing."""
        held = self._mask[self._end - self._held : self._end]
        return WindowInfo(
            first_step=self._last_step - self._held + 1,
            last_step=self._last_step,
            missing=int((held.min(axis=1) == 0.0).sum()) if self._held else 0,
            segment=self.segment,
        )


@dataclass(frozen=True, slots=True)
class Scored:
    """The scores of one step of one camera: probabilities (C,) float32.

    A stream's own scores are None while the window holds no feature of it. ``alpha`` is the spatial
    stream's weight at the newest step that has both streams; None when no step has.
    """

    scores: Vector
    spatial: Vector | None
    temporal: Vector | None
    alpha: float | None


def score_windows(run: Run, windows: Sequence[FeatureWindow]) -> list[Scored | None]:
    """Score the newest step of each window in one batch; None where a score is not finite.

    ``run`` is the fusion network.
    """
    inputs = {
        name: np.stack([getattr(window, name) for window in windows])
        for name in ("spatial", "temporal", "mask")
    }
    outputs = run(inputs)
    there = inputs["mask"] > 0.0  # (N, T, 2)
    finite = np.logical_and.reduce(np.isfinite(outputs["scores"]), axis=1)  # (N,)
    seen = np.logical_or.reduce(there, axis=1)  # (N, 2): the window holds the stream
    both = np.logical_and.reduce(there, axis=2)  # (N, T): the step has both streams
    # The last True of each row; argmax finds the first, so the rows are reversed.
    newest = both.shape[1] - 1 - both[:, ::-1].argmax(axis=1)  # (N,)
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
