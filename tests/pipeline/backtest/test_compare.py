"""Which events a tested pack and the log have in common."""

from itertools import count

from hypothesis import given
from hypothesis import strategies as st

from pipeline.backtest.compare import SLACK_NS, Logged, compared
from pipeline.backtest.judging import Said
from pipeline.clock import NS_PER_S

TIMES = st.integers(0, 60)


@st.composite
def events(draw: st.DrawFn) -> list[Said]:
    found = []
    for _ in range(draw(st.integers(0, 12))):
        start = draw(TIMES) * NS_PER_S
        length = draw(st.integers(0, 8)) * NS_PER_S
        camera, label = draw(st.sampled_from("ab")), draw(st.sampled_from("xy"))
        found.append(Said(camera, label, start, start + length, 0.5))
    return found


def in_log(said: list[Said]) -> list[Logged]:
    numbers = count()
    in_order = sorted(said, key=lambda one: one.start_ns)
    return [Logged(one, f"e{next(numbers)}", "door") for one in in_order]


def overlap(one: Said, other: Said) -> bool:
    return (
        (one.camera, one.label) == (other.camera, other.label)
        and one.start_ns <= other.end_ns + SLACK_NS
        and other.start_ns <= one.end_ns + SLACK_NS
    )


@given(events(), events())
def test_each_takes_the_first_that_overlaps_it_and_is_free(
    tested: list[Said], before: list[Said]
) -> None:
    log = in_log(before)
    found = compared(tested, log)
    free = list(log)
    for one in sorted(tested, key=lambda said: said.start_ns):
        first = next((other for other in free if overlap(one, other.said)), None)
        if first is None:
            assert one in found.new
        else:
            assert (one, first) in found.same
            free.remove(first)
    assert found.gone == free
    assert len(found.new) + len(found.same) == len(tested)


def test_an_event_a_second_later_is_the_same_and_one_of_another_camera_is_not() -> None:
    log = in_log([Said("door", "fall", 0, NS_PER_S, 0.9)])
    near = Said("door", "fall", 2 * NS_PER_S, 3 * NS_PER_S, 0.8)
    assert compared([near], log).same == [(near, log[0])]
    elsewhere = Said("hall", "fall", 0, NS_PER_S, 0.8)
    assert compared([elsewhere], log).new == [elsewhere]


def test_a_hundred_thousand_events_are_compared_at_once() -> None:
    tested = [Said("door", "fall", 9 * n * NS_PER_S, 9 * n * NS_PER_S, 0.5) for n in range(100_000)]
    found = compared(tested, in_log(tested))
    assert len(found.same) == len(tested)
