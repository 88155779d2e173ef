"""Tiny clips and a tiny configuration, made on the spot: something moves one way or the other."""

from pathlib import Path

import cv2
import numpy as np

from pipeline.arrays import STILL
from training.config import TrainConfig
from training.data import Clip, Stroke
from training.temporal import POOLED

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
    optimiser = values["optimiser"]
    assert isinstance(optimiser, dict)
    # CPUs without bfloat16 imitate it, which takes three times as long as float32.
    values["optimiser"] = {"bfloat16": False, **optimiser}
    return TrainConfig.model_validate(values)


def linear_config(**changes: object) -> TrainConfig:
    base = tiny_config().model_dump(mode="json")
    temporal = base["temporal"]
    return tiny_config(
        **{
            "feature_size": 1280,
            "window": 8,
            "spatial_head": "pooled",
            "temporal": {**temporal, "backbone": POOLED},
            "fusion": {"kind": "concat", "aggregator": "statistics"},
            "optimiser": {"iterations": 15},
            "linear": {"decay": 0.1, "windows": 2, "shortest": 4},
            **changes,
        }
    )


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
        rng.random((1, steps, *GRID)).astype(np.float16),
    )  # fmt: skip


def tiny_clips(count: int = 4) -> list[Clip]:
    return [tiny_clip(label, seed) for label in range(3) for seed in range(count)]


def still_or_moving(count: int) -> list[Clip]:
    """Clips without motion (0) and with much of it (2)."""
    return [tiny_clip(label, seed) for label in (0, 2) for seed in range(count)]


def write_clip(path: Path, speed: int = 0, frames: int = 12, fps: float = 10.0) -> Path:
    """A video of 64×48 in which a square moves ``speed`` pixels to the right in every frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (64, 48))
    assert writer.isOpened()
    for number in range(frames):
        frame = np.full((48, 64, 3), 60, np.uint8)
        left = 24 + speed * (number % 8 - 4)
        frame[16:32, left : left + 16] = np.arange(0, 256, 16).astype(np.uint8)[:, None]
        writer.write(frame)
    writer.release()
    return path


def write_data(folder: Path, clips: int = 2, frames: int = 12) -> Path:
    """``clips`` clips of each of the tiny configuration's labels, and ``clips.csv`` with folds."""
    rows = ["path,label,group,fold"]
    for label, speed in (("background", 0), ("left", -3), ("right", 3)):
        for number in range(clips):
            name = f"{label}/{label}{number}.avi"
            write_clip(folder / name, speed, frames + number)
            rows.append(f"{name},{label},g{number},{number % 2}")
    (folder / "clips.csv").write_text("\n".join(rows) + "\n")
    return folder
