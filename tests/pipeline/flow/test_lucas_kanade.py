"""Lucas-Kanade against its own equation, and what its parameters refuse."""

from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.arrays import Gray
from pipeline.flow.lucas_kanade import LucasKanade, Parameters


def blob(x: float, y: float) -> Gray:
    """A soft bright spot at (x, y) on a grey 64 x 64 frame."""
    rows, columns = np.mgrid[0:64, 0:64]
    spot = 120 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 6.0**2))
    return np.asarray(np.rint(90 + spot), np.uint8)


def test_the_middle_of_a_blob_moves_as_the_structure_tensor_says() -> None:
    """One level, one iteration, nearly equal weights: the textbook's equation, by hand."""
    prev, following = blob(32, 32), blob(32.4, 31.7)
    parameters = Parameters(
        window=15,
        iterations=1,
        finest_iterations=1,
        coarsest=64,
        high_pass=40.0,
        robust=1e9,
        damping=1e-6,
    )
    found = LucasKanade(parameters)(prev, following)[32, 32]

    mean = (prev.astype(np.float64) + following) / 2
    kernel = np.array([1, -8, 0, 8, -1]) / 12
    window = (slice(32 - 7, 32 + 8), slice(32 - 7, 32 + 8))
    ix = cv2.sepFilter2D(mean, -1, kernel, np.ones(1))[window].ravel()
    iy = cv2.sepFilter2D(mean, -1, np.ones(1), kernel)[window].ravel()
    it = (following.astype(np.float64) - prev)[window].ravel()
    tensor = np.array([[ix @ ix, ix @ iy], [ix @ iy, iy @ iy]])
    expected = np.linalg.solve(tensor, -np.array([ix @ it, iy @ it]))

    assert expected == pytest.approx([0.4, -0.3], abs=0.05)
    assert found == pytest.approx(expected, abs=0.02)


def test_a_flat_middle_is_filled_from_its_textured_surroundings() -> None:
    rng = np.random.default_rng(4)
    noise = cv2.GaussianBlur(rng.normal(0, 900, (120, 160)), (0, 0), 3)
    picture = np.clip(128 + noise, 0, 255).astype(np.uint8)
    picture[45:75, 60:100] = 128
    flow = LucasKanade()(picture[:, 3:-3].copy(), picture[:, :-6].copy())
    assert flow[58:62, 74:80, 0] == pytest.approx(3.0, abs=0.3)
    assert flow[58:62, 74:80, 1] == pytest.approx(0.0, abs=0.3)


@pytest.mark.parametrize(("dx", "dy"), [(8, 0), (-8, 0), (0, 8), (0, -8)])
def test_what_leaves_the_frame_keeps_the_motion_of_its_surroundings(dx: int, dy: int) -> None:
    rng = np.random.default_rng(6)
    noise = cv2.GaussianBlur(rng.normal(0, 700, (140, 180)), (0, 0), 3)
    picture = np.asarray(np.clip(128 + noise, 0, 255), np.uint8)
    flow = LucasKanade()(picture[10:130, 10:170], picture[10 - dy : 130 - dy, 10 - dx : 170 - dx])
    edge = {(8, 0): flow[:, -8:], (-8, 0): flow[:, :8], (0, 8): flow[-8:], (0, -8): flow[:8]}
    distance = np.hypot(edge[dx, dy][..., 0] - dx, edge[dx, dy][..., 1] - dy)
    assert distance.mean() < 1.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("window", 4),
        ("window", 1),
        ("neighbourhood", 0),
        ("iterations", 0),
        ("finest_iterations", 0),
        ("coarsest", 0),
        ("high_pass", 0.0),
        ("robust", -1.0),
        ("damping", float("nan")),
        ("damping", float("inf")),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_name(name: str, value: float) -> None:
    settings: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value}"):
        Parameters(**settings)
