"""What reviews teach a pack: which time of which camera is an example of what. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.clock import NS_PER_S, from_isoformat
from pipeline.model.labels import normal
from pipeline.reviews.records import Review
from teach.examples import Example
from teach.streams import Labels

NAMED = "review "
"""How the names of such examples begin; the review's key follows."""
BACK, AFTER = 1.0, 0.6
"""A clip reaches from so many lengths of an action before an event's start to so many after it: an
event starts before the action is over. On gestures 0.6 was no worse than 0, 0.25 and 1."""
ONE_MOMENT_NS = 10 * NS_PER_S
"""Reviews of one camera that lie nearer belong to one group: they are left out together."""


@dataclass(frozen=True, slots=True)
class Times:
    """When an event was, by the memory's time, and whose it is; ``subject`` None: not known."""

    start_ns: int
    end_ns: int
    subject: str | None = None


@dataclass(frozen=True, slots=True)
class Correction:
    """A review, the number of the label that was really there, and the clip to take.

    ``at`` is when the event, or the action that was missed, was.
    """

    review: Review
    label: int
    at: Times
    first_ns: int
    last_ns: int

    @property
    def name(self) -> str:
        return NAMED + self.review.key


def typical_steps(examples: Iterable[Example], labels: Labels) -> dict[int, int]:
    """The median length of each action's clips, in steps; those of reviews don't count."""
    lengths: dict[int, list[int]] = {}
    for one in examples:
        if one.label not in labels.rest and not one.name.startswith(NAMED):
            lengths.setdefault(one.label, []).append(one.clip.steps)
    return {label: int(np.median(steps)) for label, steps in lengths.items()}


def times_of(review: Review, known: Mapping[str, Times]) -> Times:
    """When a review's event was; ``known`` are times by event that the log knows better."""
    own = Times(from_isoformat(review.start_time), from_isoformat(review.end_time))
    return known.get(review.event or "", own)


def corrections(
    reviews: Iterable[Review],
    labels: Labels,
    typical: Mapping[int, int],
    window: int,
    known: Mapping[str, Times],
) -> tuple[list[Correction], dict[str, int]]:
    """What reviews in force say of a pack's labels, and how many are of each unknown label."""
    found: list[Correction] = []
    unknown: dict[str, int] = {}
    for review in reviews:
        said, label = normal(review.said or ""), normal(review.label or "")
        if review.verdict == "wrong":
            if said in labels.names:
                found.append(_wrong(review, labels, window, times_of(review, known)))
        elif label not in labels.names:
            # Another pack's events are no concern of this one, but what this one said is.
            if said in labels.names or review.verdict == "missed":
                unknown[label] = unknown.get(label, 0) + 1
        elif label in labels.background:
            found.append(_wrong(review, labels, window, times_of(review, known)))
        else:
            number = labels.names.index(label)
            at = times_of(review, known)
            steps = typical.get(number, window)
            found.append(_action(review, number, at, round(steps * NS_PER_S / labels.step_hz)))
    return found, unknown


def _wrong(review: Review, labels: Labels, window: int, at: Times) -> Correction:
    """The clip begins so that every window in it ends while the event went on."""
    back_ns = round((window - 1) * NS_PER_S / labels.step_hz)
    number = labels.rest[0]
    if review.label is not None and normal(review.label) in labels.background:
        number = labels.names.index(normal(review.label))
    return Correction(review, number, at, at.start_ns - back_ns, at.end_ns)


def _action(review: Review, number: int, at: Times, length_ns: int) -> Correction:
    if review.verdict == "missed":
        return Correction(review, number, at, at.start_ns, at.end_ns)
    last_ns = min(at.end_ns, at.start_ns + round(AFTER * length_ns))
    return Correction(review, number, at, at.start_ns - round(BACK * length_ns), last_ns)


def groups_of(found: Sequence[Correction]) -> list[str]:
    """The group of each correction. What nearly touches is one moment, whatever was said of it."""
    order = sorted(range(len(found)), key=lambda k: (found[k].review.camera, found[k].first_ns))
    groups, camera, until_ns, name = {}, "", 0, ""
    for place in order:
        one = found[place]
        if one.review.camera != camera or one.first_ns > until_ns + ONE_MOMENT_NS:
            camera, until_ns = one.review.camera, one.last_ns
            name = f"{camera} {one.review.start_time}"
        until_ns = max(until_ns, one.last_ns)
        groups[place] = name
    return [groups[place] for place in range(len(found))]
