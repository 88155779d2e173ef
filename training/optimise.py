"""The training loop."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from training.compose import Batch, Composer, stack_valid
from training.config import TrainConfig
from training.fusion import MaskedGRU, StepLogits
from training.model import TwoStream, new_model

Rng = np.random.Generator
LARGEST_GRADIENT = 5.0


def jittered(planes: Tensor, config: TrainConfig, rng: Rng) -> Tensor:
    """Shift and scale each sequence's picture: motion moves with it and grows with it.

    ``planes`` (N, T, 2, h, w) float32, 0 where nothing moves; nothing moves beyond the old border.
    """
    count = len(planes)
    composition = config.composition
    smallest, largest = np.log(composition.scale)
    scale = np.exp(rng.uniform(smallest, largest, count)).astype(np.float32)
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0] = theta[:, 1, 1] = 1.0 / scale
    theta[:, :, 2] = rng.uniform(-2, 2, (count, 2)) * composition.shift
    flat = planes.flatten(1, 2)
    grid = functional.affine_grid(torch.from_numpy(theta), list(flat.shape), align_corners=False)
    moved = functional.grid_sample(flat, grid, align_corners=False)
    moved = moved * torch.from_numpy(scale)[:, None, None, None]
    moved = moved + config.composition.noise * torch.randn_like(moved)
    return moved.reshape_as(planes)


def planes_of(batch: Batch, model: TwoStream) -> Tensor:
    """(N, T, 2, h', w') float32: each field by itself, as the motion network wants it."""
    count = len(batch.fields)
    fields = torch.from_numpy(batch.fields).permute(0, 1, 4, 2, 3).flatten(0, 1)
    planes = model.temporal.resized(fields.float())
    return planes.reshape(count, -1, *planes.shape[1:])


def mask_of(batch: Batch, config: TrainConfig, rng: Rng) -> Tensor:
    """(N, T, 2) float32: what is there, less some steps and some streams at random."""
    moving = batch.seen & stack_valid(batch.moving, config.temporal.stack)
    there = np.stack([batch.seen, moving], -1)
    drop, lost = config.composition.drop_step, config.composition.drop_stream
    there &= rng.random(there.shape) >= drop
    count = len(there)
    # Never both streams: a window in which nothing is there teaches nothing.
    which = rng.integers(2, size=count)
    there[np.arange(count), :, which] &= (rng.random(count) >= lost)[:, None]
    return torch.from_numpy(there.astype(np.float32))


def swapped_scenes(spatial: Tensor, config: TrainConfig, rng: Rng) -> tuple[Tensor, Tensor]:
    """Give some sequences the pictures of another, so that fusion doesn't learn scenes by heart.

    There are some twenty scenes to train on, few enough to know every clip by its background,
    and a scene that nobody has seen must not drown what motion says. ``spatial`` (N, T, d);
    returned is the same with rows replaced, and (N, 1) float32, 1 where a row kept its own.
    """
    own = rng.random(len(spatial)) >= config.composition.swap_scene
    source = np.where(own, np.arange(len(spatial)), np.roll(np.arange(len(spatial)), 1))
    kept = torch.from_numpy(own.astype(np.float32))[:, None]
    return spatial[torch.from_numpy(source)], kept


def loss_of(said: StepLogits, batch: Batch, own_scene: Tensor, config: TrainConfig) -> Tensor:
    """Cross-entropy of what fusion and, weighted, each stream say and foresee.

    ``own_scene`` (N, 1): the spatial stream isn't asked about motion that it wasn't shown.
    """
    settings = config.optimiser
    target, weight = torch.from_numpy(batch.target), torch.from_numpy(batch.weight)
    drawn, drawn_weight = torch.from_numpy(batch.drawn), torch.from_numpy(batch.progress)
    total = torch.zeros(())
    everywhere = torch.ones_like(own_scene)
    for now, ahead, part, where in (
        (said.fused, said.ahead.fused, 1.0, everywhere),
        (said.spatial, said.ahead.spatial, settings.stream_loss, own_scene),
        (said.temporal, said.ahead.temporal, settings.stream_loss, everywhere),
    ):
        told = _weighted(now, target, weight * where, settings.label_smoothing)
        foreseen = _weighted(ahead, drawn, drawn_weight * where, 0.0)
        total = total + part * (told + settings.foresight_loss * foreseen)
    return total


def _weighted(logits: Tensor, target: Tensor, weight: Tensor, smoothing: float) -> Tensor:
    each: Tensor = functional.cross_entropy(
        logits.flatten(0, 1), target.flatten(), reduction="none", label_smoothing=smoothing
    )
    return (each * weight.flatten()).sum() / weight.sum().clamp(min=1.0)


def fix_gates(model: TwoStream) -> None:
    for module in model.modules():
        if isinstance(module, MaskedGRU):
            module.fix_gate()


def train_model(
    config: TrainConfig, composer: Composer, report: Callable[[int, float], None]
) -> TwoStream:
    """Train from random weights; returns the averaged model in evaluation mode.

    ``report`` is called with the iterations done and the loss of the last.
    """
    rng = np.random.default_rng(config.seed)
    settings = config.optimiser
    model = new_model(config)
    average = get_ema_multi_avg_fn(settings.average_decay)  # type: ignore[no-untyped-call]
    averaged = AveragedModel(model, multi_avg_fn=average)
    learned = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        learned, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, settings.learning_rate, total_steps=settings.iterations, pct_start=0.15
    )
    model.train()
    for iteration in range(1, settings.iterations + 1):
        batch = composer.batch(rng)
        planes = jittered(planes_of(batch, model), config, rng)
        grid, mask = torch.from_numpy(batch.grid).float(), mask_of(batch, config, rng)
        # Convolutions in bfloat16 are half the time on CPUs that have it; what follows isn't.
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            spatial, temporal = model.step_features(grid, planes)
        spatial, own_scene = swapped_scenes(spatial.float(), config, rng)
        said = model.fusion.steps(spatial, temporal.float(), mask)
        loss = loss_of(said, batch, own_scene, config)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(learned, LARGEST_GRADIENT)
        optimiser.step()
        schedule.step()
        fix_gates(model)
        averaged.update_parameters(model)
        report(iteration, loss.item())
    # Running statistics are buffers, which aren't averaged: the trained model's are taken.
    model.load_state_dict({**averaged.module.state_dict(), **dict(model.named_buffers())})
    return model.eval()
