"""The recipe of the network of ``deep``: one validated object, loaded from YAML."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from training.config import read_yaml

Share = Annotated[float, Field(ge=0.0, le=1.0)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SceneConfig(_Section):
    """How scenes are rendered; lengths in pixels of the rendered frame."""

    size: tuple[int, int] = Field(default=(192, 256), description="height and width")
    objects: tuple[int, int] = Field(
        default=(0, 10), description="least and greatest number of cut-outs"
    )
    still: Share = Field(default=0.2, description="share of layers that don't shift")
    far: Share = Field(default=0.12, description="share of layers that shift up to far_px")
    least_px: float = Field(default=0.1, gt=0, description="shortest shift")
    near_px: float = Field(default=10.0, gt=0, description="longest shift of most layers")
    far_px: float = Field(default=40.0, gt=0, description="longest shift of the far layers")
    wavy: Share = Field(default=0.4, description="share of layers that deform smoothly")
    flat: Share = Field(default=0.15, description="share of cut-outs with little texture")


class CameraConfig(_Section):
    """Camera effects on clean frames; gray levels of 0 to 255."""

    noise: float = Field(default=8.0, ge=0, description="largest standard deviation")
    light: Share = Field(default=0.5, description="share of pairs whose light changes")
    blur: Share = Field(default=0.15, description="share of pairs that are out of focus")
    smear: Share = Field(default=0.05, description="share of pairs smeared along their motion")
    jpeg: Share = Field(default=0.25, description="share of pairs that were compressed")
    still: Share = Field(default=0.04, description="share of pairs that differ by noise alone")


class NetworkConfig(_Section):
    """The shape of the network; see :mod:`training.flow.network`."""

    steps: tuple[int, ...] = Field(
        default=(2, 1, 1, 1, 1),
        min_length=2,
        max_length=6,
        description="updates at each level of the pyramid, the coarsest first",
    )
    narrow: int = Field(default=16, ge=8, description="channels at half the level's size")
    wide: int = Field(default=16, ge=8, description="channels at a quarter of the level's size")
    reaches: tuple[int, ...] = Field(default=(1, 2, 4), description="dilations of these layers")


class FlowTrainConfig(_Section):
    """Everything that determines a trained network; stored in its checkpoint."""

    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    licence: str
    provenance: str
    scenes: int = Field(default=4000, ge=1, description="scenes to train on")
    held_out: int = Field(default=128, ge=1, description="scenes to validate on")
    clips: tuple[str, ...] = Field(
        default=(),
        description="folders in the data folder; frames of their videos are textures too",
    )
    frames_per_folder: int = Field(default=100, ge=1, description="frames from each of these")
    iterations: int = Field(default=10_000, ge=1)
    batch: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    average_decay: Share = Field(
        default=0.998, description="decay of the moving average of the weights"
    )
    scene: SceneConfig = SceneConfig()
    camera: CameraConfig = CameraConfig()
    network: NetworkConfig = NetworkConfig()
    seed: int = 0

    @classmethod
    def load(cls, path: Path) -> "FlowTrainConfig":
        """Read a YAML file; raises ConfigError naming the file and the key."""
        return read_yaml(cls, path)
