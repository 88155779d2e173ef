"""What every flow method promises, on motion that is known because it was made."""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.flow_errors import end_point_error
from pipeline.arrays import FlowField, Gray
from pipeline.flow import METHODS, create, create_fast
from pipeline.flow.base import dequantise, quantise

Coordinates = npt.NDArray[np.float64]
Motion = Callable[[Coordinates, Coordinates], tuple[Coordinates, Coordinates]]

_rng = np.random.default_rng(7)
_DIRECTION = _rng.uniform(0, 2 * np.pi, 60)
_FREQUENCY = 2 * np.pi / _rng.uniform(7, 50, 60)
_PHASE = _rng.uniform(0, 2 * np.pi, 60)


def texture(x: Coordinates, y: Coordinates) -> Gray:
    """A smooth pattern without end, exact at any real coordinate."""
    along_x, along_y = _FREQUENCY * np.cos(_DIRECTION), _FREQUENCY * np.sin(_DIRECTION)
    waves = np.sin(x[..., None] * along_x + y[..., None] * along_y + _PHASE).sum(-1)
    return np.asarray(np.clip(np.rint(128 + 12 * waves), 0, 255), np.uint8)


def scene(
    inverse: Motion, forward: Motion, height: int, width: int
) -> tuple[Gray, Gray, FlowField]:
    """Two frames of the texture and the true flow from the first to the second."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    moved_x, moved_y = forward(x, y)
    truth = np.dstack([moved_x - x, moved_y - y]).astype(np.float32)
    return texture(x, y), texture(*inverse(x, y)), truth


def shifted(
    dx: float, dy: float, height: int = 96, width: int = 128
) -> tuple[Gray, Gray, FlowField]:
    return scene(
        lambda x, y: (x - dx, y - dy), lambda x, y: (x + dx, y + dy), height=height, width=width
    )


def turned(degrees: float, zoom: float) -> tuple[Gray, Gray, FlowField]:
    """Rotation and zoom about the middle of a 96 x 128 frame."""
    turn = zoom * np.exp(1j * np.radians(degrees))

    def about_middle(factor: complex) -> Motion:
        def move(x: Coordinates, y: Coordinates) -> tuple[Coordinates, Coordinates]:
            z = ((x - 64) + 1j * (y - 48)) * factor
            return z.real + 64, z.imag + 48

        return move

    return scene(about_middle(1 / turn), about_middle(turn), 96, 128)


def inner_error(flow: FlowField, truth: FlowField, margin: int = 12) -> float:
    """End-point error away from the border, across which the motion can't be seen."""
    inside = slice(margin, -margin)
    return end_point_error(flow[inside, inside], truth[inside, inside])


every_method = pytest.mark.parametrize("name", sorted(METHODS))


@every_method
def test_an_object_that_moves_right_and_down_has_positive_u_and_v(name: str) -> None:
    prev, following, _ = shifted(2.0, 1.0)
    u, v = create(name)(prev, following)[20:-20, 20:-20].mean(axis=(0, 1))
    assert u == pytest.approx(2.0, abs=0.2)
    assert v == pytest.approx(1.0, abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "bound"), [("lucas_kanade", 0.06), ("dis", 0.3), ("farneback", 0.03), ("deep", 0.3)]
)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(dx=st.floats(-6, 6), dy=st.floats(-6, 6))
def test_a_translation_is_found(name: str, bound: float, dx: float, dy: float) -> None:
    prev, following, truth = shifted(dx, dy)
    assert inner_error(create(name)(prev, following), truth) < bound


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "bound"), [("lucas_kanade", 0.2), ("dis", 0.5), ("farneback", 0.3), ("deep", 0.4)]
)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(degrees=st.floats(-4, 4), zoom=st.floats(0.95, 1.05))
def test_a_rotation_with_zoom_is_found(
    name: str, bound: float, degrees: float, zoom: float
) -> None:
    prev, following, truth = turned(degrees, zoom)
    assert inner_error(create(name)(prev, following), truth) < bound


