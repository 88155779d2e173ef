"""What rules hold back, and that what passes is whole: a start, updates, an end."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.clock import NS_PER_S
from pipeline.config.hours import Hours
from pipeline.config.rules import LabelRule
from pipeline.decision.rule_filter import RuleFilter, RuleFilters, WallTime
from pipeline.decision.rules import EventRules, StepTime
from pipeline.model.pack import Threshold
from pipeline.transport.messages import Change

HZ = 10.0
STEP_NS = NS_PER_S // 10
TEN = int(datetime(2026, 11, 25, 10, tzinfo=UTC).timestamp()) * NS_PER_S
"""Ten o'clock; steps begin a minute before."""
BEFORE = TEN - 60 * NS_PER_S
FROM_TEN = LabelRule(Hours.of(["10:00-10:01"], "UTC"))
QUICK = Threshold(start=0.7, end=0.4, min_duration_s=0.1, cooldown_s=0.0)


class Camera:
    """The event rules of one label, "left", and a filter behind them."""

    def __init__(
        self, rule: LabelRule, *, update_s: float = 1.0, media_timed: bool = False
    ) -> None:
        self.rules = EventRules(("left",), (), {"left": QUICK}, update_s, HZ)
        self.noted: Counter[str] = Counter()
        self.filter = RuleFilter(
            {"left": rule}, WallTime(BEFORE), media_timed, lambda _, reason: self.note(reason)
        )
        self.bare: list[tuple[int, Change]] = []
        self.passed: list[tuple[int, Change]] = []

    def note(self, reason: str) -> None:
        self.noted[reason] += 1

    def play(self, *spans: tuple[float, float], until_s: float = 200.0) -> "Camera":
        """Steps until a time, in seconds; the label is seen in ``spans``."""
        for step in range(round(until_s * HZ)):
            seen = any(a <= step / HZ < b for a, b in spans)
            at = StepTime(step * STEP_NS, step * STEP_NS // 2, step * STEP_NS)
            if self.filter._media_timed:
                at = StepTime(0, step * STEP_NS, step * STEP_NS)  # lossless: in no time
            changes = self.rules.push(at, [0.9 if seen else 0.0])
            self.bare += [(step, change) for change in changes]
            self.passed += [(step, change) for change in self.filter.passed(changes, at)]
        return self

    def events(self) -> list[tuple[float, float]]:
        """Start and end of the events that passed, in seconds."""
        return [
            (change.start_ns / NS_PER_S, (change.end_ns or 0) / NS_PER_S)
            for _, change in self.passed
            if change.type == "end"
        ]

    def kinds(self) -> str:
        return "".join(change.type[0] for _, change in self.passed)


def test_within_its_hours_an_event_passes_as_it_is() -> None:
    camera = Camera(FROM_TEN).play((70, 75))
    assert camera.passed == camera.bare
    assert camera.noted == {}
    assert camera.kinds() == "suuuue"


def test_outside_of_its_hours_an_event_is_held_back_and_counted_once() -> None:
    camera = Camera(FROM_TEN).play((10, 15), (130, 140))
    assert camera.passed == []
    assert camera.noted == {"hours": 2}


def test_an_event_that_begins_within_the_hours_has_its_end_after_them() -> None:
    camera = Camera(FROM_TEN).play((115, 125))
    assert camera.passed == camera.bare
    assert camera.events() == [(115.0, 124.9)]


def test_an_event_that_goes_on_when_the_hours_begin_starts_then() -> None:
    camera = Camera(FROM_TEN).play((50, 65))
    assert camera.kinds() == "suuuue"
    ((start, end),) = camera.events()
    assert 60 <= start <= 61
    assert end == 64.9
    assert camera.noted == {"hours": 1}
    assert {change.start_ns for _, change in camera.passed} == {round(start * NS_PER_S)}
    assert {change.number for _, change in camera.passed} == {1}


def test_a_cool_down_lasts_from_the_end_of_an_event() -> None:
    camera = Camera(LabelRule(cooldown_s=30)).play((10, 20), (45, 47), (60, 62), (70, 72))
    assert camera.events() == [(10.0, 19.9), (60.0, 61.9)]
    assert camera.noted == {"cooldown": 2}


def test_what_is_held_back_does_not_lengthen_a_cool_down() -> None:
    spans = [(float(n), n + 1.0) for n in range(10, 100, 3)]
    camera = Camera(LabelRule(cooldown_s=30)).play(*spans)
    starts = [start for start, _ in camera.events()]
    assert starts == [10.0, 43.0, 76.0]


def test_an_event_that_outlasts_a_cool_down_starts_after_it() -> None:
    camera = Camera(LabelRule(cooldown_s=30)).play((10, 20), (45, 60))
    assert camera.kinds().replace("u", "") == "sese"
    (_, first_end), (start, end) = camera.events()
    assert 30 <= start - first_end <= 31.1
    assert end == 59.9


def test_both_may_hold_the_same_event_back() -> None:
    rule = LabelRule(FROM_TEN.hours, cooldown_s=20)
    camera = Camera(rule).play((50, 52), (62, 64), (70, 72), (90, 92), (130, 131))
    assert camera.events() == [(62.0, 63.9), (90.0, 91.9)]
    assert camera.noted == {"hours": 2, "cooldown": 1}


def test_cool_downs_of_files_are_in_media_time() -> None:
    camera = Camera(LabelRule(cooldown_s=30), media_timed=True).play((10, 20), (45, 47), (60, 62))
    starts = [c.start_pts_ns for _, c in camera.passed if c.type == "start"]
    assert starts == [10 * NS_PER_S, 60 * NS_PER_S]


def test_labels_without_a_rule_pass() -> None:
    camera = Camera(FROM_TEN).play((10, 15))
    other = [change for _, change in camera.bare]
    assert RuleFilter({}, WallTime(), False).passed(other, StepTime(0, 0, 0)) == other


def test_an_interruption_ends_what_passed_and_nothing_else() -> None:
    for first, kinds in ((10.0, ""), (70.0, "sue")):
        camera = Camera(FROM_TEN).play((first, 200), until_s=first + 1.5)
        end = camera.rules.interrupt("gap")
        passed = camera.filter.passed(end, StepTime(0, 0, 0))
        assert camera.kinds() + "".join(c.type[0] for c in passed) == kinds


def test_a_clock_that_is_set_is_followed_by_whole_seconds() -> None:
    wall = WallTime(BEFORE)
    assert not wall.follow(BEFORE + NS_PER_S // 2)
    assert wall.of(0) == BEFORE
    assert wall.follow(TEN)
    assert wall.of(5) == TEN + 5
    assert not wall.follow(TEN)
    assert wall.follow(TEN - NS_PER_S)


def test_only_hours_need_the_time_of_day() -> None:
    cool = {"a": {"left": LabelRule(cooldown_s=5)}, "b": {}}
    assert not RuleFilters(cool, 0, False).timed
    assert not RuleFilters(cool, 0, False).follow(TEN)
    assert RuleFilters(cool, 0, False).new("b") is None
    timed = RuleFilters({**cool, "b": {"left": FROM_TEN}}, 0, False)
    assert timed.timed
    assert timed.follow(TEN)


def test_a_recheck_goes_by_the_recorded_time_to_the_nanosecond() -> None:
    filters = RuleFilters({"a": {"left": FROM_TEN}}, BEFORE, False)
    start = Camera(FROM_TEN).play((59.5, 70), until_s=60).bare[0][1]
    at = StepTime(start.start_ns, None, start.start_ns)
    camera = filters.new("a")
    assert camera is not None
    assert camera.passed([start], at) == []
    filters.go_by(BEFORE + NS_PER_S // 2)  # less than what a live run would follow
    assert camera.passed([start], at) == [start]


rules = st.builds(
    LabelRule,
    st.sampled_from([None, FROM_TEN.hours, Hours.of(["09:59-10:00", "10:01-10:02"], "UTC")]),
    st.sampled_from([0.0, 0.5, 20.0]),
)


@pytest.mark.slow
@given(
    rules,
    st.lists(st.tuples(st.floats(0, 190), st.floats(0.2, 30)), max_size=8),
    st.sampled_from([0.1, 1.0, 7.0]),
)
@settings(max_examples=80, deadline=None)
def test_whatever_passes_is_whole_and_keeps_to_its_rule(
    rule: LabelRule, spans: Sequence[tuple[float, float]], update_s: float
) -> None:
    camera = Camera(rule, update_s=update_s).play(*((a, a + b) for a, b in spans), until_s=260)
    open_at: Change | None = None
    ended_ns: int | None = None
    for _, change in camera.passed:
        if change.type == "start":
            assert open_at is None
            open_at = change
            assert rule.hours is None or rule.hours.hold(BEFORE + change.start_ns)
            if ended_ns is not None:
                assert change.start_ns - ended_ns >= rule.cooldown_s * NS_PER_S
        else:
            assert open_at is not None
            assert (change.start_ns, change.number) == (open_at.start_ns, open_at.number)
            if change.type == "end":
                assert change.end_ns is not None
                assert change.end_ns >= change.start_ns
                open_at, ended_ns = None, change.end_ns
    assert open_at is None
    if rule.hours is None and not rule.cooldown_s:
        assert camera.passed == camera.bare
    starts = sum(change.type == "start" for _, change in camera.bare)
    assert sum(camera.noted.values()) <= starts
