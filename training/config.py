"""The training recipe: one validated object, loaded from YAML.

``docs/training.md`` explains every key. Next: the clips that it names, :mod:`training.clip_lists`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    ValidationError,
    model_serializer,
    model_validator,
)

from pipeline import errors, flow
from pipeline.config import yaml_file
from pipeline.config.schema import PeopleConfig
from pipeline.model.labels import Label
from pipeline.model.pack import (
    Contract,
    FusionContract,
    Parity,
    SpatialContract,
    TemporalContract,
    Threshold,
    ViewName,
    first_problem,
)

FusionKind = Literal["concat", "weighted", "attention", "score"]
Aggregator = Literal["gru", "convolution", "attention", "statistics"]
SpatialHead = Literal["grid", "points", "pooled"]
TemporalBackbone = Literal[
    "motion_cnn", "resnet18", "efficientnet_lite0", "efficientnet_lite0_pooled"
]
ListFormat = Literal["auto", "folder", "csv", "ucf101", "mmaction2", "activitynet"]
Others = Literal["refuse", "skip", "background"]
Settings = TypeVar("Settings", bound=BaseModel)
Probability = Annotated[float, Field(ge=0.0, le=1.0)]


EXACT = Parity(spatial=0.0, temporal=0.0, fusion=0.0, tolerance=0.0, top1_agreement=1.0, samples=0)
"""Stands for the figures that export measures."""


class ConfigError(Exception):
    """A configuration that can't be used; the message names the file and the key."""


def read_yaml(kind: type[Settings], path: Path) -> Settings:
    """Read a YAML file; raises :class:`ConfigError` with the file, the key and the reason."""
    try:
        return kind.model_validate(yaml_file.read(path, "name").data)
    except errors.ConfigError as error:
        raise ConfigError(str(error)) from None
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_problem(error)}") from None


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClipList(_Section):
    """Where labelled clips are listed; all paths are relative to the data folder."""

    path: str = Field(description="the list, or a folder with a folder of clips for each label")
    format: ListFormat = "auto"
    videos: str = Field(default=".", description="folder that paths in the list are relative to")
    label_map: str | None = Field(
        default=None, description="file with the names of numbered labels, if not beside the list"
    )
    held_out: str | None = Field(
        default=None, description="a second list: its clips are fold 0, and only they are held out"
    )
    folds: int = Field(default=5, ge=2, description="folds to make if the list has none")
    between: Label | None = Field(
        default=None, description="label of the footage between the segments of a file"
    )
    others: Others | None = Field(
        default=None,
        description="what to do with clips whose label isn't in labels; default: refuse for clips, "
        "background for negatives",
    )
    leave_out: tuple[str, ...] = Field(
        default=(), description="groups that are left out, as shell patterns: urfd-*"
    )


def _kind_of_source(source: object) -> str:
    return "name" if isinstance(source, str) else "list"


# An explicit discriminator: without it, an error in a section would be reported as "not a string".
ClipSource = Annotated[
    Annotated[str, Tag("name")] | Annotated[ClipList, Tag("list")], Discriminator(_kind_of_source)
]


def _kind_of_sources(sources: object) -> str:
    return "several" if isinstance(sources, (list, tuple)) else "one"


ClipSources = Annotated[
    Annotated[ClipSource, Tag("one")]
    | Annotated[tuple[ClipSource, ...], Field(min_length=1), Tag("several")],
    Discriminator(_kind_of_sources),
]


class FusionConfig(_Section):
    """How the two streams are combined and aggregated along the window."""

    kind: FusionKind = "attention"
    alpha: Probability | None = Field(
        default=None,
        description="weight of spatial, learned if not given; kind weighted: fixed in training; "
        "kind score: set after training",
    )
    aggregator: Aggregator = Field(default="gru", description="network along the window's steps")
    hidden: int = Field(default=128, ge=8, le=1024, description="size of the aggregator's state")
    dropout: Probability = 0.3

    @model_validator(mode="after")
    def _alpha_is_one_number(self) -> Self:
        if self.alpha is not None and self.kind not in ("weighted", "score"):
            raise ValueError(f"alpha: only the kinds weighted and score have it, not {self.kind}")
        return self


