"""Figures of a model on streams (gestures found, false events), and the fitting of thresholds.

Scores of held-out streams go through the live pipeline's own event rules
(:class:`pipeline.decision.rules.EventRules`).
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.clock import NS_PER_S
from pipeline.decision.rules import EventRules, StepTime
from pipeline.model.pack import Threshold
from training.config import TrainConfig
from training.data import Stroke
from training.measure import Floats

Choice = tuple[float, float]
Thresholds = Mapping[str, Threshold]
STARTS = (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9)
DURATIONS_S = (0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
COMMON_S = 0.4
"""Longest minimum duration that may become the common one: every event waits for it. A label that
begins like another (a caret like a star) may have a longer one of its own."""
CHOICES: tuple[Choice, ...] = tuple(itertools.product(STARTS, DURATIONS_S))
FALSE_COST = 0.6
QUIET_COST = 3.0
RENDERED_WEIGHT = 0.15
MARGIN = 3.0
END_RATIO = 0.5
LATEST_S = 1.5


@dataclass(frozen=True)
class ScoredStream:
    """A held-out stream: fused scores (S, C) at its steps, and the gestures drawn in it."""

    scores: Floats
    strokes: tuple[Stroke, ...]


@dataclass(frozen=True)
class Tally:
    """Counts over streams: gestures, gestures found with the right label, false events."""

    strokes: int = 0
    found: int = 0
    false: int = 0

    @property
    def f1(self) -> float:
        """2 · found / (events + gestures); 0 without any events and gestures."""
        both = 2 * self.found + self.false + (self.strokes - self.found)
        return 2 * self.found / both if both else 0.0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.strokes + other.strokes, self.found + other.found, self.false + other.false
        )


Sweep = dict[Choice, dict[int, Tally]]
"""Counts of each label, by number, under each (start threshold, minimum duration in s)."""


def starts(scores: Floats, config: TrainConfig, thresholds: Thresholds) -> list[tuple[int, int]]:
    """(step, label) at which events start."""
    rules = EventRules(config.labels, config.background, thresholds, 1e6, config.step_hz)
    found = []
    for step, row in enumerate(scores):
        now_ns = round(step * NS_PER_S / config.step_hz)
        for change in rules.push(StepTime(now_ns, None, now_ns), row.tolist()):
            if change.type == "start":
                found.append((step, config.labels.index(change.label)))
    return found


def tally(stream: ScoredStream, config: TrainConfig, thresholds: Thresholds) -> dict[int, Tally]:
    """Counts per label, as in the stream protocol of :mod:`pipeline.evaluate`.

    A gesture is found if an event of its label starts between the beginning of its stroke and
    :data:`LATEST_S` after its end. Every other event is false.
    """
    open_events = starts(stream.scores, config, thresholds)
    counts: dict[int, Tally] = {}
    for stroke in stream.strokes:
        latest = stroke.past + LATEST_S * config.step_hz
        hit = next(
            (e for e in open_events if e[1] == stroke.label and stroke.first <= e[0] <= latest),
            None,
        )
        if hit is not None:
            open_events.remove(hit)
        found = Tally(strokes=1, found=int(hit is not None))
        counts[stroke.label] = counts.get(stroke.label, Tally()) + found
    for _, label in open_events:
        counts[label] = counts.get(label, Tally()) + Tally(false=1)
    return counts


def total(
    streams: Sequence[ScoredStream], config: TrainConfig, thresholds: Thresholds
) -> dict[int, Tally]:
    """:func:`tally` added up over streams."""
    counts: dict[int, Tally] = {}
    for stream in streams:
        for label, part in tally(stream, config, thresholds).items():
            counts[label] = counts.get(label, Tally()) + part
    return counts


def sweep(
    streams: Sequence[ScoredStream], config: TrainConfig, choices: Sequence[Choice] = CHOICES
) -> Sweep:
    """Counts per label under every choice; a choice applies to all labels at once."""
    return {
        choice: total(streams, config, dict.fromkeys(config.labels, threshold(*choice)))
        for choice in choices
    }


def added(sweeps: Sequence[Sweep]) -> Sweep:
    """The counts of several sweeps together."""
    counts: Sweep = {}
    for part in sweeps:
        for choice, by_label in part.items():
            so_far = counts.setdefault(choice, {})
            for label, tally_ in by_label.items():
                so_far[label] = so_far.get(label, Tally()) + tally_
    return counts


Values = Mapping[Choice, Mapping[int, float]]


@dataclass(frozen=True)
class Sweeps:
    """Sweeps over real clips, over rendered streams, and over footage that shows no label."""

    real: Sweep
    rendered: Sweep
    quiet: Sweep


def _values(config: TrainConfig, sweeps: Sweeps) -> Values:
    """The value of each choice for each label that makes events."""
    numbers = [n for n, label in enumerate(config.labels) if label not in config.background]

    def value_of(choice: Choice, number: int) -> float:
        real, rendered, quiet = (
            part.get(choice, {}).get(number, Tally())
            for part in (sweeps.real, sweeps.rendered, sweeps.quiet)
        )
        return (
            real.found
            + RENDERED_WEIGHT * rendered.found
            - FALSE_COST * (real.false + RENDERED_WEIGHT * rendered.false)
            - QUIET_COST * quiet.false
        )

    choices = sweeps.real.keys() | sweeps.rendered.keys()
    return {choice: {number: value_of(choice, number) for number in numbers} for choice in choices}


def _common(values: Values) -> Choice:
    """The best choice for all labels together; among equals, the strictest."""
    prompt = [choice for choice in values if choice[1] <= COMMON_S]
    return max(prompt, key=lambda choice: (sum(values[choice].values()), choice))


def fit_thresholds(config: TrainConfig, sweeps: Sweeps) -> dict[str, Threshold]:
    """For each label, the thresholds of the highest value: gestures found minus weighted false
    events.

    A false event in footage that shows no label costs more, because cameras see far more of that.
    Rendered streams count less than real ones, because any number of them can be made.

    A label has few gestures in the held-out streams. So it gets the thresholds that are best for
    all labels together, unless others are better for it by at least :data:`MARGIN`. Among equals
    the strictest win: they should give fewer false events elsewhere.
    """
    values = _values(config, sweeps)
    common = _common(values)
    chosen = {}
    for number in values[common]:
        by_value = {choice: value[number] for choice, value in values.items()}
        own = max((value, choice) for choice, value in by_value.items())[1]
        better = by_value[own] - by_value[common] >= MARGIN
        chosen[config.labels[number]] = threshold(*(own if better else common))
    return chosen


def threshold(start: float, duration_s: float) -> Threshold:
    """A label's thresholds from the two that are fitted."""
    return Threshold(start=start, end=start * END_RATIO, min_duration_s=duration_s)


def hours_of(streams: Sequence[ScoredStream], config: TrainConfig) -> float:
    """The total length of streams in hours."""
    return sum(len(stream.scores) for stream in streams) / config.step_hz / 3600


def quiet_figures(counts: Tally, hours: float) -> dict[str, object]:
    """False events in footage that shows no label, per hour."""
    return {
        "minutes": round(60 * hours, 1),
        "false_events": counts.false,
        "false_events_per_hour": round(counts.false / hours, 1) if hours else None,
    }


def stream_figures(counts: Tally, hours: float) -> dict[str, object]:
    """Gestures in streams, how many were found, F1, and false events per minute."""
    return {
        "minutes": round(60 * hours, 1),
        "gestures": counts.strokes,
        "found": counts.found,
        "f1": round(counts.f1, 4),
        "false_events_per_minute": round(counts.false / hours / 60, 2) if hours else None,
    }
