"""The appearance stream ``still``: a thumbnail's brightness, for packs that go by motion alone.

``frames`` (N, 48, 64, 3) uint8 BGR → ``features`` (N, 48) float32: the mean luma (BT.601, 0 to 1)
of each cell of 6 × 8, without the picture's own mean. It costs nearly nothing. No weights.
"""

import numpy as np
import onnx

from export.base.graph import Graph

SIZE = (48, 64)
ROWS, COLUMNS = 6, 8
FEATURE_SIZE = ROWS * COLUMNS
LUMA_OF_BGR = (0.114, 0.587, 0.299)


def still_graph() -> onnx.ModelProto:
    """``still.onnx``."""
    graph = Graph("still")
    frames = graph.input("frames", ["N", *SIZE, 3])
    pixels = frames.float().reshape(0, SIZE[0] * SIZE[1], 3)
    luma = pixels.matmul(np.reshape(LUMA_OF_BGR, (3, 1)) / 255.0)
    cells = luma.reshape(0, 1, *SIZE).cell_means(SIZE[0] // ROWS, SIZE[1] // COLUMNS)
    cells = cells.reshape(0, FEATURE_SIZE)
    mean = cells.sum(FEATURE_SIZE) / FEATURE_SIZE
    return graph.model({"features": (cells - mean, ["N", FEATURE_SIZE])})
