"""The training loop of the network of ``deep``, its loss and its checkpoint."""

import math
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.files import tensors, write_whole
from training.flow.camera import filmed
from training.flow.config import CameraConfig, FlowTrainConfig
from training.flow.network import DeepFlow
from training.flow.scenes import Scenes

CHECKPOINT_FORMAT = 1
LARGEST_GRADIENT = 1.0
CLEAN = CameraConfig(noise=3.0, light=0.25, blur=0.0, smear=0.0, jpeg=0.0, still=0.0)


_MALFORMED = (
    KeyError, TypeError, RuntimeError, EOFError, ValidationError, pickle.UnpicklingError
)  # fmt: skip


class FlowCheckpointError(Exception):
    """A checkpoint that can't be used; the message names the file and what is wrong."""


def batch_of(
    rng: np.random.Generator, scenes: Scenes, indices: Sequence[int], camera: CameraConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """First and second frames (N, H, W) uint8 and flow (N, 2, H, W) float32, as filmed."""
    pairs = [
        filmed(
            rng,
            scenes.frames[index, 0],
            scenes.frames[index, 1],
            scenes.flow[index].astype(np.float32),
            camera,
        )
        for index in indices
    ]
    prev, following, flow = (
        torch.from_numpy(np.stack(arrays)) for arrays in zip(*pairs, strict=True)
    )
    return prev, following, flow.permute(0, 3, 1, 2)


def flow_loss(found: Sequence[Tensor], truth: Tensor) -> Tensor:
    """The distance of every level's flow from the truth; the last level has the largest weight.

    ``found`` are (N, 2, h, w) in pixels of their own sizes; ``truth`` is (N, 2, H, W), NaN where
    unknown. A distance of d full-size pixels costs ``log(1 + 5 d)``, so that a tenth of a pixel
    matters and a pixel that can't be matched doesn't dominate.
    """
    known = torch.isfinite(truth[:, :1]).float()
    truth = torch.nan_to_num(truth)
    total = torch.zeros(())
    for position, flow in enumerate(reversed(found)):
        factor = truth.shape[-1] // flow.shape[-1]
        share = functional.avg_pool2d(known, factor)
        wanted = functional.avg_pool2d(truth * known, factor) / share.clamp(min=1e-6)
        distance = ((factor * flow - wanted).square().sum(1, keepdim=True) + 1e-4).sqrt()
        counted = (distance * 5).log1p() * share
        total = total + 0.7**position * counted.sum() / share.sum().clamp(min=1)
    return total


def mean_error(network: DeepFlow, scenes: Scenes, camera: CameraConfig = CLEAN) -> float:
    """Mean end-point error in pixels where the truth is known; the camera's seed is fixed."""
    rng, errors = np.random.default_rng(0), []
    with torch.inference_mode():
        for index in range(len(scenes.frames)):
            prev, following, truth = batch_of(rng, scenes, [index], camera)
            flow = network(prev, following)
            errors.append(float((flow - truth).square().sum(1).sqrt().nanmean()))
    return float(np.nanmean(errors))


def train_flow(
    config: FlowTrainConfig,
    scenes: Scenes,
    report: Callable[[int, float], object],
    stop: Callable[[], bool] = lambda: False,
) -> DeepFlow:
    """Train on rendered scenes; returns the averaged network in evaluation mode.

    ``report`` is called with iteration and loss. ``stop`` is called after each iteration; true ends
    training, and the network is what it has become by then. Raises FloatingPointError when the
    loss is no longer finite.
    """
    torch.manual_seed(config.seed)
    rng = np.random.default_rng(config.seed)
    network = DeepFlow(config.network)
    moving = get_ema_multi_avg_fn(config.average_decay)  # type: ignore[no-untyped-call]
    average = AveragedModel(network, multi_avg_fn=moving)
    learned = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(learned, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.learning_rate, config.iterations, pct_start=0.1
    )
    order: list[int] = []
    for iteration in range(1, config.iterations + 1):
        while len(order) < config.batch:
            order += rng.permutation(len(scenes.frames)).tolist()
        indices, order = order[: config.batch], order[config.batch :]
        prev, following, truth = batch_of(rng, scenes, indices, config.camera)
        loss = flow_loss(network.all_levels(prev, following), truth)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learned, LARGEST_GRADIENT)
        optimiser.step()
        schedule.step()
        average.update_parameters(network)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"the loss is {value} at iteration {iteration}")
        report(iteration, value)
        if stop():
            break
    averaged = average.module.eval()
    assert isinstance(averaged, DeepFlow)
    return averaged


def save_checkpoint(
    path: Path, network: DeepFlow, config: FlowTrainConfig, error_px: float
) -> None:
    """Weights, configuration and error in one file, readable with ``weights_only=True``."""
    content = {
        "format": CHECKPOINT_FORMAT,
        "config": config.model_dump_json(),
        "error_px": error_px,
        "weights": network.state_dict(),
    }
    write_whole(path, tensors(content))


def load_checkpoint(path: Path) -> tuple[DeepFlow, FlowTrainConfig, float]:
    """The network in evaluation mode, its configuration and its error on held-out scenes in pixels.

    Raises :class:`FlowCheckpointError`.
    """
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        if stored["format"] != CHECKPOINT_FORMAT:
            raise FlowCheckpointError(
                f"{path}: format {stored['format']}, must be {CHECKPOINT_FORMAT}"
            )
        config = FlowTrainConfig.model_validate_json(stored["config"])
        network = DeepFlow(config.network)
        network.load_state_dict(stored["weights"])
        return network.eval(), config, float(stored["error_px"])
    except OSError as error:
        raise FlowCheckpointError(f"{path}: {error.strerror}") from None
    except _MALFORMED as error:
        raise FlowCheckpointError(f"{path}: not a checkpoint of this version: {error}") from None
