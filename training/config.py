"""What a training run is told: one validated object, loaded from YAML."""

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.model_pack import SpatialContract, TemporalContract

FusionKind = Literal["concat", "weighted", "attention", "score"]
TemporalBackbone = Literal["motion_cnn", "resnet18", "efficientnet_lite0"]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]


class ConfigError(Exception):
    """A configuration that can't be used; the message names the file and the key."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FusionConfig(_Section):
    kind: FusionKind = "attention"
    hidden: int = Field(default=128, ge=8, le=1024, description="units of each recurrent layer")
    dropout: Probability = 0.3


class OptimiserConfig(_Section):
    bfloat16: bool = Field(default=True, description="convolutions in half precision")
    iterations: int = Field(default=900, ge=1)
    final_iterations: int | None = Field(
        default=None, ge=1, description="of the model trained on all clips; as many if not given"
    )
    batch: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.02, ge=0)
    average_decay: Probability = Field(default=0.99, description="of the averaged weights")
    stream_loss: float = Field(default=0.5, ge=0, description="weight of each stream's own loss")
    foresight_loss: float = Field(
        default=0.5, ge=0, description="weight of telling a gesture while it is being drawn"
    )
    label_smoothing: Probability = 0.05
    background_weight: float = Field(default=0.3, ge=0, description="of steps without a gesture")


class CompositionConfig(_Section):
    """How training sequences are put together; times in steps."""

    steps: int = Field(default=72, ge=4, description="length of a training sequence")
    hold: int = Field(default=8, ge=0, description="steps that a label holds after its stroke")
    settle: int = Field(default=4, ge=0, description="steps after the hold that have no target")
    recognisable: Probability = Field(
        default=0.85, description="part of a stroke after which it can be told"
    )
    undecided: Probability = Field(
        default=0.25, description="part of a stroke, before that, that has no target"
    )
    stretch: tuple[float, float] = Field(default=(0.7, 1.5), description="range of speed factors")
    lead_in: Probability = Field(default=0.6, description="how often something precedes a gesture")
    rendered: Probability = Field(default=0.25, description="share of rendered gestures")
    negatives: Probability = Field(default=0.3, description="share of negatives in lead-ins")
    drop_step: Probability = 0.03
    drop_stream: Probability = 0.1
    swap_scene: Probability = Field(
        default=0.6, description="how often a sequence gets another's pictures"
    )
    noise: float = Field(default=0.02, ge=0, description="added to flow, in the network's unit")
    shift: float = Field(default=0.15, ge=0, description="largest shift, part of the picture")
    scale: tuple[float, float] = (0.8, 1.3)


class TrainConfig(_Section):
    """Everything that decides a run; stored in its checkpoint."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    licence: str
    provenance: str
    labels: tuple[str, ...] = Field(min_length=2)
    background: tuple[str, ...] = Field(min_length=1)
    clips: str = Field(description="list of labelled clips inside the data folder")
    negatives: str | None = Field(
        default=None, description="list of clips inside the data folder that show no label"
    )
    episodes: int = Field(default=0, ge=0, description="rendered episodes of the demo camera")
    swaps: dict[str, str] = Field(
        default_factory=dict, description="label -> label of its mirror image (left and right)"
    )
    reversals: dict[str, str] = Field(
        default_factory=dict, description="label -> label when played backwards"
    )
    step_hz: float = Field(default=10.0, gt=0, le=120)
    window: int = Field(default=64, ge=1, le=1024)
    feature_size: int = Field(default=128, ge=8, le=4096)
    spatial: SpatialContract
    temporal: TemporalContract
    fusion: FusionConfig = FusionConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    composition: CompositionConfig = CompositionConfig()
    seed: int = 0

    @model_validator(mode="after")
    def _labels_exist(self) -> Self:
        named = {*self.background, *self.swaps, *self.swaps.values()}
        named |= {*self.reversals, *self.reversals.values()}
        if strange := named - set(self.labels):
            raise ValueError(f"labels lack {sorted(strange)}, named elsewhere in the file")
        return self

    def for_all_clips(self) -> Self:
        """The recipe of the model that is exported, trained on all clips."""
        iterations = self.optimiser.final_iterations or self.optimiser.iterations
        optimiser = self.optimiser.model_copy(update={"iterations": iterations})
        return self.model_copy(update={"optimiser": optimiser})

    @classmethod
    def load(cls, path: Path) -> "TrainConfig":
        """Read a YAML file; raises :class:`ConfigError` with the file, the key and the reason."""
        try:
            return cls.model_validate(yaml.safe_load(path.read_text("utf-8")))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        except yaml.YAMLError as error:
            raise ConfigError(f"{path}: not YAML: {error}") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "whole file"
            raise ConfigError(f"{path}: {where}: {first['msg']}") from None
