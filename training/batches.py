"""Batches composed ahead of time by worker processes, while the network learns.

Every random choice in batch ``i`` comes from a generator seeded with ``(seed, i)``. So the number
of workers doesn't change a run, and a run can resume at any iteration. Next:
:mod:`training.sequences`, which composes the sequences of a batch.
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
    """A :class:`~training.sequences.Batch` as tensors, and the random variations to apply to it.

    * ``number`` () int64: the batch's number i
    * ``fields`` (N, T, h, w, 2) uint8, ``grid`` (N, T, c, gh, gw) float16, ``target`` and ``drawn``
      (N, T) int64, ``weight`` and ``progress`` (N, T) float32: as in ``Batch``
    * ``mask`` (N, T, 2) float32: 1 where the spatial and the temporal stream are present
    * ``warp`` (N, 2, 3) float32: the affine map of each sequence's flow; ``gain`` (N,) float32: the
      factor by which its motion grows
    * ``scene`` (N,) int64: the sequence whose pictures each one gets
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
    """Random ``warp`` and ``gain``, which shift and scale each sequence's picture."""
    smallest, largest = np.log(config.composition.scale)
    scale = np.exp(rng.uniform(smallest, largest, count)).astype(np.float32)
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0] = theta[:, 1, 1] = 1.0 / scale
    theta[:, :, 2] = rng.uniform(-2, 2, (count, 2)) * config.composition.shift
    return theta, scale


def mask_of(batch: Batch, config: TrainConfig, rng: Rng) -> Tensor:
    """(N, T, 2) float32: which streams are present, with random steps and streams masked."""
    moving = batch.seen & stack_valid(batch.moving, config.temporal.stack)
    present = np.stack([batch.seen, moving], -1)
    drop, lost = config.composition.drop_step, config.composition.drop_stream
    present &= rng.random(present.shape) >= drop
    count = len(present)
    # Never both streams: an empty window teaches nothing.
    which = rng.integers(2, size=count)
    present[np.arange(count), :, which] &= (rng.random(count) >= lost)[:, None]
    return torch.from_numpy(present.astype(np.float32))


def scenes(count: int, config: TrainConfig, rng: Rng) -> Tensor:
    """(N,) int64: the sequence whose pictures each one gets: its own or those of the one before.

    With few scenes, appearance can recognise every training clip by its background. Swapped
    pictures teach fusion not to trust appearance over motion in a scene that is new to it.
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
    # Ctrl-C reaches the whole process group, but only the parent handles it; it ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    cv2.setNumThreads(0)


def batches_from(
    composer: Composer, config: TrainConfig, indices: range, workers: int, pin: bool = False
) -> Iterator[Prepared]:
    """The batches of ``indices`` in that order, composed by ``workers`` processes; 0: by this one.

    Workers are forked and so share the clips' memory. ``pin`` pins the tensors' memory for copies
    to a GPU. Raises ConfigError on platforms that can't fork.
    """
    if workers and "fork" not in multiprocessing.get_all_start_methods():
        raise ConfigError("--workers: must be 0 on this platform, which can't fork processes")
    loader = DataLoader(
        Batches(composer, config), batch_size=None, sampler=indices, num_workers=workers,
        worker_init_fn=_start_worker, multiprocessing_context="fork" if workers else None,
        pin_memory=pin,
    )  # fmt: skip
    return iter(loader)
