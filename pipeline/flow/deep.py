"""Dense flow by a small network that this project trained on rendered motion.

The network (``training/flow/network.py``) takes both frames and does all of it: pyramid, warping,
Lucas and Kanade's equation over two windows, and a CNN that decides between the solutions.
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


def load_network(path: Path = NETWORK_FILE) -> UnpackagedNetwork:
    """The network in ``path``; raises :class:`PackError` unless it is the very one expected."""
    try:
        model = path.read_bytes()
    except OSError as error:
        raise PackError(f"{path}: {error.strerror}; reinstall the package") from None
    found = hashlib.sha256(model).hexdigest()
    if found != NETWORK_SHA256:
        raise PackError(
            f"{path}: its SHA-256 is {found}, not {NETWORK_SHA256}: the file is damaged or of "
            "another version; reinstall the package"
        )
    return UnpackagedNetwork(path, model)


# A session may be run from several threads, and opening one takes longer than fifty frames.
_shared = cache(load_network)


class Deep:
    """Flow from a network: one onnxruntime session per process, on one core or the GPU."""

    def __init__(self) -> None:
        self._network = _shared()

    def __call__(self, prev_gray: Gray, next_gray: Gray) -> FlowField:
        require_gray_pair(prev_gray, next_gray)
        height, width = prev_gray.shape
        inputs = {"prev": _padded(prev_gray), "next": _padded(next_gray)}
        (found,) = self._network.run(inputs)
        return np.asarray(cv2.merge(list(found[0, :, :height, :width])), np.float32)


def _padded(image: Gray) -> Gray:
    """(H, W) -> (1, h, w) with sides that the network can halve, the border repeated."""
    height, width = image.shape
    padded = cv2.copyMakeBorder(
        image, 0, -height % MULTIPLE, 0, -width % MULTIPLE, cv2.BORDER_REPLICATE
    )
    return np.asarray(padded, np.uint8)[np.newaxis]
