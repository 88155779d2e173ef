"""Following subjects: each has its own picture and flow, cut as the region lies."""

from collections.abc import Iterator

import numpy as np
import pytest

from pipeline import flow
from pipeline.arrays import Frame
from pipeline.clock import NS_PER_S
from pipeline.flow.base import dequantise
from pipeline.people.looking import CameraPeople
from pipeline.people.tracks import Detections
from pipeline.steps.follow import CameraFollower, SubjectFollower, SubjectsStep, TimedFrame
from pipeline.steps.sampling import Steps
from testbed import tiny_pack
from testbed.walkers import HIGH, WIDE, Walkers

STEP_NS = NS_PER_S // 10


def follow(view: str, walkers: Walkers, steps: int = 20, **changes: object) -> list[SubjectsStep]:
    contract = tiny_pack.contract(view=view, **changes)
    people = CameraPeople(walkers.detect, 10.0) if view == "person" else None
    follower = SubjectFollower(
        Steps("a", contract.step_hz, 0.6), contract, contract.view,
        flow.create(contract.temporal.method), people, most=4,
    )  # fmt: skip
    return list(follower.follow(walkers.frames(steps)))


def test_nothing_that_moves_is_no_subject() -> None:
    assert all(not step.subjects for step in follow("moving", Walkers(())))


def test_what_moves_is_one_subject() -> None:
    steps = follow("moving", Walkers(((60, 4),)))
    last = steps[-1].subjects["moving"]
    x0, _, x1, _ = last.region
    middle = (60 + 4 * 19 + WIDE / 2) / 320
    assert x0 < middle < x1
    assert x1 - x0 < 0.8
    assert last.field is not None
    assert dequantise(last.field, 8.0)[..., 0].max() > 1
    assert steps[0].subjects == {}  # without a second picture nobody knows what moves


def test_each_person_is_a_subject() -> None:
    steps = follow("person", Walkers(((40, 3), (240, -3))))
    names = [sorted(step.subjects) for step in steps]
    assert names[0] == []  # nobody is announced yet
    assert names[-1] == ["p1", "p2"]
    ways = {
        name: float(np.median(dequantise(one.field, 8.0)[2:-2, 6:-6, 0]))
        for name, one in steps[-1].subjects.items()
        if one.field is not None
    }
    assert sorted(np.sign(list(ways.values())).tolist()) == [-1, 1]
    # A new subject has a field at once: it is cut out of the whole picture's.
    first = next(step for step in steps if step.subjects)
    assert all(one.field is not None for one in first.subjects.values())


def test_the_whole_picture_is_sampled_alike() -> None:
    contract, walkers = tiny_pack.contract(), Walkers(((40, 3),))
    whole = CameraFollower(Steps("a", 10, 0.6), contract, flow.create("dis"))
    expected = [(step.moment, step.span) for step in whole.follow(walkers.frames(8))]
    assert [(step.moment, step.span) for step in follow("moving", walkers, 8)] == expected


def test_a_pause_begins_anew() -> None:
    walkers = Walkers(((40, 3), (240, -3)))

    def frames() -> Iterator[TimedFrame]:
        yield from walkers.frames(10)
        for number, one in enumerate(walkers.frames(10)):
            yield TimedFrame(one.pts_ns + 20 * STEP_NS, one.retrieve, number == 0)

    contract = tiny_pack.contract(view="person")
    follower = SubjectFollower(
        Steps("a", 10, 0.6), contract, "person", flow.create("dis"),
        CameraPeople(walkers.detect, 10.0), most=1,
    )  # fmt: skip
    names = [sorted(step.subjects) for step in follower.follow(frames())]
    assert names[9] == ["p1"]  # one of two
    assert names[10] == []
    assert names[19] in (["p3"], ["p4"])  # names are never used twice


@pytest.mark.parametrize("form", ["bgr", "planes"])
def test_both_forms_of_frames(form: str) -> None:
    walkers = Walkers(((40, 3),), planar=form == "planes")
    assert follow("person", walkers)[-1].subjects["p1"].picture.shape == (*tiny_pack.SIZE, 3)


def test_a_detector_gets_whole_frames() -> None:
    shapes: set[tuple[int, ...]] = set()
    walkers = Walkers(((40, 3),))

    def detect(frame: Frame) -> Detections:
        shapes.add(frame.shape)
        return walkers.detect(frame)

    contract = tiny_pack.contract(view="person")
    people = CameraPeople(detect, 10.0)
    follower = SubjectFollower(Steps("a", 10, 0.6), contract, "person", flow.create("dis"), people)
    list(follower.follow(walkers.frames(4)))
    assert shapes == {(240, 320, 3)}
    assert HIGH < 240