class OptimiserConfig(_Section):
    """The training loop, and the weights of the parts of its loss."""

    bfloat16: bool | Literal["auto"] = Field(
        default="auto",
        description="convolutions in half precision; auto: on GPUs, and on CPUs that compute in it",
    )
    iterations: int = Field(default=900, ge=1)
    final_iterations: int | None = Field(
        default=None,
        ge=1,
        description="iterations of the model trained on all clips; default: as many as iterations",
    )
    batch: int = Field(default=16, ge=1, description="sequences in a batch")
    learning_rate: float = Field(default=2e-3, gt=0)
    weight_decay: float = Field(default=0.02, ge=0)
    average_decay: Probability = Field(
        default=0.99, description="decay of the moving average of the weights"
    )
    stream_loss: float = Field(default=0.5, ge=0, description="weight of each stream's own loss")
    foresight_loss: float = Field(
        default=0.5, ge=0, description="weight of recognising a gesture while it is being drawn"
    )
    label_smoothing: Probability = 0.05
    background_weight: float = Field(
        default=0.3, ge=0, description="weight of steps whose target is background"
    )


class CompositionConfig(_Section):
    """How training sequences are composed; times in steps."""

    steps: int = Field(default=72, ge=4, description="length of a training sequence")
    hold: int = Field(default=8, ge=0, description="steps after a stroke that keep its label")
    settle: int = Field(default=4, ge=0, description="steps after the hold that have no target")
    recognisable: Probability = Field(
        default=0.85, description="part of a stroke after which its label is the target"
    )
    undecided: Probability = Field(
        default=0.25, description="part of a stroke, just before that, that has no target"
    )
    stretch: tuple[float, float] = Field(default=(0.7, 1.5), description="range of speed factors")
    lead_in: Probability = Field(
        default=0.6, description="share of sequences that begin with something before the gestures"
    )
    rendered: Probability = Field(default=0.25, description="share of rendered gestures")
    negatives: Probability = Field(default=0.3, description="share of negatives in lead-ins")
    scribbles: Probability = Field(
        default=0.0, description="share of clips played to and fro, with background as target"
    )
    scribbled: tuple[Label, ...] = Field(
        default=(), description="labels of the clips that may be played to and fro"
    )
    drop_step: Probability = Field(default=0.03, description="share of steps masked at random")
    drop_stream: Probability = Field(
        default=0.1, description="how often one stream of a sequence is masked"
    )
    swap_scene: Probability = Field(
        default=0.6, description="how often a sequence gets the pictures of another"
    )
    noise: float = Field(default=0.02, ge=0, description="added to flow, in the network's unit")
    shift: float = Field(
        default=0.15, ge=0, description="largest shift of the flow, as a part of the picture"
    )
    scale: tuple[float, float] = Field(
        default=(0.8, 1.3), description="range of factors by which the flow's picture is scaled"
    )

    @model_validator(mode="after")
    def _scribbles_are_of_something(self) -> Self:
        if self.scribbles and not self.scribbled:
            raise ValueError("scribbles: scribbled must name the labels that may be scribbled")
        return self


class LinearConfig(_Section):
    """How linear classifiers of window statistics are fitted.

    The objective is the mean cross-entropy plus ``decay`` times the sum of the weights' squares.
    ``optimiser.iterations`` are the iterations of each fit.
    """

    decay: float = Field(default=2.0, ge=0, description="weight of the penalty")
    windows: int = Field(default=3, ge=1, description="windows taken from each clip")
    shortest: int = Field(default=8, ge=2, description="fewest steps in a window")
    negatives: Probability = Field(
        default=0.3, description="share of the background's weight that the negatives have"
    )


