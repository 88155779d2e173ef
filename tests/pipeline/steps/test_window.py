"""Windows: masks, gaps, segments; the join of the two streams; flow fields and their stack."""

from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arrays import FlowField, Gray, QuantisedFlow
from pipeline.sources import Grab
from pipeline.steps.flow_fields import MAX_SPAN_STEPS, FlowStack, FlowSteps
from pipeline.steps.join import StepJoin
from pipeline.steps.sampling import Steps
from pipeline.steps.window import FeatureWindow
from pipeline.transport.messages import Feature, FrameRef, Moment, Person
from testbed.samples import moment
from testbed.tiny_pack import contract

T, D = 5, 3
SIZES = (D, 2)
STEP_NS = 100_000_000
Vector = npt.NDArray[np.float32]


def feature(step: int, stream: str, segment: int = 0) -> Feature:
    named: Literal["spatial", "temporal"] = "spatial" if stream == "spatial" else "temporal"
    return Feature(moment=moment(step, segment), stream=named, vectors={}, trail=())


def vector(step: int, stream: int) -> Vector:
    return np.full(SIZES[stream], 1 + step * 2 + stream, np.float32)


PUSHES = st.lists(
    st.tuples(st.booleans(), st.integers(1, T + 2), st.booleans(), st.booleans()),
    min_size=1,
    max_size=30,
)
"""(new segment?, steps on, has spatial?, has temporal?)"""


