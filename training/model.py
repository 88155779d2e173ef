"""Both streams and their fusion as one module, and its checkpoint.

Next: the streams, :mod:`training.spatial` and :mod:`training.temporal`; what combines them,
:mod:`training.fusion`.
"""

import json
import pickle
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from pipeline.model.pack import first_problem
from training.config import ConfigError, TrainConfig
from training.files import tensors, write_whole
from training.fusion import FusionNetwork
from training.lite0 import PooledHead, load_imagenet
from training.sequences import stack_indices
from training.spatial import SpatialNetwork
from training.temporal import TemporalNetwork

CHECKPOINT_FORMAT = 1


class CheckpointError(Exception):
    """A checkpoint that can't be used; the message names the file and what is wrong."""


class TwoStream(nn.Module):
    """The three networks of a pack; the appearance backbone is frozen."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        size = config.feature_size
        self.stack = config.temporal.stack
        dropout = config.fusion.dropout
        self.spatial = SpatialNetwork(config.spatial, size, config.spatial_head, dropout)
        self.spatial.backbone.requires_grad_(False)
        if isinstance(self.spatial.head, PooledHead):
            self.spatial.head.requires_grad_(False)
        self.temporal = TemporalNetwork(config.temporal, size)
        self.fusion = FusionNetwork(config.fusion, size, len(config.labels))

    def step_features(self, grid: Tensor, planes: Tensor) -> tuple[Tensor, Tensor]:
        """Features at each step, (N, T, d) twice.

        ``grid`` (N, T, c, gh, gw) float32 from the frozen backbone, ``planes`` (N, T, p, h', w')
        float32, the p planes of each step's field from :meth:`TemporalNetwork.resized`. They are
        stacked here.
        """
        count, steps = grid.shape[:2]
        spatial: Tensor = self.spatial.head(grid.flatten(0, 1))
        temporal = self.temporal.features(self.stacks(planes).flatten(0, 1))
        return spatial.reshape(count, steps, -1), temporal.reshape(count, steps, -1)

    def stacks(self, planes: Tensor) -> Tensor:
        """The stack that ends at each step: (N, T, p, h', w') -> (N, T, stack * p, h', w')."""
        index = torch.from_numpy(stack_indices(planes.shape[1], self.stack))
        return planes[:, index].flatten(2, 3)


def check_networks(config: TrainConfig) -> None:
    """Raises ConfigError if the networks of a recipe can't be made, before anything is decoded."""
    try:
        TwoStream(config)
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"{config.name}: {error}") from None


def new_model(config: TrainConfig) -> TwoStream:
    """A model with ImageNet weights in its appearance backbone and random ones elsewhere."""
    torch.manual_seed(config.seed)
    model = TwoStream(config)
    head = model.spatial.head
    load_imagenet(model.spatial.backbone, head if isinstance(head, PooledHead) else None)
    return model


def save_checkpoint(path: Path, model: TwoStream, config: TrainConfig, metrics: object) -> None:
    """Weights, configuration and metrics in one file, readable with ``weights_only=True``."""
    content = {
        "format": CHECKPOINT_FORMAT,
        "config": config.model_dump_json(),
        "metrics": json.dumps(metrics),
        "weights": model.state_dict(),
    }
    write_whole(path, tensors(content))


def load_checkpoint(path: Path) -> tuple[TwoStream, TrainConfig, dict[str, object]]:
    """The model in evaluation mode, its configuration and its metrics; raises CheckpointError."""
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        if stored["format"] != CHECKPOINT_FORMAT:
            raise CheckpointError(f"{path}: format {stored['format']}, must be {CHECKPOINT_FORMAT}")
        config = TrainConfig.model_validate_json(stored["config"])
        model = TwoStream(config)
        model.load_state_dict(stored["weights"])
        return model.eval(), config, json.loads(stored["metrics"])
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path}: must hold nothing but tensors and text; refused without running it"
        ) from None
    except ValidationError as error:
        raise CheckpointError(
            f"{path}: its configuration can't be used: {first_problem(error)}"
        ) from None
    except (KeyError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a checkpoint of this version: {error}") from None
