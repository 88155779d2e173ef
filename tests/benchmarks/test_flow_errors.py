"""The measures, and the reader of ground truth."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.flow_errors import angular_error, end_point_error, read_flo
from pipeline.arrays import FlowField


def flo_bytes(flow: FlowField) -> bytes:
    """A ``.flo`` file as its format describes it."""
    height, width = flow.shape[:2]
    return struct.pack("<fii", 202021.25, width, height) + flow.astype("<f4").tobytes()


def uniform(u: float, v: float) -> FlowField:
    return np.tile(np.array([u, v], np.float32), (4, 6, 1))


def test_a_flo_file_is_read_row_by_row_with_unknown_pixels_as_nan(tmp_path: Path) -> None:
    flow = np.arange(2 * 3 * 2, dtype=np.float32).reshape(2, 3, 2)
    flow[0, 1] = 1.666e9
    flow[1, 2, 0] = np.nan
    flow[1, 0, 1] = np.inf
    path = tmp_path / "flow10.flo"
    path.write_bytes(flo_bytes(flow))
    found = read_flo(path)
    assert found.dtype == np.float32
    unknown = np.isnan(found)
    assert unknown[..., 0].tolist() == [[False, True, False], [True, False, True]]
    assert np.array_equal(unknown[..., 0], unknown[..., 1])
    assert found[0, 0].tolist() == [0, 1]
    assert found[0, 2].tolist() == [4, 5]
    assert found[1, 1].tolist() == [8, 9]
    found[0, 0] = 5  # the caller's own memory, not a view of the file


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"PIEH", "4 bytes, fewer than"),
        (b"RIFF" + struct.pack("<ii", 1, 1) + bytes(8), "starts with b'RIFF'"),
        (b"PIEH" + struct.pack("<ii", 0, 5), "size 0x5"),
        (b"PIEH" + struct.pack("<ii", -3, 5), "size -3x5"),
        (b"PIEH" + struct.pack("<ii", 100_000, 5), "size 100000x5"),
        (flo_bytes(uniform(1, 2))[:-1], "203 bytes, 6x4 pixels take 204"),
        (flo_bytes(uniform(1, 2)) + b"\0", "205 bytes, 6x4 pixels take 204"),
    ],
)
def test_a_malformed_flo_file_is_refused_by_name(
    tmp_path: Path, data: bytes, complaint: str
) -> None:
    path = tmp_path / "broken.flo"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"broken\.flo: .*{complaint}"):
        read_flo(path)


def test_errors_of_a_known_mistake() -> None:
    assert end_point_error(uniform(3, 4), uniform(0, 0)) == pytest.approx(5)
    assert angular_error(uniform(1, 0), uniform(0, 0)) == pytest.approx(45)
    assert angular_error(uniform(-1e6, 0), uniform(1e6, 0)) == pytest.approx(180, abs=1e-3)


def test_half_of_the_pixels_wrong_by_two_is_one_on_average() -> None:
    flow = uniform(0, 0)
    flow[:, ::2, 1] = 2
    assert end_point_error(flow, uniform(0, 0)) == pytest.approx(1)


def test_unknown_truth_does_not_count_but_a_lost_flow_does() -> None:
    truth, flow = uniform(1, 1), uniform(1, 1)
    truth[0, 0] = np.nan
    flow[0, 0] = 50
    assert end_point_error(flow, truth) == 0
    assert angular_error(flow, truth) == pytest.approx(0, abs=1e-4)
    flow[2, 2] = np.nan
    assert np.isnan(end_point_error(flow, truth))


@pytest.mark.parametrize("measure", [end_point_error, angular_error])
def test_measures_refuse_what_cannot_be_compared(
    measure: Callable[[FlowField, FlowField], float],
) -> None:
    with pytest.raises(ValueError, match=r"\(4, 6, 2\), \(4, 5, 2\)"):
        measure(uniform(0, 0), uniform(0, 0)[:, :5])
    with pytest.raises(ValueError, match=r"\(H, W, 2\)"):
        measure(uniform(0, 0)[..., 0], uniform(0, 0)[..., 0])
    with pytest.raises(ValueError, match="unknown at every pixel"):
        measure(uniform(0, 0), np.full((4, 6, 2), np.nan, np.float32))


@pytest.mark.slow
@given(
    st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
    st.tuples(st.floats(-50, 50), st.floats(-50, 50)),
)
def test_errors_are_symmetric_and_zero_only_for_the_same_flow(
    first: tuple[float, float], second: tuple[float, float]
) -> None:
    a, b = uniform(*first), uniform(*second)
    assert end_point_error(a, b) == pytest.approx(end_point_error(b, a))
    assert angular_error(a, b) == pytest.approx(angular_error(b, a))
    assert end_point_error(a, a) == 0
    assert end_point_error(a, b) == pytest.approx(
        np.hypot(a[0, 0, 0] - b[0, 0, 0], a[0, 0, 1] - b[0, 0, 1]), rel=1e-5, abs=1e-6
    )
