"""Looking: the detector rests in a still room, and tracks begin anew with a segment."""

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.arrays import Frame, planar_shape
from pipeline.clock import NS_PER_S
from pipeline.people.gate import HOLD_S, MotionGate, differs
from pipeline.people.looking import CameraPeople
from pipeline.people.tracks import Detections

STEP_NS = NS_PER_S // 10
NOBODY: Detections = np.empty((0, 5), np.float32)
SOMEBODY: Detections = np.array([[0.4, 0.2, 0.6, 0.9, 0.9]], np.float32)


def room(noise: float = 0.0, seed: int = 0, light: float = 0.0) -> Frame:
    """A picture of an empty room, 640×360 BGR."""
    rng = np.random.default_rng(7)
    walls = rng.uniform(60, 160, (9, 16)).repeat(40, 0).repeat(40, 1)[..., None].repeat(3, 2)
    grains = np.random.default_rng(seed).normal(0, noise, walls.shape) if noise else 0.0
    return np.clip(walls + grains + light, 0, 255).astype(np.uint8)


def with_block(frame: Frame, x: int, side: int = 30) -> Frame:
    frame = frame.copy()
    frame[100 : 100 + 2 * side, x : x + side] = (20, 220, 30)
    return frame


class Counting:
    """A detector that finds always the same."""

    def __init__(self, answer: Detections = NOBODY) -> None:
        self.answer = answer
        self.seen_ns: list[int] = []

    def __call__(self, frame: Frame) -> Detections:
        return self.answer


def looks(people: CameraPeople, frames: list[Frame], start: int = 0, segment: int = 0) -> list[int]:
    """The steps at which the detector looked."""
    found = []
    for step, frame in enumerate(frames, start):
        before = people.looks
        people.look(frame, step * STEP_NS, segment)
        if people.looks > before:
            found.append(step)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.0, 3.0, 8.0])
def test_the_detector_rests_in_a_still_room(noise: float) -> None:
    people = CameraPeople(Counting(), hz=5)
    steps = looks(people, [room(noise, seed) for seed in range(60)])
    # The first picture is new; nothing is after that.
    assert steps == list(range(0, int(HOLD_S * 10) + 1, 2))


def test_it_looks_while_somebody_moves_and_a_while_longer() -> None:
    people = CameraPeople(Counting(), hz=5)
    frames = [room()] * 40 + [with_block(room(), 10 * x) for x in range(20)]
    frames += [with_block(room(), 190)] * 60
    steps = looks(people, frames)
    assert [step for step in steps if 22 <= step < 40] == []
    assert [step for step in steps if 40 <= step < 60] == list(range(40, 60, 2))
    assert max(steps) <= 60 + HOLD_S * 10 + 2
    assert max(steps) >= 60 + HOLD_S * 10 - 2


@pytest.mark.parametrize("light", [-20.0, 20.0])
def test_the_light_alone_is_nothing_new(light: float) -> None:
    people = CameraPeople(Counting(), hz=5)
    assert looks(people, [room()] * 30 + [room(light=light)] * 30)[-1] <= HOLD_S * 10


@pytest.mark.slow
@pytest.mark.parametrize("hz", [1.0, 3.0, 4.0, 10.0, 60.0])
def test_it_looks_no_oftener_than_it_may(hz: float) -> None:
    people = CameraPeople(Counting(), hz=hz)
    frames = [with_block(room(), (7 * x) % 500) for x in range(100)]
    assert len(looks(people, frames)) == pytest.approx(min(hz, 10.0) * 10, abs=1)


def test_a_rest_is_not_made_up_for() -> None:
    people = CameraPeople(Counting(), hz=2)
    looks(people, [room()] * 100)
    steps = looks(people, [with_block(room(), 10 * x) for x in range(20)], start=100)
    assert min(np.diff(steps)) >= 5


@pytest.mark.slow
def test_a_person_who_stands_still_stays() -> None:
    people = CameraPeople(Counting(SOMEBODY), hz=5)
    frames = [with_block(room(), 250 + x) for x in range(20)] + [with_block(room(), 270)] * 600
    names = [[t.name for t in people.look(f, n * STEP_NS)] for n, f in enumerate(frames)]
    assert names[-1] == ["p1"]
    assert people.looks < 30


@pytest.mark.parametrize("what", ["segment", "size"])
def test_tracks_begin_anew(what: str) -> None:
    people = CameraPeople(Counting(SOMEBODY), hz=10)
    frames = [with_block(room(), 250 + x) for x in range(10)]
    for step, frame in enumerate(frames):
        tracks = people.look(frame, step * STEP_NS)
    assert [track.name for track in tracks] == ["p1"]
    if what == "size":
        frames = [frame[:300] for frame in frames]
    # Time may begin anew with a segment.
    start = 0 if what == "segment" else len(frames)
    segment = 1 if what == "segment" else 0
    found = [
        [t.name for t in people.look(frame, (start + n) * STEP_NS, segment)]
        for n, frame in enumerate(frames)
    ]
    assert found[0] == []
    assert found[-1] == ["p2"]


def test_a_time_that_repeats_is_no_error() -> None:
    people = CameraPeople(Counting(SOMEBODY), hz=100)
    for x, time_ns in enumerate((0, STEP_NS, STEP_NS, STEP_NS // 2, 2 * STEP_NS, 3 * STEP_NS)):
        tracks = people.look(with_block(room(), 50 * x), time_ns)
    assert [track.name for track in tracks] == ["p1"]


def test_planes_are_looked_at_as_pictures_are() -> None:
    still = np.full(planar_shape(360, 640), 90, np.uint8)
    moved = still.copy()
    moved[100:160, 200:230] = 200
    gate = MotionGate()
    assert gate.open(still, 0)
    gate.looked()
    assert not gate.open(still, round(3 * NS_PER_S))
    assert gate.open(moved, round(4 * NS_PER_S))


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (90, 2), (2, 1000)])
def test_a_picture_of_any_size_is_reduced(size: tuple[int, int]) -> None:
    gate = MotionGate()
    frame: npt.NDArray[np.uint8] = np.zeros((*size, 3), np.uint8)
    assert gate.open(frame, 0)
    gate.looked()
    assert not gate.open(frame, round(9 * NS_PER_S))


def test_one_cell_is_a_spark() -> None:
    one: npt.NDArray[np.uint8] = np.full((54, 96), 100, np.uint8)
    other = one.copy()
    other[20, 30] = 255
    assert not differs(one, other)
    other[20, 31] = 255
    assert differs(one, other)
