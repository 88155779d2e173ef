"""Dense flow by a small network that this project trained on rendered motion.

The network (``training/flow/network.py``) takes both frames and computes everything: the pyramid,
the warping, Lucas and Kanade's equation over two windows, and a CNN that weighs the solutions.
"""

import hashlib
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import FlowField, Gray
from pipeline.errors import PackError
from pipeline.flow.opencv import require_gray_pair
from pipeline.model.session import UnpackagedNetwork

NETWORK_FILE = Path(__file__).with_name("deep.onnx")
NETWORK_SHA256 = "4331e15a69dadeba5ad98025e9ffe27222513904e22ec38cc77148731219dcc3"
MULTIPLE = 64  # the CNN's coarsest layers have a 64th of the frame's sides


def verified_network(path: Path = NETWORK_FILE) -> bytes:
    """The network's bytes; raises :class:`PackError` unless they have the known hash."""
    try:
        model = path.read_bytes()
    except OSError as error:
        raise PackError(f"{path}: {error.strerror}; reinstall the package") from None
    found = hashlib.sha256(model).hexdigest()
    if found != NETWORK_SHA256:
        raise PackError(
            f"{path}: its SHA-256 is {found}, not {NETWORK_SHA256}: the file is damaged or from "
            "another version; reinstall the package"
        )
    return model


def load_network(path: Path = NETWORK_FILE) -> UnpackagedNetwork:
    """Load the network in ``path``; raises :class:`PackError` unless it has the known hash."""
    return UnpackagedNetwork(path, verified_network(path))


# All threads share one session. Several threads may run it at once, and opening another would take
# longer than the flow of fifty frames.
_shared = cache(load_network)


class Deep:
    """Flow from the network: one onnxruntime session per process, on one core or the GPU."""

    def __init__(self) -> None:
        self._network = _shared()

    def __call__(self, prev_gray: Gray, next_gray: Gray) -> FlowField:
        require_gray_pair(prev_gray, next_gray)
        height, width = prev_gray.shape
        inputs = {"prev": _padded(prev_gray), "next": _padded(next_gray)}
        (flow,) = self._network.run(inputs)  # (1, 2, h, w), with the padding
        return np.asarray(cv2.merge(list(flow[0, :, :height, :width])), np.float32)


def _padded(image: Gray) -> Gray:
    """(H, W) -> (1, h, w): repeat the border up to sides that the network can halve."""
    height, width = image.shape
    padded = cv2.copyMakeBorder(
        image, 0, -height % MULTIPLE, 0, -width % MULTIPLE, cv2.BORDER_REPLICATE
    )
    return np.asarray(padded, np.uint8)[np.newaxis]
