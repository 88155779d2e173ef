"""The appearance streams that this command writes: ``hands`` and ``body``."""

from pathlib import Path

import onnx

from export.base import body, hands, mediapipe
from export.base.layout import Block
from export.base.store import Stream

PROVENANCE = (
    "Google's MediaPipe: {networks}, published in the PyPI package "
    f"{mediapipe.PACKAGE} {mediapipe.VERSION} ({mediapipe.LICENCE}); converted from TFLite without "
    "training and without loss."
)


def hands_stream(folder: Path, options: hands.HandOptions | None = None) -> Stream:
    """From a verified folder of MediaPipe's networks."""
    model = hands.hands(
        mediapipe.network(mediapipe.PALM, folder), mediapipe.network(mediapipe.HAND, folder),
        options or hands.HandOptions(),
    )  # fmt: skip
    networks = "palm_detection_full and hand_landmark_full"
    return _stream("hands", model, networks, hands.SIZE, 2 * hands.HAND.size, hands.blocks())


def body_stream(folder: Path, options: body.BodyOptions | None = None) -> Stream:
    """From a verified folder of MediaPipe's networks."""
    model = body.body(
        mediapipe.network(mediapipe.PERSON, folder), mediapipe.network(mediapipe.POSE, folder),
        options or body.BodyOptions(),
    )  # fmt: skip
    networks = "pose_detection and pose_landmark_full"
    return _stream("body", model, networks, body.SIZE, body.BODY.size, body.blocks())


def _stream(
    name: str, model: onnx.ModelProto, networks: str, size: tuple[int, int], features: int,
    blocks: list[Block],
) -> Stream:  # fmt: skip
    # Shape inference doesn't see through the branches; packs' loader compares the output's size.
    shape = model.graph.output[0].type.tensor_type.shape
    shape.dim[0].dim_param, shape.dim[1].dim_value = "N", features
    return Stream(
        name, model.SerializeToString(), f"MediaPipe {networks}", mediapipe.LICENCE,
        PROVENANCE.format(networks=networks), size, features, tuple(blocks),
    )  # fmt: skip
