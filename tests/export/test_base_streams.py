"""The graphs ``hands`` and ``body`` on real frames, against the same steps in numpy and OpenCV.

They need the wheel of MediaPipe (``TWO_STREAM_MEDIAPIPE``) and the clips (``TWO_STREAM_DATA``).
"""

import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime as ort
import pytest

pytest.importorskip("spox", reason="the base is built with spox")
pytest.importorskip("tflite", reason="MediaPipe's networks are TFLite's")

from export.base import body, hands, mediapipe
from export.base.store import Stream
from export.base.streams import body_stream, hands_stream
from export.base.tflite import Network
from pipeline.arrays import Frame
from tests.export import mediapipe_reference as reference

pytestmark = pytest.mark.slow

Features = npt.NDArray[np.float32]
Graph = Callable[[npt.NDArray[np.uint8]], Features]
ROW = hands.HAND.size
HAND_CLIPS = ("Num8/Num8_a_", "Num2/Num2_c_", "FanOn/FanOn_b_")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    wheel = os.environ.get("TWO_STREAM_MEDIAPIPE")
    if not wheel:
        pytest.skip(f"TWO_STREAM_MEDIAPIPE names no wheel of mediapipe {mediapipe.VERSION}")
    return mediapipe.unpacked(Path(wheel), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def data() -> Path:
    path = os.environ.get("TWO_STREAM_DATA")
    if not path:
        pytest.skip("TWO_STREAM_DATA isn't set")
    return Path(path)


def session(content: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def graph(stream: Stream) -> Graph:
    opened = session(stream.content)
    return lambda frames: np.asarray(opened.run(None, {"frames": frames})[0])


def network(which: Network, folder: Path) -> reference.Network:
    opened = session(mediapipe.network(which, folder).SerializeToString())
    names = [output.name for output in opened.get_outputs()]
    return lambda picture: dict(zip(names, opened.run(None, {"picture": picture}), strict=True))


@pytest.fixture(scope="module")
def hands_graph(folder: Path) -> Graph:
    return graph(hands_stream(folder))


@pytest.fixture(scope="module")
def body_graph(folder: Path) -> Graph:
    return graph(body_stream(folder))


def padded(frame: Frame, size: tuple[int, int]) -> Frame:
    scale = min(size[0] / frame.shape[0], size[1] / frame.shape[1])
    high, wide = (round(side * scale) for side in frame.shape[:2])
    top, left = (size[0] - high) // 2, (size[1] - wide) // 2
    out = np.zeros((*size, 3), np.uint8)
    out[top : top + high, left : left + wide] = cv2.resize(frame, (wide, high))
    return out


def frames_of(clips: list[Path], size: tuple[int, int]) -> list[Frame]:
    """The frame in the middle of each clip, and one a quarter before its end."""
    frames = []
    for clip in clips:
        capture = cv2.VideoCapture(str(clip))
        count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        for place in (count // 2, count * 3 // 4):
            capture.set(cv2.CAP_PROP_POS_FRAMES, place)
            read, frame = capture.read()
            if read:
                frames.append(padded(np.asarray(frame, np.uint8), size))
        capture.release()
    assert frames
    return frames


@pytest.fixture(scope="module")
def hand_frames(data: Path) -> list[Frame]:
    clips = [sorted((data / "hands").glob(f"{start}*"))[0] for start in HAND_CLIPS]
    return frames_of(clips, hands.SIZE)


@pytest.fixture(scope="module")
def body_frames(data: Path) -> list[Frame]:
    clips = sorted((data / "falls").rglob("*.mp4"))[::60]
    return frames_of(clips, body.SIZE)


def test_converted_networks_are_exact_in_float16(folder: Path) -> None:
    model = mediapipe.network(mediapipe.HAND, folder)
    stored = model.ByteSize()
    assert stored == pytest.approx((folder / mediapipe.HAND.file).stat().st_size, rel=0.05)


def test_hands_are_what_the_reference_finds(
    folder: Path, hands_graph: Graph, hand_frames: list[Frame]
) -> None:
    palm, hand = (network(which, folder) for which in (mediapipe.PALM, mediapipe.HAND))
    found = 0
    for frame in hand_frames:
        features = hands_graph(frame[None])[0]
        expected = reference.hands(frame, palm, hand, ROW)
        np.testing.assert_allclose(features, expected, rtol=1e-3, atol=2e-3)
        found += int((features[[0, ROW]] > 0.5).sum())
    assert found >= len(hand_frames)


def test_the_body_is_what_the_reference_finds(
    folder: Path, body_graph: Graph, body_frames: list[Frame]
) -> None:
    person, pose = (network(which, folder) for which in (mediapipe.PERSON, mediapipe.POSE))
    places, seen, box = (body.BODY.starts[part] for part in ("places", "seen", "box"))
    found = 0
    for frame in body_frames:
        features = body_graph(frame[None])[0]
        expected = reference.body_marks(frame, person, pose)
        if expected is None:
            assert not features.any()
            continue
        found += 1
        score, marks, _ = expected
        groups = (body.HIPS, body.SHOULDERS, (0,), body.HANDS, body.KNEES, body.FEET)
        middles = np.concatenate([marks[list(group), :2].mean(0) for group in groups])
        pixels = features[places : places + 12] * body.SIZE[0]
        np.testing.assert_allclose(pixels, middles, atol=0.1)
        assert features[box + 4] == pytest.approx(score, abs=1e-4)
        sure = 1 / (1 + np.exp(-marks[list(body.SEEN), 3]))
        np.testing.assert_allclose(features[seen : seen + len(sure)], sure, atol=1e-3)
    assert found >= len(body_frames) // 2


def test_frames_together_are_as_frames_alone(
    hands_graph: Graph, body_graph: Graph, hand_frames: list[Frame], body_frames: list[Frame]
) -> None:
    for run, frames in ((hands_graph, hand_frames), (body_graph, body_frames)):
        black = np.zeros_like(frames[0])
        batch = np.stack([black, *frames, black])
        alone = np.concatenate([run(frame[None]) for frame in batch])
        np.testing.assert_allclose(run(batch), alone, atol=1e-4)


@pytest.mark.parametrize("count", [1, 3])
def test_where_nothing_is_all_numbers_are_zero(
    hands_graph: Graph, body_graph: Graph, count: int
) -> None:
    for run, size, numbers in (
        (hands_graph, hands.SIZE, 2 * ROW),
        (body_graph, body.SIZE, body.BODY.size),
    ):
        features = run(np.zeros((count, *size, 3), np.uint8))
        assert features.shape == (count, numbers)
        assert not features.any()


def test_the_more_open_hand_comes_first(hands_graph: Graph, hand_frames: list[Frame]) -> None:
    ext = hands.HAND.starts["ext"]
    features = hands_graph(np.stack(hand_frames))
    first, second = (features[:, at : at + 5].sum(1) for at in (ext, ROW + ext))
    assert (first >= second).all()
    assert (features[:, ROW] > 0.5).any()  # a sign of two hands is among them


def test_the_shipped_base_is_what_the_command_writes(folder: Path) -> None:
    shipped = Path(__file__).parents[2] / "models" / "base"
    for stream in (hands_stream(folder), body_stream(folder)):
        assert (shipped / stream.file).read_bytes() == stream.content
