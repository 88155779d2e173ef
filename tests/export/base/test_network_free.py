"""The streams without weights, against the formulas that they stand for, in plain numpy."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pytest

from export.base.flow_statistics import BOUND, FEATURE_SIZE, FLOW_SIZE, MASS, SIZE, flow_graph
from export.base.network_free import write
from export.base.still import still_graph
from pipeline import flow
from pipeline.arrays import Gray
from pipeline.flow.base import quantise
from pipeline.model.pack import ModelPack
from pipeline.steps.preprocess import flow_input, gray_for_flow
from testbed.footage import shared_data

Doubles = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]
SHIPPED = Path(__file__).parents[3] / "models" / "base"
STILL = 128


def run(graph: onnx.ModelProto, inputs: Mapping[str, Bytes]) -> npt.NDArray[np.float32]:
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    features: npt.NDArray[np.float32] = session.run(None, dict(inputs))[0]
    return features


def moving(field: Bytes) -> Doubles:
    """(h, w, 2) in pixels, without the picture's own motion."""
    pixels = (field.astype(np.float64) - STILL) * (BOUND / 127)
    own: Doubles = pixels - np.median(pixels[::4, ::4].reshape(-1, 2), axis=0)
    return own


def whole(field: Bytes) -> Doubles:
    """What the first numbers of ``flow`` mean, as one would write it down."""
    found = np.zeros(len(MASS))
    u = moving(field)
    length = np.hypot(u[..., 0], u[..., 1])
    weight = np.maximum(0, length - 0.35)
    found[0] = np.log1p(weight.sum())
    if weight.sum() < 3:
        return found
    w = weight / weight.sum()
    h, v = (np.arange(SIZE[1]) + 0.5) / SIZE[1] * (4 / 3), (np.arange(SIZE[0]) + 0.5) / SIZE[0]
    x, y = (w * h).sum(), (w * v[:, None]).sum()
    dx, dy = np.broadcast_to(h - x, SIZE), np.broadcast_to((v - y)[:, None], SIZE)
    width, height = np.sqrt((w * dx * dx).sum()), np.sqrt((w * dy * dy).sum())
    size = max(0.03, 2 * np.hypot(width, height))
    velocity = (w[..., None] * u).sum((0, 1)) / FLOW_SIZE[0]
    own = u / FLOW_SIZE[0] - velocity
    spread = width**2 + height**2 + 1e-6
    path = (w * length).sum()
    angle = np.arctan2(u[..., 1], u[..., 0])
    direction = np.floor((angle + np.pi / 8) / (np.pi / 4)).astype(int) % 8
    found[1:] = [
        (length > 0.35).mean(), x, y, width, height,
        (w * dx * dy).sum() / max(1e-6, width * height),
        *(velocity * 10), *(velocity / size), np.hypot(*velocity) / size, size,
        (w * (own[..., 0] * dx + own[..., 1] * dy)).sum() / spread,
        (w * (own[..., 1] * dx - own[..., 0] * dy)).sum() / spread,
        path / FLOW_SIZE[0] * 10, path / FLOW_SIZE[0] / size,
        *np.bincount(direction.ravel(), w.ravel(), 8),
        np.sqrt((w[..., None] * own**2).sum()) / size,
        (w * u[..., 1]).sum() / max(1e-6, path),
        height / max(1e-3, width),
    ]  # fmt: skip
    return found


def grid(field: Bytes) -> Doubles:
    u = moving(field)
    all_three = np.concatenate([u, np.hypot(u[..., :1], u[..., 1:])], axis=-1)
    means: Doubles = all_three.reshape(6, 16, 8, 16, 3).mean((1, 3)).reshape(-1)
    return means


def check(fields: Bytes) -> npt.NDArray[np.float32]:
    """Compare the graph with the formulas; returns what it found."""
    found = run(flow_graph(), {"flow": fields[:, None]})
    wanted = np.array([np.concatenate([whole(field), grid(field)]) for field in fields])
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    return found


def field_of(seen: Doubles) -> Bytes:
    """Flow in pixels (2,) or (h, w, 2) as a quantised field."""
    pixels = np.broadcast_to(seen, (*SIZE, 2)).astype(np.float32)
    return quantise(pixels, BOUND)


def patch(of: tuple[float, float], around: tuple[float, float] = (0.0, 0.0)) -> Bytes:
    """A field in which a patch moves, right of the middle, and all else moves as ``around``."""
    seen = np.zeros((*SIZE, 2)) + around
    seen[30:60, 80:100] = of
    return field_of(seen)


def test_flow_of_a_patch_is_what_the_formulas_say() -> None:
    found = check(np.stack([patch((2, 0)), patch((0, 2)), patch((-1.5, -1.5)), patch((0.1, 0))]))
    right, down, diagonal, slow = (dict(zip(MASS, row, strict=False)) for row in found)
    assert right["direction_0"] == pytest.approx(1)
    assert down["direction_2"] == pytest.approx(1)
    assert down["down"] == pytest.approx(1, abs=0.02)
    assert diagonal["direction_5"] == pytest.approx(1)
    assert right["x"] == pytest.approx(90 / 96, abs=0.01)
    assert right["y"] == pytest.approx(45 / 96, abs=0.01)
    assert right["area"] == pytest.approx(30 * 20 / (96 * 128))
    assert not any(slow.values())


