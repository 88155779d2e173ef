"""Small models and clips of the tests of export: real networks, textures that drift."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from export.external import replace_spatial
from tests.export import foreign_networks
from training.config import TrainConfig
from training.data import Frame, Stepped, step_clip
from training.fusion import Classifier
from training.model import TwoStream, new_model

FRAME_NS = 100_000_000
SHARPER = 20.0
FEATURES = "tests.export.foreign_networks:features"


def model_of(config: TrainConfig) -> TwoStream:
    """A new model whose scores are as far from even as those of a trained one."""
    torch.set_num_threads(1)
    model = new_model(config).eval()
    heads: list[Classifier] = [model.fusion.spatial_head, model.fusion.temporal_head]
    heads += [model.fusion.fused_head] if config.fusion.kind != "score" else []
    with torch.no_grad():
        for head in heads:
            head.classify.weight.mul_(SHARPER)
    return model


def small_model_of(config: TrainConfig) -> tuple[TwoStream, TrainConfig]:
    """:func:`model_of`, with two layers in the place of EfficientNet-Lite0, and its configuration.

    It is exported in a fifth of the time, so it is for tests whose subject isn't EfficientNet.
    """
    model = model_of(config)
    torch.manual_seed(config.seed)
    return model, replace_spatial(model, config, FEATURES, foreign_networks.features())


def texture(seed: int) -> Frame:
    """(72, 96, 3) uint8."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (12, 16, 3)).astype(np.uint8).repeat(6, 0).repeat(6, 1)


def drifting_clip(
    config: TrainConfig, steps: int = 30, seed: int = 3, lost: npt.ArrayLike = ()
) -> Stepped:
    """A picture that drifts to the right, longer than the window, without the ``lost`` frames."""
    picture, gone = texture(seed), set(np.asarray(lost, int).tolist())
    frames = ((n * FRAME_NS, np.roll(picture, 2 * n, 1)) for n in range(steps) if n not in gone)
    return step_clip(frames, config)


def write_video(path: Path, seed: int, drift: int, frames: int = 12) -> None:
    """Ten frames a second of a texture that drifts by ``drift`` pixels a frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = texture(seed)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 10.0, (96, 72))
    assert writer.isOpened()
    for n in range(frames):
        writer.write(np.roll(picture, drift * n, 1))
    writer.release()


def write_data(folder: Path) -> Path:
    """Six clips of three labels in two folds, with their list ``clips.csv``."""
    rows = ["path,label,group,fold"]
    for fold in range(2):
        for drift, label in ((0, "background"), (-2, "left"), (2, "right")):
            name = f"{label}{fold}.mp4"
            write_video(folder / name, fold, drift)
            rows.append(f"{name},{label},g{fold},{fold}")
    (folder / "clips.csv").write_text("\n".join(rows) + "\n", "utf-8")
    return folder


class Malicious:
    """Unpickling it would leave a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return (Path.touch, (Path(self.trace),))  # type: ignore[return-value]