@pytest.mark.parametrize(
    ("name", "bound"), [("lucas_kanade", 1e-3), ("dis", 1e-3), ("farneback", 0.15), ("deep", 1e-3)]
)
def test_a_still_picture_has_no_flow(name: str, bound: float) -> None:
    prev, _, _ = shifted(0, 0)
    assert np.abs(create(name)(prev, prev.copy())).max() < bound


@every_method
@pytest.mark.parametrize(("before", "after"), [(0, 0), (90, 90), (0, 255)])
def test_flat_frames_have_no_flow_even_when_the_light_changes(
    name: str, before: int, after: int
) -> None:
    flow = create(name)(np.full((60, 80), before, np.uint8), np.full((60, 80), after, np.uint8))
    assert np.abs(flow).max() < 1e-3  # a NaN is not below it


@every_method
@pytest.mark.parametrize(
    "shape",
    [
        (1, 1),
        (1, 9),
        (9, 1),
        (2, 3),
        (8, 48),
        (12, 100),
        (15, 213),
        (31, 320),
        (33, 17),
        (121, 161),
    ],
)
def test_any_size_gives_finite_flow_of_that_size(name: str, shape: tuple[int, int]) -> None:
    method = create(name)
    rng = np.random.default_rng(1)
    for _ in range(3):
        prev, following = rng.integers(0, 256, (2, *shape), np.uint8)
        flow = method(prev, following)
        assert flow.shape == (*shape, 2)
        assert flow.dtype == np.float32
        assert np.isfinite(flow).all()


@every_method
def test_memory_layout_of_the_frames_does_not_matter(name: str) -> None:
    prev, following, _ = shifted(1.5, -0.5)
    expected = create(name)(prev, following)
    wide = np.zeros((2, 96, 256), np.uint8)
    wide[0, :, ::2], wide[1, :, ::2] = prev, following
    mirrored = np.ascontiguousarray(prev[:, ::-1]), np.ascontiguousarray(following[:, ::-1])
    for a, b in (
        (wide[0, :, ::2], wide[1, :, ::2]),
        (np.asfortranarray(prev), np.asfortranarray(following)),
        (mirrored[0][:, ::-1], mirrored[1][:, ::-1]),
    ):
        assert np.array_equal(create(name)(a, b), expected)


@every_method
def test_the_frames_are_left_as_they_were(name: str) -> None:
    prev, following, _ = shifted(1.5, -0.5)
    prev.setflags(write=False)
    following.setflags(write=False)
    before = prev.copy(), following.copy()
    create(name)(prev, following)
    assert np.array_equal(prev, before[0])
    assert np.array_equal(following, before[1])


@every_method
def test_a_later_call_does_not_change_an_earlier_result(name: str) -> None:
    method = create(name)
    right, left = shifted(2, 0), shifted(-2, 0)
    first = method(right[0], right[1])
    kept = first.copy()
    second = method(left[0], left[1])
    assert np.array_equal(first, kept)
    assert not np.shares_memory(first, second)
    assert second[48, 64, 0] < 0 < first[48, 64, 0]


@every_method
def test_same_frames_same_bits_whatever_went_before(name: str) -> None:
    """A file leads to the same events every time: no state, no uninitialised memory, no race."""
    prev, following, _ = shifted(2.3, -1.7, height=121, width=161)
    small = shifted(-3, 3, height=60, width=80)
    expected = create(name)(prev, following)
    used = create(name)
    for _ in range(3):
        used(small[0], small[1])
        used(following, prev)
        assert np.array_equal(used(prev, following), expected)
    assert np.array_equal(create(name)(prev, following), expected)


@every_method
def test_the_number_of_threads_does_not_change_a_bit(name: str) -> None:
    """The same file leads to the same events on a machine with other cores."""
    prev, following, _ = shifted(2.3, -1.7, height=120, width=160)
    threads = cv2.getNumThreads()
    try:
        found = []
        for count in (1, 2, 5):
            cv2.setNumThreads(count)
            found.append(create(name)(prev, following))
    finally:
        cv2.setNumThreads(threads)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


