"""The stream protocol: events compared with actions, times to detect, false alarms."""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from pipeline.clock import NS_PER_S
from pipeline.evaluate.clip_list import shown
from pipeline.evaluate.recogniser import StepChange, changes
from pipeline.evaluate.runs import Run, StreamRun
from pipeline.evaluate.statistics import most_expected, ratio, spread
from pipeline.evaluate.timeline import Interval
from pipeline.model.pack import Contract
from pipeline.model.watch import WHOLE_PICTURE

LATE_NS = 3 * NS_PER_S // 2
"""An event may start this long after the end of an action and still match it."""

Outcome = Literal["matched", "repeat", "false alarm"]


@dataclass(frozen=True, slots=True)
class Detection:
    """One event, in nanoseconds of stream time; a live run publishes it at ``said_ns``."""

    label: str
    start_ns: int
    said_ns: int
    end_ns: int
    top_score: float
    subject: str = WHOLE_PICTURE


def detections(steps: Iterable[StepChange]) -> list[Detection]:
    """The events that start and end in ``steps``, in the order in which they were decided.

    Raises ValueError for an event that does not end.
    """
    decided: dict[int, int] = {}
    found: dict[int, Detection] = {}
    for step in steps:
        change = step.change
        # The first change of an event is its start; updates and the end come later.
        decided.setdefault(change.number, step.decided_ns)
        if change.type == "end":
            start_ns = change.start_ns
            end_ns = start_ns if change.end_ns is None else change.end_ns
            found[change.number] = Detection(
                change.label,
                start_ns,
                decided[change.number],
                end_ns,
                change.top_score,
                step.subject,
            )
    if unended := decided.keys() - found.keys():
        raise ValueError(f"events {sorted(unended)} start and never end")
    return [found[number] for number in sorted(found)]


def together(events: Sequence[Detection]) -> list[Detection]:
    """Events of one label that overlap, each by another subject, as one: somebody does it.

    Two people who fight are one fight. The one event has the subject of the highest score.
    """
    if len({event.subject for event in events}) < 2:
        return list(events)
    found: list[Detection] = []
    for event in sorted(events, key=lambda one: one.start_ns):
        for place, other in enumerate(found):
            same = other.label == event.label and other.subject != event.subject
            if same and event.start_ns <= other.end_ns and other.start_ns <= event.end_ns:
                best = max(other, event, key=lambda one: one.top_score)
                found[place] = replace(
                    best,
                    start_ns=min(other.start_ns, event.start_ns),
                    said_ns=min(other.said_ns, event.said_ns),
                    end_ns=max(other.end_ns, event.end_ns),
                )
                break
        else:
            found.append(event)
    return found


@dataclass(frozen=True)
class Matching:
    """Which event matches which action, as indices into the two sequences."""

    pairs: list[tuple[int, int]]
    """(event, interval)."""
    missed: list[int]
    """Intervals without an event."""
    false_alarms: list[int]
    """Unmatched events that overlap no action of their label."""
    repeats: list[int]
    """Unmatched events that overlap an action of their label."""


def match(events: Sequence[Detection], intervals: Sequence[Interval]) -> Matching:
    """Match each action with the first event of its label from its start to 1.5 s past its end.

    An event matches at most one action, and an action at most one event.
    """
    free = set(range(len(intervals)))
    order = sorted(range(len(intervals)), key=lambda i: intervals[i].start_ns)
    pairs: list[tuple[int, int]] = []
    # In the order of time, each event takes the earliest action that it can.
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


class EventRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One event and its outcome; times are in seconds of its stream or file."""

    label: str
    start_s: float
    said_s: float
    end_s: float
    top_score: float
    outcome: Outcome
    path: str | None
    """The file, or the clip of the stream, in which it starts."""
    subject: str | None = None
    """Who it is; left out for packs that look at the whole picture."""


class ActionRow(msgspec.Struct, frozen=True):
    """One action of the stream; ``found`` when an event matched it."""

    path: str
    label: str
    start_s: float
    end_s: float
    found: bool


class Counts(msgspec.Struct, frozen=True):
    """Event precision, recall and F1 (2·matched / (events + actions)) with what they come from."""

    actions: int
    events: int
    matched: int
    precision: float | None
    recall: float | None
    f1: float | None

    @classmethod
    def of(cls, events: int, actions: int, matched: int) -> "Counts":
        return cls(
            actions,
            events,
            matched,
            ratio(matched, events),
            ratio(matched, actions),
            ratio(2 * matched, events + actions),
        )


class Alarms(msgspec.Struct, frozen=True):
    """False alarms and their rate per hour of one camera."""

    count: int
    hours: float
    per_hour: float | None
    per_hour_below: float | None
    """The true rate is below this with 95 % confidence; by the rule of three without an alarm."""
    by_label: dict[str, int]


class TimesToDetect(msgspec.Struct, frozen=True):
    """Seconds of media time, ``median`` and ``p90``; ``from_end`` is negative before the end."""

    from_start: Mapping[str, float | None]
    from_end: Mapping[str, float | None]


class LabelEvents(msgspec.Struct, frozen=True):
    """The events and actions of one label."""

    counts: Counts
    repeats: int
    false_alarms: int
    time_to_detect_s: TimesToDetect


class StreamReport(msgspec.Struct, frozen=True):
    """All figures of the stream protocol as plain data; None where the divisor is 0."""

    stream_s: float
    overall: Counts
    time_to_detect_s: TimesToDetect
    repeats: int
    false_alarms: Alarms
    false_alarms_during_other_actions: int
    labels: dict[str, LabelEvents]
    labels_without_clips: list[str]
    events: list[EventRow]
    actions: list[ActionRow]
    unreadable: list[str]

    @property
    def missed(self) -> list[ActionRow]:
        return [action for action in self.actions if not action.found]


class QuietReport(msgspec.Struct, frozen=True):
    """False alarms in footage without actions, as plain data."""

    files: int
    stream_s: float
    false_alarms: Alarms
    events: list[EventRow]
    unreadable: list[str]


def report(
    events: Sequence[Detection],
    intervals: Sequence[Interval],
    length_ns: int,
    labels: Sequence[str],
    played: Sequence[Interval] = (),
    unreadable: Sequence[str] = (),
) -> StreamReport:
    """The figures of the stream protocol. ``labels`` are those that can start events.

    ``played`` has the clip of each time, to name the clip in which an event starts.
    """
    matching = match(events, intervals)
    outcomes = _outcomes(matching, len(events))
    pairs = [(events[e], intervals[i]) for e, i in matching.pairs]
    false = [events[i] for i in matching.false_alarms]
    during = [e for e in false if any(i.start_ns <= e.start_ns <= i.end_ns for i in intervals)]
    missed = set(matching.missed)
    return StreamReport(
        stream_s=_seconds(length_ns, 1),
        overall=Counts.of(len(events), len(intervals), len(pairs)),
        time_to_detect_s=_times(pairs),
        repeats=len(matching.repeats),
        false_alarms=alarms([event.label for event in false], length_ns),
        false_alarms_during_other_actions=len(during),
        labels={
            label: _of_label(label, list(zip(events, outcomes, strict=True)), intervals, pairs)
            for label in labels
        },
        labels_without_clips=[
            label for label in labels if label not in {i.label for i in intervals}
        ],
        events=[
            _row(event, outcome, _playing(event.start_ns, played))
            for event, outcome in zip(events, outcomes, strict=True)
        ],
        actions=[
            ActionRow(
                shown(action.path),
                action.label,
                _seconds(action.start_ns),
                _seconds(action.end_ns),
                i not in missed,
            )
            for i, action in enumerate(intervals)
        ],
        unreadable=list(unreadable),
    )


def _outcomes(matching: Matching, events: int) -> list[Outcome]:
    outcomes: list[Outcome] = ["matched"] * events
    for place in matching.repeats:
        outcomes[place] = "repeat"
    for place in matching.false_alarms:
        outcomes[place] = "false alarm"
    return outcomes


def _playing(at_ns: int, played: Sequence[Interval]) -> str | None:
    """The clip that plays at ``at_ns``; None in a pause."""
    place = bisect_right(played, at_ns, key=lambda interval: interval.start_ns) - 1
    if place < 0 or at_ns >= played[place].end_ns:
        return None
    return shown(played[place].path)


def _row(event: Detection, outcome: Outcome, path: str | None) -> EventRow:
    return EventRow(
        event.label,
        _seconds(event.start_ns),
        _seconds(event.said_ns),
        _seconds(event.end_ns),
        round(event.top_score, 4),
        outcome,
        path,
        None if event.subject == WHOLE_PICTURE else event.subject,
    )


def _seconds(ns: int, places: int = 3) -> float:
    return round(ns / NS_PER_S, places)


def _times(pairs: Sequence[tuple[Detection, Interval]]) -> TimesToDetect:
    return TimesToDetect(
        from_start=spread([(e.said_ns - i.start_ns) / NS_PER_S for e, i in pairs]),
        from_end=spread([(e.said_ns - i.end_ns) / NS_PER_S for e, i in pairs]),
    )


def _of_label(
    label: str,
    events: Sequence[tuple[Detection, Outcome]],
    intervals: Sequence[Interval],
    pairs: Sequence[tuple[Detection, Interval]],
) -> LabelEvents:
    own = [(e, i) for e, i in pairs if i.label == label]
    outcomes = [outcome for event, outcome in events if event.label == label]
    actions = sum(i.label == label for i in intervals)
    return LabelEvents(
        counts=Counts.of(len(outcomes), actions, len(own)),
        repeats=outcomes.count("repeat"),
        false_alarms=outcomes.count("false alarm"),
        time_to_detect_s=_times(own),
    )


def alarms(labels: Sequence[str], length_ns: int) -> Alarms:
    """Count false alarms, one per entry of ``labels``, in ``length_ns`` of one camera's time."""
    hours = length_ns / NS_PER_S / 3600
    by_label: dict[str, int] = {}
    for label in labels:
        by_label[label] = by_label.get(label, 0) + 1
    return Alarms(
        count=len(labels),
        hours=round(hours, 4),
        per_hour=round(len(labels) / hours, 2) if hours else None,
        per_hour_below=round(most_expected(len(labels)) / hours, 2) if hours else None,
        by_label=dict(sorted(by_label.items(), key=lambda item: -item[1])),
    )


def stream_report(run: StreamRun, contract: Contract) -> StreamReport:
    """The figures of a stream with the contract's thresholds."""
    events = together(detections(changes(contract, run.track.results())))
    labels = [label for label in contract.labels if label not in contract.background]
    return report(events, run.intervals, run.end_ns, labels, run.played, run.unreadable)


def quiet_report(runs: Sequence[Run], contract: Contract) -> QuietReport:
    """False alarms in files without actions: every event in them."""
    read = [run for run in runs if run.error is None]
    events = [
        _row(event, "false alarm", shown(run.path))
        for run in read
        for event in together(detections(changes(contract, run.track.results())))
    ]
    length_ns = sum(run.track.length_ns(contract.step_hz) for run in read)
    return QuietReport(
        files=len(read),
        stream_s=_seconds(length_ns, 1),
        false_alarms=alarms([event.label for event in events], length_ns),
        events=events,
        unreadable=[run.error for run in runs if run.error is not None],
    )
