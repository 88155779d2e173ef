"""The verdict: does it work, and are there enough examples? In numbers, and in words."""

from collections.abc import Sequence

import msgspec
import numpy as np

from pipeline.arrays import Vector
from teach.arrays import Numbers
from teach.examples import Example

ENOUGH = 0.9
"""Share of clips that were left out and told right, from which a label has enough."""
FEW_CLIPS = 5
CONFUSED = 0.25
"""Share of two labels' clips taken for each other, from which they can't be told apart."""
ALIKE = 0.1
"""Examples that lie nearer to each other than this part of the usual distance teach nothing new."""
SURE = 0.7
"""A score of a wrong label from which an example looks mislabelled."""
SURELY_ABOVE = 2.0
"""Standard errors above guessing, under which nothing was learned."""


class LabelVerdict(msgspec.Struct, frozen=True):
    """Of one label: clips and takes, shares told right, and what to do."""

    label: str
    clips: int
    takes: int
    recall: float
    precision: float | None
    state: str
    """``enough``, ``too few``, ``too alike`` or ``confused``."""
    advice: str


class OddExample(msgspec.Struct, frozen=True):
    """A clip that looks like another label, though it was left out when that was learned."""

    path: str
    label: str
    looks_like: str
    score: float


class Told(msgspec.Struct, frozen=True):
    """What a clip was taken for when it was left out."""

    path: str
    label: str
    said: str
    score: float
    """Of ``said``."""
    true_score: float
    """Of ``label``."""


class Verdict(msgspec.Struct, frozen=True):
    """What to expect of a taught pack."""

    works: bool
    top1: float
    top1_error: float
    chance: float
    looks: str
    tried: dict[str, float]
    event_f1: float
    events_found: int
    actions_shown: int
    false_events: int
    background_minutes: float
    false_events_in_background: int
    most_false_events_a_day: float | None
    """With 95 % confidence; None without any background."""
    calibration_error: float
    temperature: float
    labels: list[LabelVerdict]
    confusion: list[list[int]]
    """Row: true label; column: what it was taken for; clips that were left out."""
    names: list[str]
    pairs: list[tuple[str, str, float]]
    """Labels that can't be told apart, and the share of their clips."""
    odd: list[OddExample]
    twice: list[str]
    """Clips whose content is there twice."""
    with_half: float | None
    """Top-1 when half of the clips are taught."""
    with_twice: float | None
    """Top-1 to expect with twice as many clips, by the curve through both."""
    warnings: list[str]
    told: list[Told] = []
    """Every clip."""


def chance_of(labels: Sequence[int]) -> float:
    """Top-1, as a mean over labels, of who always names one label."""
    return 1.0 / max(1, len(set(labels)))


def surely_works(top1: float, chance: float, error: float) -> bool:
    """Whether a top-1 with a standard error is surely above guessing."""
    return top1 > chance + SURELY_ABOVE * error


def extrapolated(half: float, whole: float) -> float:
    """Top-1 with twice the clips: the error falls by a power of the number of clips
    (Hestness et al. 2017), which two points give."""
    worse, now = max(1 - half, 1e-3), max(1 - whole, 1e-3)
    return float(min(1.0, max(whole, 1 - now * min(1.0, now / worse))))


def confusion_of(predicted: Numbers, labels: Numbers, count: int) -> Numbers:
    table = np.zeros((count, count), int)
    np.add.at(table, (labels, predicted), 1)
    return table


def confused_pairs(table: Numbers, names: Sequence[str]) -> list[tuple[str, str, float]]:
    """Pairs of labels whose clips are often taken for each other, the worst first."""
    found = []
    for a in range(len(names)):
        for b in range(a + 1, len(names)):
            clips = table[a].sum() + table[b].sum()
            share = (table[a, b] + table[b, a]) / clips if clips else 0.0
            # One clip that looks like the other label is an odd example, not a confusion.
            if share >= CONFUSED and table[a, b] + table[b, a] >= 2:
                found.append((names[a], names[b], round(float(share), 3)))
    return sorted(found, key=lambda pair: -pair[2])


def too_alike(vectors: Vector, labels: Numbers, label: int) -> bool:
    """Whether a label's examples hardly differ, by what the head sees of them (n, D)."""
    own = vectors[labels == label]
    others = vectors[labels != label]
    if len(own) < 3 or len(others) == 0:
        return False
    within = np.median(_distances(own, own)[np.triu_indices(len(own), 1)])
    between = np.median(_distances(own, others))
    return bool(within < ALIKE * between)


def _distances(a: Vector, b: Vector) -> Vector:
    square = (a**2).sum(1)[:, np.newaxis] + (b**2).sum(1) - 2 * a @ b.T
    distances: Vector = np.sqrt(np.maximum(square, 0.0))
    return distances


def odd_examples(
    scores: Vector, labels: Numbers, examples: Sequence[Example], names: Sequence[str]
) -> list[OddExample]:
    """Clips that are surely taken for another label, the surest first."""
    found = [
        OddExample(
            str(example.clip.path), names[int(label)], names[int(row.argmax())],
            round(float(row.max()), 3),
        )
        for row, label, example in zip(scores, labels, examples, strict=True)
        if row.argmax() != label and row.max() >= SURE
    ]  # fmt: skip
    return sorted(found, key=lambda one: -one.score)


def told(
    scores: Vector, labels: Numbers, examples: Sequence[Example], names: Sequence[str]
) -> list[Told]:
    """What each clip was taken for, by (n, C) scores."""
    return [
        Told(
            str(example.clip.path), names[int(label)], names[int(row.argmax())],
            round(float(row.max()), 3), round(float(row[int(label)]), 3),
        )
        for row, label, example in zip(scores, labels, examples, strict=True)
    ]  # fmt: skip


def label_verdicts(
    table: Numbers,
    names: Sequence[str],
    rest: Sequence[int],
    takes: Sequence[int],
    alike: Sequence[bool],
    pairs: Sequence[tuple[str, str, float]],
) -> list[LabelVerdict]:
    """One row for each label that was taught."""
    rows = []
    for number, name in enumerate(names):
        clips = int(table[number].sum())
        if not clips:
            continue
        recall = float(table[number, number]) / clips
        named = int(table[:, number].sum())
        precision = float(table[number, number]) / named if named else None
        partner = next((b if a == name else a for a, b, _ in pairs if name in (a, b)), None)
        state, advice = _state(
            name, clips, takes[number], recall, alike[number], partner, number in rest
        )
        rows.append(
            LabelVerdict(name, clips, takes[number], round(recall, 3), precision, state, advice)
        )
    return rows


def _state(
    name: str, clips: int, takes: int, recall: float, alike: bool, partner: str | None, rest: bool
) -> tuple[str, str]:
    if partner is not None:
        return "confused", f"{name} and {partner} look alike to it: make them differ, or join them"
    if alike and not rest:
        return (
            "too alike",
            "the examples hardly differ: record it at other places, speeds and distances",
        )
    if clips < FEW_CLIPS:
        return "too few", f"{clips} clips: record at least {FEW_CLIPS}"
    if takes < 2:
        return "too few", "all clips are of one take: record at another time too"
    if recall < ENOUGH:
        return "too few", "record more, and others than those that are there"
    return "enough", ""
