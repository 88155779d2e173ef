"""The section ``memory``: for how long the features of cameras are kept."""

from pydantic import Field

from pipeline.config.paths import LocalPath
from pipeline.config.section import Section


class MemoryConfig(Section):
    """Features of steps in which something moved. Without a folder none are kept."""

    folder: LocalPath | None = Field(default=None, description="where they are kept")
    days: float = Field(default=7.0, gt=0, le=3650, description="delete what is older")
    mb: float = Field(
        default=2000.0, ge=10, description="delete the oldest of a camera that takes more"
    )
