"""A base of two tiny networks, and clips of their features, made up.

The motion network's four features are motion to the left, right, up and down.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.model.pack import ModelPack, file_sha256
from teach.base import Base
from teach.examples import Example
from teach.features import ClipFeatures
from teach.lesson import Lesson, judged
from teach.lesson_file import LESSON_FILE, encoded
from teach.pack import Taught, cooled, write
from teach.run import metrics_of
from teach.streams import Labels
from teach.trial import Looks
from testbed import tiny_pack

LOOKS = Looks("still", "flow", (0.0, 1.0))
LABELS = Labels(("background", "left", "up"), ("background",), 10.0)
STEPS = 12
MOTIONS = {
    "background": (0.3, 0.3, 0.3, 0.3),
    "left": (6.0, 0.0, 0.0, 0.0),
    "up": (0.0, 0.0, 6.0, 0.0),
    # A door: it moves to the left, and down a little.
    "door": (5.5, 0.0, 0.0, 2.5),
}


def base(folder: Path) -> Base:
    """A base whose networks are those of the tiny pack."""
    tiny_pack.make(folder)
    about = {"backbone": "mean", "licence": "Apache-2.0", "provenance": "Made by hand."}
    block = {
        "name": "all",
        "start": 0,
        "size": tiny_pack.D,
        "pools": ["mean", "max"],
        "scaling": "block",
    }
    streams = {
        "still": {
            **about, "kind": "spatial", "file": "spatial.onnx", "size": tiny_pack.SIZE,
            "feature_size": tiny_pack.D, "blocks": [block],
        },
        "flow": {
            **about, "kind": "temporal", "file": "temporal.onnx", "size": tiny_pack.SIZE,
            "flow_size": tiny_pack.FLOW_SIZE, "stack": tiny_pack.STACK, "method": "dis",
            "bound": 8.0, "feature_size": tiny_pack.D, "blocks": [block],
        },
    }  # fmt: skip
    for stream in streams.values():
        stream["sha256"] = file_sha256(folder / str(stream["file"]))
    whole = {
        "schema_version": 1, "name": "base", "version": "1.0.0", "licence": "Apache-2.0",
        "provenance": "Made by hand.", "streams": streams,
    }  # fmt: skip
    (folder / "base.json").write_text(json.dumps(whole))
    return Base.load(folder)


def clip(what: str, seed: int, steps: int = STEPS) -> ClipFeatures:
    """Features while something moves as ``what`` says, with noise."""
    rng = np.random.default_rng(seed)
    motion = np.array(MOTIONS[what]) + rng.normal(0, 0.4, (steps, tiny_pack.D))
    return ClipFeatures(
        Path(f"/home/ann/{what}_{seed}.mp4"),
        np.array([100_000_000 * step for step in range(steps)]),
        {
            "still": rng.uniform(0, 0.2, (steps, tiny_pack.D))
            .astype(np.float16)
            .astype(np.float32),
            "flow": np.maximum(motion, 0).astype(np.float16).astype(np.float32),
        },
        {"still": np.ones(steps, bool), "flow": np.ones(steps, bool)},
    )


def examples(count: int = 4) -> list[Example]:
    """Clips of each label, each a group of its own."""
    return [
        Example(
            clip(name, 100 * number + take, 40 if name == "background" else STEPS),
            number,
            f"{name} {take}",
            f"{name}_{take}",
        )
        for number, name in enumerate(LABELS.names)
        for take in range(count)
    ]


def pack(folder: Path, taught: Sequence[Example] | None = None) -> ModelPack:
    """A taught pack with its lesson, in ``folder / "pack"``."""
    lesson = Lesson(
        base(folder / "base"), list(taught or examples()), LABELS, ("still", "flow"), STEPS
    )
    outcome = lesson.outcome(lesson.trial(LOOKS), 1.0)
    made = Taught(
        name="door",
        version="1.0.0",
        base=lesson.base,
        looks=LOOKS,
        head=cooled(lesson.head(outcome.trial), outcome.heat),
        labels=LABELS,
        window=STEPS,
        thresholds=outcome.fitted.thresholds,
        metrics=metrics_of(judged(lesson, outcome, {}, ())),
    )
    sample = [one.clip for one in lesson.examples[:3]]
    return write(
        made, folder / "pack", sample, "# door\n", {LESSON_FILE: encoded(lesson, LOOKS, 1.0)}
    )
