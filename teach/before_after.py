"""Two versions of a pack over the same memory, against what people said. Pure."""

from collections.abc import Iterable, Sequence

import msgspec

from pipeline.backtest.compare import SLACK_NS
from pipeline.backtest.judging import Said
from pipeline.clock import NS_PER_S, isoformat
from pipeline.model.labels import normal
from pipeline.model.watch import WHOLE_PICTURE
from teach.corrections import Correction


class Two(msgspec.Struct, frozen=True):
    """A count by the version before and by the new one, of so many."""

    before: int
    after: int
    of: int


class Unreviewed(msgspec.Struct, frozen=True):
    """An event that nobody has reviewed."""

    camera: str
    label: str
    time: str
    seconds: float
    top_score: float


class Effect(msgspec.Struct, frozen=True):
    """What a new version does at reviewed events, and elsewhere in the same time."""

    right: Two
    """Events that were right, and are said."""
    wrong: Two
    """Events that were wrong, and are said all the same: fewer is better."""
    other: Two
    """Events that had another label, and are said with the right one."""
    missed: Two
    """Actions that were missed, and are said."""
    new: list[Unreviewed]
    """Only the new version says them, and nobody has reviewed them."""
    gone: list[Unreviewed]
    """Only the version before says them, and nobody has reviewed them."""

    @property
    def worse(self) -> bool:
        """Whether anything that was reviewed is worse than before."""
        good = (self.right, self.other, self.missed)
        return self.wrong.after > self.wrong.before or any(one.after < one.before for one in good)


def effect(
    found: Sequence[Correction],
    actions: Sequence[str],
    before: Sequence[Said],
    after: Sequence[Said],
) -> Effect:
    """``found`` are the reviews' corrections; ``before`` and ``after`` what each version says."""

    def two(verdict: str) -> Two:
        own = [one for one in found if one.review.verdict == verdict]
        return Two(
            sum(_said(one, _wanted(one, actions), before) for one in own),
            sum(_said(one, _wanted(one, actions), after) for one in own),
            len(own),
        )

    return Effect(
        two("right"),
        two("wrong"),
        two("other"),
        two("missed"),
        [_row(one) for one in _only(after, before) if not _reviewed(one, found)],
        [_row(one) for one in _only(before, after) if not _reviewed(one, found)],
    )


def _wanted(one: Correction, actions: Sequence[str]) -> str | None:
    """The label whose event is counted: of what was wrong the one that was said."""
    review = one.review
    label = review.said if review.verdict == "wrong" else review.label
    name = normal(label or "")
    return name if name in actions else None


def _said(one: Correction, label: str | None, events: Iterable[Said]) -> bool:
    return any(event.label == label and _touches(event, one) for event in events)


def _touches(event: Said, one: Correction) -> bool:
    return (
        event.camera == one.review.camera
        and (event.subject == WHOLE_PICTURE or one.at.subject in (None, event.subject))
        and event.start_ns <= one.at.end_ns + SLACK_NS
        and one.at.start_ns <= event.end_ns + SLACK_NS
    )


def _reviewed(event: Said, found: Iterable[Correction]) -> bool:
    return any(_touches(event, one) for one in found)


def _only(events: Sequence[Said], others: Sequence[Said]) -> list[Said]:
    """Events without one of the same label and time among the others."""
    return [
        one
        for one in events
        if not any(
            (one.camera, one.label, one.subject) == (other.camera, other.label, other.subject)
            and one.start_ns <= other.end_ns + SLACK_NS
            and other.start_ns <= one.end_ns + SLACK_NS
            for other in others
        )
    ]


def _row(said: Said) -> Unreviewed:
    return Unreviewed(
        said.camera,
        said.label,
        isoformat(said.start_ns),
        round((said.end_ns - said.start_ns) / NS_PER_S, 2),
        round(said.top_score, 4),
    )
