"""When an event starts: thresholds from the scores of clips that were left out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Vector
from pipeline.model.pack import Threshold
from teach.arrays import Flags
from teach.streams import Count, Labels, ScoredStream, counted

STARTS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
DURATIONS_S = (0.1, 0.2, 0.4, 0.6)
END_RATIO = 0.5
FALSE_COST = 0.6
"""A false event between actions costs this much of one that is found."""
EQUAL = 0.3
"""Choices whose values differ by less are equal."""
PROMPT_S = 0.2
"""The duration to take among equals: two steps."""
RULE_OF_THREE = 3.0
"""No event in h hours: fewer than 3 / h an hour, with 95 % confidence (Hanley 1983)."""


def threshold(start: float, duration_s: float) -> Threshold:
    return Threshold(start=start, end=start * END_RATIO, min_duration_s=duration_s)


@dataclass(frozen=True)
class Fitted:
    """Thresholds by label, what they do to the streams, and false events in the background."""

    thresholds: Mapping[str, Threshold]
    counts: Mapping[int, Count]
    quiet: Count
    quiet_hours: float

    @property
    def most_a_day(self) -> float:
        """The most false events a day to expect, with 95 % confidence."""
        return most_a_day(self.quiet.false, self.quiet_hours)


def most_a_day(events: int, hours: float) -> float:
    """The most events a day to expect, with 95 % confidence, where there were some in ``hours``."""
    return 24 * _poisson_bound(events) / hours if hours else float("inf")


def _poisson_bound(count: int) -> float:
    """Upper 95 % bound of a Poisson mean of which ``count`` events were seen, one-sided."""
    if count == 0:
        return RULE_OF_THREE
    # Wilson and Hilferty's approximation of the chi-square quantile, good to one per cent.
    k = count + 1
    bound: float = k * (1 - 1 / (9 * k) + 1.645 / (3 * k**0.5)) ** 3
    return bound


def fit(
    streams: Sequence[ScoredStream],
    quiet: Sequence[ScoredStream],
    labels: Labels,
    false_a_day: float,
) -> Fitted:
    """For each label the start and duration that find most, and cost least.

    A start is never under the score that would give more false events in the background than were
    asked for.
    """
    hours = sum(len(stream.scores) for stream in quiet) / labels.step_hz / 3600
    allowed = false_a_day * hours / 24
    by_choice = {}
    for start in STARTS:
        for duration_s in DURATIONS_S:
            chosen = dict.fromkeys(labels.names, threshold(start, duration_s))
            by_choice[start, duration_s] = (
                counted(streams, labels, chosen),
                counted(quiet, labels, chosen),
            )
    thresholds = {}
    for number in labels.actions:
        thresholds[labels.names[number]] = threshold(
            *_best({c: (s[number], q[number]) for c, (s, q) in by_choice.items()}, allowed)
        )
    seen = counted(streams, labels, thresholds)
    rest = sum(counted(quiet, labels, thresholds).values(), Count())
    return Fitted(thresholds, seen, rest, hours)


def _best(
    choices: Mapping[tuple[float, float], tuple[Count, Count]], allowed: float
) -> tuple[float, float]:
    """Of those that keep to the allowed false events the one with the best value.

    With few examples, many choices tell all of them right. The one in the middle is taken: a
    stricter one would miss actions that are done a little differently, a laxer one would take more
    for them.
    """
    quiet = {choice: counts[1].false for choice, counts in choices.items()}
    least = min(quiet.values())
    kept = [choice for choice in choices if quiet[choice] <= max(least, int(allowed))]

    def value(choice: tuple[float, float]) -> float:
        count = choices[choice][0]
        return count.found - FALSE_COST * count.false

    best = max(value(choice) for choice in kept)
    equals = sorted(choice for choice in kept if value(choice) > best - EQUAL)
    middle = float(np.median([start for start, _ in equals])), PROMPT_S
    return min(equals, key=lambda choice: (abs(choice[0] - middle[0]), abs(choice[1] - middle[1])))


def calibration_error(scores: Vector, right: Flags, bins: int = 10) -> float:
    """Expected calibration error: how far the largest score lies from how often it is right, by
    bins of equal numbers (Naeini et al. 2015)."""
    top = scores.max(1)
    order = np.argsort(top)
    error = 0.0
    for part in np.array_split(order, min(bins, max(1, len(order)))):
        if len(part):
            error += len(part) * abs(float(top[part].mean()) - float(right[part].mean()))
    return error / max(1, len(order))
