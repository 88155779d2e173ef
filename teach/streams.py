"""Streams of held-out clips: the events that a head would have sent.

Clips play one after the other, with background between them, as in the stream protocol of
:mod:`pipeline.evaluate`. Scores go through the live pipeline's own event rules.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.arrays import Vector
from pipeline.clock import NS_PER_S
from pipeline.decision.rules import EventRules, StepTime
from pipeline.model.pack import Threshold

LATEST_S = 1.5
"""How long after an action its event may begin."""


@dataclass(frozen=True, slots=True)
class Shown:
    """An action that steps ``first`` to ``last`` (excluded) of a stream show."""

    label: int
    first: int
    last: int


@dataclass(frozen=True)
class ScoredStream:
    """Scores (S, C) at the steps of a stream, and the actions in it."""

    scores: Vector
    shown: tuple[Shown, ...]


@dataclass(frozen=True)
class Count:
    """Of one label: actions shown, those found, and events too many."""

    shown: int = 0
    found: int = 0
    false: int = 0

    @property
    def f1(self) -> float:
        """2 · found / (events + actions); 0 without any."""
        both = self.found + self.false + self.shown
        return 2 * self.found / both if both else 0.0

    def __add__(self, other: "Count") -> "Count":
        return Count(self.shown + other.shown, self.found + other.found, self.false + other.false)


@dataclass(frozen=True)
class Labels:
    """The labels of a pack, those of no action, and its steps a second."""

    names: tuple[str, ...]
    background: tuple[str, ...]
    step_hz: float

    @property
    def rest(self) -> tuple[int, ...]:
        """The numbers of the background labels."""
        return tuple(n for n, name in enumerate(self.names) if name in self.background)

    @property
    def actions(self) -> tuple[int, ...]:
        return tuple(n for n, name in enumerate(self.names) if name not in self.background)


def starts(scores: Vector, labels: Labels, thresholds: Mapping[str, Threshold]) -> list[Shown]:
    """The events that start: label, and twice the step at which it was known."""
    rules = EventRules(labels.names, labels.background, thresholds, 1e6, labels.step_hz)
    found = []
    least = min(thresholds[labels.names[n]].start for n in labels.actions)
    low = scores[:, list(labels.actions)].max(1, initial=0.0) < least
    for step, row in enumerate(scores):
        if low[step] and step and low[step - 1] and not rules.active:
            continue  # nothing can change, and most of a day is quiet
        now_ns = round(step * NS_PER_S / labels.step_hz)
        for change in rules.push(StepTime(now_ns, None, now_ns), row.tolist()):
            if change.type == "start":
                found.append(Shown(labels.names.index(change.label), step, step))
    return found


def counted(
    streams: Sequence[ScoredStream], labels: Labels, thresholds: Mapping[str, Threshold]
) -> dict[int, Count]:
    """Counts for each action. An action is found if an event of its label starts between its first
    step and :data:`LATEST_S` after its last. Every other event is false."""
    counts = {label: Count() for label in labels.actions}
    for stream in streams:
        events = starts(stream.scores, labels, thresholds)
        for one in stream.shown:
            latest = one.last + LATEST_S * labels.step_hz
            hit = next(
                (e for e in events if e.label == one.label and one.first <= e.first <= latest),
                None,
            )
            if hit is not None:
                events.remove(hit)
            counts[one.label] += Count(shown=1, found=int(hit is not None))
        for event in events:
            counts[event.label] += Count(false=1)
    return counts


def total(counts: Mapping[int, Count]) -> Count:
    return sum(counts.values(), Count())
