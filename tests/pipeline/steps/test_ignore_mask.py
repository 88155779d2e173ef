"""Ignore masks: all of a polygon is painted, nothing else is, and nothing of it reaches a score."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipeline import flow
from pipeline.arrays import STILL, Frame, is_planar, planar_shape, planes
from pipeline.clock import NS_PER_S
from pipeline.evaluate.recogniser import OfflineRecogniser, StepResult
from pipeline.model.pack import ModelPack
from pipeline.steps.follow import CameraFollower, TimedFrame
from pipeline.steps.ignore_mask import CHROMA, GRAY, LUMA, IgnoreMask, covered, inside, still_cells
from pipeline.steps.polygons import Polygon, contains
from pipeline.steps.preprocess import flow_input, gray_for_flow, spatial_input
from pipeline.steps.sampling import Steps
from testbed import tiny_pack
from tests.pipeline.steps.test_polygons import NOTCHED, SQUARE, stars

ALL: Polygon = ((0, 0), (1, 0), (1, 1), (0, 1))
LEFT: Polygon = ((0, 0), (0.5, 0), (0.5, 1), (0, 1))
HEIGHT, WIDTH = 120, 160


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> ModelPack:
    return ModelPack.load(tiny_pack.make(tmp_path_factory.mktemp("pack") / "tiny"))


def noise(shape: tuple[int, ...], seed: int = 0) -> Frame:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@given(stars(), st.integers(2, 40), st.integers(2, 40))
@example(
    (
        (0.7430924800994192, 0.5583613409639764),
        (0.5196147739319612, 0.749229333433282),
        (0.2690301168721783, 0.5956708580912725),
        (0.337637987917454, 0.30989850859999235),
        (0.6306246411789871, 0.28683995891147684),
    ),
    16,
    19,
)
@settings(max_examples=30, deadline=None)
def test_every_pixel_inside_is_painted_and_none_far_outside(
    polygon: Polygon, height: int, width: int
) -> None:
    painted = inside(polygon, height, width) > 0
    centres = np.array(
        [
            [contains(polygon, ((x + 0.5) / width, (y + 0.5) / height)) for x in range(width)]
            for y in range(height)
        ]
    )
    assert not (centres & ~painted).any()
    # Beside those, the pixels that a side runs through, and their neighbours.
    along = sum(
        2 + 2 * (abs(x1 - x0) * width + abs(y1 - y0) * height)
        for (x0, y0), (x1, y1) in zip(polygon, polygon[1:] + polygon[:1], strict=True)
    )
    assert (painted & ~centres).sum() <= along


def test_the_whole_picture_can_be_painted() -> None:
    for size in ((2, 2), (48, 64), (61, 83)):
        assert inside(ALL, *size).all()
    assert covered([ALL]) == 1.0
    assert covered([]) == 0.0


def test_polygons_that_overlap_hide_what_each_of_them_hides() -> None:
    assert covered([SQUARE, SQUARE]) == covered([SQUARE]) == pytest.approx(0.16, abs=0.01)
    frame = noise((HEIGHT, WIDTH, 3))
    IgnoreMask([SQUARE, ALL, NOTCHED]).paint(frame)
    assert (frame == GRAY).all()


def test_a_picture_of_channels_is_painted_in_place() -> None:
    frame, before = noise((HEIGHT, WIDTH, 3)), noise((HEIGHT, WIDTH, 3))
    IgnoreMask([NOTCHED]).paint(frame)
    mask = inside(NOTCHED, HEIGHT, WIDTH) > 0
    assert (frame[mask] == GRAY).all()
    assert np.array_equal(frame[~mask], before[~mask])


def test_planes_are_painted_and_no_colour_of_the_inside_is_left() -> None:
    frame, before = (noise(planar_shape(HEIGHT, WIDTH)) for _ in range(2))
    IgnoreMask([NOTCHED]).paint(frame)
    mask = inside(NOTCHED, HEIGHT, WIDTH) > 0
    luma, *colours = planes(frame)
    assert (luma[mask] == LUMA).all()
    assert np.array_equal(luma[~mask], planes(before)[0][~mask])
    few = mask.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).any(axis=(1, 3))
    for colour, old in zip(colours, planes(before)[1:], strict=True):
        assert (colour[few] == CHROMA).all()
        assert np.array_equal(colour[~few], old[~few])


def test_both_forms_become_the_same_gray(pack: ModelPack) -> None:
    for shape in ((HEIGHT, WIDTH, 3), planar_shape(HEIGHT, WIDTH)):
        frame = noise(shape)
        IgnoreMask([ALL]).paint(frame)
        assert (spatial_input(frame, pack.contract) == GRAY).all()
        assert (gray_for_flow(frame, pack.contract) == GRAY).all()


def test_a_camera_may_change_its_size_and_form() -> None:
    mask = IgnoreMask([LEFT])
    for shape in ((48, 64, 3), planar_shape(48, 64), (72, 64, 3), (48, 64, 3), (31, 17, 3)):
        frame = noise(shape)
        mask.paint(frame)
        picture = planes(frame)[0] if is_planar(frame) else frame[:, :, 0]
        half = picture.shape[1] // 2
        assert len(np.unique(picture[:, :half])) == 1
        assert len(np.unique(picture[:, half + 1 :])) > 1


def test_without_polygons_nothing_is_done() -> None:
    mask, frame = IgnoreMask([]), noise((4, 4, 3))
    assert not mask
    assert mask.painted(frame) is frame
    assert still_cells([], (4, 4)) is None


def test_what_a_source_keeps_stays_as_it_is() -> None:
    kept = noise((HEIGHT, WIDTH, 3))
    assert (IgnoreMask([ALL]).painted(kept) == GRAY).all()
    assert np.array_equal(kept, noise((HEIGHT, WIDTH, 3)))


@pytest.mark.parametrize("method", ["dis", "lucas_kanade", "farneback"])
def test_flow_of_what_moves_inside_is_exactly_zero(pack: ModelPack, method: str) -> None:
    """The rest of the picture stands still; what is ignored is another picture in each frame."""
    still = noise((HEIGHT, WIDTH, 3))
    pictures = []
    for seed in (1, 2):
        picture = still.copy()
        picture[:, : WIDTH // 2] = noise((HEIGHT, WIDTH // 2, 3), seed)
        IgnoreMask([LEFT]).paint(picture)
        pictures.append(gray_for_flow(picture, pack.contract))
    before, after = pictures
    field = flow_input(before, after, 1.0, flow.create(method), pack.contract)
    assert (field == STILL).all()


@pytest.mark.parametrize("method", ["dis", "lucas_kanade", "farneback"])
def test_flow_inside_is_exactly_zero_while_the_rest_moves(pack: ModelPack, method: str) -> None:
    steps = Steps("door", 10.0, 0.6)
    follower = CameraFollower(steps, pack.contract, flow.create(method), [LEFT])
    fields = [step.field for step in follower.follow(scenes(1, False)) if step.field is not None]
    middle = pack.contract.temporal.size[1] // 2
    assert len(fields) == 19
    for field in fields:
        assert (field[:, :middle] == STILL).all()
        assert (field[:, middle + 1 :, 0] < STILL).any()


def scenes(inside_seed: int, planar: bool) -> Iterator[TimedFrame]:
    """Two seconds of a picture that moves to the left; its left half is noise of a seed."""
    wide = noise((HEIGHT // 8, WIDTH // 2, 3), 5).repeat(8, axis=0).repeat(8, axis=1)
    random = np.random.default_rng(inside_seed)
    for number in range(20):
        frame = wide[:, 4 * number : 4 * number + WIDTH].copy()
        frame[:, : WIDTH // 2] = random.integers(0, 256, (HEIGHT, WIDTH // 2, 3), np.uint8)
        if planar:
            flat = np.empty(planar_shape(HEIGHT, WIDTH), np.uint8)
            for place, plane in zip(planes(flat), np.moveaxis(frame, 2, 0), strict=True):
                step = frame.shape[0] // place.shape[0]
                place[:] = plane[::step, ::step]
            frame = flat
        yield TimedFrame(number * NS_PER_S // 10, lambda frame=frame: frame)  # type: ignore[misc]


def told(steps: list[StepResult]) -> list[list[bytes | None]]:
    return [
        [None if one is None else one.tobytes() for one in (s.scores, s.spatial, s.temporal)]
        for s in steps
    ]


@pytest.mark.parametrize("planar", [False, True])
def test_what_happens_inside_changes_no_score_while_the_rest_moves(
    pack: ModelPack, planar: bool
) -> None:
    # One for each: the first field of OpenCV's DIS differs from what it computes of the same
    # pictures later.
    masked, bare = (
        [list(OfflineRecogniser(pack).steps(scenes(seed, planar), ignore)) for seed in (1, 2)]
        for ignore in ([LEFT], [])
    )
    assert told(masked[0]) == told(masked[1])
    assert told(bare[0]) != told(bare[1])
    assert len(masked[0]) == 20
    assert max(step.scores[1] for step in masked[0]) > 0.7  # the rest is still seen
