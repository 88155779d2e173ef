"""One long stream of many clips, as a single camera would show them, and when each clip plays."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.arrays import Frame
from pipeline.clock import NS_PER_S
from pipeline.errors import SourceError
from pipeline.evaluate.clip_list import Entry, shown
from pipeline.evaluate.protocol import stream_order
from pipeline.evaluate.recogniser import file_frames
from pipeline.steps.follow import TimedFrame
from pipeline.steps.preprocess import alike

PAUSE_S = 2.0
"""How long the last frame is held between actions, when the list has no background clips."""

FIRST_PERIOD_NS = NS_PER_S // 25
"""How long a frame lasts that is the only one of its clip."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A clip that shows ``label`` plays between two times of the stream, in nanoseconds."""

    label: str
    start_ns: int
    end_ns: int
    path: Path


@dataclass(frozen=True, slots=True)
class Pause:
    """The last frame is held for :data:`PAUSE_S`."""


Item = Entry | Pause


def arrange(entries: Sequence[Entry], background: Sequence[str], seed: int) -> list[Item]:
    """Put the clips into the order of :func:`pipeline.evaluate.protocol.stream_order`.

    ``background`` has the labels of no action. Without clips of these, a :class:`Pause` follows
    each action.
    """
    order = stream_order([entry.label not in background for entry in entries], seed)
    return [Pause() if place is None else entries[place] for place in order]


class Timeline:
    """Plays items one after the other without a break; :attr:`played` grows as it plays.

    A clip keeps its own frame times, moved to where the clip before it ended. A camera has one
    size, so frames are resized to that of the first. A clip that can't be opened is skipped and
    listed in :attr:`unreadable`.
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
        """Clips that were skipped, and why; each once, even if the stream has it several times."""
        self.end_ns = 0  # of everything that has played so far

    @property
    def intervals(self) -> list[Interval]:
        """When actions play: :attr:`played` without background."""
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
                # A clip that can't be opened, or has no frame, hasn't played.
                if self.end_ns > start_ns:
                    self.played.append(Interval(item.label, start_ns, self.end_ns, item.path))
            self._advance()

    def _clip(self, path: Path) -> Iterator[TimedFrame]:
        """A clip's frames in stream time; moves :attr:`end_ns` to the end of each."""
        start_ns, before_ns, period_ns = self.end_ns, None, FIRST_PERIOD_NS
        for timed in file_frames(path):
            if before_ns is not None:
                period_ns = timed.pts_ns - before_ns
            before_ns = timed.pts_ns
            at_ns = start_ns + timed.pts_ns
            # Whichever frame is the last lasts as long as the one before it.
            self.end_ns = at_ns + period_ns
            # partial binds this frame; a lambda would find the next one when it is called late.
            yield TimedFrame(at_ns, partial(self._retrieve, timed))

    def _held(self) -> Iterator[TimedFrame]:
        """The last frame again, once per step of a pause."""
        frame = self._last
        if frame is None:  # no frame was retrieved yet
            return
        for _ in range(round(PAUSE_S * NS_PER_S / self._step_ns)):
            yield TimedFrame(self.end_ns, lambda: frame)
            self.end_ns += self._step_ns

    def _retrieve(self, timed: TimedFrame) -> Frame:
        """Decode a frame; if it has another size or form than the first, make it like that."""
        frame = timed.retrieve()
        if self._shape is None:
            self._shape = frame.shape
        if frame.shape != self._shape:
            frame = alike(frame, self._shape)
        self._last = frame
        return frame
