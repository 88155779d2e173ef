"""Clips out of a camera's memory: what a pack's networks found at some time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.arrays import Vector
from pipeline.backtest.scoring import subjects_at
from pipeline.clock import NS_PER_S
from pipeline.decision.decisions import vector_of
from pipeline.memory.store import MemoryReader, Stretch
from pipeline.model.watch import WHOLE_PICTURE, Watch, feature_key
from pipeline.steps.join import DecidedStep
from teach.features import ClipFeatures
from teach.trial import Looks

LOST_NS = 3 * NS_PER_S
"""After so long without a step something else has begun."""
LEAST_SHARE = 0.5
"""A clip of which less is remembered isn't known."""


@dataclass
class _Piece:
    """Steps of one subject that follow each other."""

    segment: int
    numbers: list[int] = field(default_factory=list)
    times_ns: list[int] = field(default_factory=list)
    vectors: tuple[list[Vector | None], list[Vector | None]] = field(
        default_factory=lambda: ([], [])
    )

    def takes(self, segment: int, number: int, time_ns: int, window: int) -> bool:
        return (
            segment == self.segment
            and 0 < number - self.numbers[-1] < window
            and 0 <= time_ns - self.times_ns[-1] < LOST_NS
        )


class Recall:
    """One camera's memory, as one pack sees it."""

    def __init__(self, memory: MemoryReader, camera: str, watch: Watch, looks: Looks) -> None:
        self._memory, self._camera, self._watch, self._looks = memory, camera, watch, looks
        self._contract = watch.pack.contract

    def clip(self, first_ns: int, last_ns: int, subject: str | None = None) -> ClipFeatures | None:
        """The longest piece between two times of the day; None where less than half is remembered.

        ``subject`` None: whoever is there; None as well if that are several.
        """
        pieces = list(self.pieces(first_ns, last_ns, subject))
        if not pieces or (subject is None and len({who for who, _ in pieces}) > 1):
            return None
        _, longest = max(pieces, key=lambda piece: piece[1].steps)
        asked = (last_ns - first_ns) / NS_PER_S * self._contract.step_hz
        seen = np.logical_and.reduce(list(longest.present.values())).sum()
        return longest if seen >= max(1.0, LEAST_SHARE * asked) else None

    def pieces(
        self, first_ns: int, last_ns: int, subject: str | None = None
    ) -> Iterator[tuple[str, ClipFeatures]]:
        """What is remembered between two times, by subject, without gaps of a window's length."""
        going: dict[str, _Piece] = {}
        for stretch in self._memory.stretches(self._camera, first_ns, last_ns):
            for step in stretch.steps:
                time_ns = time_of(step, stretch)
                if not first_ns <= time_ns <= last_ns:
                    continue
                if not self._watch.takes(step.moment.step_id):
                    continue
                for who in self._there(step, subject):
                    if (done := self._add(going, who, step, time_ns)) is not None:
                        yield who, done
        for who, piece in going.items():
            yield who, self._clip(piece)

    def _there(self, step: DecidedStep, subject: str | None) -> Iterable[str]:
        names = subjects_at(step, self._watch.view) or ()
        if subject is None or self._watch.view == WHOLE_PICTURE:
            return names  # an event of another pack may have been of a person
        return [name for name in names if name == subject]

    def _add(
        self, going: dict[str, _Piece], who: str, step: DecidedStep, time_ns: int
    ) -> ClipFeatures | None:
        """Add a step to its subject's piece; returns the one before if the step begins another."""
        segment = step.moment.segment
        number = step.moment.step_id // self._watch.every
        done, piece = None, going.get(who)
        if piece is not None and not piece.takes(segment, number, time_ns, self._contract.window):
            done, piece = self._clip(piece), None
        if piece is None:
            piece = going[who] = _Piece(segment)
        piece.numbers.append(number)
        piece.times_ns.append(time_ns)
        keys = (self._watch.spatial, self._watch.temporal)
        for rows, key, feature in zip(
            piece.vectors, keys, (step.spatial, step.temporal), strict=True
        ):
            rows.append(vector_of(feature, feature_key(key, who)))
        return done

    def _clip(self, piece: _Piece) -> ClipFeatures:
        places = np.array(piece.numbers) - piece.numbers[0]
        steps = int(places[-1]) + 1
        times = np.interp(np.arange(steps), places, np.array(piece.times_ns) - piece.times_ns[0])
        rows, there = {}, {}
        names = (self._looks.appearance, self._looks.motion)
        for name, size, vectors in zip(
            names, self._contract.feature_sizes, piece.vectors, strict=True
        ):
            rows[name] = np.zeros((steps, size), np.float32)
            there[name] = np.zeros(steps, bool)
            for place, vector in zip(places, vectors, strict=True):
                if vector is not None:
                    rows[name][place], there[name][place] = vector, True
        times_ns = piece.times_ns[0] + times.astype(np.int64)
        return ClipFeatures(Path(self._camera), times_ns, rows, there)


def time_of(step: DecidedStep, stretch: Stretch) -> int:
    """When a step was, as nanoseconds of the time of day."""
    return step.moment.time_ns(stretch.media) + stretch.offset_ns


def file_began_ns(memory: MemoryReader, camera: str) -> int | None:
    """When media time was 0, of a camera that is a file read without loss; None for others."""
    kept = memory.kept(camera)
    if kept is None:
        return None
    began = None
    for stretch in memory.stretches(camera, kept.last_ns):
        began = stretch.offset_ns if stretch.media else None
    return began
