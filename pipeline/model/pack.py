"""A model pack: three networks, and the contract that defines their inputs and outputs.

A pack is a folder with ``spatial.onnx``, ``temporal.onnx``, ``fusion.onnx``, ``pack.json`` and
``MODEL_CARD.md``. ``pack.json`` is the contract. Each ONNX file repeats it, without the file
hashes, in ``metadata_props`` under :data:`METADATA_KEY`. The loader refuses a pack whose files and
contract disagree.

Tensors (N and T are dynamic):

========================  =====================================  ==================================
network                   inputs                                 outputs
========================  =====================================  ==================================
``spatial.onnx``          ``frames`` (N, h, w, 3) uint8 BGR      ``features`` (N, d) float32
``temporal.onnx``         ``flow`` (N, L, h, w, 2) uint8,        ``features`` (N, e) float32
                          quantised, oldest field first
``fusion.onnx``           ``spatial`` (N, T, d) float32,         ``scores``, ``spatial_scores``,
                          ``temporal`` (N, T, e) float32,        ``temporal_scores`` (N, C) float32,
                          ``mask`` (N, T, 2) float32, 1 where    probabilities; ``alpha`` (N, T)
                          (spatial, temporal) is present         float32, weight of spatial
========================  =====================================  ==================================

d and e are the same unless the contract has a ``temporal_feature_size``.

Networks compute in float32, float16 or 8-bit integers (``precision``); the tensors stay the same.

Windows end at the newest step; a window that isn't full yet is padded at its old end with mask 0.
"""

import hashlib
import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from pipeline.errors import PackError
from pipeline.model.labels import Label, check_distinct

CONTRACT_FILE = "pack.json"
METADATA_KEY = "two_stream_pack"
NETWORKS = ("spatial", "temporal", "fusion")
MAX_DROP_POINTS = 1.0

Pixels = Annotated[int, Field(ge=1, le=4096)]
Size = Annotated[tuple[Pixels, Pixels], Field(description="(height, width) in pixels")]
Score = Annotated[float, Field(ge=0.0, le=1.0)]
Precision = Literal["float32", "float16", "int8"]
ViewName = Literal["frame", "moving", "person"]
"""What a pack looks at (:data:`pipeline.people.regions.VIEWS`)."""
Fit = Literal["stretch", "pad"]


def _without(fields: dict[str, Any], name: str, usual: object) -> dict[str, Any]:
    """``fields`` without ``name`` if it has the value that it has in most packs."""
    if fields.get(name) == usual:
        fields.pop(name, None)
    return fields