@pytest.mark.slow
@given(PUSHES)
def test_a_window_holds_the_last_steps_of_its_segment(
    pushes: list[tuple[bool, int, bool, bool]],
) -> None:
    window = FeatureWindow(T, SIZES)
    segment, step, kept = 0, -1, dict[int, tuple[bool, bool]]()
    first = 0
    for place, (fresh, shift, spatial, temporal) in enumerate(pushes):
        step += shift
        if fresh or place == 0:
            segment, kept, first = segment + 1, {}, step
        kept[step] = (spatial, temporal)
        window.push(
            segment,
            step,
            vector(step, 0) if spatial else None,
            vector(step, 1) if temporal else None,
        )
        expected = [kept.get(s, (False, False)) for s in range(step - T + 1, step + 1)]
        assert window.mask.tolist() == [[float(a), float(b)] for a, b in expected]
        for row, (s, has) in enumerate(zip(range(step - T + 1, step + 1), expected, strict=True)):
            for stream, rows in enumerate((window.spatial, window.temporal)):
                filled = vector(s, stream) if has[stream] else np.zeros(SIZES[stream], np.float32)
                np.testing.assert_array_equal(rows[row], filled)
        info = window.info()
        assert info.first_step == max(first, step - T + 1)
        assert (info.last_step, info.segment) == (step, segment)
        held = expected[T - (info.last_step - info.first_step + 1) :]
        assert info.missing == sum(not all(has) for has in held)
        assert window.empty == (not spatial and not temporal)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (np.zeros(D + 1, np.float32), r"shape \(4,\), expected \(3,\)"),
        (np.array([0, np.nan, 0], np.float32), "not finite"),
        (np.array([0, np.inf, 0], np.float32), "not finite"),
    ],
)
def test_a_bad_feature_is_refused(bad: Vector, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        FeatureWindow(T, SIZES).push(0, 0, bad, None)


def test_a_window_does_not_go_backwards() -> None:
    window = FeatureWindow(T, SIZES)
    window.push(0, 3, None, None)
    with pytest.raises(ValueError, match="step 3 after step 3"):
        window.push(0, 3, None, None)


def decided_steps(join: StepJoin, now_ns: int) -> list[tuple[int, bool, bool]]:
    return [
        (d.moment.step_id, d.spatial is not None, d.temporal is not None)
        for d in join.decided(now_ns)
    ]


def test_a_step_waits_for_its_second_stream_only_so_long() -> None:
    join = StepJoin(patience_ns=100)
    join.push(feature(0, "spatial"), now_ns=1000)
    assert join.next_deadline_ns() == 1100
    assert decided_steps(join, 1099) == []
    assert decided_steps(join, 1100) == [(0, True, False)]
    assert join.next_deadline_ns() is None
    join.push(feature(0, "temporal"), now_ns=1101)
    assert join.late == 1
    assert decided_steps(join, 5000) == []


def test_a_stream_that_spoke_of_a_later_step_has_none_for_this() -> None:
    join = StepJoin(patience_ns=10**9)
    join.push(feature(0, "spatial"), 0)
    join.push(feature(1, "temporal"), 0)
    assert decided_steps(join, 0) == [(0, True, False)]
    join.push(feature(1, "spatial"), 0)
    assert decided_steps(join, 0) == [(1, True, True)]


def test_patience_never_puts_a_later_step_before_an_earlier() -> None:
    join = StepJoin(patience_ns=100)
    join.push(feature(1, "spatial"), now_ns=0)
    join.push(feature(0, "spatial"), now_ns=50)
    assert decided_steps(join, 120) == []
    assert decided_steps(join, 150) == [(0, True, False), (1, True, False)]


def people_of(step: int, *names: str) -> FrameRef:
    people = tuple(Person(name, (0.1, 0.1, 0.2, 0.9), 0.9) for name in names)
    return FrameRef(moment=moment(step), ring="r", number=step, people=people, trail=())


def test_a_step_waits_for_the_people_in_it_only_so_long() -> None:
    join = StepJoin(patience_ns=100, people=True)
    for stream in ("spatial", "temporal"):
        join.push(feature(1, stream), now_ns=0)
        join.push(feature(2, stream), now_ns=50)
    assert join.decided(99) == []
    join.push_people(people_of(1, "p1"), now_ns=99)
    assert [[p.name for p in step.people or ()] for step in join.decided(99)] == [["p1"]]
    # Where nobody looked, those stand for it who were there before.
    assert [[p.name for p in step.people or ()] for step in join.decided(150)] == [["p1"]]
    assert not join.ended


def test_at_first_nobody_is_there_and_what_was_long_ago_is_not_known() -> None:
    join = StepJoin(patience_ns=0, people=True)
    people = {}
    for step in (1, 2, 90, 110, 111):  # ten a second
        join.push(feature(step, "spatial"), now_ns=0)
        if step == 2:
            join.push_people(people_of(2, "p1"), now_ns=0)
        (decided,) = join.decided(0)
        people[step] = None if decided.people is None else [p.name for p in decided.people]
    assert people == {1: [], 2: ["p1"], 90: ["p1"], 110: None, 111: None}


def test_a_camera_with_people_ends_when_they_have_ended_too() -> None:
    join = StepJoin(patience_ns=None, people=True)
    for stream in ("spatial", "temporal"):
        join.push(feature(1, stream), now_ns=0)
        assert not join.end(stream)
    assert join.decided(10**12) == []
    assert not join.end("people")
    assert [step.people for step in join.decided(0)] == [()]
    assert join.ended


def test_lossless_waits_for_both_however_long() -> None:
    join = StepJoin(patience_ns=None)
    join.push(feature(0, "temporal"), now_ns=0)
    assert decided_steps(join, 10**18) == []
    assert join.next_deadline_ns() is None
    join.push(feature(0, "spatial"), now_ns=10**18)
    assert decided_steps(join, 10**18) == [(0, True, True)]


def test_the_end_of_a_stream_decides_what_waited_for_it() -> None:
    join = StepJoin(patience_ns=None)
    join.push(feature(0, "spatial"), 0)
    assert not join.end("temporal")
    assert decided_steps(join, 0) == [(0, True, False)]
    assert not join.ended
    assert join.end("spatial")


def test_after_an_end_and_a_restart_both_streams_are_waited_for_again() -> None:
    join = StepJoin(patience_ns=100)
    join.end("spatial")
    join.end("temporal")
    join.push(feature(5, "spatial", segment=1), 0)
    assert decided_steps(join, 0) == []
    join.push(feature(5, "temporal", segment=1), 0)
    assert decided_steps(join, 0) == [(5, True, True)]
    assert not join.ended


@pytest.mark.slow
@given(
    st.lists(st.sampled_from(["spatial", "temporal"]), max_size=40),
    st.sets(st.integers(0, 19)),
    st.sets(st.integers(0, 19)),
)
def test_lossless_decides_each_step_once_with_all_it_has(
    turns: list[str], spatial: set[int], temporal: set[int]
) -> None:
    """The decisions are the same for every interleaving of the two streams."""
    waiting = {"spatial": sorted(spatial), "temporal": sorted(temporal)}
    order = [*turns, *["spatial"] * 20, *["temporal"] * 20]
    join, found = StepJoin(None), []
    for stream in order:
        if waiting[stream]:
            join.push(feature(waiting[stream].pop(0), stream), 0)
            found += decided_steps(join, 0)
    join.end("spatial")
    join.end("temporal")
    found += decided_steps(join, 0)
    assert found == [(s, s in spatial, s in temporal) for s in sorted(spatial | temporal)]
    assert join.ended
    assert join.late == 0


def quantised(value: int) -> QuantisedFlow:
    return np.full((2, 2, 2), value, np.uint8)


def stacked(stack: FlowStack, length: int) -> list[int]:
    out = np.zeros((length, 2, 2, 2), np.uint8)
    stack.write(out)
    return [int(place[0, 0, 0]) for place in out]


def test_a_stack_is_whole_after_l_fields_oldest_first() -> None:
    stack = FlowStack(3)
    assert [stack.push(0, s, quantised(s), 1) for s in range(1, 6)] == [0, 0, 1, 1, 1]
    assert stacked(stack, 3) == [3, 4, 5]


def test_a_field_over_several_steps_stands_for_each() -> None:
    stack = FlowStack(3)
    stack.push(0, 1, quantised(1), 1)
    assert stack.push(0, 3, quantised(3), 2)
    assert stacked(stack, 3) == [1, 3, 3]


@pytest.mark.parametrize(
    ("segment", "step", "field", "span"),
    [(0, 5, 9, 1), (1, 4, 9, 1), (0, 4, None, 1)],
    ids=["a step is missing", "another segment", "no field"],
)
def test_a_stack_never_spans_a_gap(segment: int, step: int, field: int | None, span: int) -> None:
    stack = FlowStack(2)
    for s in (1, 2, 3):
        stack.push(0, s, quantised(s), 1)
    assert not stack.push(segment, step, None if field is None else quantised(field), span)
    assert stack.push(segment, step + 2, quantised(7), 2)
    assert stacked(stack, 2) == [7, 7]


@pytest.mark.slow
@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(1, 3)), max_size=30))
def test_a_whole_stack_covers_exactly_the_last_steps(
    pushes: list[tuple[bool, bool, int]],
) -> None:
    """Fields carry the number of their step: a whole stack holds none from before a gap."""
    length, stack, step, gap = 4, FlowStack(4), 0, 0
    for lost, has, span in pushes:
        before = step
        step += span + (5 if lost else 0)
        whole = stack.push(0, step, quantised(step % 256) if has else None, span)
        if not has:
            gap = step
        elif lost:
            gap = step - span
        assert whole == (has and step - gap >= length)
        if whole:
            assert min(stacked(stack, length)) > gap
            assert before >= 0