def test_a_shaking_camera_changes_nothing() -> None:
    still, shaken = run(
        flow_graph(), {"flow": np.stack([patch((2, 1)), patch((3, 1), (1, 0))])[:, None]}
    )
    np.testing.assert_allclose(still, shaken, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("seed", range(3))
def test_random_flow_is_what_the_formulas_say(seed: int) -> None:
    random = np.random.default_rng(seed)
    coarse = random.normal(0, 2, (3, 6, 8, 2)).astype(np.float32)
    smooth = [cv2.resize(flow, SIZE[::-1], interpolation=cv2.INTER_CUBIC) for flow in coarse]
    check(np.stack([field_of(flow) for flow in smooth]))


@pytest.mark.parametrize("value", [0, STILL, 255])
def test_a_field_that_is_the_same_everywhere_has_no_motion(value: int) -> None:
    assert not check(np.full((2, *SIZE, 2), value, np.uint8)).any()


def test_extreme_fields_are_what_the_formulas_say() -> None:
    random = np.random.default_rng(1)
    noise = random.integers(0, 256, (*SIZE, 2)).astype(np.uint8)
    ends = np.where(random.random((*SIZE, 2)) < 0.5, 0, 255).astype(np.uint8)
    one = np.full((*SIZE, 2), STILL, np.uint8)
    one[50, 50] = 255
    line = np.full((*SIZE, 2), STILL, np.uint8)
    line[:, 64] = (255, 0)
    assert np.isfinite(check(np.stack([noise, ends, one, line]))).all()


@pytest.mark.parametrize("n", range(4))
def test_any_number_of_fields_and_pictures(n: int) -> None:
    fields = np.stack([patch((2, 0))] * 3)[:n, None]
    assert run(flow_graph(), {"flow": fields}).shape == (n, FEATURE_SIZE)
    assert run(still_graph(), {"frames": np.zeros((n, 48, 64, 3), np.uint8)}).shape == (n, 48)


@pytest.mark.slow
@pytest.mark.skipif("TWO_STREAM_DATA" not in os.environ, reason="TWO_STREAM_DATA is not set")
@pytest.mark.parametrize("clip", ["falls/fall", "fights/fight", "gestures/circle"])
def test_flow_of_real_clips_is_what_the_formulas_say(clip: str) -> None:
    path = next(file for file in sorted((shared_data() / clip).iterdir()) if file.is_file())
    contract, dis = ModelPack.load(SHIPPED.parent / "fights").contract, flow.create("dis")
    video = cv2.VideoCapture(str(path))
    grays: list[Gray] = []
    while len(grays) < 20 and (read := video.read())[0]:
        grays.append(gray_for_flow(np.asarray(read[1], np.uint8), contract))
    fields = [flow_input(a, b, 1.0, dis, contract) for a, b in zip(grays, grays[3:], strict=False)]
    assert check(np.stack(fields)).any()


def test_still_is_the_brightness_of_cells_without_the_pictures_own() -> None:
    random = np.random.default_rng(0)
    frames = random.integers(0, 256, (3, 48, 64, 3)).astype(np.uint8)
    frames[0], frames[1] = 0, 255
    luma = frames.astype(np.float64) @ [0.114, 0.587, 0.299] / 255
    cells = luma.reshape(3, 6, 8, 8, 8).mean((2, 4)).reshape(3, -1)
    wanted = cells - cells.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(run(still_graph(), {"frames": frames}), wanted, atol=1e-5)


def test_entries_are_written_beside_those_that_are_there(tmp_path: Path) -> None:
    other = {"name": "base", "streams": {"hands": {"kind": "spatial"}}}
    (tmp_path / "base.json").write_text(json.dumps(other))
    write(tmp_path)
    streams = json.loads((tmp_path / "base.json").read_text())["streams"]
    assert set(streams) == {"hands", "flow", "still"}
    assert streams["hands"] == {"kind": "spatial"}
    for name in ("flow", "still"):
        entry = streams[name]
        data = (tmp_path / entry["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        assert sum(block["weight"] for block in entry["blocks"]) == pytest.approx(1, abs=1e-3)
        # A feature may be in two blocks: the velocity is pooled, and drawn as a stroke.
        pooled = {one for b in entry["blocks"] for one in range(b["start"], b["start"] + b["size"])}
        assert pooled == set(range(entry["feature_size"]))


def test_the_shipped_streams_are_what_this_code_writes(tmp_path: Path) -> None:
    write(tmp_path)
    shipped = json.loads((SHIPPED / "base.json").read_text())["streams"]
    written = json.loads((tmp_path / "base.json").read_text())["streams"]
    for name, entry in written.items():
        assert {**shipped[name], "sha256": None} == {**entry, "sha256": None}
        data = (SHIPPED / entry["file"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == shipped[name]["sha256"]
        graph = onnx.load(SHIPPED / entry["file"]).graph
        assert graph == onnx.load(tmp_path / entry["file"]).graph