@every_method
@pytest.mark.parametrize(
    ("prev", "following", "complaint"),
    [
        (np.zeros((40, 50), np.uint8), np.zeros((40, 51), np.uint8), r"\(40, 50\), \(40, 51\)"),
        (np.zeros((40, 50, 3), np.uint8), np.zeros((40, 50, 3), np.uint8), r"\(40, 50, 3\) uint8"),
        (np.zeros((40, 50), np.uint8), np.zeros((40, 50), np.float32), "next_gray.*float32"),
        (np.zeros((0, 50), np.uint8), np.zeros((0, 50), np.uint8), r"prev_gray.*\(0, 50\)"),
    ],
)
def test_frames_that_make_no_pair_are_refused(
    name: str, prev: Gray, following: Gray, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        create(name)(prev, following)


def test_an_unknown_method_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(
        ValueError, match=r"'tvl1'; must be one of deep, dis, farneback, lucas_kanade"
    ):
        create("tvl1")


@pytest.mark.slow
@given(
    bound=st.floats(0.5, 60),
    fractions=st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=40),
)
def test_quantised_flow_comes_back_to_within_half_a_step(
    bound: float, fractions: list[float]
) -> None:
    flow = (np.array(fractions) * bound).astype(np.float32)
    error = np.abs(dequantise(quantise(flow, bound), bound) - flow).max()
    assert error <= bound / 254 * (1 + 1e-4)


@given(bound=st.floats(0.5, 60), code=st.integers(1, 255))
def test_a_stored_code_is_stable(bound: float, code: int) -> None:
    stored = np.array([code], np.uint8)
    assert quantise(dequantise(stored, bound), bound)[0] == code


@given(bound=st.floats(0.5, 60), excess=st.floats(1, 1e6))
def test_motion_beyond_the_bound_is_clipped(bound: float, excess: float) -> None:
    flow = np.array([0, bound, -bound, bound * excess, -bound * excess], np.float32)
    assert quantise(flow, bound).tolist() == [128, 255, 1, 255, 1]


def test_quantising_mirrored_flow_mirrors_the_codes_and_keeps_shape() -> None:
    flow = np.random.default_rng(3).normal(0, 8, (5, 7, 2)).astype(np.float32)
    plus, minus = quantise(flow, 20.0), quantise(-flow, 20.0)
    assert plus.shape == flow.shape
    assert plus.dtype == np.uint8
    assert np.array_equal(plus.astype(int) - 128, 128 - minus.astype(int))


def test_quantising_leaves_the_flow_as_it_was() -> None:
    flow = np.full((4, 4, 2), 3.3, np.float32)
    quantise(flow, 20.0)
    assert (flow == np.float32(3.3)).all()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_part_of_a_larger_picture_is_a_picture(name: str) -> None:
    rng = np.random.default_rng(4)
    prev, following = rng.integers(0, 255, (2, 120, 160)).astype(np.uint8)
    part = np.s_[20:100, 30:130]
    flow = create(name)(prev[part], following[part])
    assert (flow == create(name)(prev[part].copy(), following[part].copy())).all()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_the_fastest_of_a_method_sees_the_same_motion(name: str) -> None:
    rng = np.random.default_rng(2)
    noise = rng.integers(0, 255, (120, 160), np.uint8)
    picture = np.asarray(cv2.GaussianBlur(noise, (0, 0), 2.0), np.uint8)
    moved = np.roll(picture, 3, axis=1)
    flow = create_fast(name)(picture, moved)
    inner = flow[20:-20, 20:-20]
    assert flow.shape == (120, 160, 2)
    assert abs(float(np.median(inner[..., 0])) - 3.0) < 0.5
    assert abs(float(np.median(inner[..., 1]))) < 0.5
