"""Records examples of an action from a camera, and background between them."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol

from pipeline.arrays import Frame
from pipeline.clock import NS_PER_S, Clock
from pipeline.sources import Source
from teach.clip_file import ClipFile, label_folder
from teach.clips import BACKGROUND, REST_NAMES
from teach.pack import TeachError

COUNTDOWN = 3
BACKGROUND_S = 4.0
LOOK_NS = NS_PER_S // 5
"""Pictures come to the terminal this often."""
WAIT_S = 0.05


class Answer(Enum):
    """What the person says of an example."""

    KEEP = "keep"
    AGAIN = "again"
    STOP = "stop"


class Stage(Protocol):
    """What the person sees and hears, and says."""

    def say(self, line: str) -> None:
        """A line that stays."""

    def show(self, line: str, picture: Frame) -> None:
        """What goes on now, and what the camera sees."""

    def beep(self) -> None: ...

    def answer(self) -> Answer | None:
        """What was said since the last call; doesn't wait."""
        ...


@dataclass(frozen=True)
class Plan:
    """What to record: ``count`` clips of ``label``, each of ``seconds``."""

    label: str
    clips: Path
    count: int = 5
    seconds: float = 3.0


@dataclass
class Recorded:
    """The clips that were kept."""

    examples: list[Path]
    background: list[Path]


class _SourceEnded(Exception):
    """The file or stream has no more frames."""


class Recorder:
    """Records one label's examples from an open source.

    Frames are read all the time, also while the person decides: a camera whose frames nobody
    takes shows old ones later. Time is that of the frames, so a file gives the same clips always.
    """

    def __init__(self, plan: Plan, source: Source, clock: Clock, stage: Stage) -> None:
        """Raises :class:`TeachError` for a label that can't be one."""
        self._plan, self._source, self._clock, self._stage = plan, source, clock, stage
        self._folder = label_folder(plan.clips, plan.label)
        self._label = self._folder.name
        self._is_rest = self._label.casefold() in REST_NAMES
        self._looked_ns: int | None = None
        self._line = ""
        self.kept = Recorded([], [])

    def run(self) -> Recorded:
        """Record all, or until the person stops.

        Raises :class:`TeachError` when the source ends too early or a clip can't be written, and
        :class:`SourceError` when the source breaks. What was kept until then stays.
        """
        try:
            while len(self.kept.examples) < self._plan.count:
                if not self._example():
                    break
                if len(self.kept.examples) < self._plan.count and not self._is_rest:
                    self._background()
        except _SourceEnded:
            done = len(self.kept.examples)
            raise TeachError(
                f"the source ended: {done} of {self._plan.count} examples of {self._label} are "
                "recorded"
            ) from None
        return self.kept

    def _example(self) -> bool:
        """One example that is kept; False if the person stops."""
        while True:
            self._countdown()
            self._stage.beep()
            name = f"{self._label} {len(self.kept.examples) + 1} of {self._plan.count}"
            clip = self._recorded(self._folder, self._plan.seconds, f"● {name}")
            self._stage.beep()
            try:
                answer = self._asked(f"{name}: keep (Enter), again (a) or stop (q)?")
                if answer is Answer.KEEP:
                    path = clip.keep()
                    self.kept.examples.append(path)
                    self._stage.say(f"kept {path}")
                    return True
            finally:
                clip.drop()
            if answer is Answer.STOP:
                return False

    def _countdown(self) -> None:
        for left in range(COUNTDOWN, 0, -1):
            self._line = f"{self._label} in {left}"
            for _ in self._frames(1.0):
                pass

    def _background(self) -> None:
        self._stage.say(f"Background: move as usual, but don't do {self._label}.")
        folder = label_folder(self._plan.clips, BACKGROUND)
        clip = self._recorded(folder, BACKGROUND_S, f"● background, not {self._label}")
        try:
            self.kept.background.append(clip.keep())
        finally:
            clip.drop()

    def _recorded(self, folder: Path, seconds: float, line: str) -> ClipFile:
        """What the camera sees for some seconds, in a file that isn't kept yet."""
        self._line = line
        clip = ClipFile(folder)
        try:
            for time_ns in self._frames(seconds):
                clip.add(time_ns, self._source.retrieve())
        except BaseException:
            clip.drop()
            raise
        return clip

    def _asked(self, question: str) -> Answer:
        self._line = question
        ended = False
        while (answer := self._stage.answer()) is None:
            if ended:
                self._clock.sleep(WAIT_S)
                continue
            try:
                self._frame()
            except _SourceEnded:
                ended = True
        return answer

    def _frames(self, seconds: float) -> Iterator[int]:
        """The times of the frames of the next ``seconds``; each may be retrieved."""
        first_ns = time_ns = self._frame()
        while time_ns - first_ns < seconds * NS_PER_S:
            yield time_ns
            time_ns = self._frame()

    def _frame(self) -> int:
        """Go to the next frame, which a person sees now and then; returns its time."""
        grab = self._source.grab()
        if grab is None:
            raise _SourceEnded
        time_ns = grab.step_ns(self._source.ends)
        if self._looked_ns is None or abs(time_ns - self._looked_ns) >= LOOK_NS:
            self._looked_ns = time_ns
            self._stage.show(self._line, self._source.retrieve())
        return time_ns
