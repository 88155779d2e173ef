"""The governor: less of each step is done while steps come late, and all of it again afterwards.

Pure: it is given the time and what the stages counted, and answers with the pace to go on at.
:data:`LADDER` says what is left out, in which order: appearance first, because it changes slowly,
and looks at people, who are followed anyway; then people beyond the first chosen, and the accuracy
of flow; and only then whole steps.
"""

from collections.abc import Callable, Mapping, Sequence

from pipeline.clock import NS_PER_S
from pipeline.transport.counters import total
from pipeline.transport.messages import Pace, Pacing

HURRY_S = 2.0
"""Steps must be late for this long before less is done."""
SETTLE_S = 3.0
"""After a change nothing is judged for this long: steps that waited before it must pass first."""
CALM_S, LONGEST_CALM_S = 20.0, 640.0
"""Steps must be early for this long before more is done; twice as long each time that failed."""
EARLY = 0.6
"""Early means within this part of the target."""

LADDER = (
    Pace(),
    Pace(spatial_every=2, people_every=2),
    Pace(spatial_every=4, people_every=2, subjects=2),
    Pace(spatial_every=4, fast_flow=True, people_every=4, subjects=1),
    Pace(spatial_every=4, fast_flow=True, step_every=2, people_every=4, subjects=1),
)

Counters = Callable[[str], Mapping[str, float]]
"""A stage's newest counters by its name; empty before its first heartbeat."""

_FUSION = "fusion"


class Governor:
    """Goes down and up :data:`LADDER` so that steps take ``target_ms``, from grab to scores.

    ``stages`` are the names of the stages whose skipped steps count.
    """

    def __init__(self, target_ms: float, stages: Sequence[str] = ()) -> None:
        self.target_ms = target_ms
        self.level = 0
        self._stages = stages
        self._skipped: dict[str, float] = {}
        self._steps = 0.0
        self._late_since_ns: int | None = None
        self._early_since_ns: int | None = None
        self._changed_ns: int | None = None
        self._went_up = False
        self._calm_s = CALM_S

    @property
    def pace(self) -> Pace:
        return LADDER[self.level]

    def heartbeat(self, now_ns: int, counters: Counters) -> Pacing | None:
        """Call after each heartbeat of fusion. Returns the new pace when it changes.

        Fusion counts how late its steps are (``late_ms``) and of how many it knows
        (``steps_timed``); every stage counts the steps that it skipped (``steps_skipped``).
        """
        fusion = counters(_FUSION)
        before, self._steps = self._steps, fusion.get("steps_timed", 0.0)
        skipped = self._newly_skipped(counters)
        if self._steps <= before:  # no whole step came, or fusion was restarted
            return None
        late_ms, level = fusion.get("late_ms", 0.0), self.level
        if not self.observe(now_ns, late_ms, skipped):
            return None
        what = "steps were skipped" if skipped else f"steps took {late_ms:.0f} ms"
        if self.level < level:
            what = f"steps take {late_ms:.0f} ms again"
        reason = f"{what}, target {self.target_ms:g} ms"
        return Pacing(level=self.level, pace=self.pace, reason=reason, at_ns=now_ns)

    def observe(self, now_ns: int, late_ms: float, skipped: bool) -> bool:
        """Judge the recent steps: they took ``late_ms``, and some were ``skipped`` or not.

        Returns whether the pace changes.
        """
        if self._changed_ns is not None and now_ns - self._changed_ns < SETTLE_S * NS_PER_S:
            return False
        late = skipped or late_ms > self.target_ms
        early = not late and late_ms <= EARLY * self.target_ms
        self._late_since_ns = _since(late, self._late_since_ns, now_ns)
        self._early_since_ns = _since(early, self._early_since_ns, now_ns)
        if _lasts(self._late_since_ns, now_ns, HURRY_S) and self.level + 1 < len(LADDER):
            self._lengthen_calm(now_ns)
            return self._move(1, now_ns)
        if _lasts(self._early_since_ns, now_ns, self._calm_s) and self.level > 0:
            return self._move(-1, now_ns)
        return False

    def _newly_skipped(self, counters: Counters) -> bool:
        """Whether a stage has skipped steps since the last call."""
        before = self._skipped
        self._skipped = {name: total(counters(name), "steps_skipped") for name in self._stages}
        return any(count > before.get(name, 0.0) for name, count in self._skipped.items())

    def _move(self, by: int, now_ns: int) -> bool:
        self.level += by
        self._went_up = by < 0
        self._changed_ns = now_ns
        self._late_since_ns = self._early_since_ns = None
        return True

    def _lengthen_calm(self, now_ns: int) -> None:
        """When doing more soon proved too much, wait longer before the next attempt."""
        soon = self._changed_ns is not None and now_ns - self._changed_ns < CALM_S * NS_PER_S
        self._calm_s = min(2 * self._calm_s, LONGEST_CALM_S) if soon and self._went_up else CALM_S


def _since(holds: bool, since_ns: int | None, now_ns: int) -> int | None:
    return (now_ns if since_ns is None else since_ns) if holds else None


def _lasts(since_ns: int | None, now_ns: int, seconds: float) -> bool:
    return since_ns is not None and now_ns - since_ns >= seconds * NS_PER_S
