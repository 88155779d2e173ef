"""A pack taught without one person, or one place, and run on that one's clips as they are.

Each value of a column of the list is left out in turn: a fold, a group, a source. Clips of it are
played whole, each by itself. So the figures are of clips that weren't cut to their actions.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, TypedDict

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_auc_score

from pipeline.arrays import Vector
from pipeline.evaluate.clip_list import Entry
from teach.base import Base
from teach.clips import Clips, gathered
from teach.features import ClipFeatures, Job, extracted
from teach.fit import Head
from teach.lesson import Lesson, Outcome, decided
from teach.pack import TeachError
from teach.run import STEP_HZ, Order, candidates, prepared
from teach.streams import Count, starts
from teach.thresholds import most_a_day
from teach.trial import Looks, scores_of
from testbed.program import scratch_folder

BASE = Path("models/base")
STEPS_AN_HOUR = STEP_HZ * 3600


class LeftOutResult(TypedDict):
    """What a pack tells of clips of somebody, or some place, that it was taught without."""

    left_out: str
    actions: int
    found: int
    """Clips of an action in which an event of its label starts."""
    other_events: int
    """Events of another label in clips of actions."""
    rest_minutes: float
    false_events: int
    """Events in clips of no action."""
    most_false_an_hour: float | None
    """With 95 % confidence; None without such clips."""
    auc: float | None
    """How often a clip of an action has a higher top score than one of no action."""


@dataclass(frozen=True)
class _Taught:
    lesson: Lesson
    looks: Looks
    outcome: Outcome
    head: Head

    def scores(self, clip: ClipFeatures) -> Vector:
        """(S, C)."""
        return scores_of(self.lesson.windows, self.looks, self.head, [clip], self.outcome.heat)


def measure(
    clips: Annotated[Path, typer.Option(help="list of clips (CSV)")],
    by: Annotated[str, typer.Option(help="column whose values are left out in turn")] = "fold",
    looks: Annotated[str, typer.Option(help="networks to look with")] = "body",
    find: Annotated[
        float | None, typer.Option(help="seconds of an action that is somewhere in its clip")
    ] = None,
    background: Annotated[
        list[Path] | None, typer.Option(help="video, or folder of videos, taught each time")
    ] = None,
    false_alarms_per_day: Annotated[float, typer.Option(help="to allow when taught")] = 1.0,
    base: Annotated[Path, typer.Option(help="folder of the base")] = BASE,
    cache: Annotated[
        Path | None, typer.Option(help="folder for what the networks saw; default: for this run")
    ] = None,
) -> list[LeftOutResult]:
    """Teach without each value, and play its clips."""
    found = gathered(clips, background or ())
    values = _values(clips, by)
    with scratch_folder() as scratch:
        kept = cache or scratch / "cache"
        results = []
        for value in sorted(set(values.values())):
            out = [one for one in found.entries if values.get(one.path) == value]
            order = Order(
                _without(found, out, values), scratch / "pack", base, kept, (looks,),
                false_alarms_per_day, find,
            )  # fmt: skip
            results.append(_result(value, _taught(order), _clips(order, out), found))
        return results


def _values(clips: Path, by: str) -> dict[Path, str]:
    """The column's value of each clip."""
    with clips.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    if not rows or by not in rows[0]:
        raise TeachError(f"{clips}: has no column {by}")
    return {clips.parent / row["path"]: row[by] for row in rows}


def _without(clips: Clips, out: Sequence[Entry], values: Mapping[Path, str]) -> Clips:
    """What is left. Its other values are the folds, background is spread over them."""
    left = [one for one in clips.entries if one not in out]
    names = sorted({values[one.path] for one in left if one.path in values})
    folds = {name: number for number, name in enumerate(names)}
    entries = tuple(
        Entry(
            one.path, one.label, one.group,
            fold=folds.get(values.get(one.path, ""), place % len(names)), where=one.where,
        )
        for place, one in enumerate(left)
    )  # fmt: skip
    return Clips(entries, clips.labels, clips.rest)


def _taught(order: Order) -> _Taught:
    lesson, (looks,), _ = prepared(order)
    lesson, outcome = decided(lesson, lesson.trial(looks), order.false_a_day)
    return _Taught(lesson, looks, outcome, lesson.head(outcome.trial))


def _clips(order: Order, entries: Sequence[Entry]) -> list[tuple[str, ClipFeatures]]:
    """Labels and features of clips, as they are."""
    (looks,) = candidates(Base.load(order.base), order.looks)
    job = Job(order.base, (looks.appearance, looks.motion), STEP_HZ, order.cache)
    labels = {one.path: one.label for one in entries}
    pairs = extracted(job, list(labels), order.workers)
    return [(labels[path], clip) for path, clip in pairs if not isinstance(clip, str)]


def _result(
    value: str, taught: _Taught, clips: Sequence[tuple[str, ClipFeatures]], all_: Clips
) -> LeftOutResult:
    labels, thresholds = taught.lesson.labels, taught.outcome.fitted.thresholds
    actions, rest, steps = Count(), 0, 0
    tops: tuple[list[float], list[float]] = ([], [])
    for label, clip in clips:
        scores = taught.scores(clip)
        said = [labels.names[one.label] for one in starts(scores, labels, thresholds)]
        top = float(scores[:, list(labels.actions)].max())
        if label in all_.rest:
            rest, steps = rest + len(said), steps + clip.steps
            tops[0].append(top)
        else:
            actions += Count(1, int(label in said), sum(one != label for one in said))
            tops[1].append(top)
    return LeftOutResult(
        left_out=value,
        actions=actions.shown,
        found=actions.found,
        other_events=actions.false,
        rest_minutes=round(steps / STEPS_AN_HOUR * 60, 1),
        false_events=rest,
        most_false_an_hour=round(most_a_day(rest, steps / STEPS_AN_HOUR) / 24, 1)
        if steps
        else None,
        auc=_auc(*tops),
    )


def _auc(rest: Sequence[float], actions: Sequence[float]) -> float | None:
    if not rest or not actions:
        return None
    truth = np.repeat([0, 1], [len(rest), len(actions)])
    return round(float(roc_auc_score(truth, [*rest, *actions])), 3)


def show(results: Sequence[LeftOutResult]) -> None:
    table = Table()
    for column in (
        "left out", "actions found", "other events in them", "false events", "at most an hour",
        "AUC",
    ):  # fmt: skip
        table.add_column(column)
    for one in results:
        bound = "" if one["most_false_an_hour"] is None else f"{one['most_false_an_hour']:g}"
        table.add_row(
            one["left_out"], f"{one['found']} of {one['actions']}", str(one["other_events"]),
            f"{one['false_events']} in {one['rest_minutes']:g} min", bound,
            "" if one["auc"] is None else f"{one['auc']:.3f}",
        )  # fmt: skip
    Console().print(table)
