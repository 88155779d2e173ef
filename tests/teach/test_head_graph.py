"""``fusion.onnx`` of a taught pack computes what numpy computed when the head was fitted."""

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

from pipeline.arrays import Vector
from teach.base import Block
from teach.fit import Head, StreamHead, softmax
from teach.head_graph import head_graph
from teach.pooling import pooled, spans_of

T, D, E, LABELS = 20, 10, 3, 4
SPANS = spans_of(T)
SPATIAL = (
    Block(name="all", start=0, size=4, pools=("mean", "std", "max", "min", "thirds", "swing")),
    Block(
        name="lagged, in units, where it is valid", start=4, size=3, valid=9, unit=8, lag=2,
        pools=("mean", "std", "max", "min", "thirds", "swing"), scaling="block", weight=0.5,
    ),
)  # fmt: skip
TEMPORAL = (
    Block(name="of two", start=1, size=2, valid=0, pools=("swing", "thirds", "stroke")),
    Block(name="path", start=1, size=2, pools=("stroke",)),
)


def stream(blocks: tuple[Block, ...], random: np.random.Generator) -> StreamHead:
    width = sum(block.width for block in blocks) * len(SPANS)

    def some(*shape: int) -> Vector:
        return random.normal(size=shape).astype(np.float32)

    return StreamHead(
        blocks, SPANS, some(width), np.abs(some(width)), np.full(width, 5, np.float32),
        some(width, LABELS) * 0.05, some(width, LABELS) * 0.05, some(LABELS),
    )  # fmt: skip


@pytest.fixture
def head() -> Head:
    random = np.random.default_rng(1)
    bias = random.normal(size=LABELS).astype(np.float32)
    return Head((stream(SPATIAL, random), stream(TEMPORAL, random)), bias)


def scores(head: Head, windows: dict[str, Vector]) -> dict[str, Vector]:
    model = head_graph(head, (D, E), LABELS).SerializeToString()
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_outputs()]
    return dict(zip(names, session.run(names, windows), strict=True))


def some_windows(count: int, seed: int = 2) -> dict[str, Vector]:
    random = np.random.default_rng(seed)
    mask = (random.random((count, T, 2)) > 0.3).astype(np.float32)
    spatial = random.normal(size=(count, T, D)).astype(np.float32)
    spatial[..., 9] = random.random((count, T)) > 0.5
    spatial[..., 8] = np.abs(spatial[..., 8])
    temporal = random.normal(size=(count, T, E)).astype(np.float32)
    temporal[..., 0] = random.random((count, T)) > 0.3
    return masked(spatial, temporal, mask)


def masked(spatial: Vector, temporal: Vector, mask: Vector) -> dict[str, Vector]:
    return {
        "spatial": spatial * mask[..., :1], "temporal": temporal * mask[..., 1:], "mask": mask
    }  # fmt: skip


def expected(head: Head, windows: dict[str, Vector]) -> Vector:
    blocks = [
        pooled(windows[name], windows["mask"][..., place], head.streams[place].blocks, SPANS)
        for place, name in enumerate(("spatial", "temporal"))
    ]
    return softmax(head.logits(blocks))


def test_the_graph_scores_as_numpy(head: Head) -> None:
    windows = some_windows(40)
    found = scores(head, windows)
    np.testing.assert_allclose(found["scores"], expected(head, windows), atol=1e-5)
    for name in ("scores", "spatial_scores", "temporal_scores"):
        np.testing.assert_allclose(found[name].sum(1), 1.0, atol=1e-5)
    assert found["alpha"].shape == (40, T)
    assert ((found["alpha"] >= 0) & (found["alpha"] <= 1)).all()
    # Only steps with both streams have a weight.
    assert (found["alpha"][windows["mask"].min(2) == 0] == 0).all()


def _nothing_valid(windows: dict[str, Vector]) -> None:
    windows["spatial"][..., 9] = 0


def _old_steps_missing(windows: dict[str, Vector]) -> None:
    for one in windows.values():
        one[:, : T - 3] = 0


def _one_step(windows: dict[str, Vector]) -> None:
    for one in windows.values():
        one[:, : T - 1] = 0
    windows["mask"][:, -1] = 1


@pytest.mark.parametrize("change", [_nothing_valid, _old_steps_missing, _one_step])
def test_windows_with_gaps_score_as_in_numpy(head: Head, change: object) -> None:
    windows = some_windows(16, seed=3)
    assert callable(change)
    change(windows)
    whole = (windows["mask"].max(1) > 0).all(1)
    found = scores(head, windows)["scores"]
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[whole], expected(head, windows)[whole], atol=1e-5)


@pytest.mark.parametrize(("missing", "left"), [(0, "temporal_scores"), (1, "spatial_scores")])
def test_a_window_without_a_stream_has_the_scores_of_the_other(
    head: Head, missing: int, left: str
) -> None:
    windows = some_windows(5)
    windows["mask"][..., missing] = 0
    found = scores(head, masked(windows["spatial"], windows["temporal"], windows["mask"]))
    np.testing.assert_allclose(found["scores"], found[left], atol=1e-6)


def test_no_window_has_no_scores(head: Head) -> None:
    windows = {name: rows[:0] for name, rows in some_windows(1).items()}
    assert scores(head, windows)["scores"].shape == (0, LABELS)


def test_old_steps_do_not_blur_the_newest_span(head: Head) -> None:
    """What lies before a span is nothing to it."""
    windows = some_windows(4)
    blocks = head.streams[0].blocks
    before = pooled(windows["spatial"], windows["mask"][..., 0], blocks, (8,))
    changed: npt.NDArray[np.float32] = windows["spatial"].copy()
    changed[:, : T - 8] += 100
    after = pooled(changed, windows["mask"][..., 0], blocks, (8,))
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)
