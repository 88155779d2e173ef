"""Teaches a pack from clips: features, trials, thresholds, the pack, the verdict."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.arrays import STILL, Vector
from pipeline.evaluate.clip_list import Entry, shown
from pipeline.model.pack import CONTRACT_FILE, ModelPack
from pipeline.model.session import UnpackagedNetwork
from teach.base import Base
from teach.card import card_of
from teach.clips import Clips
from teach.examples import Example, still
from teach.features import ClipFeatures, Job, extracted
from teach.lesson import Lesson, Outcome, decided, judged
from teach.lesson_file import LESSON_FILE, encoded
from teach.located import located
from teach.pack import Origin, Taught, TeachError, check_name, check_writable, cooled, write
from teach.streams import Labels
from teach.trial import Looks
from teach.verdict import Verdict

STEP_HZ = 10.0
LEAST_WINDOW, MOST_WINDOW = 12, 64
LONGEST = 90
"""The window is as long as this percentile of the actions."""
MOTION, NO_APPEARANCE = "flow", "still"
PARITY_CLIPS = 8
STILL_STEPS = 20

Tick = Callable[[str, int, int], None]
"""What is being done, how much of it is done, and how much there is."""


@dataclass(frozen=True)
class Order:
    """What to teach, and how."""

    clips: Clips
    out: Path
    base: Path
    cache: Path
    looks: tuple[str, ...] = ()
    """Candidates by name, such as ``flow`` or ``hands+flow``; empty: all that the base has."""
    false_a_day: float = 1.0
    find_s: float | None = None
    """How long an action is that happens somewhere in its clip; None: clips show nothing else."""
    name: str = ""
    origin: Origin = field(default_factory=Origin)
    workers: int = field(default_factory=lambda: max(1, min(4, os.cpu_count() or 1)))
    tick: Tick = lambda _what, _done, _all: None

    @property
    def pack_name(self) -> str:
        return self.name or _name_of(self.out)


@dataclass(frozen=True)
class Result:
    verdict: Verdict
    pack: ModelPack | None
    """None where nothing was learned."""
    unreadable: Mapping[str, str]


def candidates(base: Base, wanted: Sequence[str]) -> list[Looks]:
    """Pairs of streams, the cheapest first. Raises :class:`TeachError` for unknown names."""
    found = [Looks(NO_APPEARANCE, MOTION, (0.0, 1.0))]
    for name in base.appearances:
        if name != NO_APPEARANCE:
            found += [Looks(name, MOTION, (1.0, 0.0)), Looks(name, MOTION, (0.5, 0.5))]
    if not wanted:
        return found
    by_name = {looks.name: looks for looks in found}
    if unknown := [name for name in wanted if name not in by_name]:
        raise TeachError(f"--looks {', '.join(unknown)}: expected of {', '.join(by_name)}")
    return [by_name[name] for name in dict.fromkeys(wanted)]


def teach(order: Order) -> Result:
    """Fit a head, write the pack and say what to expect of it.

    Raises :class:`TeachError`, and :class:`pipeline.errors.PackError` for a broken base.
    """
    # A wrong order is refused now, not after minutes of work.
    check_name(order.pack_name)
    next_version(order.out, order.pack_name)
    check_writable(order.out.parent, f"--out {order.out}")
    lesson, tried, unreadable = prepared(order)
    trials = []
    for place, looks in enumerate(tried):
        order.tick("trying", place, len(tried))
        trials.append(lesson.trial(looks))
    best = lesson.best(trials)
    order.tick("thresholds", 0, 1)
    accuracies = {one.looks.name: lesson.top1(one) for one in trials}
    lesson, outcome = decided(lesson, best, order.false_a_day)
    verdict = judged(lesson, outcome, accuracies, order.clips.twice)
    order.tick("thresholds", 1, 1)
    pack = _pack(lesson, outcome, verdict, order) if verdict.works else None
    return Result(verdict, pack, unreadable)


def prepared(order: Order) -> tuple[Lesson, list[Looks], dict[str, str]]:
    """The clips as windows, the pairs of networks to try, and clips that can't be read.

    Raises as :func:`teach`.
    """
    base = Base.load(order.base)
    tried = candidates(base, order.looks)
    check_writable(order.cache, f"--cache {order.cache}")
    streams = tuple(dict.fromkeys(n for looks in tried for n in (looks.appearance, looks.motion)))
    job = Job(order.base, streams, STEP_HZ, order.cache)
    examples, folds, unreadable = _examples(order, job)
    labels = Labels(order.clips.labels, order.clips.rest, STEP_HZ)
    if not any(one.label in labels.rest for one in examples):
        examples, folds = _with_rest(base, examples, streams), None
    if order.find_s is None:
        length = _window(examples, labels)
    else:
        order.tick("finding the actions", 0, 1)
        length = _bounded(round(order.find_s * STEP_HZ))
        examples, whose = located(base, streams, examples, labels, length, folds)
        folds = None if folds is None else [folds[place] for place in whose]
    lesson = Lesson(base, examples, labels, streams, length, folds)
    return lesson, tried, unreadable


def _examples(order: Order, job: Job) -> tuple[list[Example], list[int] | None, dict[str, str]]:
    """Clips with their features, their folds if the list has them, and clips that can't be read."""
    entries = order.clips.entries
    features: dict[Path, ClipFeatures] = {}
    unreadable: dict[str, str] = {}
    paths = [entry.path for entry in entries]
    for number, (path, one) in enumerate(extracted(job, paths, order.workers), 1):
        if isinstance(one, str):
            unreadable[shown(path)] = one
        else:
            features[path] = one
        order.tick("looking at clips", number, len(paths))
    kept = [entry for entry in entries if entry.path in features]
    missing = set(order.clips.actions) - {entry.label for entry in kept}
    if missing:
        first = next(iter(unreadable.values()))
        raise TeachError(f"no clip of {', '.join(sorted(missing))} can be read: {first}")
    examples = [
        Example(
            features[entry.path],
            order.clips.labels.index(entry.label),
            entry.group or shown(entry.path),
            entry.path.stem,
        )
        for entry in kept
    ]
    return examples, _given_folds(kept), unreadable


