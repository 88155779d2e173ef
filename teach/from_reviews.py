"""Teaches a pack what people have said of its events: ``two-stream teach --from-reviews``."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pipeline.backtest.judging import Said
from pipeline.clock import NS_PER_S
from pipeline.config.suggestion import did_you_mean
from pipeline.errors import FeatureMemoryError
from pipeline.model.pack import ModelPack
from pipeline.reviews.records import Review
from teach.bar import Tick
from teach.before_after import Effect, effect
from teach.corrections import NAMED, Correction, corrections, groups_of, typical_steps
from teach.examples import Example
from teach.left_out import Recalls, Share, left_out
from teach.lesson_file import KeptLesson, load
from teach.pack import TeachError
from teach.place import Place
from teach.refit import Refitted, refitted
from teach.verdict import Verdict
from teach.versions import switch

AROUND_NS = 30 * NS_PER_S
"""The back-test begins so long before the first review, and ends so long after the last."""


@dataclass(frozen=True)
class ReviewOrder:
    """Which pack learns from which config's reviews, and where its next version goes."""

    config: Path
    pack: Path
    out: Path | None = None
    switch: bool = False
    tick: Tick = lambda _what, _done, _all: None


class Learned(msgspec.Struct, frozen=True):
    """What was taught, what it did, and what to expect."""

    pack: str
    before: str
    after: str
    folder: str
    examples: int
    """Reviews that are examples now."""
    new_examples: int
    """Those that the version before didn't know."""
    forgotten: int
    """Reviews of which the memory has too little."""
    effect: Effect
    left_out: dict[str, Share]
    """By verdict: what a head says that was fitted without the review's moment. ``wrong``: those
    that it says all the same."""
    top1: tuple[float | None, float]
    event_f1: tuple[float | None, float]
    verdict: Verdict
    warnings: list[str]


def learn(order: ReviewOrder) -> Learned:
    """Fit the next version and compare it with the one before.

    Raises :class:`TeachError`, :class:`pipeline.errors.FeatureMemoryError` and others.
    """
    folder = order.pack.resolve()
    before = ModelPack.load(folder)
    check_out(order.out, order.switch)
    kept, place = load(before), Place(order.config)
    reviews = place.reviews()
    found, unknown = _corrections(kept, place, reviews)
    warnings = _unknown(unknown, kept)
    recalls = Recalls(place, before, kept.looks, warnings)
    examples, known, forgotten = _examples(kept, found, recalls, order.tick)
    _check_any(known, found, before)
    order.tick("fitting", 0, 1)
    made = refitted(kept, before, order.out, examples)
    order.tick("fitting", 1, 1)
    seen = effect(found, before.contract.actions, *_said(place, before, made.pack, found, warnings))
    warnings += place.overruled(before.contract.actions)
    own = {one.name for one in kept.examples}
    result = _learned(
        before, made, (len(known), len(known - own), forgotten), seen,
        left_out(made, found, recalls), warnings,
    )  # fmt: skip
    if order.switch:
        switch(folder, made.pack.contract.version)
        return msgspec.structs.replace(result, folder=str(order.pack))
    return result


def check_out(out: Path | None, put_in_place: bool) -> None:
    """Raise :class:`TeachError` for a folder that can't take a new version."""
    if out is None:
        return
    if put_in_place:
        raise TeachError("--out and --switch: one of them; --switch puts the new version in place")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TeachError(f"--out {out}: exists already; name a new folder")


def _corrections(
    kept: KeptLesson, place: Place, reviews: Sequence[Review]
) -> tuple[list[Correction], dict[str, int]]:
    times = {one.id: one.at for one in place.log()}
    typical = typical_steps(kept.examples, kept.labels)
    return corrections(reviews, kept.labels, typical, kept.window, times)


def _unknown(unknown: dict[str, int], kept: KeptLesson) -> list[str]:
    return [
        f"{count} reviewed as {label!r}, which the pack doesn't know: not taught"
        f"{did_you_mean(label, kept.labels.names)}"
        for label, count in sorted(unknown.items())
    ]


def _examples(
    kept: KeptLesson, found: Sequence[Correction], recalls: Recalls, tick: Tick
) -> tuple[list[Example], set[str], int]:
    """All examples, the names of those that are reviews, and how many aren't remembered.

    What the lesson has of a review stays, though the memory may have forgotten it since.
    """
    wanted = {one.name: one.label for one in found}
    examples = [
        one
        for one in kept.examples
        if not one.name.startswith(NAMED) or wanted.get(one.name) == one.label
    ]
    there = {one.name for one in examples}
    forgotten = 0
    for number, (one, group) in enumerate(zip(found, groups_of(found), strict=True), 1):
        if one.name not in there:
            clip = recalls.clip(one, one.first_ns, one.last_ns)
            if clip is None:
                forgotten += 1
            else:
                examples.append(Example(clip, one.label, group, one.name))
        tick("remembering", number, len(found))
    return examples, {one.name for one in examples if one.name in wanted}, forgotten


def _check_any(known: set[str], found: Sequence[Correction], pack: ModelPack) -> None:
    if not found:
        raise TeachError(
            f"no review is of a label of {pack.contract.name}: {', '.join(pack.contract.actions)}"
        )
    if not known:
        raise TeachError(
            f"the memory has none of the {len(found)} reviewed moments: it was switched off, or "
            "they are older than memory.days"
        )


def _said(
    place: Place,
    before: ModelPack,
    after: ModelPack,
    found: Sequence[Correction],
    warnings: list[str],
) -> tuple[list[Said], list[Said]]:
    """What both versions say in the reviewed time, camera by camera."""
    both: tuple[list[Said], list[Said]] = [], []
    for camera in dict.fromkeys(one.review.camera for one in found):
        own = [one for one in found if one.review.camera == camera]
        span = (
            min(one.first_ns for one in own) - AROUND_NS,
            max(one.last_ns for one in own) + AROUND_NS,
        )
        for pack, said in zip((before, after), both, strict=True):
            try:
                said += place.said(camera, pack, span)
            except FeatureMemoryError as error:
                if str(error) not in warnings:
                    warnings.append(str(error))
    return both


def _learned(
    before: ModelPack,
    made: Refitted,
    reviews: tuple[int, int, int],
    seen: Effect,
    left: dict[str, Share],
    warnings: list[str],
) -> Learned:
    """``reviews``: those that are examples, those that are new, those that are forgotten."""
    old, verdict = before.contract, made.verdict
    top1 = old.metrics.get("top1", {})
    return Learned(
        pack=old.name,
        before=old.version,
        after=made.pack.contract.version,
        folder=str(made.pack.folder),
        examples=reviews[0],
        new_examples=reviews[1],
        forgotten=reviews[2],
        effect=seen,
        left_out=left,
        top1=(top1.get("fused") if isinstance(top1, dict) else None, verdict.top1),
        event_f1=(old.metrics.get("event_f1"), verdict.event_f1),
        verdict=verdict,
        warnings=warnings,
    )
