"""Events against intervals: matching, times, rates; and the order of a stream."""

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clock import NS_PER_S
from pipeline.evaluate.clip_list import Entry
from pipeline.evaluate.recogniser import StepChange
from pipeline.evaluate.streams import LATE_NS, Counts, Detection, alarms, detections, match, report
from pipeline.evaluate.timeline import Interval, Pause, arrange
from pipeline.transport.messages import Change

LABELS = ("left", "right")


def event(label: str, start_s: float, end_s: float, said_s: float | None = None) -> Detection:
    said = start_s if said_s is None else said_s
    times = (int(t * NS_PER_S) for t in (start_s, said, end_s))
    start_ns, said_ns, end_ns = times
    return Detection(label, start_ns, said_ns, end_ns, 0.9)


def action(label: str, start_s: float, end_s: float) -> Interval:
    return Interval(label, int(start_s * NS_PER_S), int(end_s * NS_PER_S), Path(f"{label}.mp4"))


@pytest.mark.parametrize(
    ("start_s", "matched"), [(9.9, False), (10.0, True), (12.0, True), (13.5, True), (13.6, False)]
)
def test_an_event_may_start_from_the_start_to_a_little_past_the_end(
    start_s: float, matched: bool
) -> None:
    matching = match([event("left", start_s, start_s + 0.01)], [action("left", 10.0, 12.0)])
    assert bool(matching.pairs) is matched
    assert matching.missed == ([] if matched else [0])
    assert matching.false_alarms == ([] if matched else [0])


def test_one_event_per_action_the_rest_are_repeats_or_false_alarms() -> None:
    actions = [action("left", 0, 2), action("right", 5, 7)]
    events = [
        event("left", 0.5, 1.0),
        event("left", 1.5, 1.9),  # a second event of the same action
        event("left", 5.5, 6.0),  # another action goes on
        event("right", 4.0, 5.5),  # began too early, but overlaps its action
        event("right", 20.0, 21.0),
    ]
    matching = match(events, actions)
    assert matching.pairs == [(0, 0)]
    assert matching.missed == [1]
    assert matching.repeats == [1, 3]
    assert matching.false_alarms == [2, 4]


def test_a_late_second_event_is_a_repeat_as_long_as_it_could_have_matched() -> None:
    events = [event("left", 1, 1.5), event("left", 3.4, 3.6), event("left", 3.6, 4.0)]
    matching = match(events, [action("left", 0, 2)])
    assert (matching.repeats, matching.false_alarms) == ([1], [2])


def test_two_events_and_two_actions_of_a_label_close_together() -> None:
    actions = [action("left", 0, 2), action("left", 3, 5)]
    matching = match([event("left", 3.2, 3.3), event("left", 3.4, 3.5)], actions)
    assert matching.pairs == [(0, 0), (1, 1)]


timed = st.tuples(st.sampled_from(LABELS), st.integers(0, 60), st.integers(0, 5))


@pytest.mark.slow
@given(
    events=st.lists(timed, max_size=12),
    actions=st.lists(st.tuples(st.sampled_from(LABELS), st.integers(1, 6)), max_size=12),
)
def test_every_event_and_action_is_counted_once(
    events: list[tuple[str, int, int]], actions: list[tuple[str, int]]
) -> None:
    found = [event(label, start, start + long) for label, start, long in events]
    intervals, at = [], 0
    for label, long in actions:
        intervals.append(action(label, at, at + long))
        at += long
    matching = match(found, intervals)
    matched = [e for e, _ in matching.pairs]
    assert sorted([*matched, *matching.repeats, *matching.false_alarms]) == list(range(len(found)))
    taken = [i for _, i in matching.pairs]
    assert sorted([*taken, *matching.missed]) == list(range(len(intervals)))
    for e, i in matching.pairs:
        assert found[e].label == intervals[i].label
        late = found[e].start_ns - intervals[i].end_ns
        assert found[e].start_ns >= intervals[i].start_ns
        assert late <= LATE_NS


def test_the_report_divides_as_the_document_says() -> None:
    actions = [action("left", 0, 2), action("left", 10, 12), action("right", 20, 22)]
    events = [
        event("left", 1.0, 1.8, said_s=1.2),
        event("left", 11.0, 12.5, said_s=12.4),
        event("left", 20.0, 21.0),
        event("right", 50.0, 51.0),
    ]
    figures = report(events, actions, 60 * NS_PER_S, LABELS)
    assert figures.overall == Counts(3, 4, 2, 0.5, 0.6667, 0.5714)
    assert figures.time_to_detect_s.from_start == {"median": 1.8, "p90": 2.28}
    assert figures.time_to_detect_s.from_end == {"median": -0.2, "p90": 0.28}
    assert figures.false_alarms.count == 2
    assert figures.false_alarms_during_other_actions == 1
    assert figures.false_alarms.per_hour == 120.0
    assert figures.false_alarms.by_label == {"left": 1, "right": 1}
    assert figures.labels["left"].counts == Counts(2, 3, 2, 0.6667, 1.0, 0.8)
    assert figures.labels["left"].false_alarms == 1
    assert figures.labels["right"].counts.recall == 0.0
    assert [(one.path, one.label) for one in figures.missed] == [("right.mp4", "right")]
    assert [one.found for one in figures.actions] == [True, True, False]
    assert [one.outcome for one in figures.events] == [
        "matched", "matched", "false alarm", "false alarm",
    ]  # fmt: skip