def _given_folds(entries: Sequence[Entry]) -> list[int] | None:
    folds = [entry.fold for entry in entries if entry.fold is not None]
    return folds if len(folds) == len(entries) and len(set(folds)) > 1 else None


def _with_rest(base: Base, examples: list[Example], streams: Sequence[str]) -> list[Example]:
    """Without any background: a scene in which nothing moves, and nobody is, is some.

    A hand or a body that holds still isn't: it may be the very sign that is taught.
    """
    rest = {name: _nothing(base, name) for name in streams if _knows_nothing(base, name)}
    return examples + [
        Example(still(one.clip, STILL_STEPS, rest), 0, one.group, f"{one.name} (still)")
        for one in examples
    ]


def _knows_nothing(base: Base, name: str) -> bool:
    """Whether a stream has features of nothing: it sees motion, or says when nobody is there."""
    blocks = base.streams[name].blocks
    return name in base.motions or all(block.valid is not None for block in blocks)


def _nothing(base: Base, name: str) -> Vector:
    """The features (d,) of a picture in which nothing moves, or nobody is."""
    if name in base.appearances:
        return np.zeros(base.streams[name].feature_size, np.float32)
    contract = base.temporal(name).contract
    path = base.folder / base.streams[name].file
    flow = np.full((1, contract.stack, *contract.size, 2), STILL, np.uint8)
    features: Vector = UnpackagedNetwork(path, path.read_bytes()).run({"flow": flow})[0][0]
    return features


def _window(examples: Sequence[Example], labels: Labels) -> int:
    """Steps of a window: most actions fit into it."""
    lengths = [one.clip.steps for one in examples if one.label not in labels.rest]
    return _bounded(int(np.ceil(np.percentile(lengths, LONGEST))))


def _bounded(steps: int) -> int:
    return min(MOST_WINDOW, max(LEAST_WINDOW, steps))


def _pack(lesson: Lesson, outcome: Outcome, verdict: Verdict, order: Order) -> ModelPack:
    looks = outcome.trial.looks
    name = order.pack_name
    taught = Taught(
        name=name,
        version=next_version(order.out, name),
        base=lesson.base,
        looks=looks,
        head=cooled(lesson.head(outcome.trial), outcome.heat),
        labels=lesson.labels,
        window=lesson.length,
        thresholds=outcome.fitted.thresholds,
        metrics=metrics_of(verdict),
        origin=order.origin,
    )
    sample = [one.clip for one in lesson.examples[:: max(1, len(lesson.examples) // PARITY_CLIPS)]]
    card = card_of(name, taught.version, verdict, taught.origin)
    kept = {LESSON_FILE: encoded(lesson, looks, order.false_a_day)}
    return write(taught, order.out, sample, card, kept)


def metrics_of(verdict: Verdict) -> dict[str, object]:
    """What a contract says of how good the pack is."""
    return {
        "protocol": "clip: groups of clips left out in turn",
        "clips": sum(one.clips for one in verdict.labels),
        "held_out": True,
        "top1": {"fused": verdict.top1},
        "chance": verdict.chance,
        "event_f1": verdict.event_f1,
        "calibration_error": verdict.calibration_error,
        "background_minutes": verdict.background_minutes,
        "false_events_in_background": verdict.false_events_in_background,
        "most_false_events_a_day": verdict.most_false_events_a_day,
        "confusion": verdict.confusion,
    }


def _name_of(out: Path) -> str:
    """A pack's name from its folder: small letters, figures, - and _."""
    text = "".join(c if c.isalnum() and c.isascii() else "-" for c in out.name.lower()).strip("-_")
    return text or "taught"


def next_version(out: Path, name: str) -> str:
    """1.0.0, or one more than the pack that is in the folder already.

    Raises :class:`TeachError` for a folder that holds something else.
    """
    if not out.exists():
        return "1.0.0"
    if not (out / CONTRACT_FILE).is_file():
        if out.is_dir() and not any(out.iterdir()):
            return "1.0.0"
        raise TeachError(f"--out {out}: exists, and is no pack; name a new folder")
    before = ModelPack.load(out).contract
    if before.name != name:
        return "1.0.0"
    major, minor, _ = before.version.split(".")
    return f"{major}.{int(minor) + 1}.0"