class _Counting:
    """A flow method that finds a motion of 6 pixels between any two pictures."""

    def __call__(self, prev_gray: Gray, next_gray: Gray) -> FlowField:
        return np.full((*prev_gray.shape, 2), 6.0, np.float32)


def flow_at(steps: list[tuple[int, int]]) -> list[tuple[int | None, int]]:
    """(quantised value, span) at each (segment, step) whose frame was there."""
    flow = FlowSteps(_Counting(), contract())
    grey = np.zeros(contract().temporal.flow_size, np.uint8)
    found = []
    for segment, step in steps:
        flow.advance(moment(step, segment))
        field, span = flow.field(grey)
        found.append((None if field is None else int(field[0, 0, 0]), span))
    return found


def test_flow_is_per_step_also_over_steps_that_a_slow_stage_skipped() -> None:
    six, three, two = (round(128 + 127 * px / 8) for px in (6, 3, 2))
    found = flow_at([(0, 4), (0, 5), (0, 7), (0, 10)])
    assert [span for _, span in found[1:]] == [1, 2, 3]
    assert [v for v, _ in found[1:]] == pytest.approx([six, three, two], abs=1)


def test_no_flow_spans_two_segments_or_too_long_a_pause() -> None:
    found = flow_at([(0, 4), (1, 5), (1, 6), (1, 6 + MAX_SPAN_STEPS + 1)])
    assert [value is None for value, _ in found] == [True, True, False, True]


def test_a_frame_that_was_overwritten_lengthens_the_next_span() -> None:
    flow = FlowSteps(_Counting(), contract())
    grey = np.zeros(contract().temporal.flow_size, np.uint8)
    flow.advance(moment(1))
    flow.field(grey)
    flow.advance(moment(2))
    flow.advance(moment(3))
    assert flow.field(grey)[1] == 2


def numbered(steps: Steps, grabbed: Grab, time_ns: int, *, fresh: bool = False) -> Moment | None:
    due = steps.due(grabbed, time_ns)
    return None if due is None else steps.moment(due, fresh=fresh)


def grab(at_ns: int, discontinuity: bool = False) -> Grab:
    return Grab(captured_ns=at_ns, pts_ns=None, discontinuity=discontinuity)


def test_a_silence_or_a_jump_starts_a_segment_and_steps_go_on_counting() -> None:
    steps = Steps("door", step_hz=10.0, gap_s=0.6)
    times = [(0, False), (1, False), (2, False), (9, False), (10, False), (11, True)]
    moments = [numbered(steps, grab(i * STEP_NS, jump), i * STEP_NS) for i, jump in times]
    assert [m and (m.segment, m.step_id, m.frame_id) for m in moments] == [
        (0, 0, 0),
        (0, 1, 1),
        (0, 2, 2),
        (1, 9, 0),
        (1, 10, 1),
        (2, 11, 0),
    ]


def test_a_restarted_capture_goes_on_in_time() -> None:
    steps = Steps("door", 10.0, 0.6, first_segment=4, origin_ns=1000)
    first = numbered(steps, grab(1000 + 30 * STEP_NS), 1000 + 30 * STEP_NS)
    assert first is not None
    assert (first.segment, first.step_id, first.skipped) == (4, 30, 0)


@given(st.lists(st.tuples(st.integers(0, 20 * STEP_NS), st.booleans()), max_size=60))
def test_steps_always_grow_and_segments_never_fall(frames: list[tuple[int, bool]]) -> None:
    steps, now, last = Steps("door", 10.0, 0.6), 0, None
    for pause, jump in frames:
        now += pause
        this = numbered(steps, grab(now, jump), now)
        if this is None:
            continue
        if last is not None:
            assert this.step_id > last.step_id
            assert this.segment - last.segment in (0, 1)
            if this.segment == last.segment:
                assert this.step_id == last.step_id + this.skipped + 1
            else:
                assert this.skipped == 0
        last = this
