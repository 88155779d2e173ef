"""Tiny clips and a tiny configuration, made on the spot: something moves one way or the other."""

import numpy as np

from training.compose import STILL
from training.config import TrainConfig
from training.data import Clip, Stroke

SIZE = (16, 16)
GRID = (320, 1, 1)


def tiny_config(**changes: object) -> TrainConfig:
    values: dict[str, object] = {
        "name": "tiny",
        "version": "1.0.0",
        "licence": "Apache-2.0",
        "provenance": "made by a test",
        "labels": ["background", "left", "right"],
        "background": ["background"],
        "clips": "clips.csv",
        "swaps": {"left": "right", "right": "left", "background": "background"},
        "reversals": {"left": "right", "right": "left", "background": "background"},
        "window": 24,
        "feature_size": 8,
        "spatial": {
            "backbone": "efficientnet_lite0", "size": (32, 32),
            "mean": (127.0, 127.0, 127.0), "std": (128.0, 128.0, 128.0),
        },
        "temporal": {
            "backbone": "motion_cnn", "size": SIZE, "flow_size": (32, 32), "stack": 3,
            "method": "dis", "bound": 8.0,
        },
        "fusion": {"kind": "attention", "hidden": 8},
        "optimiser": {"iterations": 40, "batch": 4, "learning_rate": 0.01, "average_decay": 0.9},
        "composition": {"steps": 24},
        **changes,
    }  # fmt: skip
    return TrainConfig.model_validate(values)


def tiny_clip(label: int, seed: int = 0, steps: int = 10) -> Clip:
    """A spot that moves left (1), right (2) or not at all (0) over noise."""
    rng = np.random.default_rng([seed, label])
    fields = STILL + rng.integers(-2, 3, (steps, *SIZE, 2))
    row = int(rng.integers(4, 10))
    fields[:, row : row + 4, 4:12, 0] += {0: 0, 1: -40, 2: 40}[label]
    fields[0] = STILL
    moving = np.arange(steps) > 0
    strokes = (Stroke(label, 0, steps),) if label else ()
    return Clip(
        f"clip{label}-{seed}", label, f"g{seed}", seed % 2, fields.astype(np.uint8), moving,
        rng.random((steps, *GRID)).astype(np.float16), np.ones(steps, np.bool_),
        rng.integers(0, 255, (32, 32)).astype(np.uint8),
        rng.integers(0, 255, (32, 32)).astype(np.uint8), strokes,
    )  # fmt: skip


def tiny_clips(count: int = 4) -> list[Clip]:
    return [tiny_clip(label, seed) for label in range(3) for seed in range(count)]
