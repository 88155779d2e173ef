"""The network behind ``deep``: that it is the one expected, and how near the truth it comes."""

import os
import threading
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import pytest

from benchmarks.flow import PAIRS, Pair, errors, harder, load_pairs, still
from benchmarks.flow_errors import angular_error, end_point_error
from pipeline.arrays import FlowField, Gray
from pipeline.errors import PackError
from pipeline.flow import create, deep

DATA = os.environ.get("TWO_STREAM_DATA")
needs_data = pytest.mark.skipif(
    not DATA, reason="TWO_STREAM_DATA doesn't say where the Middlebury pairs are"
)


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    return load_pairs(Path(DATA or "") / "flow")


@pytest.fixture(scope="module")
def means(pairs: list[Pair]) -> dict[str, dict[str, float]]:
    """Mean error of each method under each condition."""
    conditions = {"plain": pairs, **harder(pairs), "still": still(pairs)}
    return {
        name: {
            what: float(np.mean(list(errors(create(name), those).values())))
            for what, those in conditions.items()
        }
        for name in ("deep", "dis", "farneback")
    }


@pytest.mark.slow
@needs_data
def test_it_is_nearer_the_truth_than_farneback_on_every_pair(pairs: list[Pair]) -> None:
    for measure in (end_point_error, angular_error):
        ours, theirs = (errors(create(name), pairs, measure) for name in ("deep", "farneback"))
        for pair in PAIRS:
            assert ours[pair] < theirs[pair], f"{pair}: {ours[pair]:.3f}, {theirs[pair]:.3f}"


@pytest.mark.slow
@needs_data
@pytest.mark.parametrize("condition", ["plain", "brighter"])
def test_it_is_nearer_the_truth_than_dis(
    condition: str, means: dict[str, dict[str, float]]
) -> None:
    assert means["deep"][condition] < means["dis"][condition]


@pytest.mark.slow
@needs_data
def test_a_change_of_light_costs_nearly_nothing(means: dict[str, dict[str, float]]) -> None:
    assert means["deep"]["brighter"] < means["deep"]["plain"] + 0.02


def test_the_shipped_file_is_small_and_says_where_it_comes_from() -> None:
    assert deep.NETWORK_FILE.stat().st_size < 2 << 20
    graph = onnx.load(deep.NETWORK_FILE)
    about = {entry.key: entry.value for entry in graph.metadata_props}
    assert about.keys() >= {"name", "version", "licence", "provenance", "parity_px"}
    assert float(about["parity_px"]) < 1e-2
    for tensor in (*graph.graph.input, *graph.graph.output):
        sides = [dim.dim_param for dim in tensor.type.tensor_type.shape.dim]
        assert sides in (["n", "h", "w"], ["n", "", "h", "w"])


def test_another_file_in_its_place_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.onnx"
    with pytest.raises(PackError, match=r"deep\.onnx: No such file.*reinstall"):
        deep.load_network(path)
    content = bytearray(deep.NETWORK_FILE.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(PackError, match=rf"deep\.onnx: its SHA-256 is .*{deep.NETWORK_SHA256}"):
        deep.load_network(path)


def picture(height: int, width: int) -> Gray:
    rng = np.random.default_rng(2)
    noise = rng.integers(0, 256, (height, width), np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 1.5), np.uint8)


@pytest.mark.parametrize("shape", [(120, 160), (64, 64), (33, 71), (1, 1)])
def test_frames_that_are_alike_have_no_flow(shape: tuple[int, int]) -> None:
    frame = picture(*shape)
    assert np.abs(create("deep")(frame, frame.copy())).max() < 1e-3


def test_a_frame_too_small_for_the_network_is_the_same_as_one_with_its_border_repeated() -> None:
    large = picture(100, 150)
    prev, following = large[10:90, 10:130], large[11:91, 12:132]
    padded = [
        cv2.copyMakeBorder(frame, 0, 48, 0, 8, cv2.BORDER_REPLICATE) for frame in (prev, following)
    ]
    whole = create("deep")(np.asarray(padded[0], np.uint8), np.asarray(padded[1], np.uint8))
    assert np.array_equal(create("deep")(prev, following), whole[:80, :120])


def test_objects_of_several_threads_share_the_network_and_disturb_no_other() -> None:
    large = picture(140, 180)
    moves = [(1, 2), (3, 0), (0, 4), (2, 2)]
    prev = large[10:130, 10:170]
    others = [large[10 + y : 130 + y, 10 + x : 170 + x] for y, x in moves]
    expected = [create("deep")(prev, other) for other in others]
    found: dict[int, list[FlowField]] = {}

    def work(index: int) -> None:
        method = create("deep")
        found[index] = [method(prev, others[index]) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(moves))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, flows in found.items():
        assert all(np.array_equal(flow, expected[index]) for flow in flows)
    middles: list[npt.NDArray[np.float32]] = [flow[60, 80] for flow in expected]
    for (y, x), middle in zip(moves, middles, strict=True):
        assert middle == pytest.approx([-x, -y], abs=0.4)
