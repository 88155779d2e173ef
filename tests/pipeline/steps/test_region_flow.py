"""Regions' flow: at the region's scale, without the camera's motion, and without a past."""

from dataclasses import dataclass

import numpy as np
import pytest

from pipeline import flow
from pipeline.arrays import Frame
from pipeline.flow.base import dequantise
from pipeline.model.pack import Contract
from pipeline.steps.region_flow import RegionFinder, RegionFlow, WholeFlow
from pipeline.transport.messages import Box, Moment
from testbed import tiny_pack

SIZE = (240, 320)
NOTHING = WholeFlow(None, None, 1)


@dataclass(frozen=True)
class Somebody:
    name: str
    box: Box


@pytest.fixture(scope="module")
def contract() -> Contract:
    return tiny_pack.contract(view="person")


def moment(step: int, segment: int = 0) -> Moment:
    return Moment(
        camera="door", segment=segment, step_id=step, frame_id=step,
        captured_ns=step * 100_000_000, pts_ns=None, elapsed_steps=1.0, skipped=0,
    )  # fmt: skip


def room(block_x: int, shift: int = 0) -> Frame:
    """A textured room, shifted as by the camera, and a textured block that stands before it."""
    rng = np.random.default_rng(3)
    walls = rng.integers(60, 200, (SIZE[0] // 8, (SIZE[1] + 80) // 8), np.uint8)
    wide = np.repeat(np.repeat(walls, 8, 0), 8, 1)
    frame = wide[:, 40 - shift : 40 - shift + SIZE[1]].copy()
    block = rng.integers(0, 255, (15, 5), np.uint8)
    frame[60:180, block_x : block_x + 40] = np.repeat(np.repeat(block, 8, 0), 8, 1)
    return np.repeat(frame[..., np.newaxis], 3, 2)


def mean_flow(
    contract: Contract, frames: list[Frame], region: Box, on_cuts: bool
) -> tuple[float, float]:
    steps = RegionFlow(flow.create("dis"), contract, on_cuts=on_cuts)
    for number, frame in enumerate(frames):
        steps.steps.advance(moment(number))
        whole = steps.whole(steps.steps.gray(frame), steps.picture(frame))
    field = steps.inside(whole, {"p1": region})["p1"]
    x, y = np.median(dequantise(field, contract.temporal.bound).reshape(-1, 2), axis=0)
    return float(x), float(y)


@pytest.mark.parametrize("on_cuts", [False, True])
def test_motion_is_at_the_scale_of_the_region(contract: Contract, on_cuts: bool) -> None:
    tight: Box = (100 / 320, 70 / 240, 140 / 320, 170 / 240)
    x, y = mean_flow(contract, [room(96), room(100)], tight, on_cuts)
    # 4 px of 320 are 1 px of the 80 that flow sees; the region is an eighth of the width.
    assert x == pytest.approx(8.0, abs=1.5)
    assert y == pytest.approx(0.0, abs=1.0)


@pytest.mark.parametrize("on_cuts", [False, True])
def test_the_cameras_motion_is_taken_off(contract: Contract, on_cuts: bool) -> None:
    wall: Box = (0.6, 0.2, 0.9, 0.8)
    x, _ = mean_flow(contract, [room(40, 0), room(40, 8)], wall, on_cuts)
    assert abs(x) < 0.7


def test_a_new_subject_has_a_field_at_its_first_step(contract: Contract) -> None:
    steps = RegionFlow(flow.create("dis"), contract)
    for number in range(2):
        steps.steps.advance(moment(number))
        whole = steps.whole(steps.steps.gray(room(96 + 4 * number)))
    assert set(steps.inside(whole, {"p1": (0.0, 0.0, 0.5, 1.0)})) == {"p1"}


def test_the_first_step_of_a_segment_has_none(contract: Contract) -> None:
    steps = RegionFlow(flow.create("dis"), contract)
    for number, segment in enumerate((0, 0, 1)):
        steps.steps.advance(moment(number, segment))
        whole = steps.whole(steps.steps.gray(room(96)))
    assert whole.field is None
    assert steps.inside(whole, {"p1": (0.0, 0.0, 0.5, 1.0)}) == {}


def test_an_ignored_part_doesnt_move(contract: Contract) -> None:
    half = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    steps = RegionFlow(flow.create("dis"), contract, ignore=[half])
    for number in range(2):
        steps.steps.advance(moment(number))
        whole = steps.whole(steps.steps.gray(room(96 + 4 * number)))
    assert whole.field is not None
    assert not whole.field[:, : whole.field.shape[1] // 2].any()


def test_an_ignored_part_of_a_region_doesnt_move(contract: Contract) -> None:
    half = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
    steps = RegionFlow(flow.create("dis"), contract, ignore=[half], on_cuts=True)
    for number in range(2):
        frame = room(140 + 8 * number)
        steps.steps.advance(moment(number))
        whole = steps.whole(steps.steps.gray(frame), steps.picture(frame))
    field = steps.inside(whole, {"p1": (0.25, 0.1, 0.75, 0.9)})["p1"]
    middle = field.shape[1] // 2
    assert (field[:, : middle - 1] == 128).all()
    assert (field[:, middle:] != 128).any()


def test_nobody_knows_regions_of_people_whom_nobody_looked_for(contract: Contract) -> None:
    finder = RegionFinder("person", contract)
    assert finder.find(0, 0, 4 / 3, NOTHING, None, 4) is None
    assert finder.find(0, 0, 4 / 3, NOTHING, [], 4) == {}


def test_only_some_of_many_are_looked_at(contract: Contract) -> None:
    finder = RegionFinder("person", contract)
    people = [Somebody(f"p{n}", (0.1 * n, 0.1, 0.1 * n + 0.08, 0.2 + 0.05 * n)) for n in range(8)]
    first = finder.find(0, 0, 4 / 3, NOTHING, people, 3)
    assert first is not None
    assert set(first) == {"p7", "p6", "p5"}
    # Those who are looked at stay, though a larger one comes.
    people.append(Somebody("p9", (0.0, 0.0, 0.9, 1.0)))
    assert set(finder.find(0, 100, 4 / 3, NOTHING, people, 3) or ()) == set(first)


def test_what_moves_needs_no_people(contract: Contract) -> None:
    finder = RegionFinder("moving", contract)
    steps = RegionFlow(flow.create("dis"), contract)
    for number in range(3):
        steps.steps.advance(moment(number))
        whole = steps.whole(steps.steps.gray(room(96 + 8 * number)))
        found = finder.find(0, number * 100_000_000, 4 / 3, whole)
    assert found is not None
    x0, _, x1, _ = found["moving"]
    assert x0 < 112 / 320 < 150 / 320 < x1