class _Contract(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SpatialContract(_Contract):
    """The appearance network. The graph normalises; ``mean`` and ``std`` are for reference."""

    backbone: str
    size: Size
    fit: Fit = Field(
        default="stretch",
        description="how a picture of another shape becomes ``size``: stretched, or in its own "
        "shape with black borders",
    )
    color: Literal["bgr"] = "bgr"
    mean: tuple[float, float, float] = Field(description="subtracted in the graph, R G B of 0–255")
    std: tuple[float, float, float] = Field(description="divided by in the graph, R G B of 0–255")

    @model_serializer(mode="wrap")
    def _without_the_usual_fit(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Contracts and recipes that were written before there was a choice stay as they are."""
        return _without(dump(self), "fit", "stretch")


class TemporalContract(_Contract):
    """The motion network, and how its flow is computed.

    A frame is converted to gray and resized (area, no crop) to ``flow_size``. Flow at that size, in
    pixels per nominal step, is resized (area) to ``size``, values unchanged, and quantised with
    ``bound``.
    """

    backbone: str
    size: Size
    flow_size: Size
    stack: int = Field(ge=1, le=32, description="L, flow fields in a stack")
    method: str = Field(description="the flow method that the network was trained with")
    bound: float = Field(
        gt=0, description="displacement, pixels per step, that becomes 255 in 8 bits"
    )


class FusionContract(_Contract):
    """The fusion network: how it joins the two streams and aggregates over the window."""

    kind: Literal["concat", "weighted", "attention", "score"]
    aggregator: str = Field(description="the network over the window's steps, for example 'gru'")


class Threshold(_Contract):
    """When a label's event starts and ends."""

    model_config = ConfigDict(allow_inf_nan=False)

    start: Score = 0.6
    end: Score = 0.4
    min_duration_s: float = Field(default=0.2, ge=0)
    cooldown_s: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _hysteresis(self) -> Self:
        if self.end > self.start:
            raise ValueError(f"end ({self.end}) must not exceed start ({self.start})")
        return self


class Precisions(_Contract):
    """The numbers in which each network computes; its tensors are the same in all three."""

    spatial: Precision = "float32"
    temporal: Precision = "float32"
    fusion: Precision = "float32"


class Parity(_Contract):
    """Largest |torch − onnxruntime| over every output, on real clips, measured at export.

    A pack with 8-bit networks has no tolerance; :class:`Quantised` limits its loss of accuracy.
    """

    spatial: float
    temporal: float
    fusion: float
    tolerance: float | None
    top1_agreement: Score = Field(description="share of steps with the same first label")
    samples: int = Field(description="clips")
    outputs: dict[str, float] = Field(
        default_factory=dict, description="the same for each output, such as 'fusion.alpha'"
    )
    stepped: float | None = Field(
        default=None, description="between the pipeline's steps and torch over a whole clip"
    )

    @model_validator(mode="after")
    def _within(self) -> Self:
        limit = math.inf if self.tolerance is None else self.tolerance
        figures = {**{name: getattr(self, name) for name in NETWORKS}, **self.outputs}
        if self.stepped is not None:
            figures["stepped inference"] = self.stepped
        for name, worst in figures.items():
            # nan compares false; inf would pass where there is no tolerance.
            if not (worst <= limit and math.isfinite(worst)):
                raise ValueError(f"{name} differs by {worst:.3g}, more than {limit:.3g}")
        return self


class Quantised(_Contract):
    """The cost of 8 bits: top-1 over the same clips, by the fused and each stream's scores."""

    clips: int = Field(ge=1)
    held_out: bool = Field(description="whether training left the clips out")
    calibration: str = Field(description="how the ranges of values were found")
    float32: dict[str, Score]
    int8: dict[str, Score]
    agreement: Score = Field(description="share of clips with the same fused label in both")

    @property
    def drop_points(self) -> float:
        """The loss of fused accuracy, in percentage points."""
        return round(100.0 * (self.float32["fused"] - self.int8["fused"]), 6)

    @model_validator(mode="after")
    def _small(self) -> Self:
        if not self.drop_points < MAX_DROP_POINTS:
            raise ValueError(
                f"8 bits cost {self.drop_points:.2f} points of fused accuracy over {self.clips} "
                f"clips ({100 * self.float32['fused']:.2f} % to {100 * self.int8['fused']:.2f} %); "
                f"less than {MAX_DROP_POINTS:g} is allowed"
            )
        return self


class Contract(_Contract):
    """Everything that a program needs to run a pack."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    licence: str
    provenance: str = Field(description="what the weights were trained on, and its licence")
    labels: tuple[Label, ...] = Field(min_length=2)
    background: tuple[Label, ...] = Field(description="labels of no action, which start no event")
    view: ViewName = Field(
        default="frame",
        description="what the networks look at: the whole picture, the part that moves, or each "
        "person",
    )
    step_hz: float = Field(gt=0, le=120)
    window: int = Field(ge=1, le=1024, description="T, steps in a window")
    feature_size: int = Field(ge=1, le=16384, description="d, of the appearance network")
    temporal_feature_size: int | None = Field(
        default=None, ge=1, le=16384, description="e, of the motion network; null: d"
    )
    spatial: SpatialContract
    temporal: TemporalContract
    fusion: FusionContract
    thresholds: dict[Label, Threshold]
    precision: Precisions = Precisions()
    parity: Parity
    quantised: Quantised | None = Field(default=None, description="only with 8-bit networks")
    metrics: dict[str, Any]
    limits: tuple[str, ...] = Field(default=(), description="what the pack can't do, for its card")
    sha256: dict[str, str] = Field(default_factory=dict, description="by the file of each network")

    @model_validator(mode="after")
    def _labels(self) -> Self:
        check_distinct(self.labels)
        if unknown := set(self.background) - set(self.labels):
            raise ValueError(f"background names labels that 'labels' omits: {sorted(unknown)}")
        if unknown := set(self.thresholds) - set(self.labels):
            raise ValueError(f"thresholds name labels that 'labels' omits: {sorted(unknown)}")
        return self

    @model_validator(mode="after")
    def _accuracy_is_limited(self) -> Self:
        """A pack states either a tolerance of its parity or the cost of its 8 bits."""
        int8 = [name for name in NETWORKS if getattr(self.precision, name) == "int8"]
        if int8 and self.quantised is None:
            raise ValueError(
                f"{', '.join(int8)}: int8, so 'quantised' must give the cost in accuracy"
            )
        if self.parity.tolerance is None and not int8:
            raise ValueError("parity.tolerance may be null only with a network in int8")
        return self

    @property
    def feature_sizes(self) -> tuple[int, int]:
        """d and e: how many numbers the appearance and the motion network give a step."""
        return self.feature_size, self.temporal_feature_size or self.feature_size

    @property
    def actions(self) -> tuple[Label, ...]:
        """The labels that make events."""
        return tuple(label for label in self.labels if label not in self.background)

    def threshold(self, label: str) -> Threshold:
        """The event thresholds of ``label``; the defaults where the pack sets none."""
        return self.thresholds.get(label, Threshold())

    def metadata_json(self) -> str:
        """The contract as each ONNX file holds it: without the hashes of the files."""
        return self.model_dump_json(exclude={"sha256"})

    @model_serializer(mode="wrap")
    def _without_the_usual(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A pack of the whole picture is, byte for byte, what it was before there were views."""
        return _without(_without(dump(self), "view", "frame"), "temporal_feature_size", None)


def first_problem(error: ValidationError) -> str:
    """The first of pydantic's errors as one line: the key and what is wrong with it."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"]) or "whole file"
    return f"{where}: {first['msg'].removeprefix('Value error, ')}"


def network_file(network: str) -> str:
    """File name of one of :data:`NETWORKS` inside a pack."""
    return f"{network}.onnx"


def bytes_sha256(content: bytes) -> str:
    """The content's SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def graph_sha256(content: bytes) -> str:
    """The SHA-256 of an ONNX file without its metadata, in hexadecimal.

    The metadata holds the contract, so packs that share a network differ in it. Of a file that
    can't be read as a ``ModelProto`` (protobuf's encoding: tag, then value) all is hashed.
    """
    view, digest = memoryview(content), hashlib.sha256()
    place = 0
    while place < len(view):
        began = place
        tag, place = _varint(view, place)
        if tag & 7 == _LENGTH_FOLLOWS:
            length, place = _varint(view, place)
            place += length
        elif tag & 7 == 0:
            _, place = _varint(view, place)
        else:
            return bytes_sha256(content)
        if tag >> 3 != _METADATA_FIELD:
            digest.update(view[began:place])
    return digest.hexdigest() if place == len(view) else bytes_sha256(content)


_LENGTH_FOLLOWS, _METADATA_FIELD = 2, 14
"""A kind of value; ``ModelProto.metadata_props``."""


def _varint(view: memoryview, place: int) -> tuple[int, int]:
    """The number at ``place``, seven bits a byte, lowest first, and the place after it."""
    number = shift = 0
    while place < len(view):
        byte = view[place]
        place += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, place
    return number, len(view) + 1


class ModelPack:
    """A pack whose contract is valid and whose files have the hashes in it."""

    def __init__(self, folder: Path, contract: Contract) -> None:
        self.folder = folder
        self.contract = contract
        self._graphs: dict[str, str] = {}

    @classmethod
    def load(cls, folder: Path | str) -> "ModelPack":
        """Read and verify a pack; raises :class:`PackError` with the folder and the reason.

        :mod:`pipeline.model.session` compares the graphs themselves with the contract, when it
        opens them.
        """
        folder = Path(folder)
        path = folder / CONTRACT_FILE
        try:
            contract = Contract.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            what = f"no {CONTRACT_FILE} in it" if folder.is_dir() else "no such folder"
            raise PackError(f"model pack {folder}: {what}") from None
        except OSError as error:
            raise PackError(f"model pack {folder}: {path.name}: {error.strerror}") from None
        except ValidationError as error:
            raise PackError(f"{path}: {first_problem(error)}") from None
        pack = cls(folder, contract)
        pack._verify_hashes()
        return pack

    def path(self, network: str) -> Path:
        return self.folder / network_file(network)

    @property
    def sha256(self) -> str:
        """One hash for the pack: of the file hashes in their fixed order."""
        joined = "".join(self.contract.sha256[network_file(n)] for n in NETWORKS)
        return hashlib.sha256(joined.encode()).hexdigest()

    def graph(self, network: str) -> str:
        """The hash of a network without its metadata (:func:`graph_sha256`).

        Raises :class:`PackError` where the file can't be read.
        """
        if network not in self._graphs:
            path = self.path(network)
            try:
                self._graphs[network] = graph_sha256(path.read_bytes())
            except OSError as error:
                raise PackError(f"{path}: can't be read: {error.strerror}") from None
        return self._graphs[network]

    def _verify_hashes(self) -> None:
        for network in NETWORKS:
            path = self.path(network)
            stated = self.contract.sha256.get(path.name)
            if stated is None:
                raise PackError(f"{self.folder / CONTRACT_FILE}: sha256 has no {path.name}")
            if not path.is_file():
                raise PackError(f"model pack {self.folder}: {path.name} is missing")
            if (actual := file_sha256(path)) != stated:
                raise PackError(
                    f"{path}: sha256 is {actual[:12]}…, but {CONTRACT_FILE} says {stated[:12]}…; "
                    "the file was changed or belongs to another pack"
                )
