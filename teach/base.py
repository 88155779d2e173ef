"""The base: frozen networks that see appearance and motion, and how heads pool their features.

``base.json`` lists the streams. A stream is a network without state: its features of a step depend
on that step's picture, or on that step's flow, alone. So a clip, a live camera and the memory of
last week all give the same features.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pipeline.errors import PackError
from pipeline.model.pack import (
    Fit,
    Size,
    SpatialContract,
    TemporalContract,
    file_sha256,
    first_problem,
)

BASE_FILE = "base.json"

Pool = Literal["mean", "std", "max", "min", "thirds", "swing", "stroke"]
STROKE_POINTS = 12
WIDTHS: Mapping[Pool, int] = {
    "mean": 1, "std": 1, "max": 1, "min": 1, "thirds": 3, "swing": 2, "stroke": STROKE_POINTS + 2
}  # fmt: skip
"""How many numbers each pool makes of one feature."""
Share = Annotated[float, Field(gt=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Block(_Part):
    """Features that the head pools alike over the steps of a window (:mod:`teach.pooling`)."""

    name: str
    start: int = Field(ge=0, description="the first feature")
    size: int = Field(ge=1, description="features")
    valid: int | None = Field(
        default=None, ge=0, description="the feature that is 1 at steps where the block has values"
    )
    lag: int = Field(default=0, ge=0, le=16, description="k: the values are x[t] - x[t - k]")
    unit: int | None = Field(
        default=None, ge=0, description="the feature by whose mean the values are divided"
    )
    pools: tuple[Pool, ...] = Field(min_length=1)
    scaling: Literal["each", "block"] = Field(
        default="each", description="standardise each pooled value, or the block as a whole"
    )
    weight: Share = Field(default=1.0, description="its share of the stream's squared length")

    @model_validator(mode="after")
    def _strokes_are_of_two(self) -> Self:
        if "stroke" in self.pools and self.size != 2:
            raise ValueError(f"block {self.name}: a stroke is of two features, vx and vy")
        return self

    @property
    def width(self) -> int:
        """Pooled values."""
        return self.size * sum(WIDTHS[pool] for pool in self.pools)


class _Stream(_Part):
    file: str
    backbone: str
    sha256: str
    licence: str
    provenance: str
    feature_size: int = Field(ge=1, le=16384)
    blocks: tuple[Block, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _blocks_lie_inside(self) -> Self:
        for block in self.blocks:
            last = max(block.start + block.size - 1, block.valid or 0, block.unit or 0)
            if last >= self.feature_size:
                raise ValueError(f"block {block.name}: feature {last} of {self.feature_size}")
        return self


class SpatialStream(_Stream):
    """A network that looks at a picture."""

    kind: Literal["spatial"]
    size: Size
    fit: Fit = "stretch"

    @property
    def contract(self) -> SpatialContract:
        """As a pack states it. The graph takes pictures as they are."""
        return SpatialContract(
            backbone=self.backbone, size=self.size, fit=self.fit, mean=(0, 0, 0), std=(1, 1, 1)
        )


class TemporalStream(_Stream):
    """A network that looks at flow."""

    kind: Literal["temporal"]
    size: Size
    flow_size: Size
    stack: int = Field(default=1, ge=1, le=32)
    method: str
    bound: float = Field(gt=0)

    @property
    def contract(self) -> TemporalContract:
        return TemporalContract(
            backbone=self.backbone,
            size=self.size,
            flow_size=self.flow_size,
            stack=self.stack,
            method=self.method,
            bound=self.bound,
        )


Stream = Annotated[SpatialStream | TemporalStream, Field(discriminator="kind")]


class _File(_Part):
    schema_version: Literal[1]
    name: str
    version: str
    licence: str
    provenance: str
    streams: dict[str, Stream] = Field(min_length=2)


class Base:
    """A base whose file is valid and whose networks have the hashes in it."""

    def __init__(self, folder: Path, content: _File) -> None:
        self.folder = folder
        self.name, self.version = content.name, content.version
        self.licence, self.provenance = content.licence, content.provenance
        self.streams = content.streams

    @classmethod
    def load(cls, folder: Path) -> "Base":
        """Read and verify a base; raises :class:`PackError` with the file and the reason."""
        path = folder / BASE_FILE
        try:
            content = _File.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            what = f"no {BASE_FILE} in it" if folder.is_dir() else "no such folder"
            raise PackError(f"base {folder}: {what}") from None
        except OSError as error:
            raise PackError(f"base {folder}: {path.name}: {error.strerror}") from None
        except ValidationError as error:
            raise PackError(f"{path}: {first_problem(error)}") from None
        for name, stream in content.streams.items():
            network = folder / stream.file
            if not network.is_file():
                raise PackError(f"base {folder}: {stream.file} of {name} is missing")
            if file_sha256(network) != stream.sha256:
                raise PackError(
                    f"{network}: its sha256 isn't the one in {BASE_FILE}; the file was changed"
                )
        return cls(folder, content)

    def in_pack(self, files: Mapping[str, str]) -> bytes:
        """``base.json`` of the streams that a pack takes; ``files`` are theirs in the pack."""
        streams = {
            name: self.streams[name].model_copy(update={"file": file})
            for name, file in files.items()
        }
        content = _File(
            schema_version=1, name=self.name, version=self.version, licence=self.licence,
            provenance=self.provenance, streams=streams,
        )  # fmt: skip
        return content.model_dump_json().encode()

    @classmethod
    def of_pack(cls, folder: Path, content: bytes) -> "Base":
        """The base of a pack's own networks, from :meth:`in_pack`; raises ValueError."""
        return cls(folder, _File.model_validate_json(content))

    def spatial(self, name: str) -> SpatialStream:
        stream = self.streams[name]
        assert isinstance(stream, SpatialStream)
        return stream

    def temporal(self, name: str) -> TemporalStream:
        stream = self.streams[name]
        assert isinstance(stream, TemporalStream)
        return stream

    @property
    def appearances(self) -> tuple[str, ...]:
        return tuple(name for name, one in self.streams.items() if one.kind == "spatial")

    @property
    def motions(self) -> tuple[str, ...]:
        return tuple(name for name, one in self.streams.items() if one.kind == "temporal")

    def identity(self, name: str) -> str:
        """Changes whenever the stream's features do: for names of cached features."""
        stream = self.streams[name]
        inputs = stream.model_dump_json(exclude={"blocks", "licence", "provenance", "file"})
        return hashlib.sha256(inputs.encode()).hexdigest()[:12]
