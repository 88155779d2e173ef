"""Tracks: names are kept, bounded and never used twice."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.clock import NS_PER_S
from pipeline.people.tracks import Detections, Subjects, Track, Tracker, TrackRules

ASPECT = 4 / 3
HIGH, WIDE = 0.3, 0.1

Way = Callable[[float], tuple[float, float] | None]
"""Seconds → the middle of a person; None while nobody sees the person."""


def at(x: float, y: float, score: float = 0.9, high: float = HIGH) -> list[float]:
    return [x - WIDE / 2, y - high / 2, x + WIDE / 2, y + high / 2, score]


def found(*boxes: Sequence[float]) -> Detections:
    return np.array(boxes, np.float32).reshape(-1, 5)


def ns(seconds: float) -> int:
    return round(seconds * NS_PER_S)


def watch(
    people: Sequence[Way],
    seconds: float,
    hz: float = 5,
    rules: TrackRules | None = None,
    jitter: float = 0.0,
    seed: int = 0,
) -> list[tuple[float, list[Track]]]:
    """The tracks at each look at some people."""
    rng = np.random.default_rng(seed)
    tracker = Tracker(rules, ASPECT)
    seen = []
    for look in range(int(seconds * hz)):
        time_s = look / hz
        places = [place for way in people if (place := way(time_s)) is not None]
        boxes = found(*(at(*place) for place in places))
        boxes[:, :4] += rng.uniform(-jitter, jitter, (len(boxes), 4)) * [WIDE, HIGH, WIDE, HIGH]
        seen.append((time_s, tracker.update(boxes, ns(1 + time_s))))
    return seen


def nearest(tracks: Iterable[Track], x: float, y: float) -> str:
    return min(
        tracks,
        key=lambda t: abs((t.box[0] + t.box[2]) / 2 - x) + abs((t.box[1] + t.box[3]) / 2 - y),
    ).name


def stands(x: float, y: float = 0.5) -> Way:
    return lambda _: (x, y)


def walks(x0: float, x1: float, seconds: float, y: float = 0.5) -> Way:
    return lambda t: (x0 + (x1 - x0) * min(t / seconds, 1), y)


def sways(x: float, y: float, phase: float, by: float) -> Way:
    return lambda t: (x + by * math.sin(t + phase), y)


def unseen(way: Way, since: float, until: float) -> Way:
    return lambda t: None if since <= t < until else way(t)


# One property at a time, for any detections at any times.

SIDE = st.floats(-0.5, 1.5, allow_nan=False)
ANY_BOX = st.one_of(
    st.tuples(SIDE, SIDE, SIDE, SIDE, st.floats(0, 1)).map(list),
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)).map(lambda b: at(*b)),
    st.sampled_from([[float("nan")] * 5, [0.1, 0.1, 0.1, 0.1, 0.9], [0, 0, 1, 1, 1.0]]),
)
LOOKS = st.lists(
    st.tuples(st.integers(1, 4 * NS_PER_S), st.lists(ANY_BOX, max_size=6)), max_size=12
)


@settings(deadline=None, max_examples=30)
@given(LOOKS, st.integers(1, 3))
def test_whatever_comes_names_are_new_and_bounded_and_boxes_are_in_the_picture(
    looks: list[tuple[int, list[list[float]]]], most: int
) -> None:
    tracker = Tracker(TrackRules(most=most), ASPECT)
    time_ns, alive, ended, hits = 0, set[str](), set[str](), 0
    for passed_ns, boxes in looks:
        time_ns += passed_ns
        tracks = tracker.update(found(*boxes), time_ns)
        hits += len(boxes)
        names = {track.name for track in tracks}
        assert len(names) == len(tracks) <= most
        assert not names & ended, "a name came back"
        assert tracker.next_number - 1 <= hits / 3, "a track without its three hits"
        for track in [*tracks, *tracker.predict(time_ns + NS_PER_S)]:
            x0, y0, x1, y1 = track.box
            assert 0 <= x0 <= x1 <= 1
            assert 0 <= y0 <= y1 <= 1
            assert track.since_ns <= track.seen_ns <= time_ns
        ended |= alive - names
        alive = names


@pytest.mark.slow
@settings(deadline=None, max_examples=30)
@given(LOOKS, st.randoms(use_true_random=False))
def test_the_order_of_detections_is_nothing(
    looks: list[tuple[int, list[list[float]]]], random: Any
) -> None:
    one, other = Tracker(aspect=ASPECT), Tracker(aspect=ASPECT)
    time_ns = 0
    for passed_ns, boxes in looks:
        time_ns += passed_ns
        shuffled = random.sample(boxes, len(boxes))
        assert one.update(found(*boxes), time_ns) == other.update(found(*shuffled), time_ns)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0.1, 0.5), min_size=10, max_size=40), st.floats(0, 0.05))
def test_somebody_who_stands_keeps_the_name_at_any_intervals(
    intervals: list[float], jitter: float
) -> None:
    tracker = Tracker(aspect=ASPECT)
    rng = np.random.default_rng(1)
    time_s, names = 1.0, set()
    for passed_s in intervals:
        time_s += passed_s
        box = np.array(at(0.5, 0.5))
        box[:4] += rng.uniform(-jitter, jitter, 4) * HIGH
        names |= {track.name for track in tracker.update(found(box.tolist()), ns(time_s))}
    assert names == {"p1"}


def test_predicting_changes_nothing() -> None:
    one, other = Tracker(aspect=ASPECT), Tracker(aspect=ASPECT)
    for look in range(20):
        boxes = found(at(0.2 + 0.02 * look, 0.5))
        assert one.update(boxes, ns(1 + look / 5)) == other.update(boxes, ns(1 + look / 5))
        for ahead in range(5):
            other.predict(ns(1 + look / 5 + ahead / 25))


# Births and deaths.


def test_a_track_is_announced_after_its_hits_and_never_flickers() -> None:
    seen = watch([unseen(stands(0.5), 3.0, 4.5)], 8)
    assert [len(tracks) for _, tracks in seen[:3]] == [0, 0, 1]
    assert all([t.name for t in tracks] == ["p1"] for _, tracks in seen[2:])


def test_hits_that_lie_too_far_apart_announce_nobody() -> None:
    tracker = Tracker(TrackRules(hits=3, within_s=2.0), ASPECT)
    for look in range(10):
        assert tracker.update(found(at(0.5, 0.5)), ns(1 + 1.5 * look)) == []


def test_a_track_ends_when_it_is_unseen_for_long() -> None:
    seen = watch([unseen(stands(0.5), 2.0, 99)], 6)
    last = [time_s for time_s, tracks in seen if tracks]
    assert last[-1] == pytest.approx(1.8 + 1.8)  # the last hit, and less than unseen_s
    tracker = Tracker(aspect=ASPECT)
    assert tracker.update(found(), ns(1)) == []


def test_faint_boxes_keep_a_track_and_begin_none() -> None:
    tracker = Tracker(aspect=ASPECT)
    for look in range(30):
        boxes = [at(0.8, 0.5, score=0.45)]  # nobody was ever sure of this one
        boxes.append(at(0.3, 0.5, score=0.9 if look < 5 else 0.45))
        tracks = tracker.update(found(*boxes), ns(1 + look / 5))
    assert [track.name for track in tracks] == ["p1"]
    assert tracks[0].seen_ns == ns(1 + 29 / 5)


def test_one_look_that_finds_nobody_ends_no_track_however_late_it_is() -> None:
    """The detector rests while nothing moves: somebody who stands is there when it wakes."""
    tracker = Tracker(aspect=ASPECT)
    for look in range(5):
        tracker.update(found(at(0.5, 0.5)), ns(1 + look / 5))
    assert [t.name for t in tracker.update(found(), ns(3600))] == ["p1"]
    assert [t.name for t in tracker.update(found(at(0.5, 0.5)), ns(3600.2))] == ["p1"]


def test_somebody_who_left_the_picture_is_gone_at_once() -> None:
    seen = watch([unseen(walks(0.5, 1.1, 3), 2.5, 99)], 4)
    names = {time_s: len(tracks) for time_s, tracks in seen}
    assert names[2.4] == 1
    assert names[3.4] == 0  # sooner than the two seconds of somebody who is hidden


def test_a_part_of_somebody_begins_no_track() -> None:
    tracker = Tracker(aspect=ASPECT)
    for look in range(10):
        whole = at(0.5, 0.5)
        upper = [whole[0], whole[1], whole[2], 0.5, 0.8]
        tracks = tracker.update(found(whole, upper), ns(1 + look / 5))
    assert len(tracks) == 1


def test_after_forgetting_names_go_on() -> None:
    tracker = Tracker(aspect=ASPECT, first=7)
    for look in range(3):
        tracks = tracker.update(found(at(0.5, 0.5)), ns(5 + look / 5))
    assert [track.name for track in tracks] == ["p7"]
    tracker.forget(aspect=1.0)
    assert tracker.predict(ns(6)) == []
    for look in range(3):
        tracks = tracker.update(found(at(0.5, 0.5)), ns(1 + look / 5))  # time begins anew
    assert [track.name for track in tracks] == ["p8"]


# Identity.


@pytest.mark.parametrize("hz", [2, 5, 10])
@pytest.mark.parametrize("jitter", [0.0, 0.03])
def test_people_who_cross_keep_their_names(hz: float, jitter: float) -> None:
    """Two walk towards each other; one is hidden while they overlap."""
    hidden = (2.6, 3.4)
    people = [walks(0.1, 0.9, 6, y=0.55), unseen(walks(0.9, 0.1, 6), *hidden)]
    for seed in range(5):
        seen = watch(people, 6, hz, jitter=jitter, seed=seed)
        before = next(tracks for time_s, tracks in seen if time_s >= 2)
        after = seen[-1][1]
        assert {t.name for _, tracks in seen for t in tracks} == {"p1", "p2"}
        for way in people:
            (x0, y0), (x1, y1) = way(2) or (0, 0), way(5.9) or (0, 0)
            assert nearest(before, x0, y0) == nearest(after, x1, y1)


@pytest.mark.parametrize("hz", [2, 5, 10])
@pytest.mark.parametrize("speed", [0.0, 0.1, 0.2])
def test_somebody_hidden_for_a_second_and_a_half_keeps_the_name(hz: float, speed: float) -> None:
    way = unseen(lambda t: (0.15 + speed * t, 0.5), 2.0, 3.5)
    seen = watch([way], 4.4, hz, jitter=0.02)
    assert {t.name for _, tracks in seen for t in tracks} == {"p1"}
    assert seen[-1][1][0].seen_ns >= ns(1 + 3.5)


@pytest.mark.slow
@pytest.mark.parametrize("hz", [2, 10])
def test_twenty_people_keep_their_names(hz: float) -> None:
    rng = np.random.default_rng(3)
    people: list[Way] = []
    for number in range(20):
        x, y = 0.1 + 0.2 * (number % 5), 0.15 + 0.23 * (number // 5)
        phase, sway = rng.uniform(0, 6), rng.uniform(0.01, 0.04)
        people.append(sways(x, y, phase, sway))
    seen = watch(people, 20, hz, jitter=0.02)
    everybody = {f"p{number}" for number in range(1, 21)}
    assert {t.name for t in seen[-1][1]} == everybody
    assert {t.name for _, tracks in seen for t in tracks} == everybody


def test_of_too_many_people_the_announced_stay_and_the_largest_comes_next() -> None:
    rules = TrackRules(most=2)
    tracker = Tracker(rules, ASPECT)
    first = [at(0.2, 0.5), at(0.4, 0.5)]
    waiting = [at(0.6, 0.5, high=0.4), at(0.8, 0.5, high=0.6)]
    for look in range(10):
        tracks = tracker.update(found(*first, *waiting[: look // 5 * 2]), ns(1 + look / 5))
    assert {track.name for track in tracks} == {"p1", "p2"}
    for look in range(10, 40):
        tracks = tracker.update(found(first[0], *waiting), ns(1 + look / 5))
    assert len(tracks) == 2
    assert tracks[1].box[3] - tracks[1].box[1] == pytest.approx(0.6, abs=0.02)
    assert nearest(tracks, 0.2, 0.5) in {"p1", "p2"}


@pytest.mark.slow
def test_an_hour_of_standing_is_one_name() -> None:
    rng = np.random.default_rng(0)
    tracker = Tracker(aspect=ASPECT)
    names = set()
    for look in range(2 * 3600):
        box = np.array(at(0.5, 0.5))
        box[:4] += rng.uniform(-0.03, 0.03, 4) * HIGH
        boxes = found() if rng.random() < 0.1 else found(box.tolist())
        names |= {track.name for track in tracker.update(boxes, ns(1 + look / 2))}
    assert names == {"p1"}


@pytest.mark.parametrize("hz", [2, 5, 10])
def test_somebody_who_enters_at_the_border_gets_one_name(hz: float) -> None:
    """The box is cut at the border and grows as the person comes in; and out on the other side."""
    seen = watch([walks(-0.1, 1.1, 8)], 9, hz)
    assert {t.name for _, tracks in seen for t in tracks} == {"p1"}
    assert seen[-1][1] == []


@pytest.mark.parametrize("shift", [(-0.22, 0.3), (-0.1, -0.25), (0.05, -0.35)])
@pytest.mark.parametrize("hz", [2, 5, 10])
def test_a_camera_that_is_knocked_keeps_the_names(shift: tuple[float, float], hz: float) -> None:
    """All boxes jump between two looks."""
    places = [(0.3, 0.5), (0.5, 0.55), (0.75, 0.45)]
    people = [
        lambda t, x=x, y=y: (x + shift[0] * (t >= 4), y + shift[1] * (t >= 4)) for x, y in places
    ]
    seen = watch(people, 8, hz, jitter=0.02)
    assert {t.name for _, tracks in seen for t in tracks} == {"p1", "p2", "p3"}
    before = next(tracks for time_s, tracks in seen if time_s >= 3)
    for x, y in places:
        after = nearest(seen[-1][1], x + shift[0], y + shift[1])
        assert after == nearest(before, x, y)


def test_a_camera_that_is_turned_elsewhere_leaves_no_ghosts() -> None:
    """Other people at other places: the old names end, and the new are new."""
    elsewhere = [(0.2, 0.2), (0.35, 0.8), (0.9, 0.6)]
    people = [
        lambda t, a=a, b=b: b if t >= 4 else a
        for a, b in zip([(0.3, 0.5), (0.5, 0.5), (0.7, 0.5)], elsewhere, strict=True)
    ]
    seen = watch(people, 8)
    assert all(len(tracks) <= 6 for _, tracks in seen)
    assert len(seen[-1][1]) == 3
    assert all(t.seen_ns == ns(1 + seen[-1][0]) for t in seen[-1][1])


def test_a_camera_that_pans_keeps_the_names() -> None:
    people = [lambda t, x=x: (x - 0.08 * max(0.0, t - 3), 0.5) for x in (0.5, 0.7, 0.9)]
    seen = watch(people, 7, 5)
    assert {t.name for _, tracks in seen for t in tracks} == {"p1", "p2", "p3"}


def test_predictions_go_on_between_looks() -> None:
    tracker = Tracker(aspect=ASPECT)
    for look in range(10):
        tracker.update(found(at(0.2 + 0.1 * look / 5, 0.5)), ns(1 + look / 5))
    now, later = tracker.predict(ns(2.8))[0].box, tracker.predict(ns(3.3))[0].box
    assert later[0] - now[0] == pytest.approx(0.05, abs=0.01)
    far = tracker.predict(ns(500))[0].box
    assert far == tracker.predict(ns(600))[0].box  # nobody walks on for ever


# What is refused.


@pytest.mark.parametrize("shape", [(3, 4), (5,), (1, 5, 1)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(n, 5\)"):
        Tracker().update(np.zeros(shape, np.float32), 1)


@pytest.mark.parametrize("boxes", [np.zeros((0, 5)), np.zeros(0), np.zeros((0, 4))])
def test_nothing_may_have_any_shape(boxes: npt.NDArray[np.float32]) -> None:
    assert Tracker().update(boxes, 1) == []


@pytest.mark.parametrize("time_ns", [5, 4])
def test_a_time_that_stands_still_or_goes_back_is_refused(time_ns: int) -> None:
    tracker = Tracker()
    tracker.update(found(), 5)
    with pytest.raises(ValueError, match="must increase"):
        tracker.update(found(), time_ns)


# Which are looked at.


def track(number: int, high: float) -> Track:
    return Track(f"p{number}", (0.4, 0.0, 0.5, high), 0.9, 0, 0)


def test_the_chosen_stay_and_the_largest_come_next() -> None:
    subjects = Subjects()
    assert [t.name for t in subjects.choose([track(1, 0.2), track(2, 0.3)], 2)] == ["p2", "p1"]
    crowd = [track(1, 0.2), track(2, 0.3), track(3, 0.9), track(4, 0.5)]
    assert {t.name for t in subjects.choose(crowd, 2)} == {"p1", "p2"}
    assert {t.name for t in subjects.choose(crowd[1:], 2)} == {"p2", "p3"}
    assert {t.name for t in subjects.choose(crowd[1:], 1)} == {"p2"}
    assert subjects.choose(crowd, 0) == []
