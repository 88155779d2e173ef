"""Windows of clips: what the head is fitted to and measured on.

A clip of an action gives windows that end when the action does, and a little before. What came
before the clip isn't known, but live there is always something: so half of the windows begin with
the end of some other clip. A clip of the background gives windows all along.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Vector
from teach.arrays import Flags, Numbers
from teach.base import Base
from teach.features import ClipFeatures
from teach.pooling import pooled, spans_of

CUTS = (1.0, 0.85, 0.7)
"""Parts of an action after which a window ends."""
CONTEXTS = 3
"""Windows of each action clip that begin with the end of another clip."""
EARLY = (0.15,)
"""Parts of an action after which nobody can tell yet: such windows count as background."""
LEAST_STEPS = 3
STRIDE = 3
"""Windows of the background overlap by all but this part of a window."""
BEGINNINGS = (2, 4, 8, 16)
"""Steps of windows at the beginning of a clip of the background."""
AT_ONCE = 64
"""Windows that are pooled in one go."""
MOST_WINDOWS = 400
"""Of one background clip; more of one place teach little."""


@dataclass(frozen=True)
class Example:
    """A clip and the number of its label; clips of one ``group`` are takes of one moment."""

    clip: ClipFeatures
    label: int
    group: str
    name: str


@dataclass(frozen=True)
class Rows:
    """Pooled windows of clips, by stream and block.

    ``clips`` (n,) are the examples' places. ``whole`` (n,) marks windows that end with the clip and
    hold nothing but it, ``early`` (n,) those that end too early to tell.
    """

    pooled: dict[str, list[Vector]]
    spans: tuple[int, ...]
    labels: Numbers
    clips: Numbers
    whole: Flags
    early: Flags

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, rows: Flags) -> "Rows":
        return Rows(
            {name: [block[rows] for block in blocks] for name, blocks in self.pooled.items()},
            self.spans,
            self.labels[rows],
            self.clips[rows],
            self.whole[rows],
            self.early[rows],
        )


def joined(parts: Sequence[Rows]) -> Rows:
    names = parts[0].pooled
    return Rows(
        {
            name: [
                np.concatenate([part.pooled[name][block] for part in parts])
                for block in range(len(names[name]))
            ]
            for name in names
        },
        parts[0].spans,
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.clips for part in parts]),
        np.concatenate([part.whole for part in parts]),
        np.concatenate([part.early for part in parts]),
    )


@dataclass(frozen=True)
class Window:
    """Steps of up to two clips: the newest are ``clip``'s, ending before ``end``; older ones are
    the last of ``before``."""

    clip: ClipFeatures
    end: int
    before: ClipFeatures | None = None


class Windows:
    """Makes windows of ``length`` steps, and pools them."""

    def __init__(
        self, base: Base, streams: Sequence[str], length: int, spans: Sequence[int] = ()
    ) -> None:
        self._base = base
        self._streams = tuple(streams)
        self._length = length
        self._spans = tuple(spans) or spans_of(length)

    def of_action(
        self,
        place: int,
        example: Example,
        others: Sequence[ClipFeatures],
        quiet: Sequence[ClipFeatures],
        rest: int,
        random: np.random.Generator,
    ) -> Rows:
        """Pooled windows of a clip of an action. ``others`` are clips that may come before it;
        ``rest`` is the label of windows that end too early to tell."""
        clip = example.clip
        steps = clip.steps
        ends = sorted({max(min(steps, LEAST_STEPS), round(steps * cut)) for cut in CUTS})
        windows = [Window(clip, end) for end in reversed(ends)]
        labels = [example.label] * len(windows)
        if others:
            for number in range(CONTEXTS):
                end = ends[-1 - number % min(2, len(ends))]
                windows.append(Window(clip, end, others[int(random.integers(len(others)))]))
                labels.append(example.label)
        for cut in EARLY if quiet else ():
            end = max(1, round(steps * cut))
            before = quiet[int(random.integers(len(quiet)))]
            windows += [Window(clip, end, before), Window(clip, end)]
            labels += [rest, rest]
        return self._rows(place, windows, labels, np.array(labels) != example.label)

    def of_rest(self, place: int, example: Example) -> Rows:
        """Pooled windows of a clip of the background."""
        windows = self._of_rest(example.clip)
        labels = [example.label] * len(windows)
        return self._rows(place, windows, labels, np.zeros(len(windows), bool))

    def _rows(
        self, place: int, windows: Sequence[Window], labels: Sequence[int], early: Flags
    ) -> Rows:
        """The first window is the whole clip's."""
        whole = np.zeros(len(windows), bool)
        whole[0] = True
        return Rows(
            self.pooled(windows),
            self._spans,
            np.array(labels),
            np.full(len(windows), place),
            whole,
            early,
        )

    def _of_rest(self, clip: ClipFeatures) -> list[Window]:
        stride = max(1, self._length // STRIDE)
        ends = list(range(clip.steps, min(self._length, clip.steps) - 1, -stride))
        if len(ends) > MOST_WINDOWS:
            ends = [ends[int(k)] for k in np.linspace(0, len(ends) - 1, MOST_WINDOWS)]
        # A window that has just begun holds few steps, and is no action either.
        ends += [end for end in BEGINNINGS if end < min(self._length, clip.steps)]
        return [Window(clip, end) for end in ends]

    def pooled(self, windows: Sequence[Window]) -> dict[str, list[Vector]]:
        """The blocks of each stream, (n, width)."""
        found = {}
        for name in self._streams:
            blocks = self._base.streams[name].blocks
            parts = [
                pooled(*self._stacked(name, windows[first : first + AT_ONCE]), blocks, self._spans)
                for first in range(0, len(windows), AT_ONCE)
            ]
            found[name] = [
                np.concatenate([part[k] for part in parts]) for k in range(len(parts[0]))
            ]
        return found

    def _stacked(self, name: str, windows: Sequence[Window]) -> tuple[Vector, Vector]:
        """(n, T, d) features and (n, T) mask; missing steps are the oldest."""
        size = self._base.streams[name].feature_size
        features = np.zeros((len(windows), self._length, size), np.float32)
        mask = np.zeros(features.shape[:2], np.float32)
        for row, window in enumerate(windows):
            first = max(0, window.end - self._length)
            place = self._length - (window.end - first)
            features[row, place:] = window.clip.streams[name][first : window.end]
            mask[row, place:] = window.clip.present[name][first : window.end]
            if window.before is not None and place:
                taken = min(place, window.before.steps)
                features[row, place - taken : place] = window.before.streams[name][-taken:]
                mask[row, place - taken : place] = window.before.present[name][-taken:]
        features *= mask[:, :, np.newaxis]
        return features, mask

    def of_stream(self, clips: Sequence[ClipFeatures]) -> dict[str, list[Vector]]:
        """Pooled windows at every step of clips that play one after the other, one segment."""
        length = self._length
        stacks = {}
        for name in self._streams:
            rows = np.concatenate([clip.streams[name] for clip in clips])
            there = np.concatenate([clip.present[name] for clip in clips]).astype(np.float32)
            rows = np.concatenate([np.zeros((length - 1, rows.shape[1]), np.float32), rows])
            there = np.concatenate([np.zeros(length - 1, np.float32), there])
            stacks[name] = (rows * there[:, np.newaxis], there)
        return {name: self._slid(name, *stack) for name, stack in stacks.items()}

    def _slid(self, name: str, rows: Vector, there: Vector) -> list[Vector]:
        blocks = self._base.streams[name].blocks
        parts = []
        for first in range(0, len(rows) - self._length + 1, AT_ONCE):
            last = min(first + AT_ONCE, len(rows) - self._length + 1)
            places = np.arange(first, last)[:, np.newaxis] + np.arange(self._length)
            parts.append(pooled(rows[places], there[places], blocks, self._spans))
        return [np.concatenate(block) for block in zip(*parts, strict=True)]


def still(clip: ClipFeatures, steps: int, no_motion: Mapping[str, Vector]) -> ClipFeatures:
    """A clip in which nothing happens, as long as ``steps``.

    ``no_motion`` has the features of streams when nothing moves and nobody is there. Other streams
    see the clip's first picture all the time.
    """
    rows, there = {}, {}
    for name, features in clip.streams.items():
        rows[name] = np.repeat(no_motion.get(name, features[0])[np.newaxis], steps, axis=0)
        there[name] = np.ones(steps, bool)
    times = clip.times_ns[0] + np.arange(steps, dtype=np.int64)
    return ClipFeatures(clip.path, times, rows, there)
