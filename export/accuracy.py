"""Accuracy and speed of the same networks in several precisions."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from export.stepping import Floats, Networks, clip_features, open_networks, stepped_scores
from pipeline.evaluate.protocol import clip_scores
from pipeline.model.pack import (
    NETWORKS,
    Contract,
    ModelPack,
    Precision,
)
from training.data import Stepped
from training.measure import STREAMS

ROUNDS = 200
WARM_UP = 20
NO_LABEL = -1


@dataclass
class Outcome:
    """True labels (N,) and the predicted ones, (N, 3): by the fused scores and by each stream's."""

    truth: list[int] = field(default_factory=list)
    predicted: list[list[int]] = field(default_factory=list)

    @property
    def clips(self) -> int:
        return len(self.truth)

    def top1(self) -> dict[str, float]:
        """Top-1 accuracy of the fused scores and of each stream's, from 0 to 1."""
        right = np.array(self.predicted) == np.array(self.truth)[:, None]
        return {name: float(right[:, place].mean()) for place, name in enumerate(STREAMS)}

    def agreement(self, other: "Outcome") -> float:
        """The share of clips whose fused label is the same in both."""
        fused = np.array(self.predicted)[:, 0] == np.array(other.predicted)[:, 0]
        return float(fused.mean())


def predicted(networks: Networks, pack: ModelPack, clip: Stepped) -> list[int]:
    """A clip's label by the fused scores and by each stream's own; -1 without scores."""
    contract = pack.contract
    nothing = np.array([label in contract.background for label in contract.labels])
    features = clip_features(networks, clip, contract.temporal.stack)
    steps = stepped_scores(networks, pack, features)

    def best(rows: Iterable[Floats | None]) -> int:
        there = [row for row in rows if row is not None]
        return int(clip_scores(np.stack(there), nothing).argmax()) if there else NO_LABEL

    return [
        best(step.scores for step in steps),
        best(step.spatial for step in steps),
        best(step.temporal for step in steps),
    ]


def add_outcomes(
    outcomes: dict[Precision, Outcome],
    packs: Mapping[Precision, ModelPack],
    clips: Iterable[tuple[int, Stepped]],
) -> None:
    """Run every pack over the same clips, each with the number of its label."""
    opened = {name: (open_networks(pack), pack) for name, pack in packs.items()}
    for label, clip in clips:
        for name, (networks, pack) in opened.items():
            outcome = outcomes.setdefault(name, Outcome())
            outcome.truth.append(label)
            outcome.predicted.append(predicted(networks, pack, clip))


def _one_of_each(contract: Contract) -> dict[str, dict[str, npt.NDArray[np.generic]]]:
    rng = np.random.default_rng(0)
    spatial, temporal = contract.spatial, contract.temporal
    window = (1, contract.window, contract.feature_size)
    flow = rng.integers(96, 160, (1, temporal.stack, *temporal.size, 2)).astype(np.uint8)
    return {
        "spatial": {"frames": rng.integers(0, 256, (1, *spatial.size, 3)).astype(np.uint8)},
        "temporal": {"flow": flow},
        "fusion": {
            "spatial": rng.normal(size=window).astype(np.float32),
            "temporal": rng.normal(size=window).astype(np.float32),
            "mask": np.ones((*window[:2], 2), np.float32),
        },
    }


def milliseconds(packs: Mapping[Precision, ModelPack]) -> dict[Precision, dict[str, float]]:
    """Median CPU time of each network for one step of one camera, in its one thread.

    The packs take turns, run by run, so that other work on the machine slows all of them alike.
    The CPU time of that other work isn't counted.
    """
    opened = {name: open_networks(pack) for name, pack in packs.items()}
    feeds = _one_of_each(next(iter(packs.values())).contract)
    medians: dict[Precision, dict[str, float]] = {name: {} for name in packs}
    for network in NETWORKS:
        times: dict[Precision, list[float]] = {name: [] for name in packs}
        for _ in range(WARM_UP + ROUNDS):
            for name, networks in opened.items():
                begun = time.thread_time()
                networks[network].run(feeds[network])
                times[name].append(time.thread_time() - begun)
        for name in packs:
            medians[name][network] = 1e3 * float(np.median(times[name][WARM_UP:]))
    return medians
