"""Event rules: hysteresis, minimum duration, cool-down, and that starts and ends alternate."""

from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.clock import NS_PER_S
from pipeline.decision.rules import EventRules, StepTime
from pipeline.model.pack import Threshold
from pipeline.transport.messages import Change

HZ = 10.0
STEP_NS = NS_PER_S // 10
LABELS = ("background", "left", "right")
LEFT = Threshold(start=0.7, end=0.4, min_duration_s=0.3, cooldown_s=0.5)
THRESHOLDS: Mapping[str, Threshold] = dict.fromkeys(LABELS, LEFT)


def rules(update_every_s: float = 100.0, threshold: Threshold = LEFT) -> EventRules:
    return EventRules(LABELS, ("background",), dict.fromkeys(LABELS, threshold), update_every_s, HZ)


def at(step: int) -> StepTime:
    return StepTime(captured_ns=step * STEP_NS, pts_ns=step * 7, media_ns=step * STEP_NS)


def play(
    machine: EventRules, left: Sequence[float], first: int = 0
) -> list[tuple[int, str, Change]]:
    """(step, type, change) for the scores of ``left``, the other labels at zero."""
    return [
        (first + step, change.type, change)
        for step, score in enumerate(left)
        for change in machine.push(at(first + step), [0.0, score, 0.0])
    ]


def kinds(found: list[tuple[int, str, Change]]) -> list[tuple[int, str]]:
    return [(step, kind) for step, kind, _ in found]


def test_a_start_takes_its_minimum_duration() -> None:
    found = play(rules(), [0.8, 0.9, 0.75, 0.8])
    assert kinds(found) == [(2, "start")]
    change = found[0][2]
    assert (change.label, change.number, change.score, change.top_score) == ("left", 1, 0.75, 0.9)
    assert (change.start_ns, change.start_pts_ns) == (0, 0)
    assert change.end_ns is None


def test_a_run_that_breaks_off_does_not_start() -> None:
    assert play(rules(), [0.8, 0.8, 0.69, 0.8, 0.8, 0.3]) == []


def test_scores_between_the_thresholds_neither_start_nor_end() -> None:
    assert play(rules(), [0.6] * 20) == []
    found = play(rules(), [0.8] * 3 + [0.5] * 20)
    assert kinds(found) == [(2, "start")]


def test_an_end_takes_its_minimum_duration_and_is_dated_back() -> None:
    found = play(rules(), [0.8] * 4 + [0.3] * 5)
    assert kinds(found) == [(2, "start"), (6, "end")]
    end = found[1][2]
    assert (end.start_ns, end.end_ns, end.end_pts_ns) == (0, 3 * STEP_NS, 21)
    assert end.reason is None


def test_a_dip_shorter_than_the_minimum_goes_on() -> None:
    assert kinds(play(rules(), [0.8] * 3 + [0.3, 0.3, 0.5] * 5)) == [(2, "start")]


def test_a_label_rests_for_its_cool_down() -> None:
    # Held until step 2, so rested at step 7; three steps more until it starts.
    found = play(rules(), [0.8] * 3 + [0.0] * 3 + [0.8] * 6)
    assert kinds(found) == [(2, "start"), (5, "end"), (9, "start")]
    assert found[2][2].start_ns == 7 * STEP_NS
    assert found[2][2].number == 2


def test_a_minimum_of_nought_is_immediate() -> None:
    sharp = Threshold(start=0.7, end=0.7, min_duration_s=0.0, cooldown_s=0.0)
    found = play(rules(threshold=sharp), [0.8, 0.1, 0.8, 0.1])
    assert kinds(found) == [(0, "start"), (1, "end"), (2, "start"), (3, "end")]


def test_background_is_silent() -> None:
    machine = rules()
    assert [c for step in range(50) for c in machine.push(at(step), [1.0, 0.0, 0.0])] == []
    assert not machine.active


def test_updates_come_at_their_interval_while_it_goes_on() -> None:
    found = play(rules(update_every_s=0.5), [0.8] * 14)
    assert kinds(found) == [(2, "start"), (7, "update"), (12, "update")]
    assert {change.number for _, _, change in found} == {1}


def test_the_top_score_is_of_the_whole_event() -> None:
    found = play(rules(update_every_s=0.5), [0.8, 0.8, 0.8, 0.95, 0.8, 0.8, 0.8, 0.8] + [0.0] * 4)
    assert [change.top_score for _, _, change in found] == [0.8, 0.95, 0.95]


def test_an_interruption_ends_what_is_active_and_carries_nothing_over() -> None:
    machine = rules()
    play(machine, [0.8] * 4)
    assert machine.active
    (end,) = machine.interrupt("gap")
    assert (end.type, end.reason, end.end_ns) == ("end", "gap", 3 * STEP_NS)
    assert not machine.active
    assert machine.interrupt("gap") == []
    play(machine, [0.8, 0.8], first=20)
    assert machine.interrupt("gap") == []
    assert kinds(play(machine, [0.8, 0.8, 0.8], first=22)) == [(24, "start")]


def test_durations_are_of_media_time() -> None:
    machine = rules()
    for step in range(5):
        slow = StepTime(captured_ns=step * NS_PER_S, pts_ns=step, media_ns=step)
        assert machine.push(slow, [0.0, 0.8, 0.0]) == []


def test_labels_do_not_disturb_one_another() -> None:
    machine = rules()
    found = [
        (change.type, change.label, change.number)
        for step in range(12)
        for change in machine.push(at(step), [0.0, 0.8, 0.8 if 4 <= step < 8 else 0.0])
    ]
    assert found == [("start", "left", 1), ("start", "right", 2), ("end", "right", 2)]


def test_scores_must_be_as_many_as_labels() -> None:
    with pytest.raises(ValueError, match="shorter"):
        rules().push(at(0), [0.5, 0.5])


SCORES = st.sampled_from([0.0, 0.39, 0.4, 0.55, 0.69, 0.7, 1.0])


@given(
    st.lists(st.tuples(SCORES, SCORES, SCORES, st.integers(1, 4), st.booleans()), max_size=150),
    st.sampled_from([0.1, 0.4, 100.0]),
)
def test_starts_and_ends_alternate_and_no_end_comes_without_a_start(
    steps: list[tuple[float, float, float, int, bool]], update_every_s: float
) -> None:
    machine, step, changes = rules(update_every_s), 0, list[Change]()
    for background, left, right, shift, gap in steps:
        step += shift
        if gap and step % 5 == 0:
            changes += machine.interrupt("gap")
        changes += machine.push(at(step), [background, left, right])
    changes += machine.interrupt("stopped")
    assert not machine.active
    open_events: dict[str, Change] = {}
    starts, last_end = [], dict[str, int]()
    for change in changes:
        assert change.label != "background"
        if change.type == "start":
            assert change.label not in open_events
            assert change.score >= LEFT.start
            rested = change.start_ns - last_end.get(change.label, -NS_PER_S)
            assert rested >= LEFT.cooldown_s * NS_PER_S
            open_events[change.label] = change
            starts.append(change.number)
            continue
        start = open_events[change.label]
        assert (change.number, change.start_ns) == (start.number, start.start_ns)
        assert change.top_score >= start.top_score
        if change.type == "end":
            assert change.end_ns is not None
            assert change.end_ns >= change.start_ns
            last_end[change.label] = change.end_ns
            del open_events[change.label]
    assert open_events == {}
    assert starts == list(range(1, len(starts) + 1))
