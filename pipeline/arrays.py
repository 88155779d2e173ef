"""The arrays that travel through the pipeline: shape, dtype and order of each."""

import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]
"""(H, W, 3) uint8, channels in the order B G R, as OpenCV has them."""

Gray = npt.NDArray[np.uint8]
"""(H, W) uint8."""

FlowField = npt.NDArray[np.float32]
"""(H, W, 2) float32: displacement in pixels from one frame to the next, x (right), y (down)."""

QuantisedFlow = npt.NDArray[np.uint8]
"""(H, W, 2) uint8: a flow field in 8 bits (:func:`pipeline.flow.base.quantise`)."""

STILL = 128
"""No motion in a :data:`QuantisedFlow`."""

Vector = npt.NDArray[np.float32]
"""(d,) float32 features of a step, or (C,) float32 scores of it; for a batch (N, d) and (N, C)."""
