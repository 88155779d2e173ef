"""The section ``evidence``: which clips and pictures are made of events, and how long they stay."""

from typing import Literal

from pydantic import Field

from pipeline.config.paths import LocalPath
from pipeline.config.section import Section
from pipeline.model.labels import Label

Kind = Literal["clip", "snapshot", "motion"]
REACTION_S = 6.0
"""From an action's first step until a capture is asked for its packets: windows, minimum durations
and stages take so long at most."""


class ClipConfig(Section):
    """How long clips are."""

    pre_s: float = Field(default=5.0, ge=0, le=60, description="before the action starts")
    post_s: float = Field(default=5.0, ge=0, le=60, description="after it ends")
    max_s: float = Field(
        default=60.0, ge=2, le=600, description="a longer action has several clips of this length"
    )


class EvidenceConfig(Section):
    """Clips and pictures of events. Without a folder there are none."""

    folder: LocalPath | None = Field(default=None, description="where files are put")
    labels: list[Label] | None = Field(
        default=None, description="only of these labels; default: of all"
    )
    kinds: list[Kind] = Field(
        default=["clip", "snapshot", "motion"],
        min_length=1,
        description="what is made: clip; snapshot, a picture of the best moment with boxes, and "
        "one without; motion, the flow at that moment as a picture",
    )
    clips: ClipConfig = ClipConfig()
    pixelate: bool = Field(default=False, description="make people unrecognisable")
    keep_days: float | None = Field(
        default=30.0, gt=0, le=36_500, description="delete older files; null: keep them"
    )
    keep_gb: float | None = Field(
        default=10.0, gt=0, description="delete the oldest files of a folder that holds more"
    )
    memory_mb: float = Field(
        default=16.0,
        ge=1,
        le=4096,
        description="memory for the last seconds of each camera",
    )

    @property
    def keep_s(self) -> float:
        """How far back a camera's packets must reach."""
        return REACTION_S + (self.clips.pre_s if "clip" in self.kinds else 0.0)

    def wants(self, label: str) -> bool:
        """Whether there is evidence of actions of this label."""
        return self.folder is not None and (self.labels is None or label in self.labels)
