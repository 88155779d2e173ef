"""One long stream out of many clips, as a single camera would show them, and what is in it when."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import Frame
from pipeline.clock import NS_PER_S
from pipeline.errors import SourceError
from pipeline.evaluate.clip_list import Entry, shown
from pipeline.evaluate.protocol import stream_order
from pipeline.evaluate.recogniser import file_frames
from pipeline.steps.follow import TimedFrame

PAUSE_S = 2.0
"""How long the last frame is held where there are no background clips to put between actions."""

FIRST_PERIOD_NS = NS_PER_S // 25
"""How long the frame of a clip lasts that has but one."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A clip that shows ``label`` plays between two times of the stream, in nanoseconds."""

    label: str
    start_ns: int
    end_ns: int
    path: Path


@dataclass(frozen=True, slots=True)
class Pause:
    """The last frame stands still."""


Item = Entry | Pause


def arrange(entries: Sequence[Entry], background: Sequence[str], seed: int) -> list[Item]:
    """The stream of clips (:func:`pipeline.evaluate.protocol.stream_order`).

    Background is the clips of the labels that mean nothing; without such clips a :class:`Pause`
    follows each action.
    """
    order = stream_order([entry.label not in background for entry in entries], seed)
    return [Pause() if place is None else entries[place] for place in order]


class Timeline:
    """Plays items one after the other without a break; :attr:`played` fills as it plays.

    A clip keeps its own frame times, moved to where the one before ended. A camera has one size:
    frames are brought to that of the first. A clip that can't be opened is left out and named.
    """

    def __init__(
        self,
        items: Sequence[Item],
        background: Sequence[str],
        step_hz: float,
        advance: Callable[[], None] = lambda: None,
    ) -> None:
        self._items = items
        self._background = background
        self._step_ns = round(NS_PER_S / step_hz)
        self._advance = advance
        self._last: Frame | None = None
        self._shape: tuple[int, ...] | None = None
        self.played: list[Interval] = []
        """All clips, those of background labels too."""
        self.unreadable: dict[Path, str] = {}
        """Clips that were left out, and why; each once, however often it was to be played."""
        self.end_ns = 0

    @property
    def intervals(self) -> list[Interval]:
        """When actions go on: what was played but background."""
        return [interval for interval in self.played if interval.label not in self._background]

    def frames(self) -> Iterator[TimedFrame]:
        """All frames in order. May be called once."""
        for item in self._items:
            start_ns = self.end_ns
            if isinstance(item, Pause):
                yield from self._held()
            else:
                try:
                    yield from self._clip(item.path)
                except SourceError as error:
                    self.unreadable[item.path] = shown(str(error))
                if self.end_ns > start_ns:
                    self.played.append(Interval(item.label, start_ns, self.end_ns, item.path))
            self._advance()

    def _clip(self, path: Path) -> Iterator[TimedFrame]:
        start_ns, before_ns, period_ns = self.end_ns, None, FIRST_PERIOD_NS
        for timed in file_frames(path):
            if before_ns is not None:
                period_ns = timed.pts_ns - before_ns
            before_ns = timed.pts_ns
            at_ns = start_ns + timed.pts_ns
            # The last frame lasts as long as the one before it did.
            self.end_ns = at_ns + period_ns
            yield TimedFrame(at_ns, partial(self._retrieve, timed))

    def _held(self) -> Iterator[TimedFrame]:
        frame = self._last
        if frame is None:  # nothing was shown yet
            return
        for _ in range(round(PAUSE_S * NS_PER_S / self._step_ns)):
            yield TimedFrame(self.end_ns, lambda: frame)
            self.end_ns += self._step_ns

    def _retrieve(self, timed: TimedFrame) -> Frame:
        frame = timed.retrieve()
        if self._shape is None:
            self._shape = frame.shape
        if frame.shape != self._shape:
            size = (self._shape[1], self._shape[0])
            frame = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)
        self._last = frame
        return frame
