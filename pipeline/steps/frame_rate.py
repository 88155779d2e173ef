"""Whether a camera sends frames often enough for motion to be followed."""

from collections import deque
from statistics import median

from pipeline.clock import NS_PER_S
from pipeline.steps.flow_fields import MAX_SPAN_STEPS

FEW = 5


class FrameRate:
    """Notices a camera whose frames lie too far apart for flow, or for one segment."""

    def __init__(self, step_hz: float, gap_s: float) -> None:
        self._longest_s = min(MAX_SPAN_STEPS / step_hz, gap_s)
        self._apart_s: deque[float] = deque(maxlen=FEW)
        self._last_ns: int | None = None

    def forget(self) -> None:
        """The next frame does not follow from the last one."""
        self._apart_s.clear()
        self._last_ns = None

    def note(self, time_ns: int) -> None:
        """Take in a frame's time."""
        if self._last_ns is not None:
            self._apart_s.append((time_ns - self._last_ns) / NS_PER_S)
        self._last_ns = time_ns

    @property
    def trouble(self) -> str | None:
        """What is wrong; None while frames come often enough, or too few have come to tell."""
        if len(self._apart_s) < FEW:
            return None
        apart_s = median(self._apart_s)
        if apart_s <= self._longest_s:
            return None
        return (
            f"it sends {1 / apart_s:.2g} frames a second; actions need at least "
            f"{1 / self._longest_s:.1f}: raise the camera's frame rate"
        )
