"""What moves by itself, and what the camera does."""

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.arrays import FlowField, Gray
from pipeline.flow.opencv import DIS
from pipeline.people.camera_motion import STILL_CAMERA, camera_motion, less_camera
from pipeline.people.moving import moving_box
from pipeline.transport.messages import Box

SIZE = (240, 320)


def texture(height: int, width: int, seed: int, grain: int = 6) -> Gray:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (max(2, height // grain), max(2, width // grain)), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


def picture(
    things: Sequence[tuple[int, int, int, int]] = (),
    shift: tuple[float, float] = (0, 0),
    zoom: float = 1.0,
    noise: float = 3.0,
    seed: int = 0,
) -> Gray:
    """A noisy picture of ``SIZE`` with things at (x, y, width, height)."""
    scene = texture(SIZE[0] + 80, SIZE[1] + 80, 1)
    middle = (scene.shape[1] / 2, scene.shape[0] / 2)
    map_ = cv2.getRotationMatrix2D(middle, 0, zoom)
    map_[:, 2] = map_[:, 2] - np.array([40.0, 40.0]) - shift
    shown = cv2.warpAffine(scene, map_, (SIZE[1], SIZE[0]))
    for number, (x, y, wide, high) in enumerate(things):
        shown[y : y + high, x : x + wide] = texture(high, wide, 10 + number, 4)
    rng = np.random.default_rng(seed)
    return np.asarray(np.clip(shown + rng.normal(0, noise, shown.shape), 0, 255), np.uint8)


def flow(before: Gray, after: Gray) -> FlowField:
    return DIS()(before, after)


def overlap(box: Box, thing: tuple[int, int, int, int]) -> float:
    x, y, wide, high = thing
    true = (x / SIZE[1], y / SIZE[0], (x + wide) / SIZE[1], (y + high) / SIZE[0])
    shared = max(0, min(box[2], true[2]) - max(box[0], true[0])) * max(
        0, min(box[3], true[3]) - max(box[1], true[1])
    )
    areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, true)]
    return shared / (sum(areas) - shared)


@pytest.mark.parametrize("noise", [0.0, 3.0, 6.0])
def test_noise_moves_nothing(noise: float) -> None:
    field = flow(picture(noise=noise, seed=1), picture(noise=noise, seed=2))
    assert moving_box(field) is None


@pytest.mark.parametrize("camera", [(0.0, 0.0), (3.0, 2.0), (-6.0, 1.0)])
@pytest.mark.parametrize("place", [(140, 90), (0, 150), (240, 10)])
def test_what_moves_is_found_and_the_camera_is_not(
    camera: tuple[float, float], place: tuple[int, int]
) -> None:
    thing = (*place, 40, 80)
    after = (place[0] + (4 if place[0] < 200 else -4), place[1] + 2, 40, 80)
    field = flow(picture([thing], seed=1), picture([after], shift=camera, seed=2))
    box = moving_box(field)
    assert box is not None
    assert overlap(box, thing) > 0.4


@pytest.mark.parametrize(("shift", "zoom"), [((4, 0), 1.0), ((0, -7), 1.0), ((2, 1), 1.03)])
def test_a_camera_that_moves_over_a_still_scene_moves_nothing(
    shift: tuple[float, float], zoom: float
) -> None:
    field = flow(picture(seed=1), picture(shift=shift, zoom=zoom, seed=2))
    assert moving_box(field) is None
    camera = camera_motion(field)
    left = np.hypot(*np.moveaxis(less_camera(field, camera)[30:-30, 30:-30], -1, 0))
    assert left.mean() < 0.3


def test_a_speck_is_nothing() -> None:
    field = flow(picture([(100, 100, 6, 6)], seed=1), picture([(104, 102, 6, 6)], seed=2))
    assert moving_box(field) is None


def test_a_camera_that_stands_still_is_exactly_still() -> None:
    """Even if somebody near moves most of the picture."""
    field = np.zeros((*SIZE, 2), np.float32)
    field[:, 100:] = 5.0
    assert camera_motion(field) is STILL_CAMERA
    box = moving_box(field)
    assert box is not None
    assert box[0] == pytest.approx(100 / 320, abs=0.05)
    assert less_camera(field, STILL_CAMERA) is field


def affine(matrix: npt.NDArray[np.float64]) -> FlowField:
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    places = np.stack([(x + 0.5) / SIZE[1], (y + 0.5) / SIZE[0], np.ones(SIZE)], axis=-1)
    return np.asarray(places @ matrix.T * [SIZE[1], SIZE[0]], np.float32)


def test_the_fit_finds_the_map_and_a_region_sees_it_at_its_scale() -> None:
    matrix = np.array([[0.02, -0.01, 0.01], [0.01, 0.03, -0.02]])
    camera = camera_motion(affine(matrix))
    assert camera.matrix == pytest.approx(matrix, abs=1e-3)
    region: Box = (0.5, 0.5, 1.0, 1.0)
    seen = camera.field(SIZE, region)
    # The middle of the region, at twice the scale.
    expected = matrix @ [0.75, 0.75, 1.0] * [SIZE[1], SIZE[0]] * 2
    assert seen[120, 160] == pytest.approx(expected, abs=0.2)


@pytest.mark.parametrize("shape", [(1, 1, 2), (2, 3, 2), (9, 300, 2)])
def test_small_fields_are_taken(shape: tuple[int, ...]) -> None:
    assert moving_box(np.zeros(shape, np.float32)) is None
    assert moving_box(np.full(shape, 3, np.float32)) is None  # the camera's
