"""A clip through a pack's networks, step by step, with the pipeline's own window."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.model_pack import NETWORKS, Contract, ModelPack
from pipeline.onnx_session import Network
from pipeline.windows import FeatureWindow, Scored, score_windows
from training.compose import stack_indices, stack_valid
from training.data import Stepped

Floats = npt.NDArray[np.float32]
Networks = Mapping[str, Network]
BATCH = 32


def open_networks(pack: ModelPack) -> dict[str, Network]:
    """All of a pack's networks on the CPU, one thread each; raises PackError."""
    return {name: Network(pack, name, providers=["CPUExecutionProvider"]) for name in NETWORKS}


def stacks_of(clip: Stepped, stack: int) -> tuple[npt.NDArray[np.uint8], Floats]:
    """A stack for every step, (S, L, h, w, 2) uint8, and the mask of both streams, (S, 2)."""
    mask = np.stack([clip.seen, clip.seen & stack_valid(clip.moving, stack)], -1)
    return clip.fields[stack_indices(len(clip.fields), stack)], mask.astype(np.float32)


def clip_features(networks: Networks, clip: Stepped, stack: int) -> tuple[Floats, Floats, Floats]:
    """Spatial and temporal features (S, d) float32 of a clip's steps, and their mask (S, 2)."""
    stacks, mask = stacks_of(clip, stack)

    def run(network: str, name: str, rows: npt.NDArray[np.uint8]) -> Floats:
        parts = [rows[first : first + BATCH] for first in range(0, len(rows), BATCH)]
        return np.concatenate([networks[network].run({name: x})["features"] for x in parts])

    return run("spatial", "frames", clip.pictures), run("temporal", "flow", stacks), mask


def stepped_scores(
    networks: Networks, contract: Contract, features: tuple[Floats, Floats, Floats]
) -> list[Scored]:
    """What the pipeline's window says at each step of a clip.

    ``features`` come from :func:`clip_features`. Raises ValueError for scores that aren't finite.
    """
    window = FeatureWindow(contract.window, contract.feature_size)
    said = []
    for step, (spatial, temporal, (here, there)) in enumerate(zip(*features, strict=True)):
        window.push(0, step, spatial if here else None, temporal if there else None)
        scored = score_windows(networks["fusion"].run, [window])[0]
        if scored is None:
            raise ValueError(f"the scores of step {step} aren't finite")
        said.append(scored)
    return said
