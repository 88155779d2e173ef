"""Frames as the appearance network's input."""

import cv2
import numpy as np
import pytest

from pipeline.pictures import padded_bgr


@pytest.mark.parametrize(
    ("shape", "inside"),
    [((90, 160), (27, 48)), ((160, 90), (36, 20)), ((36, 48), (36, 48)), ((1, 200), (1, 48))],
)
@pytest.mark.parametrize("planar", [False, True])
def test_a_padded_picture_keeps_its_shape(
    shape: tuple[int, int], inside: tuple[int, int], planar: bool
) -> None:
    if planar:
        shape = (2 * shape[0], 2 * shape[1])  # planes have even sides
    white = np.full((*shape, 3), 255, np.uint8)
    frame = cv2.cvtColor(white, cv2.COLOR_BGR2YUV_I420)[:, :, None] if planar else white
    picture = padded_bgr(np.asarray(frame, np.uint8), (36, 48))
    assert picture.shape == (36, 48, 3)
    lit = picture[..., 0] > 200
    rows, columns = np.flatnonzero(lit.any(1)), np.flatnonzero(lit.any(0))
    assert (len(rows), len(columns)) == inside
    # It lies in the middle.
    assert abs(rows[0] - (35 - rows[-1])) <= 1
    assert abs(columns[0] - (47 - columns[-1])) <= 1