class TrainConfig(_Section):
    """Everything that determines a trained model; stored in its checkpoint."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    licence: str
    provenance: str
    limits: tuple[str, ...] = Field(default=(), description="known limits, for the model card")
    labels: tuple[Label, ...] = Field(min_length=2)
    background: tuple[Label, ...] = Field(
        default=(), description="labels that mean nothing and start no event"
    )
    clips: ClipSource = Field(description="list of labelled clips, relative to the data folder")
    negatives: ClipSources | None = Field(
        default=None,
        description="list of clips that show no label, or several, relative to the data folder",
    )
    episodes: int = Field(default=0, ge=0, description="rendered episodes of the demo camera")
    swaps: dict[Label, Label] = Field(
        default_factory=dict, description="label -> label of its mirror image (left and right)"
    )
    reversals: dict[Label, Label] = Field(
        default_factory=dict, description="label -> label of its clip played backwards"
    )
    view: ViewName = Field(
        default="frame",
        description="what the networks look at: the whole frame, the part that moves (moving), or "
        "each person (person)",
    )
    subjects: int = Field(
        default=1,
        ge=1,
        le=PeopleConfig().subjects,
        description="view person: how many people do what a clip's label says; those who move most",
    )
    step_hz: float = Field(default=10.0, gt=0, le=120)
    window: int = Field(default=64, ge=1, le=1024)
    feature_size: int = Field(default=128, ge=8, le=4096)
    looks: int = Field(
        default=2,
        ge=0,
        le=16,
        description="photometric variants of each clip for the appearance stream",
    )
    spatial: SpatialContract
    spatial_head: SpatialHead = "grid"
    temporal: TemporalContract
    fusion: FusionConfig = FusionConfig()
    optimiser: OptimiserConfig = OptimiserConfig()
    composition: CompositionConfig = CompositionConfig()
    linear: LinearConfig = LinearConfig()
    thresholds: dict[Label, Threshold] = Field(
        default_factory=dict,
        description="label -> when its events start and end; fitted for labels not named",
    )
    seed: int = 0

    @model_validator(mode="after")
    def _labels_exist(self) -> Self:
        named = {*self.background, *self.swaps, *self.swaps.values(), *self.thresholds}
        named |= {*self.reversals, *self.reversals.values()}
        lists = (self.clips, *self.quiet_lists)
        named |= set(self.composition.scribbled)
        named |= {x.between for x in lists if isinstance(x, ClipList) and x.between is not None}
        if unknown := named - set(self.labels):
            raise ValueError(f"{sorted(unknown)} are named in the file but missing from labels")
        return self

    @model_validator(mode="after")
    def _can_be_exported(self) -> Self:
        """Nothing is trained that no pack can hold: its contract is made here, without figures."""
        if self.temporal.method not in flow.METHODS:
            raise ValueError(
                f"temporal.method: must be one of {', '.join(sorted(flow.METHODS))}, "
                f"got {self.temporal.method!r}"
            )
        try:
            Contract(
                name=self.name, version=self.version, licence=self.licence,
                provenance=self.provenance, labels=self.labels, background=self.background,
                view=self.view, step_hz=self.step_hz, window=self.window,
                feature_size=self.feature_size, spatial=self.spatial, temporal=self.temporal,
                fusion=FusionContract(kind=self.fusion.kind, aggregator=self.fusion.aggregator),
                thresholds=self.thresholds, parity=EXACT, metrics={}, limits=self.limits,
            )  # fmt: skip
        except ValidationError as error:
            raise ValueError(first_problem(error).removeprefix("whole file: ")) from None
        return self

    @model_validator(mode="after")
    def _statistics_are_for_states(self) -> Self:
        """Window statistics need streams that aren't trained."""
        linear = self.fusion.aggregator == "statistics"
        fixed = (self.spatial_head, self.temporal.backbone)
        if linear and fixed != ("pooled", "efficientnet_lite0_pooled"):
            raise ValueError(
                "fusion.aggregator: statistics needs spatial_head pooled and temporal.backbone "
                "efficientnet_lite0_pooled"
            )
        if not self.background and (not linear or self.negatives is not None):
            raise ValueError(
                "background: name at least one label; only fusion.aggregator statistics without "
                "negatives can do without"
            )
        return self

    @model_validator(mode="after")
    def _people_are_filmed(self) -> Self:
        if self.view == "person" and self.episodes:
            raise ValueError(
                "episodes: the demo camera shows nobody, so view person can't have any"
            )
        if self.view != "person" and self.subjects != 1:
            raise ValueError(f"subjects: only view person has several, not {self.view}")
        return self

    @model_serializer(mode="wrap")
    def _without_the_usual_view(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A recipe of the whole frame is what it was before there were views."""
        fields: dict[str, Any] = dump(self)
        if self.view == "frame":
            fields.pop("view", None)
            fields.pop("subjects", None)
        return fields

    @property
    def quiet_lists(self) -> tuple[str | ClipList, ...]:
        """The lists of clips that show no label."""
        if self.negatives is None:
            return ()
        return self.negatives if isinstance(self.negatives, tuple) else (self.negatives,)

    def for_all_clips(self) -> Self:
        """The recipe of the model trained on all clips, which is the one to export."""
        iterations = self.optimiser.final_iterations or self.optimiser.iterations
        optimiser = self.optimiser.model_copy(update={"iterations": iterations})
        return self.model_copy(update={"optimiser": optimiser})

    @classmethod
    def load(cls, path: Path) -> "TrainConfig":
        """Read a YAML file; raises :class:`ConfigError` with the file, the key and the reason."""
        return read_yaml(cls, path)
