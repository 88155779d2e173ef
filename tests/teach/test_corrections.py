"""What a review teaches: which time is an example of what."""

from pipeline.clock import NS_PER_S, from_isoformat
from pipeline.reviews.records import Review
from teach.corrections import Correction, Times, corrections, groups_of, typical_steps
from teach.streams import Labels
from tests.teach.parts import examples

LABELS = Labels(("background", "left", "up"), ("background",), 10.0)
START = from_isoformat("2026-11-24T08:00:10.000Z")
S = NS_PER_S


def review(verdict: str, label: str | None, said: str | None, **changes: object) -> Review:
    values = {
        "camera": "door", "start_time": "2026-11-24T08:00:10.000Z",
        "end_time": "2026-11-24T08:00:14.000Z", "event": "door-1", "by": "ann",
        "time": "2026-11-25T08:00:00.000Z", **changes,
    }  # fmt: skip
    return Review(verdict=verdict, label=label, said=said, **values)  # type: ignore[arg-type]


def only(*reviews: Review, **known: Times) -> Correction:
    (found,), unknown = corrections(
        reviews, LABELS, {1: 20, 2: 30}, 12, {f"door-{k[1:]}": v for k, v in known.items()}
    )
    assert unknown == {}
    return found


def span_s(one: Correction) -> tuple[float, float]:
    return (one.first_ns - START) / S, (one.last_ns - START) / S


def test_a_right_event_reaches_back_by_the_length_of_its_action() -> None:
    found = only(review("right", "left", "left"))
    assert found.label == 1
    assert span_s(found) == (-2.0, 1.2)


def test_another_label_counts_with_its_own_length() -> None:
    found = only(review("other", "up", "left"))
    assert found.label == 2
    assert span_s(found) == (-3.0, 1.8)


def test_what_was_wrong_is_background_by_whole_windows() -> None:
    found = only(review("wrong", None, "left"))
    assert found.label == 0
    assert span_s(found) == (-1.1, 4.0)
    assert only(review("other", "background", "left")).label == 0


def test_what_was_missed_has_its_own_times() -> None:
    assert span_s(only(review("missed", "up", None, event=None))) == (0.0, 4.0)


def test_the_log_knows_better_when_an_event_was() -> None:
    found = only(review("wrong", None, "left"), _1=Times(START + S, START + 2 * S, "p1"))
    assert span_s(found) == (-0.1, 2.0)
    assert found.at.subject == "p1"


def test_other_packs_events_are_left_alone() -> None:
    assert corrections(
        [review("wrong", None, "fall"), review("right", "fall", "fall")], LABELS, {}, 12, {}
    ) == ([], {})


def test_unknown_labels_are_counted() -> None:
    _, unknown = corrections(
        [review("other", "fall", "left"), review("missed", "fall", None)], LABELS, {}, 12, {}
    )
    assert unknown == {"fall": 2}


def test_the_typical_length_is_that_of_clips() -> None:
    assert typical_steps(examples(), LABELS) == {1: 12, 2: 12}


def test_one_moment_is_one_group() -> None:
    found = [
        only(review("wrong", None, "left", start_time=f"2026-11-24T08:0{minute}:10.000Z",
                    end_time=f"2026-11-24T08:0{minute}:14.000Z", camera=camera))
        for minute, camera in ((0, "door"), (0, "door"), (3, "door"), (0, "garden"))
    ]  # fmt: skip
    groups = groups_of(found)
    assert groups[0] == groups[1]
    assert len(set(groups)) == 3
