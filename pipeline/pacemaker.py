"""The pacemaker: what the heartbeats say of late and skipped steps, put to the governor."""

from collections.abc import Sequence

from pipeline.governor import Governor
from pipeline.messages import Pacing
from pipeline.metrics import StageMetrics

FUSION = "fusion"


class Pacemaker:
    """Judges by how late fusion's steps are, if it had any, and by what any stage skipped."""

    def __init__(self, target_ms: float, stages: Sequence[str]) -> None:
        self._governor = Governor(target_ms)
        self._stages = stages
        self._skipped: dict[str, float] = {}
        self._steps = 0.0

    def hear(self, now_ns: int, metrics: StageMetrics) -> Pacing | None:
        """After a heartbeat of fusion: the pace to go on at, if it changes."""
        fusion, governor = metrics.of(FUSION), self._governor
        before, self._steps = self._steps, fusion.get("steps_timed", 0.0)
        skipped = self._newly_skipped(metrics)
        if self._steps <= before:  # none came whole, or fusion was started again
            return None
        late_ms, level = fusion.get("late_ms", 0.0), governor.level
        if not governor.observe(now_ns, late_ms, skipped):
            return None
        what = "steps were skipped" if skipped else f"steps took {late_ms:.0f} ms"
        if governor.level < level:
            what = f"steps take {late_ms:.0f} ms again"
        reason = f"{what}; {governor.target_ms:g} ms are aimed at"
        pace = governor.pace._asdict()
        return Pacing(level=governor.level, reason=reason, at_ns=now_ns, **pace)

    def _newly_skipped(self, metrics: StageMetrics) -> bool:
        """Whether a stage had to pass over steps since it was last asked."""
        before = self._skipped
        self._skipped = {name: metrics.of(name).get("steps_skipped", 0.0) for name in self._stages}
        return any(count > before.get(name, 0.0) for name, count in self._skipped.items())
