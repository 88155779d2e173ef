"""The weights of a graph model of TensorFlow.js, out of its binary files."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import TwoStreamError


class WeightsError(TwoStreamError):
    """Weights that don't fill their files."""


def weights_of(folder: Path, manifest: list[dict[str, Any]]) -> dict[str, npt.NDArray[Any]]:
    """The weights by name, at full precision; the files lie in ``folder``, one after the other."""
    values = {}
    for group in manifest:
        content = b"".join((folder / name).read_bytes() for name in group["paths"])
        place = 0
        for weight in group["weights"]:
            stored = weight.get("quantization", {})
            dtype = np.dtype(stored.get("dtype", weight["dtype"]))
            count = math.prod(weight["shape"])
            end = place + count * dtype.itemsize
            if end > len(content):
                raise WeightsError(f"{weight['name']}: its file ends before it")
            value = np.frombuffer(content[place:end], dtype).reshape(weight["shape"])
            place = end
            if "scale" in stored:
                value = value.astype(np.float32) * stored["scale"] + stored["min"]
            values[weight["name"]] = value.astype(weight["dtype"])
        if place != len(content):
            names = ", ".join(group["paths"])
            raise WeightsError(f"{names}: {len(content)} bytes, the graph names {place}")
    return values
