"""Run a clip through a pack's networks, step by step, with the pipeline's own window."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pipeline.clock import NS_PER_S
from pipeline.decision.decisions import CameraDecisions, decide_batch, thresholds
from pipeline.model.pack import NETWORKS, ModelPack
from pipeline.model.session import Network
from pipeline.model.watch import Watch
from pipeline.steps.join import decided_step
from pipeline.steps.window import Scored
from pipeline.transport.messages import Moment
from training.data import Stepped
from training.sequences import stack_indices, stack_valid

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
    networks: Networks, pack: ModelPack, features: tuple[Floats, Floats, Floats]
) -> list[Scored]:
    """The scores of the pipeline at each step of a clip.

    ``features`` come from :func:`clip_features`. Raises ValueError for scores that aren't finite.
    """
    watch, contract = Watch(pack), pack.contract
    decisions = CameraDecisions("clip", watch, thresholds(contract), 1.0, media_timed=True)
    found = []
    for number, (spatial, temporal, (here, there)) in enumerate(zip(*features, strict=True)):
        moment = _moment(number, contract.step_hz)
        step = decided_step(moment, watch, _vector(spatial, here), _vector(temporal, there))
        for decided in decide_batch(
            networks["fusion"].run, [(decisions, step)], 0, lambda: 0, score_empty=True
        ):
            if decided.scored is not None:
                found.append(decided.scored)
    return found


def _moment(step: int, step_hz: float) -> Moment:
    at_ns = round(step * NS_PER_S / step_hz)
    return Moment(
        camera="clip",
        segment=0,
        step_id=step,
        frame_id=step,
        captured_ns=at_ns,
        pts_ns=at_ns,
        elapsed_steps=1.0,
        skipped=0,
    )


def _vector(feature: Floats, there: float) -> bytes | None:
    return feature.astype(np.float32).tobytes() if there else None
