"""The governor: less of each step is done while steps come late, and all of it again after.

Pure: it is told the time and how late steps are, and says at which pace to go on. What is left out,
in which order, is :data:`LADDER`: appearance first, which changes slowly; then the care with which
flow is computed; and only then steps themselves.
"""

from dataclasses import dataclass
from typing import NamedTuple

from pipeline.clock import NS_PER_S

HURRY_S = 2.0
"""Steps are late for so long before less is done."""
SETTLE_S = 3.0
"""After a change nothing is judged for so long: what waited before it has to pass first."""
CALM_S, LONGEST_CALM_S = 20.0, 640.0
"""Steps are early for so long before more is done; twice as long each time that proved too much."""
EARLY = 0.6
"""Early: within this part of the target."""


class Pace(NamedTuple):
    """How much is done."""

    spatial_every: int = 1
    """Appearance is looked at in one of so many steps; the others lack it, and are masked."""
    fast_flow: bool = False
    """Flow by its method's fastest preset."""
    step_every: int = 1
    """One of so many steps is made at all."""


LADDER = (
    Pace(),
    Pace(spatial_every=2),
    Pace(spatial_every=4),
    Pace(spatial_every=4, fast_flow=True),
    Pace(spatial_every=4, fast_flow=True, step_every=2),
)


@dataclass
class Governor:
    """Goes down and up :data:`LADDER` so that steps take ``target_ms``, from grab to scores."""

    target_ms: float
    level: int = 0
    _late_since_ns: int | None = None
    _early_since_ns: int | None = None
    _changed_ns: int | None = None
    _went_up: bool = False
    _calm_s: float = CALM_S

    @property
    def pace(self) -> Pace:
        return LADDER[self.level]

    def observe(self, now_ns: int, late_ms: float, skipped: bool) -> bool:
        """Steps of late took ``late_ms``, and some were ``skipped``; True when the pace changes."""
        if self._changed_ns is not None and now_ns - self._changed_ns < SETTLE_S * NS_PER_S:
            return False
        late = skipped or late_ms > self.target_ms
        early = not late and late_ms <= EARLY * self.target_ms
        self._late_since_ns = _since(late, self._late_since_ns, now_ns)
        self._early_since_ns = _since(early, self._early_since_ns, now_ns)
        if _lasts(self._late_since_ns, now_ns, HURRY_S) and self.level + 1 < len(LADDER):
            self._reconsider(now_ns)
            return self._move(1, now_ns)
        if _lasts(self._early_since_ns, now_ns, self._calm_s) and self.level > 0:
            return self._move(-1, now_ns)
        return False

    def _move(self, by: int, now_ns: int) -> bool:
        self.level += by
        self._went_up = by < 0
        self._changed_ns = now_ns
        self._late_since_ns = self._early_since_ns = None
        return True

    def _reconsider(self, now_ns: int) -> None:
        """Too much at once after doing more: be slower to try that again."""
        soon = self._changed_ns is not None and now_ns - self._changed_ns < CALM_S * NS_PER_S
        self._calm_s = min(2 * self._calm_s, LONGEST_CALM_S) if soon and self._went_up else CALM_S


def _since(holds: bool, since_ns: int | None, now_ns: int) -> int | None:
    return (now_ns if since_ns is None else since_ns) if holds else None


def _lasts(since_ns: int | None, now_ns: int, seconds: float) -> bool:
    return since_ns is not None and now_ns - since_ns >= seconds * NS_PER_S
