"""An appearance network that was trained elsewhere, in the place of the checkpoint's own.

It takes over the backbone, and the checkpoint's trained head stays, when it gives the grid that
this head was trained on; it takes over the whole appearance stream when it gives features of the
size that fusion was trained on. In either case the numbers must mean what they meant in training:
a network that was fine-tuned or distilled from the checkpoint's own. Accuracy is measured anew.
"""

import hashlib
import importlib
import pickle
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.model.pack import SpatialContract
from training.config import TrainConfig
from training.model import TwoStream
from training.spatial import SpatialNetwork

COLOURS = ("rgb", "bgr")


class ModuleError(Exception):
    """A network from elsewhere that can't be used; the message says what would be right."""


@runtime_checkable
class DeclaresInput(Protocol):
    """What a network from elsewhere says of its input, as attributes.

    ``size`` (height, width) in pixels; ``color`` "rgb" or "bgr"; ``mean`` and ``std``, of pixels
    from 0 to 255 in the order of ``color``. Called with (N, 3, h, w) float32, normalised, it gives
    (N, d) or (N, 320, gh, gw) float32.
    """

    size: tuple[int, int]
    color: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class _Reordered(nn.Module):
    """For a network that takes blue first: planes come red first."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, planes: Tensor) -> Tensor:
        y: Tensor = self.network(planes.flip(1))
        return y


class ExternalSpatial(SpatialNetwork):
    """:class:`training.spatial.SpatialNetwork` with a backbone of any kind and size."""

    def __init__(self, contract: SpatialContract, backbone: nn.Module, head: nn.Module) -> None:
        nn.Module.__init__(self)
        self.register_buffer("mean", torch.tensor(contract.mean).reshape(3, 1, 1))
        self.register_buffer("std", torch.tensor(contract.std).reshape(3, 1, 1))
        self.add_module("backbone", backbone)
        self.add_module("head", head)


def build_module(name: str) -> nn.Module:
    """Import ``pkg.mod`` of ``pkg.mod:build`` and call ``build()``; raises :class:`ModuleError`.

    This runs that module's code: it is named by whoever runs the export, never by a file.
    """
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ModuleError(f"{name!r}: want a module and a function in it, as pkg.mod:build")
    try:
        build = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise ModuleError(f"{name}: can't import {module}: {error}") from None
    except AttributeError:
        raise ModuleError(f"{name}: {module} has no {function}") from None
    if not callable(build):
        raise ModuleError(f"{name}: {function} is {type(build).__name__}, want a function")
    network = build()
    if not isinstance(network, nn.Module):
        raise ModuleError(f"{name}() gave {type(network).__name__}, want a torch.nn.Module")
    return network


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill ``network`` from a ``.safetensors`` file, or a ``.pt`` file that holds nothing else.

    Nothing is unpickled but tensors (``weights_only``). Raises :class:`ModuleError`.
    """
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        network.load_state_dict(weights)
    except OSError as error:
        raise ModuleError(f"{path}: {error.strerror or error}") from None
    except pickle.UnpicklingError:
        raise ModuleError(
            f"{path}: holds more than tensors, and is not unpickled; save the state_dict, best "
            "with safetensors.torch.save_file"
        ) from None
    except (SafetensorError, RuntimeError, TypeError, AttributeError) as error:
        raise ModuleError(f"{path}: not the weights of this network: {error}") from None


def contract_of(name: str, network: nn.Module) -> SpatialContract:
    """What ``network`` declares, as the pack says it; raises :class:`ModuleError`."""
    if not isinstance(network, DeclaresInput):
        lacking = [x for x in ("size", "color", "mean", "std") if not hasattr(network, x)]
        raise ModuleError(f"{name}: its network must say what it takes; it lacks {lacking}")
    if network.color not in COLOURS:
        raise ModuleError(f"{name}: color is {network.color!r}, want one of {COLOURS}")
    try:
        red_first = 1 if network.color == "rgb" else -1
        mean, std = tuple(network.mean)[::red_first], tuple(network.std)[::red_first]
        values = {"backbone": name, "size": tuple(network.size), "mean": mean, "std": std}
        contract = SpatialContract.model_validate(values)
    except TypeError as error:
        raise ModuleError(f"{name}: what it says of its input is wrong: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModuleError(f"{name}: what it says of its input: {where}: {first['msg']}") from None
    if min(contract.std) <= 0 or min(contract.size) < 1:
        raise ModuleError(f"{name}: size and std must be positive: {contract.size} {contract.std}")
    if max(contract.std) <= 1.0:
        raise ModuleError(
            f"{name}: std {contract.std} is of pixels from 0 to 1; want 0 to 255, so 255 times that"
        )
    return contract


def replace_spatial(
    model: TwoStream, config: TrainConfig, name: str, network: nn.Module
) -> TrainConfig:
    """Put ``network`` into ``model`` and return the configuration that goes with it.

    Raises :class:`ModuleError` when what it gives is neither what the trained head takes nor what
    fusion takes.
    """
    contract = contract_of(name, network)
    backbone = network if getattr(network, "color", "rgb") == "rgb" else _Reordered(network)
    backbone = backbone.eval()
    try:
        with torch.inference_mode():
            given = backbone(torch.zeros(2, 3, *contract.size))
    except RuntimeError as error:
        raise ModuleError(f"{name}: fails on (2, 3, h, w) of {contract.size}: {error}") from None
    if not isinstance(given, Tensor) or given.dtype != torch.float32:
        what = given.dtype if isinstance(given, Tensor) else type(given).__name__
        raise ModuleError(f"{name}: gives {what}, want a float32 tensor")
    size = config.feature_size
    with torch.inference_mode():
        zeros = torch.zeros(2, *config.spatial.size, 3, dtype=torch.uint8)
        grid = tuple(model.spatial.features(zeros).shape[1:])
    if tuple(given.shape) == (2, *grid):
        head: nn.Module = model.spatial.head
    elif tuple(given.shape) == (2, size):
        head = nn.Identity()
    else:
        raise ModuleError(
            f"{name}: gives {('N', *given.shape[1:])}; the checkpoint's appearance head was "
            f"trained on {('N', *grid)} and its fusion on {('N', size)}. Train a layer that gives "
            "either, with the checkpoint's own features as targets, and make it part of the network"
        )
    model.add_module("spatial", ExternalSpatial(contract, backbone, head))
    return config.model_copy(update={"spatial": contract})


def provenance_of(name: str, weights: Path) -> str:
    """Where the network comes from, for the pack: its function and its weights' hash."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return f"Appearance network trained elsewhere: {name}, weights {weights.name}, sha256 {digest}."
