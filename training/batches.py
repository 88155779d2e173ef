"""Batches ahead of time: composed and varied by worker processes while the network learns.

All that is random in batch ``i`` comes from generators seeded with ``(seed, i)``, so a run is the
same however many workers it has, and can go on from any iteration.
"""

import multiprocessing
import signal
from collections.abc import Iterator
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.config import ConfigError, TrainConfig
from training.sequences import Batch, Composer, stack_valid

Rng = np.random.Generator


class Prepared(NamedTuple):
    """A :class:`~training.sequences.Batch` as tensors, and how it is to be varied.

    ``number`` () int64, i; ``fields`` (N, T, h, w, 2) uint8, ``grid`` (N, T, c, gh, gw) float16,
    ``target`` and ``drawn`` (N, T) int64, ``weight`` and ``progress`` (N, T) float32 as there;
    ``mask`` (N, T, 2) float32, what is there of the spatial and the temporal stream; ``warp``
    (N, 2, 3) float32 and ``gain`` (N,) float32, where motion is moved to and how much it grows;
    ``scene`` (N,) int64, whose pictures a sequence gets.
    """

    number: Tensor
    fields: Tensor
    grid: Tensor
    target: Tensor
    weight: Tensor
    drawn: Tensor
    progress: Tensor
    mask: Tensor
    warp: Tensor
    gain: Tensor
    scene: Tensor

    def to(self, device: torch.device) -> "Prepared":
        return Prepared(*(tensor.to(device, non_blocking=True) for tensor in self))


def jitter(
    count: int, config: TrainConfig, rng: Rng
) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], ...]:
    """``warp`` and ``gain``: shift and scale each sequence's picture."""
    smallest, largest = np.log(config.composition.scale)
    scale = np.exp(rng.uniform(smallest, largest, count)).astype(np.float32)
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0] = theta[:, 1, 1] = 1.0 / scale
    theta[:, :, 2] = rng.uniform(-2, 2, (count, 2)) * config.composition.shift
    return theta, scale


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


def scenes(count: int, config: TrainConfig, rng: Rng) -> Tensor:
    """(N,) int64: for each sequence the one whose pictures it gets, at times the one before it.

    There are some twenty scenes to train on, few enough to know every clip by its background,
    and a scene that nobody has seen must not drown what motion says.
    """
    own = rng.random(count) >= config.composition.swap_scene
    return torch.from_numpy(np.where(own, np.arange(count), np.roll(np.arange(count), 1)))


class Batches(Dataset[Prepared]):
    """Batch ``i`` of a run, for any ``i``."""

    def __init__(self, composer: Composer, config: TrainConfig) -> None:
        self._composer, self._config = composer, config

    def __getitem__(self, index: int) -> Prepared:
        rng = np.random.default_rng([self._config.seed, index])
        batch = self._composer.batch(rng)
        mask = mask_of(batch, self._config, rng)
        count = len(mask)
        warp, gain = jitter(count, self._config, rng)
        return Prepared(
            torch.tensor(index), torch.from_numpy(batch.fields), torch.from_numpy(batch.grid),
            torch.from_numpy(batch.target), torch.from_numpy(batch.weight),
            torch.from_numpy(batch.drawn), torch.from_numpy(batch.progress),
            mask, torch.from_numpy(warp), torch.from_numpy(gain),
            scenes(count, self._config, rng),
        )  # fmt: skip


def _start_worker(_: int) -> None:
    # The parent hears of signals and ends its workers; a Ctrl-C reaches the whole process group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(0)


def batches_from(
    composer: Composer, config: TrainConfig, indices: range, workers: int, pin: bool = False
) -> Iterator[Prepared]:
    """The batches of ``indices`` in that order, made by ``workers`` processes, 0 for this one.

    Workers are forked: they share the clips' memory. ``pin`` is for copies to a GPU. Raises
    ConfigError where processes can't be forked.
    """
    if workers and "fork" not in multiprocessing.get_all_start_methods():
        raise ConfigError("--workers: this platform can't fork processes; want 0")
    loader = DataLoader(
        Batches(composer, config), batch_size=None, sampler=indices, num_workers=workers,
        worker_init_fn=_start_worker, multiprocessing_context="fork" if workers else None,
        pin_memory=pin,
    )  # fmt: skip
    return iter(loader)
