"""The place of a picture in the network's input: undistorted, and there and back."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.arrays import Frame
from pipeline.people.detector import letterboxed
from pipeline.people.letterbox import Letterbox

pictures = st.tuples(st.integers(1, 4000), st.integers(1, 4000))
sides = st.sampled_from([64, 256, 320, 416])
shares = st.tuples(*[st.floats(0, 1)] * 4).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)


@given(pictures, sides)
def test_the_picture_fits_undistorted_and_wastes_less_than_a_multiple(
    picture: tuple[int, int], side: int
) -> None:
    box = Letterbox.of(picture, side, 32)
    assert max(box.inside) == side
    for size, inside, before in zip(box.size, box.inside, (box.top, box.left), strict=True):
        assert size % 32 == 0
        assert 0 <= size - inside < 32
        assert 0 <= before <= size - inside - before + 1
    scale = side / max(picture)
    for inside, whole in zip(box.inside, picture, strict=True):
        assert abs(inside - scale * whole) <= 1  # only rounding to whole pixels


@given(pictures, sides, shares)
def test_boxes_get_there_and_back(
    picture: tuple[int, int], side: int, share: tuple[float, float, float, float]
) -> None:
    box = Letterbox.of(picture, side, 32)
    boxes = np.asarray([share], np.float32)
    np.testing.assert_allclose(box.shares(box.pixels(boxes)), boxes, atol=1e-3)


@given(pictures, st.lists(st.floats(-1000, 1000, width=32), min_size=4, max_size=4))
def test_what_lies_outside_is_cut_off(picture: tuple[int, int], place: list[float]) -> None:
    found = Letterbox.of(picture, 256, 32).shares(np.asarray([place], np.float32))
    assert ((found >= 0) & (found <= 1)).all()


@pytest.mark.parametrize("picture", [(0, 100), (100, 0)])
def test_a_picture_without_pixels_is_refused(picture: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must have pixels"):
        Letterbox.of(picture, 256, 32)


def planar(frame: Frame) -> Frame:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420), np.uint8)[:, :, None]


@pytest.mark.parametrize("form", [np.asarray, planar], ids=["bgr", "planes"])
@pytest.mark.parametrize("picture", [(240, 320), (320, 240), (90, 320), (480, 854), (120, 120)])
def test_a_mark_in_the_frame_is_where_the_box_says(picture: tuple[int, int], form: object) -> None:
    height, width = picture
    frame = np.full((height, width, 3), 40, np.uint8)
    mark = np.asarray([[0.25, 0.4, 0.5, 0.8]], np.float32)
    x0, y0, x1, y1 = np.rint(mark[0] * [width, height, width, height]).astype(int)
    frame[y0:y1, x0:x1] = 220
    given = frame if form is np.asarray else planar(frame)
    box = Letterbox.of(picture, 256, 32)
    canvas = letterboxed(given, box, 114)
    assert canvas.shape == (*box.size, 3)
    rows, columns = np.nonzero(canvas[:, :, 1] > 180)
    seen = np.asarray([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    np.testing.assert_allclose(box.shares(seen), mark, atol=0.02)
    outside = np.ones(box.size, bool)
    outside[box.top : box.top + box.inside[0], box.left : box.left + box.inside[1]] = False
    assert (canvas[outside] == 114).all()
