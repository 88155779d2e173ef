"""The settings of `file`: JSON lines in a folder of this machine."""

from typing import Literal

from pydantic import Field

from bridges.settings import BridgeSettings
from pipeline.config.paths import LocalPath


class FileSettings(BridgeSettings):
    """A bridge into files of JSON lines."""

    kind: Literal["file"]
    path: LocalPath = Field(
        description="the file that is written, such as events.jsonl; full ones lie beside it"
    )
    rotate_mb: float | None = Field(
        default=100.0, ge=0.001, le=100_000, description="begin a new file before it is larger"
    )
    rotate_daily: bool = Field(default=True, description="begin a new file each day (UTC)")
    keep_files: int | None = Field(
        default=30, ge=1, le=100_000, description="full files that are kept; null: all of them"
    )
