"""Fits a pack again, to its own lesson and more, and writes the next version."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.model.pack import ModelPack
from teach.card import card_of
from teach.examples import Example
from teach.lesson import Lesson, Outcome, judged
from teach.lesson_file import LESSON_FILE, KeptLesson, encoded
from teach.pack import Taught, cooled, origin_of, write
from teach.run import PARITY_CLIPS, metrics_of
from teach.verdict import Verdict
from teach.versions import beside, next_free


@dataclass(frozen=True)
class Refitted:
    """The next version of a pack, and what to expect of it."""

    pack: ModelPack
    lesson: Lesson
    outcome: Outcome
    verdict: Verdict


def refitted(
    kept: KeptLesson,
    before: ModelPack,
    out: Path | None,
    examples: Sequence[Example],
    footage: Sequence[Example] = (),
    false_a_day: float | None = None,
) -> Refitted:
    """Fit, and write into ``out``; by default beside the pack that was.

    Raises :class:`teach.pack.TeachError`.
    """
    lesson = kept.lesson(examples, footage)
    trial = lesson.trial(kept.looks)
    allowed = kept.false_a_day if false_a_day is None else false_a_day
    outcome = lesson.outcome(trial, allowed)
    verdict = judged(lesson, outcome, {kept.looks.name: lesson.top1(trial)}, ())
    contract = before.contract
    version = next_free(before.folder)
    taught = Taught(
        name=contract.name,
        version=version,
        base=kept.base,
        looks=kept.looks,
        head=cooled(lesson.head(trial), outcome.heat),
        labels=kept.labels,
        window=kept.window,
        thresholds=outcome.fitted.thresholds,
        metrics=metrics_of(verdict),
        origin=origin_of(contract, kept.base, kept.looks),
        view=contract.view,
    )
    sample = [one.clip for one in examples[:: max(1, len(examples) // PARITY_CLIPS)]]
    card = card_of(taught.name, version, verdict, taught.origin)
    more = {LESSON_FILE: encoded(lesson, kept.looks, allowed)}
    folder = beside(before.folder, version) if out is None else out
    return Refitted(write(taught, folder, sample, card, more), lesson, outcome, verdict)
