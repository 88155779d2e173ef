"""A camera's own background: what of it is worth learning, and what a pack says of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.arrays import Vector
from pipeline.model.pack import ModelPack, Threshold
from pipeline.steps.window import Run
from teach.examples import Example
from teach.features import ClipFeatures
from teach.streams import Count, Labels, ScoredStream, counted
from teach.trial import Looks

PARTS = 5
"""Stretches of time. Each is left out once."""
HARD, PLAIN = 12, 8
"""Of each stretch so many moments are learned that look most like an action, and so many others."""
AT_ONCE = 128


@dataclass(frozen=True)
class Footage:
    """Pieces of background by their stretch of time, and the scores (S, C) of a pack at them."""

    pieces: tuple[ClipFeatures, ...]
    parts: tuple[int, ...]
    scores: tuple[Vector, ...]

    @property
    def steps(self) -> int:
        return sum(one.steps for one in self.pieces)

    def false(self, labels: Labels, thresholds: Mapping[str, Threshold]) -> int:
        """Events that the pack says; all of them are false."""
        streams = [ScoredStream(scores, ()) for scores in self.scores]
        return sum(counted(streams, labels, thresholds).values(), Count()).false


def parted(
    pieces: Sequence[ClipFeatures], run: Run, pack: ModelPack, looks: Looks, parts: int = PARTS
) -> Footage:
    """Split footage, in order of time, into stretches with about as many steps each."""
    longest = max(pack.contract.window * 2, -(-sum(one.steps for one in pieces) // parts))
    cut = [
        piece.only(slice(first, first + longest))
        for piece in pieces
        for first in range(0, piece.steps, longest)
    ]
    ends = np.cumsum([one.steps for one in cut])
    middles = ends - np.array([one.steps for one in cut]) / 2
    numbers = np.minimum((middles * parts / ends[-1]).astype(int), parts - 1)
    scores = tuple(pack_scores(one, run, pack, looks) for one in cut)
    return Footage(tuple(cut), tuple(int(k) for k in numbers), scores)


def pack_scores(clip: ClipFeatures, run: Run, pack: ModelPack, looks: Looks) -> Vector:
    """Scores (S, C) at every step; zeros where nothing was there yet. ``run`` is the pack's
    fusion network."""
    length, names = pack.contract.window, (looks.appearance, looks.motion)
    rows, there = [], []
    for name in names:
        mask = clip.present[name].astype(np.float32)
        features = clip.streams[name] * mask[:, np.newaxis]
        rows.append(
            np.concatenate([np.zeros((length - 1, features.shape[1]), np.float32), features])
        )
        there.append(np.concatenate([np.zeros(length - 1, np.float32), mask]))
    masks = np.stack(there, axis=1)
    found = []
    for first in range(0, clip.steps, AT_ONCE):
        ends = np.arange(first, min(first + AT_ONCE, clip.steps))
        places = ends[:, np.newaxis] + np.arange(length)
        inputs = {
            "spatial": rows[0][places],
            "temporal": rows[1][places],
            "mask": masks[places],
        }
        known = inputs["mask"].any((1, 2))
        scores = np.array(run(inputs)["scores"])
        scores[~known] = 0.0
        found.append(scores)
    return np.concatenate(found)


def examples_of(
    footage: Footage, labels: Labels, window: int, name: str
) -> tuple[list[Example], list[Example]]:
    """What is worth learning of the footage, and all of it, as examples of the background.

    Both have a group for each stretch of time.
    """
    learned, whole = [], []
    rest = labels.rest[0]
    for part in sorted(set(footage.parts)):
        places = [k for k, number in enumerate(footage.parts) if number == part]
        group = f"{name} {part + 1}"
        whole += [
            Example(footage.pieces[k], rest, group, f"{group} piece {n}")
            for n, k in enumerate(places)
        ]
        for number, (place, step) in enumerate(_moments(footage, places, labels, window)):
            clip = footage.pieces[place]
            first = max(0, step - window - window // 3)
            part_of = clip.only(slice(first, step + window // 3 + 1))
            learned.append(Example(part_of, rest, group, f"{group} moment {number}"))
    groups = {one.group for one in learned}
    return learned, [one for one in whole if one.group in groups]


def _moments(
    footage: Footage, places: Sequence[int], labels: Labels, window: int
) -> list[tuple[int, int]]:
    """Pieces and steps: those at which an action's score is highest, and some spread evenly."""
    at = [(place, step) for place in places for step in range(footage.pieces[place].steps)]
    tops = np.concatenate(
        [footage.scores[place][:, list(labels.actions)].max(1) for place in places]
    )
    chosen: list[tuple[int, int]] = []
    for number in np.argsort(-tops, kind="stable"):
        if len(chosen) == HARD:
            break
        place, step = at[int(number)]
        if all(place != p or abs(step - s) >= window for p, s in chosen):
            chosen.append((place, step))
    return chosen + [at[int(k)] for k in np.linspace(0, len(at) - 1, min(PLAIN, len(at)))]
