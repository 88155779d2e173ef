"""The counters of the heartbeats, kept by stage; :mod:`pipeline.run.monitor` shows them."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

GAUGES = frozenset(
    {
        "rss_bytes",
        "private_bytes",
        "open_files",
        "late_ms",
        "pace_level",
        "people",
        "people_named",
        "remembered_bytes",
    }
)
"""What is no count: it ends with the process that it is of."""

_NOTHING: Mapping[str, float] = MappingProxyType({})


class _Counted(NamedTuple):
    earlier: Mapping[str, float]
    """What the stage's processes before the present one have counted."""
    newest: Mapping[str, float]


class StageMetrics:
    """The newest counters of each stage.

    Other threads may read while the supervisor writes: what is known of a stage is replaced as a
    whole.
    """

    def __init__(self) -> None:
        self._stages: dict[str, _Counted] = {}

    def update(self, stage: str, counters: Mapping[str, float]) -> None:
        """Take in what a heartbeat brought."""
        self._stages[stage] = _Counted(self._of(stage).earlier, counters)

    def ended(self, stage: str) -> None:
        """The stage's process has ended: the next one counts from 0, but totals don't go back."""
        earlier, newest = self._of(stage)
        kept = dict(earlier)
        for name, value in newest.items():
            if name.partition("/")[0] not in GAUGES:
                kept[name] = kept.get(name, 0.0) + value
        self._stages[stage] = _Counted(kept, _NOTHING)

    def of(self, stage: str) -> Mapping[str, float]:
        """What the stage's present process has counted; empty before its first heartbeat."""
        return self._of(stage).newest

    def value(self, stage: str, name: str) -> float:
        """The stage's count of all its processes, or its gauge; 0 when it has none."""
        earlier, newest = self._of(stage)
        return newest.get(name, 0.0) + earlier.get(name, 0.0)

    def _of(self, stage: str) -> _Counted:
        return self._stages.get(stage, _Counted(_NOTHING, _NOTHING))
