"""Regions are cut out of frames and fields: the right pixels, and flow at the region's scale."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arrays import FlowField, Frame, Gray, picture_size, planes
from pipeline.flow.opencv import DIS
from pipeline.people.cutting import cut, field_in, flow_of_cuts, pixel_rect
from pipeline.people.geometry import WHOLE
from pipeline.transport.messages import Box

SHARE = st.floats(0, 1)


@given(SHARE, SHARE, SHARE, SHARE, st.integers(2, 500), st.integers(2, 500))
def test_a_rectangle_is_even_and_inside(
    a: float, b: float, c: float, d: float, width: int, height: int
) -> None:
    region = min(a, b), min(c, d), max(a, b), max(c, d)
    x, y, wide, high = pixel_rect(region, width, height)
    assert 0 <= x <= x + wide <= width
    assert 0 <= y <= y + high <= height
    assert wide >= 1
    assert high >= 1
    if width % 2 == 0 and height % 2 == 0:
        assert all(number % 2 == 0 for number in (x, y, wide, high))


@pytest.mark.parametrize(("width", "height"), [(640, 480), (641, 479), (2, 2), (3, 1)])
def test_the_whole_picture_stays_whole(width: int, height: int) -> None:
    assert pixel_rect(WHOLE, width, height) == (0, 0, width, height)


@given(SHARE, st.floats(0.05, 0.9))
def test_a_region_that_moves_keeps_its_size_in_pixels(place: float, side: float) -> None:
    x = place * (1 - side)
    first = pixel_rect((0.0, 0.0, side, side), 640, 480)
    assert pixel_rect((x, 0.0, x + side, side), 640, 480)[2:] == pytest.approx(first[2:], abs=2)


def bgr(height: int = 48, width: int = 64) -> Frame:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 255, (6, 8, 3), np.uint8)
    return np.asarray(cv2.resize(small, (width, height)), np.uint8)


def planar(frame: Frame) -> Frame:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420), np.uint8)[:, :, None]


REGIONS: list[Box] = [
    WHOLE,
    (0.0, 0.0, 0.5, 0.5),
    (0.5, 0.25, 1.0, 0.75),
    (0.3, 0.3, 0.31, 0.31),
    (0.9, 0.9, 1.0, 1.0),
]


@pytest.mark.parametrize("region", REGIONS)
def test_both_forms_of_a_frame_are_cut_alike(region: Box) -> None:
    frame = bgr()
    x, y, wide, high = pixel_rect(region, 64, 48)
    part = cut(frame, region)
    assert np.array_equal(part, frame[y : y + high, x : x + wide])
    flat = cut(planar(frame), region)
    assert picture_size(flat.shape) == (high, wide)
    for whole, piece, scale in zip(planes(planar(frame)), planes(flat), (1, 2, 2), strict=True):
        top, left = y // scale, x // scale
        assert np.array_equal(piece, whole[top : top + high // scale, left : left + wide // scale])


def test_the_whole_frame_is_not_copied() -> None:
    frame = bgr()
    assert cut(frame, WHOLE) is frame
    field = np.zeros((4, 4, 2), np.float32)
    assert field_in(field, WHOLE) is field


def shifted(dx: float, dy: float, size: tuple[int, int] = (240, 320)) -> tuple[Gray, Gray]:
    """Two pictures of a texture that moves by (dx, dy) pixels."""
    rng = np.random.default_rng(1)
    noise = rng.integers(0, 255, (size[0] // 6 + 10, size[1] // 6 + 10), np.uint8)
    wide = cv2.resize(noise, None, fx=6, fy=6, interpolation=cv2.INTER_CUBIC)
    moved = [
        cv2.warpAffine(
            wide, np.array([[1, 0, x - 20], [0, 1, y - 20]], np.float64), (size[1], size[0])
        )
        for x, y in ((0, 0), (dx, dy))
    ]
    return np.asarray(moved[0], np.uint8), np.asarray(moved[1], np.uint8)


REGION: Box = (0.25, 0.25, 0.75, 0.5)


def middle(field: FlowField) -> list[float]:
    height, width = field.shape[:2]
    inner = field[height // 4 : -height // 4, width // 4 : -width // 4]
    return [float(one) for one in np.median(inner.reshape(-1, 2), axis=0)]


def test_both_flows_of_a_region_are_at_its_scale() -> None:
    """Half as wide and a quarter as high as the picture: vectors count two and four times."""
    previous, current = shifted(2, 1)
    method = DIS()
    expected = [4.0, 4.0]
    size = previous.shape[0], previous.shape[1]
    assert middle(field_in(method(previous, current), REGION)) == pytest.approx(expected, abs=0.6)
    cuts = flow_of_cuts(previous, current, REGION, size, method)
    assert cuts.shape == (*size, 2)
    assert middle(cuts) == pytest.approx(expected, abs=0.6)


def test_a_field_is_cut_where_the_region_is() -> None:
    field = np.zeros((40, 80, 2), np.float32)
    field[10:20, 20:60] = 1.0  # exactly the region
    inside = field_in(field, REGION)
    assert inside[2:-2, 2:-2] == pytest.approx(np.full((36, 76, 2), [2.0, 4.0]), abs=1e-5)
