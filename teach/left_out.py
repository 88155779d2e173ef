"""Reviewed moments, told by a head that was fitted without them: what to expect of others."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from pipeline.clock import NS_PER_S
from pipeline.errors import FeatureMemoryError
from pipeline.model.labels import normal
from pipeline.model.pack import ModelPack
from teach.corrections import Correction
from teach.features import ClipFeatures
from teach.place import Place
from teach.recall import Recall
from teach.refit import Refitted
from teach.streams import LATEST_S, starts
from teach.trial import Looks, scores_of

EARLIER_NS = NS_PER_S
"""An event that starts so much earlier is the same."""


class Share(msgspec.Struct, frozen=True):
    """So many events of so many are said."""

    said: int
    of: int


@dataclass
class Recalls:
    """The memory of every camera, as one pack sees it; ``problems`` names those without one."""

    place: Place
    pack: ModelPack
    looks: Looks
    problems: list[str]
    _known: dict[str, Recall | None] = field(default_factory=dict)

    def clip(self, one: Correction, first_ns: int, last_ns: int) -> ClipFeatures | None:
        """What is remembered between two times of what a review is of."""
        camera = one.review.camera
        if camera not in self._known:
            try:
                self._known[camera] = self.place.recall(camera, self.pack, self.looks)
            except FeatureMemoryError as error:
                self._known[camera] = None
                self.problems.append(str(error))
        recall = self._known[camera]
        return None if recall is None else recall.clip(first_ns, last_ns, one.at.subject)


def left_out(made: Refitted, found: Sequence[Correction], recalls: Recalls) -> dict[str, Share]:
    """By verdict: how many of the reviewed events are said without having been taught.

    The new thresholds count. Of what was wrong the event that was said counts, else the right one.
    Reviews that the memory has forgotten are left out.
    """
    by_name = {one.name: place for place, one in enumerate(made.lesson.examples)}
    counts: dict[str, Share] = {}
    for one in found:
        place = by_name.get(one.name)
        if place is None:
            continue
        said = _said(made, one, int(made.lesson.folds[place]), recalls)
        if said is not None:
            count = counts.get(one.review.verdict, Share(0, 0))
            counts[one.review.verdict] = Share(count.said + said, count.of + 1)
    return counts


def _said(made: Refitted, one: Correction, fold: int, recalls: Recalls) -> bool | None:
    """Whether the fold's head says the event; None where it isn't remembered."""
    lesson, outcome = made.lesson, made.outcome
    period_ns = NS_PER_S / lesson.labels.step_hz
    back_ns = round(lesson.length * period_ns) + EARLIER_NS
    after_ns = round(LATEST_S * NS_PER_S) if one.review.verdict == "missed" else 0
    clip = recalls.clip(one, one.at.start_ns - back_ns, one.at.end_ns + after_ns)
    if clip is None:
        return None
    looks = outcome.trial.looks
    head = outcome.trial.heads[fold]
    scores = scores_of(lesson.windows, looks, head, [clip], outcome.heat)
    # Windows that begin before the clip does show less than they would have shown live.
    first = one.at.start_ns - EARLIER_NS
    names = {
        lesson.labels.names[event.label]
        for event in starts(scores, lesson.labels, outcome.fitted.thresholds)
        if clip.times_ns[event.first] >= first
    }
    review = one.review
    label = review.said if review.verdict == "wrong" else review.label
    return normal(label or "") in names
