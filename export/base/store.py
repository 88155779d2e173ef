"""``base.json``: which streams the base has. Streams are written by name; the others stay."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.base.layout import Block
from pipeline.errors import TwoStreamError
from pipeline.model.pack import bytes_sha256

BASE_FILE = "base.json"
SCHEMA_VERSION = 1
NAME, VERSION, LICENCE = "base", "1.0.0", "Apache-2.0"
PROVENANCE = "Each stream says where it is from. No weight was trained for this project."


class BaseError(TwoStreamError):
    """A base.json that can't be read."""


@dataclass(frozen=True)
class Stream:
    """An appearance stream to be written: its graph, and what base.json says of it."""

    name: str
    content: bytes
    backbone: str
    licence: str
    provenance: str
    size: tuple[int, int]
    feature_size: int
    blocks: tuple[Block, ...]

    @property
    def file(self) -> str:
        return f"{self.name}.onnx"

    def entry(self) -> dict[str, Any]:
        """As base.json has it."""
        return {
            "kind": "spatial", "file": self.file, "backbone": self.backbone,
            "sha256": bytes_sha256(self.content), "licence": self.licence,
            "provenance": self.provenance, "size": list(self.size), "fit": "pad",
            "feature_size": self.feature_size,
            "blocks": [block.entry() for block in self.blocks],
        }  # fmt: skip


def with_streams(path: Path, entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What base.json at ``path`` says, with ``entries`` in place of streams of the same name.

    Without the file, a base of these streams alone. Raises :class:`BaseError`.
    """
    base = _read(path) if path.exists() else _new()
    base["streams"] = dict(sorted({**base["streams"], **entries}.items()))
    return base


def written(base: Mapping[str, Any]) -> str:
    """The text of base.json."""
    return json.dumps(base, indent=2, ensure_ascii=False) + "\n"


def _new() -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION, "name": NAME, "version": VERSION, "licence": LICENCE,
        "provenance": PROVENANCE, "streams": {},
    }  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    try:
        base = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BaseError(f"{path}: can't be read: {error}") from None
    if not isinstance(base, dict) or not isinstance(base.get("streams"), dict):
        raise BaseError(f'{path}: isn\'t a base: it needs an object "streams"')
    return base