def test_repeats_cost_precision_and_are_no_false_alarms() -> None:
    events = [event("left", 0.5, 0.8), event("left", 1.5, 1.9)]
    figures = report(events, [action("left", 0, 2)], 60 * NS_PER_S, LABELS)
    assert (figures.repeats, figures.labels["left"].repeats) == (1, 1)
    assert figures.overall.precision == 0.5
    assert figures.false_alarms.count == 0


def test_no_false_alarm_is_bounded_by_the_rule_of_three() -> None:
    assert alarms([], 2 * 3600 * NS_PER_S).per_hour == 0.0
    assert alarms([], 2 * 3600 * NS_PER_S).per_hour_below == pytest.approx(3 / 2, rel=0.01)
    assert alarms(["left"], 3600 * NS_PER_S).per_hour_below == pytest.approx(4.74)
    assert alarms([], 0).per_hour_below is None


def test_an_event_names_the_clip_in_which_it_starts() -> None:
    played = [action("left", 0, 2), action("background", 2, 5)]
    events = [event("left", 1.9, 2.5), event("right", 2.0, 2.1), event("right", 5.0, 6.0)]
    figures = report(events, played[:1], 10 * NS_PER_S, LABELS, played)
    assert [one.path for one in figures.events] == ["left.mp4", "background.mp4", None]


def test_a_stream_without_actions_has_a_rate_and_no_ratios() -> None:
    figures = report([event("left", 1, 2)], [], 1800 * NS_PER_S, LABELS)
    assert figures.false_alarms.per_hour == 2.0
    assert figures.overall.recall is None
    assert figures.overall.precision == 0.0
    assert figures.labels_without_clips == ["left", "right"]


def change(kind: str, number: int, start_s: int, end_s: int | None) -> Change:
    assert kind in ("start", "end")
    end_ns = None if end_s is None else end_s * NS_PER_S
    return Change(
        type="start" if kind == "start" else "end",
        label="left",
        number=number,
        score=0.8,
        top_score=0.9,
        start_ns=start_s * NS_PER_S,
        start_pts_ns=start_s * NS_PER_S,
        end_ns=end_ns,
        end_pts_ns=end_ns,
        reason=None,
    )


def test_detections_are_timed_when_they_are_said() -> None:
    said = StepChange(change("start", 1, 3, None), 4 * NS_PER_S)
    ended = StepChange(change("end", 1, 3, 6), 7 * NS_PER_S)
    assert detections([said, ended]) == [
        Detection("left", 3 * NS_PER_S, 4 * NS_PER_S, 6 * NS_PER_S, 0.9)
    ]
    with pytest.raises(ValueError, match=r"events \[1\] start and never end"):
        detections([said])


def entries(label: str, count: int) -> list[Entry]:
    return [Entry(Path(f"{label}{i}.mp4"), label) for i in range(count)]


@given(actions=st.integers(1, 20), quiet=st.integers(1, 20), seed=st.integers(0, 99))
def test_background_follows_every_action_and_all_of_it_is_used(
    actions: int, quiet: int, seed: int
) -> None:
    clips = [*entries("left", actions), *entries("background", quiet)]
    order = arrange(clips, ("background",), seed)
    assert order == arrange(clips, ("background",), seed)
    names = [item.label for item in order if isinstance(item, Entry)]
    assert names.count("left") == actions
    assert names.count("background") == max(actions, quiet)
    assert all(b == "background" for a, b in pairwise(names) if a == "left")
    assert names[-1] == "background"
    assert {item for item in order if isinstance(item, Entry)} == set(clips)


def test_the_seed_shuffles() -> None:
    clips = entries("left", 20)
    orders = {tuple(str(item) for item in arrange(clips, (), seed)) for seed in range(5)}
    assert len(orders) == 5


def test_without_background_the_last_frame_is_held() -> None:
    order = arrange(entries("left", 2), ("background",), 0)
    assert [isinstance(item, Pause) for item in order] == [False, True, False, True]
    only = arrange(entries("background", 3), ("background",), 0)
    assert len(only) == 3
