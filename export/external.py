"""Replace the checkpoint's appearance network by one that was trained elsewhere.

A network that returns the grid of the checkpoint's backbone replaces only the backbone; the trained
head stays. One that returns features of the size that fusion was trained on replaces the whole
appearance stream. In either case the numbers must mean what they meant in training, so the network
must be fine-tuned or distilled from the checkpoint's own. Accuracy is measured again.
"""

import hashlib
import importlib
import os
import pickle
import sys
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
    """A network from elsewhere that can't be used. The message says what would be right."""


@runtime_checkable
class DeclaresInput(Protocol):
    """The attributes by which a network from elsewhere declares its input.

    ``size`` (height, width) in pixels; ``color`` "rgb" or "bgr"; ``mean`` and ``std``, of pixels
    from 0 to 255 in the order of ``color``. Called with (N, 3, h, w) float32, normalised, it
    returns (N, d) or (N, 320, gh, gw) float32.
    """

    size: tuple[int, int]
    color: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class _Reordered(nn.Module):
    """Reverses the colour planes for a network that expects blue first; they come red first."""

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

    This runs that module's code. Only the command line names it, never a file.
    """
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ModuleError(f"{name!r}: expected a module and a function in it, as pkg.mod:build")
    # `python -m export` finds modules in the working folder; the command two-stream has to be told.
    # Last in the path: a file there must not stand in for a library's module.
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)
    try:
        build = getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise ModuleError(f"{name}: can't import {module}: {error}") from None
    except AttributeError:
        raise ModuleError(f"{name}: {module} has no {function}") from None
    if not callable(build):
        raise ModuleError(f"{name}: {function} is {type(build).__name__}, expected a function")
    network = build()
    if not isinstance(network, nn.Module):
        raise ModuleError(f"{name}() returned {type(network).__name__}, expected a torch.nn.Module")
    return network


def load_weights(network: nn.Module, path: Path) -> None:
    """Load weights from a ``.safetensors`` file, or from a ``.pt`` file with nothing but tensors.

    Only tensors are unpickled (``weights_only``). Raises :class:`ModuleError`.
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
            f"{path}: holds more than tensors, so it isn't loaded; save the state_dict, best "
            "with safetensors.torch.save_file"
        ) from None
    except (SafetensorError, RuntimeError, TypeError, AttributeError) as error:
        raise ModuleError(f"{path}: not the weights of this network: {error}") from None


def contract_of(name: str, network: nn.Module) -> SpatialContract:
    """The pack's contract of the input that ``network`` declares; raises :class:`ModuleError`."""
    if not isinstance(network, DeclaresInput):
        missing = [x for x in ("size", "color", "mean", "std") if not hasattr(network, x)]
        raise ModuleError(f"{name}: its network must declare its input: add {', '.join(missing)}")
    if network.color not in COLOURS:
        raise ModuleError(f"{name}: color is {network.color!r}, expected one of {COLOURS}")
    try:
        red_first = 1 if network.color == "rgb" else -1
        mean, std = tuple(network.mean)[::red_first], tuple(network.std)[::red_first]
        values = {"backbone": name, "size": tuple(network.size), "mean": mean, "std": std}
        contract = SpatialContract.model_validate(values)
    except TypeError as error:
        raise ModuleError(f"{name}: its declared input is wrong: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ModuleError(f"{name}: its declared input: {where}: {first['msg']}") from None
    if min(contract.std) <= 0 or min(contract.size) < 1:
        raise ModuleError(f"{name}: size and std must be positive: {contract.size} {contract.std}")
    if max(contract.std) <= 1.0:
        raise ModuleError(
            f"{name}: std {contract.std} is for pixels from 0 to 1; expected 0 to 255: times 255"
        )
    return contract


def replace_spatial(
    model: TwoStream, config: TrainConfig, name: str, network: nn.Module
) -> TrainConfig:
    """Put ``network`` into ``model``; return the configuration that describes the result.

    Raises :class:`ModuleError` when neither the trained head nor fusion accepts what it returns.
    """
    contract = contract_of(name, network)
    backbone = network if getattr(network, "color", "rgb") == "rgb" else _Reordered(network)
    backbone = backbone.eval()
    try:
        with torch.inference_mode():
            output = backbone(torch.zeros(2, 3, *contract.size))
    except RuntimeError as error:
        raise ModuleError(f"{name}: fails on (2, 3, h, w) of {contract.size}: {error}") from None
    if not isinstance(output, Tensor) or output.dtype != torch.float32:
        what = output.dtype if isinstance(output, Tensor) else type(output).__name__
        raise ModuleError(f"{name}: returns {what}, expected a float32 tensor")
    size = config.feature_size
    with torch.inference_mode():
        zeros = torch.zeros(2, *config.spatial.size, 3, dtype=torch.uint8)
        grid = tuple(model.spatial.features(zeros).shape[1:])
    if tuple(output.shape) == (2, *grid):
        head: nn.Module = model.spatial.head
    elif tuple(output.shape) == (2, size):
        head = nn.Identity()
    else:
        raise ModuleError(
            f"{name}: returns {('N', *output.shape[1:])}; the checkpoint's appearance head was "
            f"trained on {('N', *grid)} and its fusion on {('N', size)}. Train a layer that "
            "returns either, with the checkpoint's own features as targets. Add it to the network"
        )
    model.add_module("spatial", ExternalSpatial(contract, backbone, head))
    return config.model_copy(update={"spatial": contract})


def provenance_of(name: str, weights: Path) -> str:
    """Where the network comes from, for the pack: its function and its weights' hash."""
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    return f"Appearance network trained elsewhere: {name}, weights {weights.name}, sha256 {digest}."


class Foreign:
    """The network of --spatial-module: built and loaded once, then put into every model."""

    def __init__(self, name: str, weights: Path) -> None:
        self.name = name
        self.network = build_module(name)
        load_weights(self.network, weights)
        self.provenance = provenance_of(name, weights)

    def adapt(self, model: TwoStream, config: TrainConfig) -> TrainConfig:
        changed = replace_spatial(model, config, self.name, self.network)
        provenance = f"{config.provenance} {self.provenance}"
        return changed.model_copy(update={"provenance": provenance})
