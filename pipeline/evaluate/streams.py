"""The stream protocol: events against what was going on, times to detect, false alarms."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.clock import NS_PER_S
from pipeline.evaluate.clips import ratio
from pipeline.evaluate.timeline import Interval
from pipeline.offline import OfflineRecogniser, StepChange, changes, file_frames
from pipeline.sources import SourceError

LATE_NS = 3 * NS_PER_S // 2
"""An event may start so long after its action's end and still be its event."""


@dataclass(frozen=True, slots=True)
class Detection:
    """One event, in nanoseconds of stream time; ``said_ns`` is when a subscriber would know."""

    label: str
    start_ns: int
    said_ns: int
    end_ns: int
    top_score: float


def detections(steps: Iterable[StepChange]) -> list[Detection]:
    """The events that start and end in ``steps``, in the order of their starts.

    Raises ValueError for an event that does not end.
    """
    said: dict[int, int] = {}
    found: dict[int, Detection] = {}
    for step in steps:
        change = step.change
        said.setdefault(change.number, step.said_ns)
        if change.type == "end":
            start_ns = change.start_ns
            end_ns = start_ns if change.end_ns is None else change.end_ns
            found[change.number] = Detection(
                change.label, start_ns, said[change.number], end_ns, change.top_score
            )
    if unended := said.keys() - found.keys():
        raise ValueError(f"events {sorted(unended)} start and never end")
    return [found[number] for number in sorted(found)]


@dataclass(frozen=True)
class Matching:
    """Which event is which action's; indices into the two sequences that were matched."""

    pairs: list[tuple[int, int]]
    """(event, interval)."""
    missed: list[int]
    """Intervals without an event."""
    false_alarms: list[int]
    """Unmatched events that overlap no action of their label."""
    repeats: list[int]
    """Unmatched events that do: further events of an action that has its own."""


def match(events: Sequence[Detection], intervals: Sequence[Interval]) -> Matching:
    """Give each action the first event of its label from its start to 1.5 s past its end.

    An event belongs to one action and an action has one event; both in the order of time.
    """
    free = set(range(len(intervals)))
    order = sorted(range(len(intervals)), key=lambda i: intervals[i].start_ns)
    pairs: list[tuple[int, int]] = []
    for place in sorted(range(len(events)), key=lambda i: events[i].start_ns):
        event = events[place]
        for candidate in order:
            if candidate in free and _starts_in(event, intervals[candidate]):
                pairs.append((place, candidate))
                free.discard(candidate)
                break
    matched = {event for event, _ in pairs}
    rest = [place for place in range(len(events)) if place not in matched]
    repeats = [place for place in rest if any(_overlaps(events[place], i) for i in intervals)]
    alarms = [place for place in rest if place not in set(repeats)]
    return Matching(pairs, sorted(free), alarms, repeats)


def _starts_in(event: Detection, interval: Interval) -> bool:
    if event.label != interval.label:
        return False
    return interval.start_ns <= event.start_ns <= interval.end_ns + LATE_NS


def _overlaps(event: Detection, interval: Interval) -> bool:
    if event.label != interval.label:
        return False
    return event.start_ns <= interval.end_ns + LATE_NS and event.end_ns >= interval.start_ns


def report(
    events: Sequence[Detection],
    intervals: Sequence[Interval],
    length_ns: int,
    labels: Sequence[str],
) -> dict[str, Any]:
    """The figures of the stream protocol as plain data; None where there is nothing to divide by.

    ``labels`` are those that make events.
    """
    matching = match(events, intervals)
    pairs = [(events[e], intervals[i]) for e, i in matching.pairs]
    false = [events[i] for i in matching.false_alarms]
    during = [e for e in false if any(i.start_ns <= e.start_ns <= i.end_ns for i in intervals)]
    figures = counts(len(events), len(intervals), len(pairs))
    return {
        "stream_s": round(length_ns / NS_PER_S, 1),
        **figures,
        "time_to_detect_s": {
            "from_start": spread([(e.said_ns - i.start_ns) / NS_PER_S for e, i in pairs]),
            "from_end": spread([(e.said_ns - i.end_ns) / NS_PER_S for e, i in pairs]),
        },
        "repeats": len(matching.repeats),
        **alarms(false, length_ns),
        "false_alarms_during_other_actions": len(during),
        "labels": {label: _of_label(label, events, intervals, pairs) for label in labels},
        "labels_without_clips": [
            label for label in labels if label not in {i.label for i in intervals}
        ],
        "missed": [
            {"path": str(intervals[i].path), "label": intervals[i].label} for i in matching.missed
        ],
    }


def _of_label(
    label: str,
    events: Sequence[Detection],
    intervals: Sequence[Interval],
    pairs: Sequence[tuple[Detection, Interval]],
) -> dict[str, Any]:
    own = [(e, i) for e, i in pairs if i.label == label]
    times = spread([(e.said_ns - i.start_ns) / NS_PER_S for e, i in own])
    return {
        **counts(
            sum(e.label == label for e in events),
            sum(i.label == label for i in intervals),
            len(own),
        ),
        "median_time_to_detect_s": times["median"],
    }


def counts(events: int, actions: int, matched: int) -> dict[str, Any]:
    """Event precision, recall and F1 (2·matched / (events + actions)) with what they come from."""
    return {
        "actions": actions,
        "events": events,
        "matched": matched,
        "precision": ratio(matched, events),
        "recall": ratio(matched, actions),
        "f1": ratio(2 * matched, events + actions),
    }


def spread(values: Sequence[float]) -> Mapping[str, float | None]:
    """Median and 90th percentile, in whole milliseconds; None for no values."""
    if not values:
        return {"median": None, "p90": None}
    median, p90 = np.percentile(values, (50, 90))
    return {"median": round(float(median), 3), "p90": round(float(p90), 3)}


def alarms(events: Sequence[Detection], length_ns: int) -> dict[str, Any]:
    """False alarms, their rate over ``length_ns`` of stream, and how many of each label."""
    hours = length_ns / NS_PER_S / 3600
    by_label: dict[str, int] = {}
    for event in events:
        by_label[event.label] = by_label.get(event.label, 0) + 1
    return {
        "false_alarms": len(events),
        "false_alarms_per_hour": round(len(events) / hours, 2) if hours else None,
        "false_alarms_by_label": dict(sorted(by_label.items(), key=lambda item: -item[1])),
    }


@dataclass
class QuietOutcome:
    """What was found in material without actions."""

    files: int = 0
    length_ns: int = 0
    events: list[Detection] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)


def run_quiet(
    recogniser: OfflineRecogniser, paths: Sequence[Path], advance: Callable[[], None]
) -> QuietOutcome:
    """Run each file as a stream of its own; whatever event it makes is a false alarm."""
    outcome = QuietOutcome()
    period_ns = round(NS_PER_S / recogniser.contract.step_hz)
    for path in paths:
        try:
            results = list(recogniser.steps(file_frames(path)))
        except SourceError as error:
            outcome.unreadable.append(str(error))
            results = []
        advance()
        if results:
            outcome.files += 1
            outcome.length_ns += results[-1].pts_ns - results[0].pts_ns + period_ns
            outcome.events += detections(changes(recogniser.contract, results))
    return outcome


def quiet_report(outcome: QuietOutcome) -> dict[str, Any]:
    """False alarms in material without actions, as plain data."""
    return {
        "files": outcome.files,
        "stream_s": round(outcome.length_ns / NS_PER_S, 1),
        **alarms(outcome.events, outcome.length_ns),
        "unreadable": outcome.unreadable,
    }
