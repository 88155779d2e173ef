"""The contract of a person detector: a folder with ``person.onnx``, ``people.json`` and a card."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import PackError
from pipeline.model.pack import Precision, bytes_sha256, first_problem

CONTRACT_FILE, NETWORK_FILE = "people.json", "person.onnx"


class PeopleContract(BaseModel):
    """What ``people.json`` says.

    ``person.onnx`` takes ``frames`` (N, h, w, 3) uint8 BGR, h and w multiples of ``multiple``. It
    returns ``scores`` (N, A, 1) float32, probabilities, and ``sides`` (N, A, 4 * bins) float32
    (:func:`pipeline.people.decoding.decoded`). A counts the cells of all strides.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    name: str
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    licence: str
    provenance: str = Field(description="where the weights come from, and what they learned from")
    side: int = Field(ge=32, le=2048, description="pixels of the picture's longer side")
    multiple: int = Field(ge=1, le=256, description="each side of the input is a multiple of this")
    border: int = Field(ge=0, le=255, description="value of the pixels around the picture")
    strides: tuple[int, ...] = Field(min_length=1)
    bins: int = Field(ge=2, le=64, description="distances that a side of a box may have")
    score: float = Field(gt=0, lt=1, description="the least score of a person")
    overlap: float = Field(gt=0, lt=1, description="IoU above which one of two boxes is dropped")
    precision: Precision
    metrics: dict[str, Any] = Field(default_factory=dict)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of person.onnx")


def load_contract(folder: Path) -> PeopleContract:
    """Read ``people.json`` of a folder; raises :class:`PackError` with the file and the reason."""
    path = folder / CONTRACT_FILE
    try:
        return PeopleContract.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        what = f"no {CONTRACT_FILE} in it" if folder.is_dir() else "no such folder"
        raise PackError(f"person detector {folder}: {what}") from None
    except OSError as error:
        raise PackError(f"{path}: can't be read: {error.strerror}") from None
    except ValidationError as error:
        raise PackError(f"{path}: {first_problem(error)}") from None


def verified_network(folder: Path, contract: PeopleContract) -> bytes:
    """The bytes of ``person.onnx``; raises :class:`PackError` unless they have the stated hash."""
    path = folder / NETWORK_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PackError(f"{path}: can't be read: {error.strerror}") from None
    if (found := bytes_sha256(content)) != contract.sha256:
        raise PackError(
            f"{path}: sha256 is {found[:12]}…, but {CONTRACT_FILE} says {contract.sha256[:12]}…; "
            "the file was changed or belongs to another detector"
        )
    return content
