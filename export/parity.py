"""Compare a pack with the trained model: every output, along whole clips."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from pydantic import ValidationError
from torch import Tensor

from export.graphs import ExportError, reason
from export.stepping import BATCH, Floats, clip_features, open_networks, stacks_of, stepped_scores
from pipeline.model.pack import NETWORKS, ModelPack, Parity
from pipeline.model.session import Network
from pipeline.steps.window import Scored
from training.config import TrainConfig
from training.data import Clip, Stepped
from training.measure import STREAMS, StreamScores, stream_scores
from training.model import TwoStream

FUSION_INPUTS = ("spatial", "temporal", "mask")
FUSION_OUTPUTS = ("scores", "spatial_scores", "temporal_scores", "alpha")
WINDOW_LENGTHS = (1, 5)
WINDOWS = 4
GAP = 0.3

TOLERANCES = {"float32": 1e-3, "float16": 5e-2, "int8": None}
"""float16 keeps eleven bits. 8 bits are judged by their accuracy, not by their difference."""

Features = tuple[Floats, Floats, Floats]


class Differences:
    """The largest difference of each named output so far; a NaN stays."""

    def __init__(self) -> None:
        self.largest: dict[str, float] = {}

    def add(self, name: str, ours: npt.ArrayLike, theirs: npt.ArrayLike) -> None:
        """Raises :class:`ExportError` where the shapes differ."""
        one, other = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        if one.shape != other.shape:
            raise ExportError(f"{name} is {one.shape} in torch, {other.shape} in onnxruntime")
        off = float(np.abs(one - other).max(initial=0.0))
        # np.maximum, unlike max, keeps a NaN, which is then refused.
        self.largest[name] = float(np.maximum(self.largest.get(name, 0.0), off))

    def of(self, network: str) -> float:
        values = [value for name, value in self.largest.items() if name.startswith(f"{network}.")]
        return float(np.max(values))


class OnePass(NamedTuple):
    """Torch's results for a clip: features with their mask, and the scores at every step."""

    features: Features
    scores: StreamScores


def _batches(rows: npt.NDArray[np.uint8]) -> list[Tensor]:
    return [torch.from_numpy(rows[first : first + BATCH]) for first in range(0, len(rows), BATCH)]


@torch.inference_mode()
def by_torch(model: TwoStream, clip: Stepped, window: int) -> OnePass:
    """One pass over the whole clip, as training evaluates it, in float32 throughout."""
    stacks, mask = stacks_of(clip, model.stack)
    # float32 where training's cache has float16: the rounding would be the largest difference.
    grid: Any = torch.cat([model.spatial.features(x) for x in _batches(clip.pictures)]).numpy()
    temporal = torch.cat([model.temporal(x) for x in _batches(stacks)])
    spatial = model.spatial.head(torch.from_numpy(grid))
    evaluated = Clip(
        "",
        0,
        "",
        0,
        clip.fields,
        clip.moving,
        grid,
        clip.seen,
        clip.first,
        clip.last,
        (),
        grid[None, :0],
    )
    scores = stream_scores(model, evaluated, window)
    return OnePass((spatial.numpy(), temporal.numpy(), mask), scores)


def windows_of(features: Features, length: int, seed: int) -> dict[str, Floats]:
    """A batch of windows that end at several steps of a clip: fusion's inputs by name.

    Every second window has gaps that the clip doesn't have: steps without both streams, and steps
    without one of them. ``seed`` draws the gaps.
    """
    steps = len(features[2])
    length = min(length, steps)
    ends = np.linspace(length, steps, WINDOWS).astype(int)
    inputs = {
        name: np.stack([rows[end - length : end] for end in ends])
        for name, rows in zip(FUSION_INPUTS, features, strict=True)
    }
    rng = np.random.default_rng(seed)
    lost = rng.random((len(ends), length, 2)) < GAP
    lost |= rng.random((len(ends), length, 1)) < GAP
    inputs["mask"][1::2] *= ~lost[1::2]
    return inputs


def _compare_windows(
    differences: Differences,
    model: TwoStream,
    network: Network,
    lengths: Sequence[int],
    features: tuple[Features, Features],
) -> None:
    for seed, length in enumerate(lengths):
        one, other = (windows_of(rows, length, seed) for rows in features)
        with torch.inference_mode():
            expected = model.fusion(*(torch.from_numpy(one[name]) for name in FUSION_INPUTS))
        actual = network.run(other)
        for name, value in zip(FUSION_OUTPUTS, expected, strict=True):
            differences.add(f"fusion.{name}", value.numpy(), actual[name])


def _stepped_pairs(
    expected: StreamScores, actual: Sequence[Scored]
) -> Iterator[tuple[Floats, Floats]]:
    """Pairs of torch's and the pipeline's scores at each step, of the streams that have scores."""
    for step, scored in enumerate(actual):
        for stream, row in zip(STREAMS, (scored.scores, scored.spatial, scored.temporal),
                               strict=True):  # fmt: skip
            if row is not None:
                yield getattr(expected, stream)[step], row


def measure_parity(
    model: TwoStream,
    config: TrainConfig,
    pack: ModelPack,
    clips: Sequence[Stepped],
    tolerance: float | None = TOLERANCES["float32"],
) -> Parity:
    """Largest difference of each output over whole clips, end to end, and of stepped inference.

    Each runtime's fusion gets the features that the same runtime computed, so fusion's figure
    includes the differences of the two networks before it. The windows have 1, 5 and T steps, with
    and without gaps, several in a batch. Then the pipeline's own window is stepped along each clip
    and compared with torch's one pass. Raises :class:`ExportError` beyond ``tolerance``.
    """
    networks, differences, agreed = open_networks(pack), Differences(), []
    for clip in clips:
        ours = by_torch(model, clip, config.window)
        theirs = clip_features(networks, clip, config.temporal.stack)
        differences.add("spatial.features", ours.features[0], theirs[0])
        differences.add("temporal.features", ours.features[1], theirs[1])
        lengths = (*WINDOW_LENGTHS, config.window)
        both = (ours.features, theirs)
        _compare_windows(differences, model, networks["fusion"], lengths, both)
        try:
            steps = stepped_scores(networks, pack, theirs)
        except ValueError as error:
            raise ExportError(f"stepped inference: {error}") from None
        for one, other in _stepped_pairs(ours.scores, steps):
            differences.add("stepped", one, other)
        labels = np.array([scored.scores.argmax() for scored in steps])
        agreed += (labels == ours.scores.fused.argmax(1)).tolist()
    return _parity(differences, agreed, tolerance, len(clips))


def _parity(
    differences: Differences, agreed: Sequence[bool], tolerance: float | None, samples: int
) -> Parity:
    outputs = {name: off for name, off in differences.largest.items() if name != "stepped"}
    networks: Mapping[str, float] = {name: differences.of(name) for name in NETWORKS}
    try:
        return Parity(
            **networks, outputs=outputs, stepped=differences.largest["stepped"],
            tolerance=tolerance, top1_agreement=float(np.mean(agreed)), samples=samples,
        )  # fmt: skip
    except ValidationError as error:
        raise ExportError(f"torch and onnxruntime disagree: {reason(error)}") from None
