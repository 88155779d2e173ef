"""The streams of the base that have no weights: their files, and their entries in base.json.

It writes ``flow.onnx`` and ``still.onnx``, and their entries in ``base.json``. Other entries stay.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from export.base import flow_statistics, still

BASE_FILE = "base.json"
LICENCE = "Apache-2.0"
PROVENANCE = "Formulas of {module}. Nothing is trained, so no footage is in it."
HEAD = {
    "schema_version": 1,
    "name": "base",
    "version": "1.0.0",
    "licence": "of each stream its own",
    "provenance": "of each stream its own",
}
"""What a new ``base.json`` says of the whole base."""


THIRD = round(1 / 3, 4)
"""The three blocks of flow weigh the same."""


def block(
    name: str, start: int, size: int, pools: Sequence[str], scaling: str, weight: float
) -> dict[str, Any]:
    """A part of the features that has values at each step, and how a head pools it."""
    return {
        "name": name,
        "start": start,
        "size": size,
        "valid": None,
        "lag": 0,
        "unit": None,
        "pools": list(pools),
        "scaling": scaling,
        "weight": weight,
    }


def streams() -> dict[str, tuple[onnx.ModelProto, dict[str, Any]]]:
    """Each stream's graph, and its entry but for what :func:`write` knows."""
    mass = len(flow_statistics.MASS)
    grid = flow_statistics.FEATURE_SIZE - mass
    return {
        "flow": (
            flow_statistics.flow_graph(),
            {
                "kind": "temporal",
                "backbone": "flow_statistics",
                "licence": LICENCE,
                "provenance": PROVENANCE.format(module="export/base/flow_statistics.py"),
                "size": list(flow_statistics.SIZE),
                "flow_size": list(flow_statistics.FLOW_SIZE),
                "stack": 1,
                "method": "dis",
                "bound": flow_statistics.BOUND,
                "feature_size": flow_statistics.FEATURE_SIZE,
                "blocks": [
                    block("mass", 0, mass, ["mean", "std", "max", "min", "thirds"], "each", THIRD),
                    block(
                        "stroke",
                        flow_statistics.MASS.index("velocity_x"),
                        2,
                        ["stroke"],
                        "each",
                        THIRD,
                    ),
                    block("grid", mass, grid, ["mean", "max", "min", "std"], "each", THIRD),
                ],
            },
        ),
        "still": (
            still.still_graph(),
            {
                "kind": "spatial",
                "backbone": "thumbnail",
                "licence": LICENCE,
                "provenance": PROVENANCE.format(module="export/base/still.py"),
                "size": list(still.SIZE),
                "fit": "stretch",
                "feature_size": still.FEATURE_SIZE,
                "blocks": [block("picture", 0, still.FEATURE_SIZE, ["mean"], "block", 1.0)],
            },
        ),
    }


def write(folder: Path) -> list[Path]:
    """Write the streams and their entries; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / BASE_FILE
    base: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {**HEAD}
    entries: dict[str, Mapping[str, Any]] = base.setdefault("streams", {})
    written = [path]
    for name, (graph, entry) in streams().items():
        data = graph.SerializeToString(deterministic=True)
        file = folder / f"{name}.onnx"
        file.write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        entries[name] = {"kind": entry["kind"], "file": file.name, "sha256": sha256, **entry}
        written.append(file)
    path.write_text(json.dumps(base, indent=2, ensure_ascii=False) + "\n")
    return written
